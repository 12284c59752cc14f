//! For the tests of this module: a session's output without the session, and a webrtcbin that takes a browser's part.

pub mod held;
pub mod mutation;
pub mod sdp;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;
use tokio::sync::{mpsc, watch};

use super::broadcast::BroadcastSink;
use super::publisher::Publisher;
use super::viewer::only_udp;
use super::{
    Broadcast, EncoderChoice, Encoders, IceConfig, LivePipelines, MediaEvent, PipelineDir, VideoFormat, Viewer,
};
use crate::hearing::MicrophoneChunk;
use crate::kit;
use crate::kit::peer::{H264, OPUS, Peer, VP8};
use crate::picture::I420Frame;
use crate::playout::{Pair, PairSink};
use crate::session::{IceCandidate, Peer as _, PeerEvent};
use crate::timeline::{FRAME_DURATION, FrameIndex, PLAYOUT_SAMPLES_PER_FRAME};

const SIZE: u32 = 128;
pub const FORMAT: VideoFormat = VideoFormat { width: SIZE, height: SIZE };
/// Only ends a test that would fail anyway: beyond what anything takes on a machine at a tenth of its speed.
pub const PATIENCE: Duration = Duration::from_secs(300);

pub fn loopback() -> IceConfig {
    IceConfig { local_addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)], ..IceConfig::default() }
}

/// The encoders of these names, the first one preferred.
pub fn encoders(names: &[&str]) -> Arc<Encoders> {
    crate::media::init().unwrap();
    let selected = |name: &&str| {
        Encoders::select(&EncoderChoice::Named((*name).to_owned()), &PipelineDir::Embedded).unwrap().preferred
    };
    let mut found = names.iter().map(selected);
    let preferred = found.next().unwrap();
    Arc::new(Encoders { preferred, others: found.collect(), refused: Vec::new() })
}

/// The same, as sessions are given them.
pub fn live(names: &[&str]) -> Arc<LivePipelines> {
    LivePipelines::of((*encoders(names)).clone())
}

/// A session's output that is given a pair every 40 ms until the task is aborted.
pub struct Stage {
    pub broadcast: Broadcast,
    pub playout: tokio::task::JoinHandle<()>,
    /// Of the pairs that come from now on.
    pub format: watch::Sender<VideoFormat>,
    pub events: mpsc::Receiver<MediaEvent>,
}

impl Stage {
    pub fn open(names: &[&str]) -> Self {
        Self::of(&live(names))
    }

    /// Of descriptions that may change.
    pub fn of(live: &Arc<LivePipelines>) -> Self {
        let (sender, events) = mpsc::channel(4);
        let (broadcast, sink) = Broadcast::start(live, FORMAT, sender);
        let (format, wanted) = watch::channel(FORMAT);
        Self { broadcast, playout: tokio::spawn(play(sink, wanted)), format, events }
    }

    /// The encode of the preferred codec, started if nobody watches it.
    pub fn own(&self) -> Arc<Publisher> {
        self.broadcast.publisher(self.broadcast.codecs()[0]).unwrap()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.playout.abort();
    }
}

async fn play(mut sink: BroadcastSink, format: watch::Receiver<VideoFormat>) {
    let mut ticks = tokio::time::interval(FRAME_DURATION);
    for index in 0.. {
        ticks.tick().await;
        sink.push(pair_of(index, *format.borrow()));
    }
}

pub fn pair(index: u64) -> Pair {
    pair_of(index, FORMAT)
}

pub fn pair_of(index: u64, VideoFormat { width, height }: VideoFormat) -> Pair {
    let mut data = vec![(index % 200) as u8; (width * height * 3 / 2) as usize];
    data[..width as usize].fill(255);
    let audio = Some(Box::new([(index % 100) as i16 * 100; PLAYOUT_SAMPLES_PER_FRAME]));
    Pair { index: FrameIndex(index), frame: Arc::new(I420Frame { width, height, data }), audio, utterance: None }
}

