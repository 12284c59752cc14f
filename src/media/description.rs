//! Pipelines as text: reading `*.launch` files, putting values in, parsing them.
//!
//! In here: where files come from, comments and placeholders, and turning GStreamer's parse errors into ones that name
//! file, line, column and element. What a parsed pipeline must hold is in `contract`, where something stands in `place`, what
//! goes wrong in `error`, pipelines drawn in `graph`. Not in here: running pipelines.

use std::path::{Path, PathBuf};

use gstreamer as gst;
use gstreamer::prelude::*;

use super::rungs::Rung;

mod contract;
mod error;
mod graph;
mod place;
mod report;

pub(super) use contract::codec_of;
pub use error::DescriptionError;
pub use place::Place;
pub(super) use report::{CheckReport, build_all, check_one, check_output};
pub use report::{CheckStatus, DescriptionFault, check, list};

/// The descriptions the program was built with; used when the pipelines directory does not exist.
const EMBEDDED: &[(&str, &str)] = &[
    ("publish-nvh264enc.launch", include_str!("../../pipelines/publish-nvh264enc.launch")),
    ("publish-x264enc.launch", include_str!("../../pipelines/publish-x264enc.launch")),
    ("publish-openh264enc.launch", include_str!("../../pipelines/publish-openh264enc.launch")),
    ("publish-vp8enc.launch", include_str!("../../pipelines/publish-vp8enc.launch")),
    ("viewer-h264.launch", include_str!("../../pipelines/viewer-h264.launch")),
    ("viewer-vp8.launch", include_str!("../../pipelines/viewer-vp8.launch")),
    ("render-mp4.launch", include_str!("../../pipelines/render-mp4.launch")),
    ("render-webm.launch", include_str!("../../pipelines/render-webm.launch")),
    ("output-rtmp.launch", include_str!("../../pipelines/output-rtmp.launch")),
    ("output-srt.launch", include_str!("../../pipelines/output-srt.launch")),
    ("output-hls.launch", include_str!("../../pipelines/output-hls.launch")),
    ("output-record.launch", include_str!("../../pipelines/output-record.launch")),
    ("output-v4l2.launch", include_str!("../../pipelines/output-v4l2.launch")),
];

/// Names that the code looks up in a parsed pipeline.
pub mod names {
    pub const VIDEO: &str = "video";
    pub const AUDIO: &str = "audio";
    pub const MATTE: &str = "matte";
    pub const MATTE_OUT: &str = "matte_out";
    pub const VIDEO_ENCODER: &str = "video_encoder";
    pub const VIDEO_OUT: &str = "video_out";
    pub const VIDEO_SIZE: &str = "video_size";
    pub const AUDIO_OUT: &str = "audio_out";
    pub const AUDIO_PAY: &str = "audio_pay";
    pub const VIDEO_PAY: &str = "video_pay";
    pub const WEBRTC: &str = "webrtc";
    pub const MICROPHONE: &str = "microphone";
    pub const HEARD: &str = "heard";
    pub const FILE: &str = "file";
    pub const AUDIO_ENCODER: &str = "audio_encoder";
    pub const CAPTIONS: &str = "captions";
    pub const SINK: &str = "sink";
    /// Those of elements that an element which lacks its name may be taken for.
    pub const ALL: &[&str] = &[VIDEO, AUDIO, VIDEO_OUT, AUDIO_OUT, WEBRTC, MICROPHONE, HEARD, FILE, CAPTIONS, SINK];
}

/// Where `*.launch` files are read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PipelineDir {
    /// Files that somebody may have edited.
    Directory(PathBuf),
    /// The copies inside the program.
    Embedded,
}

impl PipelineDir {
    /// The directory if it exists, else the embedded copies.
    pub fn find(directory: &Path) -> Self {
        if directory.is_dir() { Self::Directory(directory.to_owned()) } else { Self::Embedded }
    }

