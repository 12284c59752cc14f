//! Everything that leaves over GStreamer: publish pipelines, viewers, files; and clips, which come in. The only home of the gstreamer crates.
//!
//! In here: pipeline descriptions as text and their contract (`description`), those in use, which may change while the
//! server runs (`live`), tried before they are used (`preview`), choosing encoders (`encoder`) and their
//! bits (`bitrate`), one encode (`publisher`), a session's encodes, one for each codec in use (`broadcast`), one
//! webrtcbin per viewer (`viewer`), a session pushed to a media server (`whip`), what an SDP offer allows (`offer`),
//! one port for all viewers (`one_port`), what a connected peer may send (`inbound`) and which of its candidates are
//! used (`ice`), a session written to a file (`file`; `cutout_file` and `webm` with an alpha channel), ways out besides viewers (`output`), clips and photos read
//! (`clip`, `photo`), a peer that receives without decoding, for measurements (`receiver`), and a trial of what
//! connections need (`encryption_check`). Not in here: presentation decisions (`playout`), sockets (`signalling`).
//!
//! GStreamer's own threads run closures of ours that hold a sender or an atomic and nothing else.

mod bitrate;
mod broadcast;
mod buffers;
mod clip;
mod congestion;
mod cutout_file;
mod description;
mod elements;
mod encoder;
pub(crate) mod encryption_check;
mod file;
mod ice;
mod inbound;
pub(crate) mod inventory;
mod live;
mod microphone;
mod mp4_repair;
mod offer;
pub(crate) mod one_port;
mod output;
mod packets;
mod photo;
mod pipeline;
mod preview;
mod publisher;
mod receiver;
mod resources;
mod rungs;
mod sdp;
mod session_time;
pub(crate) mod stun;
#[cfg(test)]
mod testing;
mod viewer;
mod webm;
pub(crate) mod whip;

use std::time::Instant;

use gstreamer as gst;
use gstreamer::prelude::*;

use crate::ids::UtteranceId;

pub(crate) use broadcast::Broadcast;
pub use clip::{
    Clip, ClipInfo, ClipOptions, LONGEST_CLIP, SourceError, SourceFault, SourceKind, Treatment, Trim, TrimError, sniff,
};
pub use cutout_file::CutoutWriter;
pub(crate) use description::{CheckStatus, Description, check, list};
pub use description::{DescriptionError, DescriptionFault, PipelineDir, Place as DescriptionPlace};
pub(crate) use encoder::{EncoderChoice, Encoders, Selected};
pub use file::FileWriter;
pub(crate) use ice::{IceConfig, Reach, reach};
pub(crate) use live::LivePipelines;
pub use live::{FileState, PipelineFile};
pub(crate) use output::{LaunchCarrier, Output, OutputPlan, Place, PlaceError, check_address, check_name};
pub use photo::{read_cutout, read_photo};
pub use publisher::VideoFormat;
pub(crate) use receiver::{Received, Receiver};
pub(crate) use resources::{ENCODE_RESOURCES, OUTPUT_RESOURCES, Resources, VIEWER_RESOURCES};
pub(crate) use viewer::Viewer;

/// What a browser decodes and we encode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Codec {
    H264,
    Vp8,
}

impl Codec {
    /// As SDP and RTP caps spell it.
    pub(crate) const fn encoding_name(self) -> &'static str {
        match self {
            Self::H264 => "H264",
            Self::Vp8 => "VP8",
        }
    }

    /// A label in the metrics.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::H264 => "h264",
            Self::Vp8 => "vp8",
        }
    }

    /// The description of a viewer of this codec.
    pub(crate) const fn viewer_file(self) -> &'static str {
        match self {
            Self::H264 => "viewer-h264.launch",
            Self::Vp8 => "viewer-vp8.launch",
        }
    }
}

/// What the owner of a broadcast is told; sent with `try_send` from GStreamer's threads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MediaEvent {
    /// A publish pipeline stopped. Its viewers are told and closed; the next offer starts another one.
    PublisherFailed { codec: Codec, element: String, message: String },
    /// The first frame of an utterance left the encoder, bound for the viewers.
    FirstPacket { utterance: UtteranceId, at: Instant },
}

/// Why media does not come about.
#[derive(Debug, thiserror::Error)]
pub enum MediaError {
    /// GStreamer cannot be loaded.
    #[error("GStreamer does not start: {0}; install the packages scripts/setup.sh lists")]
    Init(#[source] gst::glib::Error),
    /// A pipeline description cannot be used.
    #[error(transparent)]
    Description(#[from] DescriptionError),
    /// There is no description for an encoder of this name.
    #[error("encoder {name:?} is not known; there are {}", known.join(", "))]
    UnknownEncoder {
        /// As it was typed.
        name: String,
        /// What may be typed.
        known: Vec<String>,
    },
    /// The encoder that was chosen does not encode here.
    #[error("encoder {name:?} cannot be used: {reason}")]
    Encoder {
        /// The element.
        name: String,
        /// What its trial said.
        reason: String,
    },
    /// None of those that were tried encodes here.
    #[error("no encoder can be used: {}", refusals.join("; "))]
    NoEncoder {
        /// One for each that was tried.
        refusals: Vec<String>,
    },
    /// A pipeline does not reach its playing state.
    #[error("pipeline {file} does not start: {reason}")]
    Start {
        /// The description, or the element where there is none.
        file: String,
        /// GStreamer's own words.
        reason: String,
    },
    /// No client would come to a viewer.
    #[error("no client comes to this viewer: {0}")]
    Unreached(String),
    /// It takes no further encode.
    #[error("the session ends: it takes no further encode")]
    SessionEnds,
    /// A file cannot be created, filled or finished.
    #[error("cannot write {path}: {reason}")]
    Write {
        /// The file.
        path: String,
        /// The system's or GStreamer's own words.
        reason: String,
    },
    /// A frame is of another size than the pipeline was built for, in pixels.
    #[error("frames are {got_width}x{got_height}, the pipeline was built for {width}x{height}")]
    FrameSize {
        /// Of the frame.
        got_width: u32,
        /// Of the frame.
        got_height: u32,
        /// Of the pipeline.
        width: u32,
        /// Of the pipeline.
        height: u32,
    },
}

/// Loads GStreamer. Call once before anything else here; a second call does nothing.
pub fn init() -> Result<(), MediaError> {
    gst::init().map_err(MediaError::Init)
}

/// The process's DTLS certificate, which all viewers' connections share.
pub(crate) struct Certificate(gst::Element);

impl Certificate {
    /// An error if GStreamer has no DTLS.
    pub(crate) fn find() -> Result<Self, MediaError> {
        let element = gst::ElementFactory::make("dtlsdec").build().map_err(|_| MediaError::Start {
            file: "dtlsdec".to_owned(),
            reason: "element dtlsdec is missing: install gstreamer1.0-plugins-bad".to_owned(),
        })?;
        Ok(Self(element))
    }

    /// Has it made, so that the first viewer does not wait for it. It is an RSA key: half a second to a second, in which it
    /// blocks.
    pub(crate) fn make(self) {
        let _certificate: Option<String> = self.0.property("pem");
    }
}