/// A receiving webrtcbin with decoders; reports what arrives.
pub struct Browser {
    peer: Peer,
    candidates: mpsc::Receiver<(u32, String)>,
    pub decoded: mpsc::Receiver<&'static str>,
    /// Of the decoded pictures, each time that it is another one.
    pub formats: mpsc::Receiver<VideoFormat>,
}

impl Browser {
    pub fn new(codec: &str) -> Self {
        Self::sending(codec, "")
    }

    /// One that may connect over TCP as well.
    pub fn over_tcp(codec: &str) -> Self {
        let browser = Self::new(codec);
        let agent = browser.peer.webrtc().property::<gst::glib::Object>("ice-agent");
        agent.property::<gst::glib::Object>("agent").set_property("ice-tcp", true);
        browser
    }

    /// One that offers to receive this much.
    pub fn receiving(codec: &str, video: bool, audio: bool) -> Self {
        Self::build(codec, "", video, audio)
    }

    /// One whose microphone hears a tone of 440 Hz.
    pub fn with_microphone(codec: &str) -> Self {
        Self::with_packets_of(codec, "20")
    }

    /// The same in packets of so many milliseconds.
    fn with_packets_of(codec: &str, ms: &str) -> Self {
        let tone = "audiotestsrc is-live=true freq=440 volume=0.5 ! audio/x-raw,rate=48000,channels=1 ! opusenc frame-size=MS \
                    ! rtpopuspay pt=111 ! application/x-rtp,media=audio,encoding-name=OPUS,payload=111,clock-rate=48000,\
                      encoding-params=(string)2 ! webrtc.";
        Self::sending(codec, &tone.replace("MS", ms))
    }

    /// One that opens so many data channels before it offers.
    pub fn with_data_channels(codec: &str, count: usize) -> Self {
        let browser = Self::new(codec);
        for number in 0..count {
            let label = format!("channel {number}");
            let _channel: Option<gst::glib::Object> =
                browser.peer.webrtc().emit_by_name("create-data-channel", &[&label, &None::<gst::Structure>]);
        }
        browser
    }

    /// One whose microphone has this many sources, a packet of each in turn, after a second of one.
    pub fn with_sources(codec: &str, count: u32) -> Self {
        let browser = Self::with_packets_of(codec, "5");
        let payloader = browser.peer.pipeline().iterate_elements().into_iter().flatten();
        let payloader = payloader.into_iter().find(|element| element.name().starts_with("rtpopuspay")).unwrap();
        let sent = std::sync::atomic::AtomicU32::new(0);
        payloader.static_pad("src").unwrap().add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            let number = sent.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if number > 200
                && let Some(packet) = info.buffer_mut()
            {
                let mut packet = packet.make_mut().map_writable().unwrap();
                packet[8..12].copy_from_slice(&(1000 + number % count).to_be_bytes());
            }
            gst::PadProbeReturn::Ok
        });
        browser
    }

    fn sending(codec: &str, sent: &str) -> Self {
        Self::build(codec, sent, true, sent.is_empty())
    }

    fn build(codec: &str, sent: &str, video: bool, audio: bool) -> Self {
        let peer = Peer::new(&format!("webrtcbin name=webrtc bundle-policy=max-bundle latency=0 {sent}"));
        let agent = peer.webrtc().property::<gst::glib::Object>("ice-agent");
        agent.emit_by_name::<bool>("add-local-ip-address", &[&"127.0.0.1"]);
        only_udp(&agent);
        if video {
            peer.receives(if codec == "H264" { H264 } else { VP8 });
        }
        if audio {
            peer.receives(OPUS);
        }
        let (candidate_sender, candidates) = mpsc::channel(64);
        peer.webrtc().connect("on-ice-candidate", false, move |values| {
            let _ = candidate_sender.try_send((values[1].get().unwrap(), values[2].get().unwrap()));
            None
        });
        let (arrived, decoded) = mpsc::channel(1000);
        let (changed, formats) = mpsc::channel(16);
        peer.each_pad(move |pipeline, pad| receive(pipeline, pad, &arrived, &changed));
        peer.play();
        Self { peer, candidates, decoded, formats }
    }

    pub async fn offer(&self) -> String {
        self.peer.offer().await
    }

    /// Its answer to an offer, with a candidate of its own in it.
    pub async fn answer(&mut self, offer: &str) -> String {
        let answer = self.peer.answer(offer).await;
        let (_, candidate) = self.candidates.recv().await.unwrap();
        format!("{answer}a={candidate}\r\n")
    }

    /// Takes the answer and nothing else from the viewer: no candidate has to trickle from us.
    pub async fn connect(&mut self, viewer: &Viewer) {
        self.connect_with(viewer, viewer.answer()).await;
    }

    /// The same with an answer that was changed on its way.
    pub async fn connect_with(&mut self, viewer: &Viewer, answer: &str) {
        self.peer.take_answer(answer).await;
        // webrtcbin offers candidates when they are found; the viewer gets them as a browser would send them.
        while let Ok((m_line, candidate)) = self.candidates.try_recv() {
            viewer.add_candidate(&IceCandidate {
                candidate,
                sdp_mid: None,
                sdp_m_line_index: Some(m_line),
                username_fragment: None,
            });
        }
    }

    pub async fn decoded(&mut self, media: &str, count: usize) {
        let mut seen = 0;
        tokio::time::timeout(PATIENCE, async {
            while seen < count {
                let arrived = self.decoded.recv().await.unwrap();
                seen += usize::from(arrived == media);
            }
        })
        .await
        .unwrap_or_else(|_| panic!("{seen} of {count} {media} buffers decoded"));
    }
}

