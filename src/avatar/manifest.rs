//! `avatar.toml`: who an avatar is, how large, which model draws its mouth, how it speaks, what it was made from, and which
//! files belong to it.
//!
//! In here: the fields and what is right for each. Not in here: whether the folder holds what it says (`avatar::check`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::AvatarError;
use super::cycle::CycleKind;
use super::files::{self, Files, LONGEST_MANIFEST};
use super::film::MOST_FRAMES;
use crate::dialogue::Persona;
use crate::ids::AvatarId;
use crate::picture::matte::MattePlace;
use crate::speech::Voice;
use crate::timeline::FPS;

/// What an avatar calls the small decoder in its own folder, and where it lies there.
pub const TUNED: &str = "tuned";
/// The folder of that decoder, within the avatar's own.
pub const TUNED_FOLDER: &str = "decoder";

/// The format that is written. 1 has neither `kind` nor `frames` nor anything from `source` on, and is read as it is.
pub const FORMAT: u32 = 2;
/// The longest side of a frame, in pixels.
pub const LONGEST_SIDE: u32 = 1920;
/// The shortest side of a frame, in pixels.
pub const SHORTEST_SIDE: u32 = 64;
/// The most frames of a drawn avatar.
const MOST_DRAWN_FRAMES: u32 = 3000;
/// All of them are kept in memory; this bounds what they take together, in pixels (1.2 GB of them).
const MOST_DRAWN_PIXELS: u64 = 800_000_000;
/// The longest of the texts that people write into a manifest, in characters.
const LONGEST_TEXT: usize = 2000;

/// What an avatar was made from, which decides how its frames are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// One photo, which moves by a mesh.
    Photo,
    /// A film of the person.
    Clip,
    /// Frames that a program drew, each a PNG.
    #[default]
    Drawn,
}

impl Kind {
    /// As the manifest calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Photo => "photo",
            Self::Clip => "clip",
            Self::Drawn => "drawn",
        }
    }
}

/// Where an avatar's matte comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum MatteSource {
    /// The alpha channel of the photo, clip or drawing.
    Own,
    /// Its background, which is plain: a green screen or a wall of one colour.
    Plain,
}

/// The manifest of an avatar's folder.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Of this file; 1 if left out, [`FORMAT`] when it is written.
    #[serde(default = "Manifest::first_format")]
    pub format: u32,
    /// The same as the folder's name.
    pub id: AvatarId,
    /// What people call it.
    pub name: String,
    /// Folder of the model under `models/`, such as `demo`.
    pub model: String,
    /// What it was made from; drawn if left out.
    #[serde(default)]
    pub kind: Kind,
    /// A photo that does not move but for its mouth.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub still: bool,
    /// Pixels; even, [`SHORTEST_SIDE`] to [`LONGEST_SIDE`].
    pub width: u32,
    /// Pixels; even, as the width.
    pub height: u32,
    /// Always 25 today.
    pub fps: u32,
    /// What it is cut out by, if it is: its frames then have a matte beside or below their colours, and are twice as large
    /// ([`Manifest::frame_size`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matte: Option<MatteSource>,
    /// All of its own frames, those of gestures too; 1 for a photo. Always there in format 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frames: Option<u32>,
    /// How the idle frames follow each other: `loop` or `ping_pong`.
    pub cycle: CycleKind,
    /// First and one past the last row of the latent that the mask shows; the decoder skips the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decode_rows: Option<[i64; 2]>,
    /// A small decoder that draws the mouth instead of the model's own: `tuned`, the avatar's own in its folder `decoder`, or
    /// a folder under `models/`, such as `taesd`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decoder: Option<String>,
    /// Under which terms the pictures may be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// Who agreed to what: whose face it is, and what it may be made to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consent: Option<String>,
    /// How it speaks.
    pub voice: Voice,
    /// Who it is to a language model.
    #[serde(default, skip_serializing_if = "Persona::is_default")]
    pub dialogue: Persona,
    /// Gestures by name: stretches of its frames behind the idle ones.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub clips: BTreeMap<String, Clip>,
    /// The photo or clip that it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// What made it, and how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prepared: Option<Prepared>,
    /// Every file of the folder but this one. Empty in format 1.
    #[serde(default, skip_serializing_if = "Files::is_empty")]
    pub files: Files,
}

/// Frames that are played when a gesture is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clip {
    /// The first of them.
    pub first: u32,
    /// How many there are, 1 or more.
    pub frames: u32,
}

