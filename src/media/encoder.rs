//! Which encoders to use: for each codec the first that exists and really starts, or only the one that was asked for.
//!
//! In here: trying publish descriptions with a few frames. Not in here: the descriptions' contract.
//! Runs on: the caller's thread, blocking for up to two seconds per encoder; call before listening.

use std::str::FromStr;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;

use super::buffers::{audio_buffers, video_buffer};
use super::description::{codec_of, names, publish_values};
use super::pipeline::{OwnedPipeline, Teardown};
use super::publisher::{app_sink, app_source};
use super::rungs::{Ladder, Rung};
use super::{Codec, Description, DescriptionError, MediaError, PipelineDir, elements};
use crate::picture::I420Frame;
use crate::timeline::{FPS, FrameIndex, MediaTime, Timeline};

/// Size of the frames an encoder is tried with.
const TRIAL_SIZE: u32 = 256;
/// Enough for an encoder that holds some frames back before the first leaves.
const TRIAL_FRAMES: u64 = 12;
/// A hardware encoder may take most of a second to open its device.
const TRIAL_TIMEOUT: gst::ClockTime = gst::ClockTime::from_seconds(2);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EncoderChoice {
    Auto,
    /// An element's name; its description is `publish-<name>.launch`.
    Named(String),
}

impl EncoderChoice {
    /// Refuses a name that no description in the directory is for, before anything is started.
    pub fn check(&self, directory: &PipelineDir) -> Result<(), MediaError> {
        let Self::Named(name) = self else { return Ok(()) };
        let files = directory.files()?;
        let mut known: Vec<String> = files.iter().filter_map(|file| encoder_of(file)).map(str::to_owned).collect();
        if known.contains(name) {
            return Ok(());
        }
        known.insert(0, "auto".to_owned());
        Err(MediaError::UnknownEncoder { name: name.clone(), known })
    }
}

/// The encoder that a file is the publish description of.
pub(super) fn encoder_of(file: &str) -> Option<&str> {
    file.strip_prefix("publish-")?.strip_suffix(".launch")
}

impl FromStr for EncoderChoice {
    type Err = std::convert::Infallible;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        Ok(if given == "auto" { Self::Auto } else { Self::Named(given.to_owned()) })
    }
}

/// An encoder that has encoded, and the descriptions that go with it.
#[derive(Clone, Debug)]
pub struct Selected {
    pub encoder: String,
    pub codec: Codec,
    pub publish: Description,
    pub viewer: Description,
    /// Of H.264, as its caps have it: viewers agree on no more than it.
    pub profile: Option<String>,
}

/// The encoders of a server, one for each codec.
#[derive(Clone, Debug)]
pub struct Encoders {
    /// What every session encodes with.
    pub preferred: Selected,
    /// What a session encodes with besides, while it has viewers without the preferred codec.
    pub others: Vec<Selected>,
    /// Encoders that were tried in vain, each with the reason.
    pub refused: Vec<Refusal>,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Refusal {
    pub encoder: String,
    pub reason: String,
}

impl Selected {
    pub(super) fn ladder(&self) -> Ladder {
        Ladder(self.publish.rungs())
    }
}

impl Encoders {
    /// Finds working encoders. One that is asked for by name is the only one or is an error, never replaced by another.
    pub fn select(choice: &EncoderChoice, directory: &PipelineDir) -> Result<Self, MediaError> {
        match choice {
            EncoderChoice::Auto => Self::select_among(elements::AUTO, directory),
            EncoderChoice::Named(name) => {
                choice.check(directory)?;
                let preferred = find(name, directory).and_then(try_out).map_err(|error| match error {
                    // One that names the file and what is wrong in it, which this machine cannot help.
                    MediaError::Description(fault) if !matches!(fault, DescriptionError::MissingElement { .. }) => {
                        MediaError::Description(fault)
                    }
                    error => MediaError::Encoder { name: name.clone(), reason: error.to_string() },
                })?;
                tracing::info!(encoder = %name, "encoder in use, as asked for");
                Ok(Self { preferred, others: Vec::new(), refused: Vec::new() })
            }
        }
    }