/// Decodes what a pad of the receiving webrtcbin carries, and counts it.
fn receive(
    pipeline: &gst::Pipeline,
    pad: &gst::Pad,
    arrived: &mpsc::Sender<&'static str>,
    changed: &mpsc::Sender<VideoFormat>,
) {
    let caps = pad.current_caps().unwrap();
    let (media, text) = match caps.structure(0).unwrap().get::<&str>("encoding-name").unwrap() {
        "H264" => ("video", "rtph264depay ! h264parse ! openh264dec ! appsink name=out sync=false"),
        "VP8" => ("video", "rtpvp8depay ! vp8dec ! appsink name=out sync=false"),
        _ => ("audio", "rtpopusdepay ! opusdec ! appsink name=out sync=false"),
    };
    let bin = gst::parse::bin_from_description(text, true).unwrap();
    let (arrived, changed) = (arrived.clone(), changed.clone());
    let mut last = None;
    kit::peer::each_of(&bin, "out", move |sample| {
        let _ = arrived.try_send(media);
        let structure = sample.caps().and_then(|caps| caps.structure(0));
        let length = |name| structure.and_then(|structure| structure.get::<i32>(name).ok()).map(|length| length as u32);
        if let (Some(width), Some(height)) = (length("width"), length("height"))
            && last.replace((width, height)) != Some((width, height))
        {
            let _ = changed.try_send(VideoFormat { width, height });
        }
    });
    pipeline.add(&bin).unwrap();
    bin.sync_state_with_parent().unwrap();
    pad.link(&bin.static_pad("sink").unwrap()).unwrap();
}

pub async fn watch(stage: &Stage, codec: &str) -> (Browser, Viewer, mpsc::Receiver<PeerEvent>) {
    join(stage, Browser::new(codec), None).await
}

pub async fn join(
    stage: &Stage,
    mut browser: Browser,
    microphone: Option<mpsc::Sender<MicrophoneChunk>>,
) -> (Browser, Viewer, mpsc::Receiver<PeerEvent>) {
    let (events, told) = mpsc::channel(64);
    let viewer = stage.broadcast.open_viewer(browser.offer().await, events, &loopback(), microphone).await.unwrap();
    browser.connect(&viewer).await;
    (browser, viewer, told)
}

pub async fn until_connected(told: &mut mpsc::Receiver<PeerEvent>) {
    let connected = async { while told.recv().await.unwrap() != PeerEvent::Connected {} };
    tokio::time::timeout(PATIENCE, connected).await.unwrap();
}
