//! Ways out of a session besides its viewers: what may be asked for, and what is told of each.
//!
//! In here: plain data, and the trait between whoever is asked and whoever has them run. A further kind is a variant of
//! [`OutputKind`] here and a carrier in `media::output`. Not in here: HTTP (`signalling::api::outputs`), which addresses and
//! names are allowed (`server::sessions::outputs`), pipelines (`media::output`).

use std::fmt;

use futures_util::future::BoxFuture;

use super::Refusal;
use crate::ids::OutputId;

/// Where a session's pictures and sound may go besides its viewers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputKind {
    /// Pushed to a server by RTMP or RTMPS: FLV with H.264 and AAC.
    Rtmp,
    /// Pushed to a listener by SRT: an MPEG transport stream with H.264 and AAC.
    Srt,
    /// A playlist and segments in a folder: HTTP Live Streaming.
    Hls,
    /// A fragmented MP4 file with captions.
    Record,
    /// A video device of this machine, such as one of v4l2loopback.
    V4l2,
}

impl OutputKind {
    /// Each of them.
    pub const ALL: [Self; 5] = [Self::Rtmp, Self::Srt, Self::Hls, Self::Record, Self::V4l2];

    /// As it is on the wire, in `pipelines/output-<kind>.launch` and in the metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rtmp => "rtmp",
            Self::Srt => "srt",
            Self::Hls => "hls",
            Self::Record => "record",
            Self::V4l2 => "v4l2",
        }
    }
}

/// An output that is asked for. Its address may hold a password, so it is never shown.
#[derive(Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputOrder {
    /// Of which kind.
    pub kind: OutputKind,
    /// Where to, for kinds that are pushed.
    #[serde(default)]
    pub url: Option<String>,
    /// What it is called in its folder, for kinds that are written.
    #[serde(default)]
    pub name: Option<String>,
}

impl fmt::Debug for OutputOrder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("OutputOrder")
            .field("kind", &self.kind)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// How an output is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputState {
    /// It begins.
    #[default]
    Connecting,
    /// The receiver takes what it is sent.
    Live,
    /// The receiver was lost, or is not there yet; it is tried again until the output is stopped.
    Retrying,
    /// It was stopped, and what it wrote is whole.
    Ended,
    /// It cannot go on.
    Error,
}

impl OutputState {
    /// Whether nothing follows.
    pub const fn is_end(self) -> bool {
        matches!(self, Self::Ended | Self::Error)
    }
}

/// What is told of an output.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct OutputInfo {
    /// What it is asked for by.
    #[serde(serialize_with = "as_text")]
    pub id: OutputId,
    /// Of which kind.
    pub kind: OutputKind,
    /// Where it goes, without anything secret: scheme and host of an address, the name of a file or folder.
    pub target: String,
    /// How it is.
    pub state: OutputState,
    /// Why it is tried again or cannot go on.
    pub message: Option<String>,
    /// Pictures that it took.
    pub frames: u64,
    /// Pictures that were left out, since the receiver was too slow.
    pub dropped: u64,
    /// How often the receiver was lost and met again.
    pub reconnects: u64,
}

fn as_text<S: serde::Serializer>(id: &OutputId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

/// The outputs of one session. Implemented by the server, faked in tests.
pub trait Outputs: Send + Sync {
    /// Whether whoever may use the API may start and stop some.
    fn allowed(&self) -> bool;
    /// Starts one. It is tried on from then on; that its receiver is not there is no refusal.
    fn start(&self, order: OutputOrder) -> BoxFuture<'static, Result<OutputInfo, Refusal>>;
    /// All of them, in their order; those that ended stay for a while.
    fn list(&self) -> Vec<OutputInfo>;
    /// Stops one and takes it off the list, once what it wrote is whole. False if there is none of this id.
    fn stop(&self, id: &str) -> BoxFuture<'static, bool>;
}