    fn select_among(candidates: &[&str], directory: &PipelineDir) -> Result<Self, MediaError> {
        let (mut usable, mut refused) = (Vec::<Selected>::new(), Vec::new());
        for name in candidates {
            let is_served = |codec| usable.iter().any(|selected| selected.codec == codec);
            let found = find(name, directory);
            if found.as_ref().is_ok_and(|found| is_served(found.codec)) {
                tracing::debug!(encoder = %name, "encoder not needed");
                continue;
            }
            match found.and_then(try_out) {
                Ok(selected) => {
                    tracing::info!(encoder = %name, codec = selected.codec.encoding_name(), "encoder in use");
                    usable.push(selected);
                }
                Err(error) => {
                    tracing::info!(encoder = %name, reason = %error, "encoder not used");
                    refused.push(Refusal { encoder: (*name).to_owned(), reason: error.to_string() });
                }
            }
        }
        let mut usable = usable.into_iter();
        match usable.next() {
            Some(preferred) => Ok(Self { preferred, others: usable.collect(), refused }),
            None => {
                let told = |refusal: Refusal| format!("{}: {}", refusal.encoder, refusal.reason);
                Err(MediaError::NoEncoder { refusals: refused.into_iter().map(told).collect() })
            }
        }
    }

    /// The same, one of them as it is from now on.
    pub(super) fn with(&self, changed: Selected) -> Self {
        let mut encoders = self.clone();
        let all = std::iter::once(&mut encoders.preferred).chain(&mut encoders.others);
        if let Some(before) = all.into_iter().find(|selected| selected.encoder == changed.encoder) {
            *before = changed;
        }
        encoders
    }