    /// File names of the descriptions in it, sorted.
    pub(super) fn files(&self) -> Result<Vec<String>, DescriptionError> {
        let mut files: Vec<String> = match self {
            Self::Embedded => EMBEDDED.iter().map(|(file, _)| (*file).to_owned()).collect(),
            Self::Directory(directory) => {
                let unreadable = |error: std::io::Error| DescriptionError::Unreadable {
                    file: directory.display().to_string(),
                    reason: error.to_string(),
                };
                let mut files = Vec::new();
                for entry in std::fs::read_dir(directory).map_err(unreadable)? {
                    let name = entry.map_err(unreadable)?.file_name().to_string_lossy().into_owned();
                    if name.ends_with(".launch") {
                        files.push(name);
                    }
                }
                files
            }
        };
        files.sort();
        Ok(files)
    }

    /// One description by its file name, not parsed yet.
    pub(super) fn read(&self, file: &str) -> Result<Description, DescriptionError> {
        match self {
            Self::Directory(directory) => Description::read(&directory.join(file)),
            Self::Embedded => {
                let (_, text) =
                    EMBEDDED.iter().find(|(name, _)| *name == file).ok_or_else(|| DescriptionError::Unreadable {
                        file: file.to_owned(),
                        reason: format!("no such description is built in; there are {}", embedded_names()),
                    })?;
                Description::new(file, (*text).to_owned())
            }
        }
    }
}

fn embedded_names() -> String {
    EMBEDDED.iter().map(|(file, _)| *file).collect::<Vec<_>>().join(", ")
}

/// What a description is for; the beginning of its file name says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Publish,
    Viewer,
    Render,
    Output,
}

/// What a viewer has of what a viewer description describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    pub video: bool,
    pub audio: bool,
    pub microphone: bool,
}

impl Parts {
    pub const ALL: Self = Self { video: true, audio: true, microphone: true };
}

/// The text of one pipeline, not parsed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    file: String,
    kind: Kind,
    text: String,
    parts: Parts,
    /// Which encode of the picture it is, of a publish description.
    rung: Rung,
}

/// Values for the placeholders of a description, `{width}` and the like.
pub type Values<'a> = [(&'a str, String)];

impl Description {
    pub fn read(path: &Path) -> Result<Self, DescriptionError> {
        let text = std::fs::read_to_string(path).map_err(|error| DescriptionError::Unreadable {
            file: path.display().to_string(),
            reason: error.to_string(),
        })?;
        Self::new(&path.display().to_string(), text)
    }

    /// `file` may be a path; its last part decides what the description is for.
    pub fn new(file: &str, text: String) -> Result<Self, DescriptionError> {
        let name = file.rsplit('/').next().unwrap_or(file);
        let kind = match name.split_once('-').map(|(kind, _)| kind) {
            Some("publish") => Kind::Publish,
            Some("viewer") => Kind::Viewer,
            Some("render") => Kind::Render,
            Some("output") => Kind::Output,
            _ => return Err(DescriptionError::UnknownKind { file: file.to_owned() }),
        };
        Ok(Self { file: file.to_owned(), kind, text, parts: Parts::ALL, rung: Rung::Full })
    }