/// What somebody brought, and which part of it was taken. The file itself stays with them.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The file's name without its folder.
    pub file: String,
    /// Of its bytes, in hex digits.
    pub sha256: String,
    /// Pixels, upright.
    pub width: u32,
    /// Pixels, upright.
    pub height: u32,
    /// From when to when, in seconds; all of it if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trim: Option<[f64; 2]>,
    /// Whether left and right were swapped.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mirror: bool,
    /// Which face, from 1 at the left; the largest if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub face: Option<u32>,
}

/// With the source, all that is needed to make the same avatar again.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prepared {
    /// Name and version of the program.
    pub program: String,
    /// When, as RFC 3339 has it.
    pub date: String,
    /// What was chosen besides the source: names of options as `avatars create` has them, and the versions of the weights
    /// that found the face.
    #[serde(default)]
    pub options: toml::Table,
}

impl Manifest {
    /// Reads and checks an `avatar.toml`; an error names the file and the field.
    pub fn load(path: &Path) -> Result<Self, AvatarError> {
        let failed = |error: std::io::Error| AvatarError::file(path, error);
        let length = path.metadata().map_err(failed)?.len();
        if length > LONGEST_MANIFEST {
            return Err(AvatarError::file(path, format!("has {length} bytes, the most are {LONGEST_MANIFEST}")));
        }
        let text = std::fs::read_to_string(path).map_err(failed)?;
        Self::parse(&text).map_err(|problem| AvatarError::file(path, problem))
    }

    /// Reads and checks the text of an `avatar.toml`; an error names the field.
    pub fn parse(text: &str) -> Result<Self, String> {
        let manifest: Self = toml::from_str(text).map_err(|error| wrong_toml(text, &error))?;
        manifest.validate()?;
        Ok(manifest)
    }

    /// The text of its `avatar.toml`, which [`Manifest::parse`] reads again; an error names the field.
    pub fn text(&self) -> Result<String, String> {
        self.validate()?;
        let text = toml::to_string(self).map_err(|error| error.to_string())?;
        Ok(format!("# Written by mouthpiece; what the fields mean is in models/README.md.\n{text}"))
    }

    /// Where the matte lies in its frames, if it has one.
    pub fn matte_place(&self) -> Option<MattePlace> {
        self.matte.map(|_| MattePlace::of(self.width, self.height))
    }

    /// Width and height of its frames as they are encoded, in pixels: with the matte, if it has one.
    pub fn frame_size(&self) -> (u32, u32) {
        let size = (self.width, self.height);
        self.matte_place().map_or(size, |place| place.frame_size(size))
    }

    /// Where the small decoder lies, if the avatar has chosen one.
    pub fn decoder_folder(&self, avatars: &Path, models: &Path) -> Option<PathBuf> {
        match self.decoder.as_deref()? {
            TUNED => Some(avatars.join(self.id.as_str()).join(TUNED_FOLDER)),
            name => Some(models.join(name)),
        }
    }

    /// How many of so many frames the idle cycle has: those before the first gesture.
    pub fn idle_frames(&self, frames: usize) -> usize {
        let first = self.clips.values().filter_map(|clip| usize::try_from(clip.first).ok()).min();
        first.map_or(frames, |first| first.min(frames))
    }

    const fn first_format() -> u32 {
        1
    }

    /// Whether every field is in range; an error names the field.
    pub fn validate(&self) -> Result<(), String> {
        if !(1..=FORMAT).contains(&self.format) {
            return Err(format!("format is {}, this program reads 1 to {FORMAT}: a newer one wrote it", self.format));
        }
        for (field, name) in [("model", Some(&self.model)), ("decoder", self.decoder.as_ref())] {
            // As an id, and dots within, since a version has them: musetalk-v1.5.
            if let Some(name) = name.filter(|name| name.replace('.', "-").parse::<AvatarId>().is_err()) {
                return Err(format!("{field} {name:?} is not the name of a model folder"));
            }
        }
        for (field, value) in [("width", self.width), ("height", self.height)] {
            if !(SHORTEST_SIDE..=LONGEST_SIDE).contains(&value) || value % 2 == 1 {
                return Err(format!("{field} is {value}, must be even and {SHORTEST_SIDE} to {LONGEST_SIDE}"));
            }
        }
        if self.fps != FPS {
            return Err(format!("fps is {}, must be {FPS}", self.fps));
        }
        if let Some([first, end]) = self.decode_rows
            && !(0 <= first && first < end)
        {
            return Err(format!("decode_rows is [{first}, {end}], must be [first, one past the last]"));
        }
        if self.still && self.kind != Kind::Photo {
            return Err(format!("still is true, but kind is {:?}: only a photo can keep still", self.kind.name()));
        }
        self.validate_texts()?;
        self.validate_frames()?;
        self.validate_files()?;
        self.dialogue.validate()
    }