    /// All of them, the preferred one first.
    pub fn iter(&self) -> impl Iterator<Item = &Selected> {
        std::iter::once(&self.preferred).chain(&self.others)
    }
}

/// Reads and checks an encoder's descriptions.
fn find(name: &str, directory: &PipelineDir) -> Result<Selected, MediaError> {
    let publish = directory.read(&format!("publish-{name}.launch"))?;
    for rung in publish.rungs() {
        publish.rung(rung).build(&publish_values(TRIAL_SIZE, TRIAL_SIZE, FPS, rung))?;
    }
    let codec = codec(&publish)?;
    let viewer = directory.read(codec.viewer_file())?;
    Ok(Selected { encoder: name.to_owned(), codec, publish, viewer, profile: None })
}

/// What a publish description encodes to.
pub(super) fn codec(publish: &Description) -> Result<Codec, MediaError> {
    let encoder = publish.build(&trial_values())?.by_name(names::VIDEO_ENCODER);
    encoder.as_ref().and_then(codec_of).ok_or_else(|| MediaError::Start {
        file: publish.file().to_owned(),
        reason: "its encoder makes neither H.264 nor VP8".to_owned(),
    })
}

fn trial_values() -> Vec<(&'static str, String)> {
    publish_values(TRIAL_SIZE, TRIAL_SIZE, FPS, Rung::Full)
}

/// Runs an encoder until one picture and one packet of sound came out.
fn try_out(mut selected: Selected) -> Result<Selected, MediaError> {
    let file = selected.publish.file().to_owned();
    let teardown = Teardown::default();
    let pipeline = OwnedPipeline::new(selected.publish.build(&trial_values())?, teardown.clone());
    let failed = |reason: String| MediaError::Start { file: file.clone(), reason };
    let (reports, report) = std::sync::mpsc::sync_channel(1);
    pipeline.watch(move |message| {
        let _ = reports.try_send(message);
    });
    let (video, audio) = (app_source(&pipeline, names::VIDEO)?, app_source(&pipeline, names::AUDIO)?);
    let outputs = [app_sink(&pipeline, names::VIDEO_OUT)?, app_sink(&pipeline, names::AUDIO_OUT)?];
    let mut profile = None;
    // Nothing here is real time: frames go in at once, and all must stay.
    video.set_max_buffers(0);
    audio.set_max_time(gst::ClockTime::ZERO);
    for output in &outputs {
        output.set_sync(false);
    }
    let started = pipeline.gst().set_state(gst::State::Playing);
    let encoded = started.is_ok() && {
        push_grey(&video, &audio);
        outputs.iter().all(|output| {
            let sample = output.try_pull_sample(TRIAL_TIMEOUT);
            let caps = sample.as_ref().and_then(|sample| sample.caps()).and_then(|caps| caps.structure(0));
            let found = caps.and_then(|caps| caps.get::<&str>("profile").ok());
            profile = profile.take().or(found.map(str::to_owned));
            sample.is_some()
        })
    };
    let told = report.try_recv();
    drop(pipeline);
    teardown.wait();
    match told {
        Ok(super::pipeline::BusReport::Error { element, message }) => Err(failed(format!("{element}: {message}"))),
        _ if encoded => {
            selected.profile = profile;
            Ok(selected)
        }
        _ => Err(failed(format!("nothing encoded came out within {} s", TRIAL_TIMEOUT.seconds()))),
    }
}

fn push_grey(video: &gst_app::AppSrc, audio: &gst_app::AppSrc) {
    let data = vec![128; (TRIAL_SIZE * TRIAL_SIZE * 3 / 2) as usize];
    let frame = std::sync::Arc::new(I420Frame { width: TRIAL_SIZE, height: TRIAL_SIZE, data });
    let timeline = Timeline::playout(MediaTime::default());
    for index in 0..TRIAL_FRAMES {
        let at = FrameIndex(index);
        // A refused buffer shows as an output that stays empty.
        let _ = video.push_buffer(video_buffer(&frame, at, &timeline));
        for buffer in audio_buffers(None, at, &timeline) {
            let _ = audio.push_buffer(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> PipelineDir {
        super::super::init().unwrap();
        PipelineDir::Embedded
    }

    #[test]
    fn an_encoder_that_is_missing_is_passed_over_and_said_so() {
        let directory = tempfile::tempdir().unwrap();
        let text = include_str!("../../pipelines/publish-x264enc.launch").replace("! x264enc", "! nosuchenc");
        std::fs::write(directory.path().join("publish-nosuchenc.launch"), text).unwrap();
        for file in ["publish-vp8enc.launch", "viewer-vp8.launch"] {
            std::fs::copy(format!("pipelines/{file}"), directory.path().join(file)).unwrap();
        }
        super::super::init().unwrap();
        let found = Encoders::select_among(&["nosuchenc", "vp8enc"], &PipelineDir::find(directory.path())).unwrap();
        assert_eq!((found.preferred.encoder.as_str(), found.preferred.codec), ("vp8enc", Codec::Vp8));
        assert_eq!(found.refused.len(), 1);
        assert!(found.refused[0].reason.contains("no element \"nosuchenc\""), "{}", found.refused[0].reason);
    }

    #[test]
    fn every_software_encoder_encodes() {
        for name in elements::AUTO.iter().filter(|name| !elements::needs_hardware(name)) {
            let found = Encoders::select(&EncoderChoice::Named((*name).to_owned()), &directory()).unwrap();
            assert_eq!((found.preferred.encoder.as_str(), found.others.len()), (*name, 0));
        }
    }

    #[test]
    fn auto_takes_one_encoder_for_each_codec_in_order() {
        for (candidates, taken) in [
            (["x264enc", "openh264enc", "vp8enc"], ["x264enc", "vp8enc"]),
            (["vp8enc", "openh264enc", "x264enc"], ["vp8enc", "openh264enc"]),
        ] {
            let found = Encoders::select_among(&candidates, &directory()).unwrap();
            assert_eq!(found.iter().map(|selected| selected.encoder.as_str()).collect::<Vec<_>>(), taken);
            assert_eq!(found.refused, []);
        }
    }

    #[test]
    fn a_name_that_no_description_is_for_is_told_with_those_that_there_are() {
        for name in ["nosuchenc", "../x264enc", "x264enc.launch", ""] {
            let error = Encoders::select(&EncoderChoice::Named(name.to_owned()), &directory()).unwrap_err();
            assert!(matches!(error, MediaError::UnknownEncoder { .. }), "{error}");
            let known = "there are auto, nvh264enc, openh264enc, vp8enc, x264enc";
            assert_eq!(error.to_string(), format!("encoder {name:?} is not known; {known}"));
        }
    }

    #[test]
    fn an_encoder_that_exists_but_does_not_start_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        // x264 refuses pictures that are not the size its level allows only at run time: an impossible profile does it.
        let text = include_str!("../../pipelines/publish-x264enc.launch")
            .replace("profile=constrained-baseline", "profile=multiview-high");
        std::fs::write(directory.path().join("publish-x264enc.launch"), text).unwrap();
        super::super::init().unwrap();
        let error = Encoders::select_among(&["x264enc"], &PipelineDir::find(directory.path())).unwrap_err();
        assert!(matches!(&error, MediaError::NoEncoder { refusals } if refusals.len() == 1), "{error}");
    }

    #[test]
    fn without_any_encoder_each_refusal_is_told() {
        let error = Encoders::select_among(&["nosuchenc", "otherenc"], &directory()).unwrap_err().to_string();
        assert!(error.contains("nosuchenc") && error.contains("otherenc"), "{error}");
    }
}
