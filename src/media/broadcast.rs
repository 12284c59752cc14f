//! What a session sends: the same pairs through one encode for each codec that its viewers need.
//!
//! In here: starting an encode when a viewer needs its codec, and feeding all that run. An encode is held by its viewers
//! and ends with the last of them, so a session that nobody watches encodes nothing. Pairs of another size than those before
//! go through the same encodes, which begin anew with a key frame.
//! Not in here: descriptions that change meanwhile (`live`), one encode (`publisher`), which codec an offer has (`offer`).
//! Runs on: `BroadcastSink::push` on the playout thread, never blocking; starting an encode on a thread that may block.

use std::sync::mpsc as blocking;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::mpsc;

use super::pipeline::Teardown;
use super::publisher::{Common, CurrentFormat, Publisher, PublisherSink};
use super::rungs::Rung;
use super::session_time::SessionTime;
use super::{Codec, LivePipelines, MediaError, MediaEvent, VideoFormat};
use crate::playout::{Pair, PairSink};
use crate::timeline::FrameIndex;

/// Encodes that started since the last pair. There are few codecs, but viewers who come and go at once start one each time,
/// in some milliseconds.
const STARTED: usize = 64;

/// A session's encodes. Cheap to clone; they end when the last clone and the last viewer are gone.
#[derive(Clone, Debug)]
pub struct Broadcast {
    shared: Arc<Encodes>,
}

/// A session's encodes.
#[derive(Debug)]
pub(super) struct Encodes {
    pipelines: Arc<LivePipelines>,
    codecs: Vec<Codec>,
    running: Mutex<Vec<Weak<Publisher>>>,
    started: blocking::SyncSender<PublisherSink>,
    /// Holds the teardown threads, joined when the last owner goes; so declared last.
    common: Common,
}

impl Encodes {
    /// Those of a codec that run, each rung of it.
    pub fn running(&self, codec: Codec) -> Vec<Arc<Publisher>> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.iter().filter_map(Weak::upgrade).filter(|publisher| publisher.codec == codec).collect()
    }
}

impl Broadcast {
    pub fn start(
        pipelines: &Arc<LivePipelines>,
        format: VideoFormat,
        events: mpsc::Sender<MediaEvent>,
    ) -> (Self, BroadcastSink) {
        let current = CurrentFormat::new(format);
        let (time, teardown) = (SessionTime::start(), Teardown::default());
        let common = Common { format: current.clone(), events, time, teardown };
        let (started, starting) = blocking::sync_channel(STARTED);
        let codecs = pipelines.encoders().iter().map(|selected| selected.codec).collect();
        let pipelines = Arc::clone(pipelines);
        let shared = Arc::new(Encodes { pipelines, codecs, running: Mutex::default(), started, common });
        shared.pipelines.join(&shared);
        let broadcast = Self { shared };
        (broadcast, BroadcastSink { sinks: Vec::new(), starting, format, current })
    }

    /// What can be sent, the preferred one first.
    pub fn codecs(&self) -> &[Codec] {
        &self.shared.codecs
    }

    /// H.264 if it can be sent, which is what is neither for a browser nor WebRTC is made of.
    pub fn h264(&self) -> Option<Codec> {
        self.shared.codecs.iter().copied().find(|codec| *codec == Codec::H264)
    }

    /// The encode of a codec, started if there is none or if it has failed. Blocks for some milliseconds then.
    pub(super) fn publisher(&self, codec: Codec) -> Result<Arc<Publisher>, MediaError> {
        self.rung(codec, Rung::Full)
    }

    /// The same of a rung that the codec's description has.
    pub(super) fn rung(&self, codec: Codec, rung: Rung) -> Result<Arc<Publisher>, MediaError> {
        let Encodes { pipelines, running, started, common, .. } = &*self.shared;
        // Held while one starts, so that two viewers who come at once share it.
        let mut running = running.lock().unwrap_or_else(PoisonError::into_inner);
        let usable =
            |publisher: &Arc<Publisher>| (publisher.codec, publisher.rung) == (codec, rung) && !publisher.has_failed();
        if let Some(publisher) = running.iter().filter_map(Weak::upgrade).find(usable) {
            return Ok(publisher);
        }
        let encoders = pipelines.encoders();
        let selected = encoders
            .iter()
            .find(|selected| selected.codec == codec)
            .ok_or_else(|| MediaError::NoEncoder { refusals: vec![format!("none makes {}", codec.encoding_name())] })?;
        let (publisher, sink) = Publisher::start(selected, rung, common)?;
        // Nobody takes it if the session is ending.
        started.try_send(sink).map_err(|_| MediaError::SessionEnds)?;
        tracing::info!(encoder = %selected.encoder, codec = codec.encoding_name(), rung = rung.as_str(), "an encode for the session");
        running.retain(|publisher| publisher.strong_count() > 0);
        running.push(Arc::downgrade(&publisher));
        Ok(publisher)
    }

    /// The RTP timestamp of each pair's sound, at 48 kHz; the same for all viewers. Keeps nothing of the broadcast alive.
    pub fn audio_clock(&self) -> impl Fn(FrameIndex) -> Option<u32> + Send + Sync + 'static {
        let time = self.shared.common.time.clone();
        move |index| time.audio_rtp_timestamp(index)
    }

    /// The same of its picture, at 90 kHz.
    pub fn video_clock(&self) -> impl Fn(FrameIndex) -> Option<u32> + Send + Sync + 'static {
        let time = self.shared.common.time.clone();
        move |index| time.video_rtp_timestamp(index)
    }

    /// A handle that waits for the pipelines let go so far, for whoever must leave no thread behind.
    #[cfg(test)]
    pub(super) fn teardown(&self) -> Teardown {
        self.shared.common.teardown.clone()
    }
}

/// Where playout pushes a session's pairs.
#[derive(Debug)]
pub struct BroadcastSink {
    sinks: Vec<PublisherSink>,
    starting: blocking::Receiver<PublisherSink>,
    /// Of the last pair, and for encodes that start now.
    format: VideoFormat,
    current: CurrentFormat,
}

impl PairSink for BroadcastSink {
    fn push(&mut self, pair: Pair) {
        let format = VideoFormat::of(&pair);
        if std::mem::replace(&mut self.format, format) != format {
            self.current.set(format);
        }
        self.sinks.extend(self.starting.try_iter());
        self.sinks.retain(PublisherSink::is_needed);
        let Some((last, others)) = self.sinks.split_last_mut() else { return };
        for sink in others {
            sink.push(pair.clone());
        }
        last.push(pair);
    }
}

#[cfg(test)]
mod tests;