    pub fn file(&self) -> &str {
        &self.file
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The same without what a viewer does not have: without the paragraphs that use the payload type of its video or its
    /// sound, or that name the microphone. Lines keep their numbers.
    pub fn with(&self, parts: Parts) -> Self {
        let absent = [
            (!parts.video).then_some("{video_pt}"),
            (!parts.audio).then_some("{audio_pt}"),
            (!parts.microphone).then_some("name=microphone"),
        ];
        let absent: Vec<&str> = absent.into_iter().flatten().collect();
        let is_absent = |line: &&str| {
            without_comment(line).split_whitespace().any(|word| absent.iter().any(|mark| is_word(word, mark)))
        };
        let text = self.keep(|paragraph| !paragraph.iter().any(is_absent));
        Self { text, parts, ..self.clone() }
    }

    /// The rungs that a publish description has: the first, and those that have a `video_out` of their own name.
    pub(super) fn rungs(&self) -> Vec<Rung> {
        let has = |rung: &Rung| self.text.lines().any(|line| names_rung(line, *rung));
        Rung::ALL.into_iter().filter(|rung| *rung == Rung::Full || has(rung)).collect()
    }

    /// One rung alone: for a further one its paragraph, for the first all that are of no other. Lines keep their numbers.
    pub(super) fn rung(&self, rung: Rung) -> Self {
        let others: Vec<Rung> = Rung::ALL.into_iter().filter(|other| *other != Rung::Full).collect();
        let is_kept = |paragraph: &[&str]| match rung {
            Rung::Full => !paragraph.iter().any(|line| others.iter().any(|other| names_rung(line, *other))),
            _ => paragraph.iter().any(|line| names_rung(line, rung)),
        };
        Self { rung, text: self.keep(is_kept), ..self.clone() }
    }

    /// Its name for an element of a rung: `video_out_low`.
    pub(super) fn name(&self, name: &str) -> String {
        format!("{name}{}", self.rung.suffix())
    }

    /// Paragraphs are lines between empty ones.
    fn keep(&self, is_kept: impl Fn(&[&str]) -> bool) -> String {
        let lines: Vec<&str> = self.text.lines().collect();
        let paragraphs = lines.chunk_by(|line, next| !line.trim().is_empty() && !next.trim().is_empty());
        let kept = paragraphs.flat_map(|paragraph| {
            let is_kept = is_kept(paragraph);
            paragraph.iter().map(move |line| if is_kept { *line } else { "" })
        });
        kept.collect::<Vec<_>>().join("\n")
    }

    /// The properties that are one of these placeholders and nothing else, each with its placeholder.
    pub(super) fn properties_of(&self, placeholders: &[&str]) -> Vec<(String, String)> {
        let words = self.text.lines().flat_map(|line| without_comment(line).split_whitespace());
        let given = words.filter_map(|word| {
            let (property, value) = word.split_once('=')?;
            let placeholder = value.trim_matches('"').strip_prefix('{')?.strip_suffix('}')?;
            placeholders.contains(&placeholder).then(|| (property.to_owned(), placeholder.to_owned()))
        });
        given.collect()
    }

    /// Parses the text with its placeholders filled in and checks the contract of its kind.
    pub fn build(&self, values: &Values<'_>) -> Result<gst::Pipeline, DescriptionError> {
        // The further rungs of a publish description are pipelines of their own.
        let own = if self.kind == Kind::Publish { self.rung(self.rung) } else { self.clone() };
        let pipeline = own.parse(values)?;
        contract::check(&own, &pipeline, values)?;
        Ok(pipeline)
    }

    fn parse(&self, values: &Values<'_>) -> Result<gst::Pipeline, DescriptionError> {
        let text = self.fill_in(values)?;
        if text.trim().is_empty() {
            return Err(self.syntax(None, "the description is empty".to_owned()));
        }
        let mut context = gst::ParseContext::new();
        let parsed = gst::parse::launch_full(&text, Some(&mut context), gst::ParseFlags::FATAL_ERRORS);
        // GStreamer also lists elements that it has and that were given a property they lack.
        let is_missing = |element: &String| gst::ElementFactory::find(element).is_none();
        if let Some(element) = context.missing_elements().into_iter().find(is_missing) {
            let at = place::of_word(&self.text, &element, None);
            return Err(DescriptionError::MissingElement { file: self.file.clone(), at, element });
        }
        let element = parsed.map_err(|error| {
            let message = error.message().to_owned();
            self.syntax(place::of_fault(&self.text, &message), message)
        })?;
        match element.downcast::<gst::Pipeline>() {
            Ok(pipeline) => Ok(pipeline),
            // A description of a single element parses to that element.
            Err(element) => {
                let pipeline = gst::Pipeline::new();
                pipeline.add(&element).map_err(|error| self.syntax(None, error.to_string()))?;
                Ok(pipeline)
            }
        }
    }

    /// The text without comments and with `{name}` replaced.
    fn fill_in(&self, values: &Values<'_>) -> Result<String, DescriptionError> {
        let mut filled = String::with_capacity(self.text.len());
        for (number, line) in (1..).zip(self.text.lines()) {
            let kept = without_comment(line);
            let mut rest = kept;
            while let Some((before, after)) = rest.split_once('{') {
                let at = |before: &str| {
                    let bytes = kept.len() - rest.len() + before.len();
                    kept.get(..bytes).map(|before| Place { line: number, column: before.chars().count() + 1 })
                };
                filled.push_str(before);
                let Some((name, after)) = after.split_once('}') else {
                    return Err(self.syntax(at(before), "'{' without '}'".to_owned()));
                };
                let Some((_, value)) = values.iter().find(|(known, _)| *known == name) else {
                    return Err(DescriptionError::UnknownPlaceholder {
                        file: self.file.clone(),
                        at: at(before),
                        name: name.to_owned(),
                        known: values.iter().map(|(name, _)| format!("{{{name}}}")).collect::<Vec<_>>().join(" "),
                    });
                };
                filled.push_str(value);
                rest = after;
            }
            filled.push_str(rest);
            filled.push('\n');
        }
        Ok(filled)
    }

    fn syntax(&self, at: Option<Place>, reason: String) -> DescriptionError {
        DescriptionError::Syntax { file: self.file.clone(), at, reason }
    }

    /// What goes wrong with an element, by its name, or whatever word stands for it, while it runs.
    pub(super) fn fault_at(&self, word: &str, reason: &str) -> DescriptionError {
        self.syntax(place::of_word(&self.text, word, None), reason.to_owned())
    }

    fn contract(
        &self,
        at: Option<Place>,
        element: impl Into<String>,
        problem: impl Into<String>,
        fix: impl Into<String>,
    ) -> DescriptionError {
        DescriptionError::Contract {
            file: self.file.clone(),
            at,
            element: element.into(),
            problem: problem.into(),
            fix: fix.into(),
        }
    }
}

/// A line up to its `#`, unless that stands inside double quotes.
fn without_comment(line: &str) -> &str {
    let mut quoted = false;
    for (at, character) in line.char_indices() {
        match character {
            '"' => quoted = !quoted,
            '#' if !quoted => return &line[..at],
            _ => {}
        }
    }
    line
}

/// Whether a line has the picture's way out of a further rung.
fn names_rung(line: &str, rung: Rung) -> bool {
    let name = format!("name={}{}", names::VIDEO_OUT, rung.suffix());
    without_comment(line).split_whitespace().any(|word| word == name)
}

/// Whether a word of a description holds a placeholder, or is a name.
fn is_word(word: &str, mark: &str) -> bool {
    if mark.starts_with('{') { word.contains(mark) } else { word == mark }
}

/// Placeholder values of a publish description, of a rung of it.
pub fn publish_values(width: u32, height: u32, fps: u32, rung: Rung) -> Vec<(&'static str, String)> {
    let mut values = vec![("width", width.to_string()), ("height", height.to_string()), ("fps", fps.to_string())];
    values.extend(super::bitrate::values(super::bitrate::bitrate(width, height, rung)));
    if rung != Rung::Full {
        values.push(("half_width", half(width).to_string()));
        values.push(("half_height", half(height).to_string()));
    }
    values
}

/// Half a length in pixels, even as I420 asks for.
pub(super) fn half(length: u32) -> u32 {
    (length / 4 * 2).max(16)
}

/// Placeholder values of a viewer description.
pub fn viewer_values(video_pt: u8, video_ssrc: u32, audio_pt: u8, audio_ssrc: u32) -> Vec<(&'static str, String)> {
    vec![
        ("video_pt", video_pt.to_string()),
        ("video_ssrc", video_ssrc.to_string()),
        ("audio_pt", audio_pt.to_string()),
        ("audio_ssrc", audio_ssrc.to_string()),
    ]
}

/// Placeholder values of a render description. The location stands inside double quotes in the text.
pub fn render_values(width: u32, height: u32, fps: u32, location: &str) -> Vec<(&'static str, String)> {
    let mut values = publish_values(width, height, fps, Rung::Full);
    values.push(("location", within_quotes(location)));
    values
}

/// Where an output goes; what it does not have stays empty.
#[derive(Clone, Copy, Debug, Default)]
pub struct OutputPlaces<'a> {
    pub url: &'a str,
    pub path: &'a str,
    pub folder: &'a str,
    pub device: &'a str,
}

/// Placeholder values of an output description. All of them stand inside double quotes in the text.
pub fn output_values(places: OutputPlaces<'_>) -> Vec<(&'static str, String)> {
    let OutputPlaces { url, path, folder, device } = places;
    [("url", url), ("path", path), ("folder", folder), ("device", device)]
        .map(|(name, value)| (name, within_quotes(value)))
        .to_vec()
}

fn within_quotes(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests;
