//! The models that this program knows by name: what they are made of and what upstream calls its folders.

/// The networks of a model, as `config.json` and the files of their weights name them.
pub const PARTS: [&str; 3] = ["audio_encoder", "unet", "autoencoder"];

/// The file with all networks' weights, each tensor's name with its network's before it, of a model that has no file for
/// each of [`PARTS`].
pub const WHOLE: &str = "model.safetensors";

/// A published model.
#[derive(Debug, PartialEq, Eq)]
pub struct KnownModel {
    /// As in `--model`, and of its folder under `models/`.
    pub name: &'static str,
    /// For each of [`PARTS`], the folders of upstream's `models/` that may hold it.
    pub folders: [&'static [&'static str]; 3],
    /// Where those folders' files are published.
    pub downloads: [Download; 7],
}

/// A file on the hub, and its place in a folder like upstream's `models/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Download {
    /// The repository on the hub, `owner/name`.
    pub repo: &'static str,
    /// The file within the repository.
    pub file: &'static str,
    /// Where it goes, under the folder that is fetched to.
    pub to: &'static str,
}

/// The published versions of MuseTalk.
pub const KNOWN: [KnownModel; 2] = [
    KnownModel {
        name: "musetalk-v1.0",
        folders: [WHISPER, &["musetalk"], AUTOENCODER],
        downloads: with_encoders(musetalk("musetalk/musetalk.json"), musetalk("musetalk/pytorch_model.bin")),
    },
    KnownModel {
        name: "musetalk-v1.5",
        folders: [WHISPER, &["musetalkV15"], AUTOENCODER],
        downloads: with_encoders(musetalk("musetalkV15/musetalk.json"), musetalk("musetalkV15/unet.pth")),
    },
];

const fn musetalk(file: &'static str) -> Download {
    Download { repo: "TMElyralab/MuseTalk", file, to: file }
}

/// A UNet's files, and those that both versions share.
const fn with_encoders(config: Download, weights: Download) -> [Download; 7] {
    const VAE: &str = "stabilityai/sd-vae-ft-mse";
    const TINY: &str = "openai/whisper-tiny";
    const WEIGHTS: &str = "diffusion_pytorch_model.safetensors";
    [
        config,
        weights,
        Download { repo: VAE, file: "config.json", to: "sd-vae/config.json" },
        Download { repo: VAE, file: WEIGHTS, to: "sd-vae/diffusion_pytorch_model.safetensors" },
        Download { repo: TINY, file: "config.json", to: "whisper/config.json" },
        Download { repo: TINY, file: "preprocessor_config.json", to: "whisper/preprocessor_config.json" },
        Download { repo: TINY, file: "model.safetensors", to: "whisper/model.safetensors" },
    ]
}

/// A small decoder for Stable Diffusion's latents, fetched as it is: for `models run`.
pub const TAESD: &str = "taesd";
/// Where its files are published.
pub const TAESD_DOWNLOADS: [Download; 2] = [
    Download { repo: "madebyollin/taesd", file: "config.json", to: "config.json" },
    Download {
        repo: "madebyollin/taesd",
        file: "diffusion_pytorch_model.safetensors",
        to: "diffusion_pytorch_model.safetensors",
    },
];

/// Upstream's folder of its face parsing, which is used as it lies there and need not be there.
pub const FACE_PARSER: &str = "face-parse-bisent";
/// The weights in it.
pub const FACE_PARSER_WEIGHTS: &str = "79999_iter.pth";

/// What upstream says of a repository's licence, and what speaks against it.
pub fn licence_note(repo: &str) -> &'static str {
    match repo {
        "TMElyralab/MuseTalk" => {
            "code MIT; README: weights for any purpose; copies of its page say CreativeML OpenRAIL-M"
        }
        "stabilityai/sd-vae-ft-mse" | "madebyollin/taesd" => "MIT",
        "openai/whisper-tiny" => "Apache-2.0 on the hub, MIT at its authors'",
        _ => "see the repository's page",
    }
}

const WHISPER: &[&str] = &["whisper", "whisper-tiny"];
/// The second is what MuseTalk called it first.
const AUTOENCODER: &[&str] = &["sd-vae", "sd-vae-ft-mse"];

/// The folder of `models/` with the lists of names and shapes, which all versions share.
pub const LISTS: &str = "musetalk";

/// A name that is none of [`KNOWN`].
#[derive(Debug, thiserror::Error)]
#[error("no model is named {name:?}; there are {}", KNOWN.map(|model| model.name).join(", "))]
pub struct UnknownModel {
    name: String,
}

/// The model of this name, or an error that lists those that there are.
pub fn known(name: &str) -> Result<&'static KnownModel, UnknownModel> {
    KNOWN.iter().find(|model| model.name == name).ok_or_else(|| UnknownModel { name: name.to_owned() })
}