    /// What is shown to people must not move a terminal's cursor.
    fn validate_texts(&self) -> Result<(), String> {
        let (source, prepared) = (self.source.as_ref(), self.prepared.as_ref());
        let texts = [
            ("name", Some(&self.name), false),
            ("licence", self.licence.as_ref(), true),
            ("consent", self.consent.as_ref(), true),
            ("source.file", source.map(|source| &source.file), false),
            ("prepared.program", prepared.map(|prepared| &prepared.program), false),
            ("prepared.date", prepared.map(|prepared| &prepared.date), false),
        ];
        for (field, text, may_have_lines) in texts {
            let Some(text) = text else { continue };
            let length = text.chars().count();
            if length > LONGEST_TEXT {
                return Err(format!("{field} has {length} characters, the most are {LONGEST_TEXT}"));
            }
            if let Some(sign) = text.chars().find(|sign| sign.is_control() && !(may_have_lines && *sign == '\n')) {
                return Err(format!("{field} has the control character {sign:?} in it"));
            }
        }
        if let Some(source) = source {
            validate_hash("source.sha256", &source.sha256)?;
            if let Some([from, to]) = source.trim.filter(|[from, to]| !(0.0 <= *from && from < to && to.is_finite())) {
                return Err(format!("source.trim is [{from}, {to}], must be from when to when, in seconds"));
            }
        }
        Ok(())
    }

    fn validate_frames(&self) -> Result<(), String> {
        let Some(frames) = self.frames else {
            return if self.format == 1 { Ok(()) } else { Err("frames is missing".to_owned()) };
        };
        let most = match self.kind {
            Kind::Photo => 1,
            Kind::Clip => u32::try_from(MOST_FRAMES).unwrap_or(u32::MAX),
            Kind::Drawn => {
                let area = u64::from(self.width) * u64::from(self.height);
                u32::try_from(MOST_DRAWN_PIXELS / area.max(1)).unwrap_or(u32::MAX).min(MOST_DRAWN_FRAMES)
            }
        };
        if !(1..=most).contains(&frames) {
            let kind = self.kind.name();
            return Err(format!(
                "frames is {frames}, must be 1 to {most} for a {kind} of {}x{}",
                self.width, self.height
            ));
        }
        let mut end = 0;
        let mut clips: Vec<(&String, &Clip)> = self.clips.iter().collect();
        clips.sort_by_key(|(_, clip)| clip.first);
        for (name, Clip { first, frames: length }) in clips {
            if name.parse::<AvatarId>().is_err() {
                return Err(format!("clips.{name:?} is no name for a gesture: use a-z, 0-9, '_' and '-'"));
            }
            // The first frame of all belongs to the idle cycle.
            let clip_end = first.checked_add(*length).filter(|end| *end <= frames);
            match clip_end.filter(|_| *length > 0 && *first >= end.max(1)) {
                Some(clip_end) => end = clip_end,
                None => {
                    return Err(format!(
                        "clips.{name} is {length} frames from {first} on: must be 1 or more behind the idle ones, within \
                         {frames}, and not shared with another clip"
                    ));
                }
            }
        }
        Ok(())
    }

    fn validate_files(&self) -> Result<(), String> {
        for (name, recorded) in &self.files {
            if !files::is_known(name) {
                return Err(format!("files.{name:?} is no file of an avatar"));
            }
            validate_hash(&format!("files.{name:?}.sha256"), &recorded.sha256)?;
            let most = files::most_bytes(name);
            if recorded.bytes > most {
                return Err(format!("files.{name:?} has {} bytes, the most are {most}", recorded.bytes));
            }
        }
        let Some(frames) = self.frames.filter(|_| self.format > 1) else { return Ok(()) };
        if let Some(name) = files::missing(self.kind, frames, |name| self.files.contains_key(name)) {
            return Err(format!("files has no {name:?}, which a {} needs", self.kind.name()));
        }
        let pictures = self.files.keys().filter(|name| files::is_picture(name)).count();
        let wanted = if self.kind == Kind::Drawn { frames } else { 0 };
        if usize::try_from(wanted) != Ok(pictures) {
            return Err(format!("files has {pictures} pictures in frames/, must have {wanted}"));
        }
        Ok(())
    }
}

