//! `avatar.toml`: who an avatar is, how large, which model draws its mouth, how it speaks.

use std::path::{Path, PathBuf};

use super::AvatarError;
use super::cycle::CycleKind;
use crate::dialogue::Persona;
use crate::ids::AvatarId;
use crate::speech::Voice;
use crate::timeline::FPS;

/// What an avatar calls the small decoder in its own folder, and where it lies there.
pub const TUNED: &str = "tuned";
/// The folder of that decoder, within the avatar's own.
pub const TUNED_FOLDER: &str = "decoder";

/// The manifest of an avatar's folder.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The same as the folder's name.
    pub id: AvatarId,
    /// What people call it.
    pub name: String,
    /// Folder of the model under `models/`, such as `demo`.
    pub model: String,
    /// Pixels; even.
    pub width: u32,
    /// Pixels; even.
    pub height: u32,
    /// Always 25 today.
    pub fps: u32,
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
    /// How it speaks.
    pub voice: Voice,
    /// Who it is to a language model.
    #[serde(default, skip_serializing_if = "Persona::is_default")]
    pub dialogue: Persona,
}

impl Manifest {
    /// Reads and checks an `avatar.toml`; an error names the file and the field.
    pub fn load(path: &Path) -> Result<Self, AvatarError> {
        let text = std::fs::read_to_string(path).map_err(|error| AvatarError::file(path, error))?;
        let manifest: Self = toml::from_str(&text).map_err(|error| AvatarError::file(path, error))?;
        manifest.validate().map_err(|problem| AvatarError::file(path, problem))?;
        Ok(manifest)
    }

    /// Where the small decoder lies, if the avatar has chosen one.
    pub fn decoder_folder(&self, avatars: &Path, models: &Path) -> Option<PathBuf> {
        match self.decoder.as_deref()? {
            TUNED => Some(avatars.join(self.id.as_str()).join(TUNED_FOLDER)),
            name => Some(models.join(name)),
        }
    }

    fn validate(&self) -> Result<(), String> {
        for (field, name) in [("model", Some(&self.model)), ("decoder", self.decoder.as_ref())] {
            // As an id, and dots within, since a version has them: musetalk-v1.5.
            if let Some(name) = name.filter(|name| name.replace('.', "-").parse::<AvatarId>().is_err()) {
                return Err(format!("{field} {name:?} is not the name of a model folder"));
            }
        }
        for (field, value) in [("width", self.width), ("height", self.height)] {
            if !(64..=2048).contains(&value) || value % 2 == 1 {
                return Err(format!("{field} is {value}, must be even and 64 to 2048"));
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
        self.dialogue.validate()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "id = \"a\"\nname = \"A\"\nmodel = \"demo\"\nwidth = 512\nheight = 512\nfps = 25\ncycle = \"ping_pong\"\n\
                        [voice]\nengine = \"espeak-ng\"\nlanguage = \"en-us\"\n";

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
}
