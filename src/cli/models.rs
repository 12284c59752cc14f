//! Arguments of `mouthpiece models`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::secrets::TOKEN_VARIABLE;
use crate::musetalk::device::{DeviceChoice, Precision};
use crate::musetalk::tools::run_network::Network;

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Models {
    /// Models, whether they are usable, and how fast they are here
    List {
        /// Load every usable model and draw a frame: how long that takes on this machine
        #[arg(long)]
        speed: bool,
        /// Where to draw it: auto, cpu, cuda or cuda:N
        #[arg(long, value_name = "DEVICE", default_value = "auto", requires = "speed")]
        device: DeviceChoice,
        #[arg(long)]
        json: bool,
    },
    /// Get a published model, or go on getting it, and install it
    Fetch(Fetch),
    /// Make a model of this installation from upstream's folder of weights
    Convert(Convert),
    /// Check a model's weights: names, shapes, numbers and hashes
    Verify {
        #[arg(value_name = "NAME")]
        name: String,
        #[arg(long)]
        json: bool,
    },
    /// Run one network of a model folder on named tensors, to compare it with another implementation
    Run(RunNetwork),
    /// Teach a small, quick decoder to draw an avatar's mouth as its model's own decoder does
    TuneDecoder(TuneDecoder),
}

fn learning_rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate| *rate > 0.0 && *rate <= 0.1);
    rate.ok_or_else(|| "a number above 0 and up to 0.1 is wanted".to_owned())
}

#[derive(Clone, Debug, Args)]
pub(crate) struct TuneDecoder {
    /// The avatar that it is for
    #[arg(value_name = "AVATAR")]
    pub(crate) avatar: String,
    /// Folder under models/ of the small decoder (an AutoencoderTiny) to begin with
    #[arg(long, value_name = "NAME", default_value = "taesd")]
    pub(crate) from: String,
    /// Steps of learning, four frames each
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) steps: u32,
    /// Frames to learn from, half the avatar's own and half spoken; one in eight is kept for judging
    #[arg(long, value_name = "N", default_value_t = 240, value_parser = clap::value_parser!(u32).range(16..=4000))]
    pub(crate) frames: u32,
    /// How large the first steps are; more for a decoder that has learnt nothing
    #[arg(long, value_name = "RATE", default_value_t = 3e-4, value_parser = learning_rate)]
    pub(crate) learning_rate: f64,
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Where to learn: auto, cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub(crate) device: DeviceChoice,
    /// Make it anew if the avatar has one already
    #[arg(long)]
    pub(crate) replace: bool,
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Fetch {
    /// musetalk-v1.0, musetalk-v1.5 or taesd
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// The Hugging Face Hub, or a mirror of it
    #[arg(long, env = "HF_ENDPOINT", value_name = "URL", default_value = "https://huggingface.co")]
    pub(crate) endpoint: String,
    /// For files that need a login; better in the environment than here
    #[arg(long, env = TOKEN_VARIABLE, hide_env_values = true, value_name = "TOKEN")]
    pub(crate) token: Option<String>,
    /// Only list the files with their sizes and licences
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Agree to the licences without being asked
    #[arg(long)]
    pub(crate) accept_licences: bool,
    /// Keep the files that the model is made from
    #[arg(long)]
    pub(crate) keep: bool,
    #[command(flatten)]
    pub(crate) install: Install,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Convert {
    /// musetalk-v1.0 or musetalk-v1.5
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// Upstream's `models` folder, with whisper, sd-vae and musetalk or musetalkV15 in it
    #[arg(long, value_name = "DIR")]
    pub(crate) from: PathBuf,
    #[command(flatten)]
    pub(crate) install: Install,
}

/// How a model is stored.
#[derive(Clone, Debug, Args)]
pub(crate) struct Install {
    /// Floats to store: half the space, or all of the digits
    #[arg(long, value_name = "DTYPE", default_value = "fp16", value_parser = ["fp16", "fp32"])]
    pub(crate) dtype: String,
    /// Make the model anew if it is there already
    #[arg(long)]
    pub(crate) replace: bool,
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct RunNetwork {
    /// A model's folder, or one with config.json and weights as diffusers and transformers save them
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
    #[arg(long, value_enum)]
    pub(crate) network: Network,
    /// Inputs: `sample` and `encoder_hidden_states` (unet), `latent`, `image`, `mel`, `audio` or `face` (latents,
    /// face-parsing)
    #[arg(long = "in", value_name = "FILE.safetensors")]
    pub(crate) input: PathBuf,
    /// Outputs: `out`, or `mean` and `logvar` (vae-encode), or `latents`, or `classes`
    #[arg(long = "out", value_name = "FILE.safetensors")]
    pub(crate) output: PathBuf,
    /// auto, cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub(crate) device: DeviceChoice,
    #[arg(long, value_enum, default_value_t)]
    pub(crate) dtype: Precision,
    #[arg(long)]
    pub(crate) json: bool,
}