fn validate_hash(field: &str, hash: &str) -> Result<(), String> {
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if hash.len() == 64 && hash.bytes().all(is_hex) { Ok(()) } else { Err(format!("{field} must be 64 hex digits")) }
}

/// What is wrong with a text, and with which of its lines, in one line: manifests come from anywhere, so nothing of them
/// reaches a terminal that it could take for a command.
fn wrong_toml(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let number = before.matches('\n').count();
    let line: String = text.lines().nth(number).unwrap_or_default().trim().chars().take(60).collect();
    let plain = |text: &str| -> String {
        text.chars().flat_map(|one| if one.is_control() { one.escape_default().collect() } else { vec![one] }).collect()
    };
    format!("line {} ({}): {}", number + 1, plain(&line), plain(error.message()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "id = \"a\"\nname = \"A\"\nmodel = \"demo\"\nwidth = 512\nheight = 512\nfps = 25\ncycle = \"ping_pong\"\n\
                        [voice]\nengine = \"espeak-ng\"\nlanguage = \"en-us\"\n";

    #[test]
    fn text_that_is_no_manifest_is_told_in_one_line_with_nothing_that_a_terminal_heeds() {
        for (text, told) in [
            ("format = 2\nid = [\n \"\u{1b}[2J\"\nline two\n", "line 4 (line two)"),
            ("format = 2\n\u{1b}[2J = 1\n", "line 2 (\\u{1b}[2J = 1)"),
            ("format = 2\nwidth = \"wide\"\n", "line 2 (width = \"wide\"): invalid type"),
            ("format = 2\n\"\\u001b[2J\" = 1\n", "line 2"),
        ] {
            let error = load(text).unwrap_err();
            assert!(error.contains(told) && !error.contains(|one: char| one.is_control()), "{error:?}");
        }
    }

    fn load(text: &str) -> Result<Manifest, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Manifest::load(file.path()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_left_out_of_the_voice_has_defaults() {
        let manifest = load(GOOD).unwrap();
        assert_eq!((manifest.voice.rate, manifest.voice.pitch), (165, 50));
    }

    #[test]
    fn a_model_may_have_a_version_in_its_name_but_be_no_path() {
        let with = |name: &str| load(&GOOD.replace("\"demo\"", &format!("{name:?}")));
        assert_eq!(with("musetalk-v1.5").unwrap().model, "musetalk-v1.5");
        for name in ["..", ".hidden", "a/b", "", "../musetalk-v1.5"] {
            assert!(with(name).unwrap_err().contains("not the name of a model folder"), "{name}");
        }
    }

    #[test]
    fn a_bad_field_is_named() {
        for (from, to, named) in [
            ("fps = 25", "fps = 30", "fps"),
            ("width = 512", "width = 511", "width"),
            ("model = \"demo\"", "model = \"../demo\"", "model"),
            ("id = \"a\"", "id = \"A\"", "avatar id"),
            ("cycle = \"ping_pong\"", "cycle = \"spiral\"", "spiral"),
            ("name = \"A\"", "nmae = \"A\"", "nmae"),
            ("fps = 25", "fps = 25\ndecode_rows = [9, 4]", "decode_rows"),
            ("[voice]", "[dialogue]\ntemperature = 2.5\n[voice]", "dialogue.temperature"),
            ("[voice]", "[dialogue]\nprompt = \"\"\n[voice]", "prompt"),
        ] {
            let error = load(&GOOD.replace(from, to)).unwrap_err();
            assert!(error.contains(named), "{to}: {error}");
        }
    }

    /// An avatar from a clip, with all there may be.
    const CLIP: &str = r#"
        format = 2
        id = "a"
        name = "A"
        model = "portrait"
        kind = "clip"
        width = 1280
        height = 720
        fps = 25
        frames = 300
        cycle = "ping_pong"
        matte = "plain"
        licence = "of our own"
        consent = """
A. Person, on 2026-11-27: may be shown
saying anything about the museum."""
        [voice]
        engine = "espeak-ng"
        language = "en-us"
        [clips.wave]
        first = 250
        frames = 50
        [clips.nod]
        first = 240
        frames = 10
        [source]
        file = "a.mov"
        sha256 = "HASH"
        width = 1920
        height = 1080
        trim = [1.5, 11.5]
        mirror = true
        face = 2
        [prepared]
        program = "mouthpiece 0.1.0"
        date = "2026-11-27T10:00:00Z"
        options = { smooth = 0.5, loop = "ping_pong" }
        [files]
        "frames.mjpeg" = { bytes = 10, sha256 = "HASH" }
        "regions.mjpeg" = { bytes = 10, sha256 = "HASH" }
        "index.safetensors" = { bytes = 10, sha256 = "HASH" }
        "mask.png" = { bytes = 10, sha256 = "HASH" }
    "#;

    fn clip() -> String {
        CLIP.replace("HASH", &"0123456789abcdef".repeat(4))
    }

    #[test]
    fn what_is_written_is_read_again() {
        for text in [GOOD.to_owned(), clip()] {
            let manifest = Manifest::parse(&text).unwrap();
            assert_eq!(Manifest::parse(&manifest.text().unwrap()).unwrap(), manifest);
        }
        let manifest = Manifest::parse(&clip()).unwrap();
        assert_eq!((manifest.idle_frames(300), manifest.source.unwrap().trim), (240, Some([1.5, 11.5])));
        assert_eq!(Manifest::parse(GOOD).unwrap().idle_frames(7), 7);
    }

    #[test]
    fn frames_with_a_matte_are_twice_as_large_on_their_shorter_side() {
        let wide = Manifest::parse(&clip()).unwrap();
        assert_eq!((wide.matte_place(), wide.frame_size()), (Some(MattePlace::Below), (1280, 1440)));
        let opaque = Manifest::parse(GOOD).unwrap();
        assert_eq!((opaque.matte_place(), opaque.frame_size()), (None, (512, 512)));
        let square = Manifest { matte: Some(MatteSource::Own), ..opaque };
        assert_eq!((square.matte_place(), square.frame_size()), (Some(MattePlace::Beside), (1024, 512)));
    }

    #[test]
    fn a_bad_field_of_format_2_is_named() {
        let hash = "0123456789abcdef".repeat(4);
        for (from, to, named) in [
            ("format = 2", "format = 3", "format is 3"),
            ("frames = 300", "", "frames is missing"),
            ("frames = 300", "frames = 0", "frames is 0"),
            ("frames = 300", "frames = 400000", "frames is 400000"),
            ("kind = \"clip\"", "kind = \"photo\"", "must be 1 to 1 for a photo"),
            ("kind = \"clip\"", "kind = \"drawn\"", "boxes.json"),
            ("kind = \"clip\"", "kind = \"film\"", "film"),
            ("fps = 25", "fps = 25\nstill = true", "still"),
            ("matte = \"plain\"", "matte = \"green\"", "green"),
            ("width = 1280", "width = 1922", "width is 1922"),
            ("height = 720", "height = 62", "height is 62"),
            ("name = \"A\"", "name = \"A\\u001b\"", "name has the control character"),
            ("first = 250", "first = 251", "clips.wave"),
            ("first = 250", "first = 245", "clips.wave"),
            ("first = 240\n        frames = 10", "first = 0\n        frames = 10", "clips.nod"),
            ("first = 240\n        frames = 10", "first = 240\n        frames = 0", "clips.nod"),
            ("first = 250", "first = 4294967295", "clips.wave"),
            ("[clips.wave]", "[clips.\"../wave\"]", "no name for a gesture"),
            ("trim = [1.5, 11.5]", "trim = [1.5, 1.5]", "source.trim"),
            ("trim = [1.5, 11.5]", "trim = [0.0, inf]", "source.trim"),
            (
                &format!("file = \"a.mov\"\n        sha256 = \"{hash}\""),
                "file = \"a.mov\"\n        sha256 = \"0\"",
                "source.sha256",
            ),
            ("\"mask.png\" =", "\"../mask.png\" =", "../mask.png"),
            ("\"mask.png\" =", "\"preview.png\" =", "files has no \"mask.png\""),
            ("[files]", &format!("[files]\n\"frames/0000.png\" = {{ bytes = 1, sha256 = \"{hash}\" }}"), "1 pictures"),
            (
                "\"mask.png\" = { bytes = 10",
                "\"mask.png\" = { bytes = 99999999",
                "files.\"mask.png\" has 99999999 bytes",
            ),
            ("\"mask.png\" = { bytes = 10", "\"mask.png\" = { bytes = -1", "-1"),
        ] {
            let text = clip().replacen(from, to, 1);
            assert_ne!(text, clip(), "{from}");
            let error = Manifest::parse(&text).unwrap_err();
            assert!(error.contains(named), "{to}: {error}");
        }
    }

    #[test]
    fn a_manifest_that_is_too_long_is_not_read() {
        let error = load(&"#".repeat((1 << 20) + 1)).unwrap_err();
        assert!(error.contains("the most are 1048576"), "{error}");
    }
}
