//! Descriptions of viewers and outputs, tried with the stream of a test picture.
//!
//! In here: a session of nobody's, a peer that it sends to, and an output that is written into a folder of its own, or into
//! nothing where it would leave this machine. Not in here: encodes (`preview`).
//! Runs on: a thread that may block and belongs to the tokio runtime.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{PATIENCE, SIZE, picture};
use crate::media::output::{Attempt, Captions, Carried, Carrier, LaunchCarrier, Place, Progress, check_address};
use crate::media::{
    Broadcast, Description, Encoders, IceConfig, LivePipelines, MediaError, Receiver, Selected, VideoFormat,
};
use crate::playout::{Pair, PairSink};
use crate::session::{OutputKind, notice_queue};
use crate::timeline::{FRAME_DURATION, FrameIndex, PLAYOUT_SAMPLES_PER_FRAME};
use crate::worker::Worker;

/// Between two looks at what has come.
const LOOK: Duration = Duration::from_millis(20);
/// Pictures that move; then they begin again.
const PICTURES: u64 = 16;

/// A session that nobody opened: test pictures at 25 a second.
struct Rehearsal {
    broadcast: Broadcast,
    _playing: Worker,
}

impl Rehearsal {
    fn start(selected: &Selected) -> Result<Self, MediaError> {
        let encoders = Encoders { preferred: selected.clone(), others: Vec::new(), refused: Vec::new() };
        let format = VideoFormat { width: SIZE, height: SIZE };
        let (events, _nobody) = mpsc::channel(4);
        let (broadcast, mut sink) = Broadcast::start(&LivePipelines::of(encoders), format, events);
        let playing = Worker::spawn("preview", move |stop| {
            let pictures: Vec<_> = (0..PICTURES).map(|index| picture(index, (SIZE, SIZE))).collect();
            let (began, mut index) = (Instant::now(), 0u32);
            for frame in pictures.iter().cycle().take_while(|_| !stop.is_cancelled()) {
                let audio = Some(Box::new([0; PLAYOUT_SAMPLES_PER_FRAME]));
                let at = FrameIndex(u64::from(index));
                sink.push(Pair { index: at, frame: Arc::clone(frame), audio, utterance: None });
                index = index.saturating_add(1);
                std::thread::park_timeout((began + FRAME_DURATION * index).saturating_duration_since(Instant::now()));
            }
        });
        let playing =
            playing.map_err(|error| MediaError::Start { file: "preview".to_owned(), reason: error.to_string() })?;
        Ok(Self { broadcast, _playing: playing })
    }
}

/// Sends to a peer by a viewer description until a picture and sound have come.
pub fn viewer(selected: &Selected) -> Result<(), MediaError> {
    // The first viewer of a process waits for its certificate, a second.
    viewer_within(selected, PATIENCE + Duration::from_secs(2))
}

pub(super) fn viewer_within(selected: &Selected, limit: Duration) -> Result<(), MediaError> {
    let refused = |reason: String| MediaError::Description(selected.viewer.fault_at("webrtc", &reason));
    let handle = tokio::runtime::Handle::try_current().map_err(|error| refused(error.to_string()))?;
    let rehearsal = Rehearsal::start(selected)?;
    let received = handle.block_on(async {
        let ice = IceConfig { local_addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)], ..IceConfig::default() };
        let mut receiver = Receiver::new().map_err(|error| error.to_string())?;
        receiver.only_here();
        let offer = receiver.offer().await.map_err(|refusal| refusal.message)?;
        let (events, mut told) = mpsc::channel(64);
        let opened = rehearsal.broadcast.open_viewer(offer, events, &ice, None).await;
        let viewer = opened.map_err(|refusal| refusal.message)?;
        receiver.accept(crate::session::Peer::answer(&viewer)).await.map_err(|refusal| refusal.message)?;
        let mut ticks = tokio::time::interval(LOOK);
        let comes = async {
            loop {
                tokio::select! {
                    _ = ticks.tick() => {}
                    event = told.recv() => match event {
                        Some(crate::session::PeerEvent::Closed { reason }) => return Err(reason),
                        Some(_) => {}
                        None => return Err("the connection ended".to_owned()),
                    },
                }
                let received = receiver.received();
                if received.video_frames > 0 && received.audio_packets > 0 {
                    return Ok(());
                }
            }
        };
        tokio::time::timeout(limit, comes)
            .await
            .unwrap_or_else(|_| Err(format!("no picture and sound came to a peer within {limit:?}")))
    });
    received.map_err(refused)
}

/// Carries a stream by an output description until its receiver has taken something.
pub fn output(description: &Description, kind: OutputKind, selected: &Selected) -> Result<(), MediaError> {
    let refused = |reason: &str| MediaError::Description(description.fault_at("sink", reason));
    let folder = tempfile::tempdir().map_err(|error| refused(&error.to_string()))?;
    let nowhere =
        |url: &str| check_address(kind, Some(url)).map(Place::Address).map_err(|error| refused(&error.to_string()));
    let place = match kind {
        OutputKind::Record => Place::Film { folder: folder.path().to_owned(), name: "preview".to_owned() },
        OutputKind::Hls => Place::Folder(folder.path().join("preview")),
        OutputKind::Rtmp => nowhere("rtmp://127.0.0.1/preview/preview")?,
        OutputKind::Srt => nowhere("srt://127.0.0.1:9")?,
        OutputKind::V4l2 => Place::Device("/dev/video0".to_owned()),
    };
    place.claim().map_err(|error| refused(&error.to_string()))?;
    let rehearsal = Rehearsal::start(selected)?;
    let publisher = rehearsal.broadcast.publisher(selected.codec)?;
    let stop = CancellationToken::new();
    let (_told, notices) = notice_queue(1);
    let mut captions = Captions::new(notices);
    let mut watched = Watched { stop: stop.clone(), is_live: false, until: Instant::now() + PATIENCE };
    let mut carrier = LaunchCarrier::new(description.clone(), place);
    if !matches!(kind, OutputKind::Record | OutputKind::Hls) {
        carrier = carrier.into_nothing();
    }
    let attempt = Attempt { publisher: &publisher, stop: &stop, captions: &mut captions, progress: &mut watched };
    let carried = carrier.carry(attempt);
    match carried {
        Carried::Stopped if watched.is_live => Ok(()),
        Carried::Lost { reason } | Carried::Failed { reason } => Err(refused(&reason)),
        Carried::Stopped | Carried::Changed => {
            Err(refused(&format!("nothing came to it within {} s", PATIENCE.as_secs())))
        }
    }
}

/// Ends an attempt as soon as it has gone well, or not in time.
struct Watched {
    stop: CancellationToken,
    is_live: bool,
    until: Instant,
}

impl Progress for Watched {
    fn live(&mut self) {
        self.is_live = true;
        self.stop.cancel();
    }

    fn counted(&mut self, _frames: u64, _dropped: u64) {
        if Instant::now() > self.until {
            self.stop.cancel();
        }
    }
}
