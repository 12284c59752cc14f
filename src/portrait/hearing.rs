//! Hears in speech how a mouth is held: seven parameters for each frame.
//!
//! In here: MuseTalk's kind of audio encoder with a small head on it, both of `models/portrait`, and when a mouth is at rest.
//! What a frame is told depends on the sound around it alone, never on which frames are asked for together, but for what
//! the encoder's window does at its edges. Not in here: what the parameters do (`shape`).

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tch::{Device, nn};

use super::Result;
use super::shape::{Articulation, smoothstep};
use crate::lipsync::{LipSyncError, MouthRun};
use crate::models::catalog::WHOLE;
use crate::musetalk::network::audio_rows::FRAME_ROWS;
use crate::musetalk::network::config::{AudioWindow, HelperHeadConfig, MelConfig, WhisperConfig, validate_audio};
use crate::musetalk::network::layers::blank;
use crate::musetalk::serving::{AudioFrontEnd, Stretch};
use crate::musetalk::weights::{Mapping, load_safetensors};
use crate::timeline::LIPSYNC_SAMPLES_PER_FRAME;

/// What a head of a portrait's model predicts.
const PARAMETERS: i64 = 7;
/// What `family` says in the configuration of such a model.
pub const FAMILY: &str = "portrait";
/// The head says the mean of what may be, so that it seldom says that lips are pressed for certain: from the first of these
/// on they begin to be, from the second on they are. Of the frames within 220 closures in speech that it never heard 90 of 100
/// are shut so, and of 762 wide open ones 2.5; from 0.06 to 0.32 it would be 87 and 1.7. In the frames that stay open the head
/// hears no closure at all; holding the ones that it hears for another frame shuts 9 of 100 open mouths for 3 more.
const PRESSED: [f32; 2] = [0.04, 0.2];
/// Loudest root mean square of a frame of silence, and that of a frame which surely is none.
const SILENCE: f32 = 0.003;
const VOICE: f32 = 0.008;
/// How much a frame's sound keeps mouths of 0, 1, 2 frames away from rest.
const AWAKE: [f32; 3] = [1.0, 0.8, 0.45];

/// The model's `config.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HearingConfig {
    /// The model's, as avatars name it.
    pub name: String,
    /// Always [`FAMILY`].
    pub family: String,
    /// The spectrogram of the sound.
    pub mel: MelConfig,
    /// What turns it into features.
    pub audio_encoder: WhisperConfig,
    /// How much sound the encoder sees at once.
    pub audio_window: AudioWindow,
    /// What turns features into a mouth's parameters.
    pub helper_head: HelperHeadConfig,
}

impl HearingConfig {
    fn load(path: &Path) -> Result<Self> {
        let model = |problem: String| LipSyncError::Model { path: path.display().to_string(), problem };
        let text = std::fs::read_to_string(path).map_err(|error| model(error.to_string()))?;
        let config: Self = serde_json::from_str(&text).map_err(|error| model(error.to_string()))?;
        validate_audio(&config.mel, &config.audio_encoder, config.audio_window)?;
        let wrong = |field: &str, problem: String| Err(LipSyncError::Config { field: field.to_owned(), problem });
        let head = &config.helper_head;
        match () {
            () if config.family != FAMILY => wrong("family", format!("is {:?}, must be {FAMILY:?}", config.family)),
            () if head.parameters != PARAMETERS => {
                wrong("helper_head.parameters", format!("is {}, must be {PARAMETERS}", head.parameters))
            }
            () if !(1..=1 << 16).contains(&head.hidden) => {
                wrong("helper_head.hidden", format!("{} is not between 1 and 65536", head.hidden))
            }
            () => Ok(config),
        }
    }
}

/// Encoder and head of a model.
#[derive(Debug)]
pub(super) struct Hearing {
    front: AudioFrontEnd,
    hidden: nn::Linear,
    out: nn::Linear,
    device: Device,
}

impl Hearing {
    /// Loads `config.json` and `model.safetensors` of a model's folder.
    pub(super) fn load(folder: &Path, device: Device) -> Result<Self> {
        let config = HearingConfig::load(&folder.join("config.json"))?;
        let mut store = nn::VarStore::new(device);
        let root = store.root();
        let tokens = FRAME_ROWS * (config.audio_encoder.encoder_layers + 1);
        let inputs = tokens * config.audio_encoder.d_model;
        let (front, hidden, out) = blank(|| {
            let (mel, encoder, window) = (&config.mel, &config.audio_encoder, config.audio_window);
            let front = AudioFrontEnd::of_parts(&(&root / "audio_encoder"), mel, encoder, window)?;
            let head = &root / "helper_head";
            let linear = |name: &str, from, to| nn::linear(&head / name, from, to, nn::LinearConfig::default());
            let hidden = linear("hidden", inputs, config.helper_head.hidden);
            Ok::<_, LipSyncError>((front, hidden, linear("out", config.helper_head.hidden, PARAMETERS)))
        })?;
        load_safetensors(&store, &folder.join(WHOLE), Mapping::default())?;
        store.freeze();
        Ok(Self { front, hidden, out, device })
    }

    pub(super) fn device(&self) -> Device {
        self.device
    }

    pub(super) fn context_samples(&self) -> usize {
        self.front.context_samples()
    }

    /// How the mouth is held in each frame of all runs, run after run.
    pub(super) fn hear(&mut self, runs: &[MouthRun]) -> Result<Vec<Articulation>> {
        let most = usize::try_from(self.front.most_frames()).unwrap_or(1);
        let stretches: Vec<Stretch<'_>> = runs.iter().flat_map(|run| stretches(run, most)).collect();
        if stretches.is_empty() {
            return Ok(Vec::new());
        }
        let tokens = self.front.tokens(&stretches)?.f_flatten(1, -1)?;
        let hidden = tokens.f_linear(&self.hidden.ws, self.hidden.bs.as_ref())?.f_gelu("none")?;
        let held = hidden.f_linear(&self.out.ws, self.out.bs.as_ref())?.f_sigmoid()?;
        let numbers = Vec::<f32>::try_from(held.f_to_device(Device::Cpu)?.f_flatten(0, -1)?)?;
        let rests = runs.iter().flat_map(|run| (0..run.poses.len()).map(|frame| rest(run, frame)));
        Ok(numbers
            .as_chunks::<7>()
            .0
            .iter()
            .zip(rests)
            .map(|(&[open, wide, round, press, bite, tongue, teeth], rest)| {
                let press = smoothstep(PRESSED[0], PRESSED[1], press);
                Articulation { open, wide, round, press, bite, tongue, teeth, rest }
            })
            .collect())
    }
}

/// A run's frames as stretches of sound of which one window of the encoder serves each.
fn stretches(run: &MouthRun, most: usize) -> Vec<Stretch<'_>> {
    let samples = i64::try_from(LIPSYNC_SAMPLES_PER_FRAME).unwrap_or(0);
    let mut at = i64::try_from(run.first_frame_at).unwrap_or(i64::MAX / 2);
    let mut stretches = Vec::with_capacity(1);
    for poses in run.poses.chunks(most.max(1)) {
        let frames = i64::try_from(poses.len()).unwrap_or(0);
        stretches.push(Stretch { audio: &run.audio, first_frame_at: at, frames });
        at += samples * frames;
    }
    stretches
}

/// How much a mouth is as the picture has it: 1 where there is silence for two frames before and after.
fn rest(run: &MouthRun, frame: usize) -> f32 {
    let start = run.first_frame_at.saturating_add(frame.saturating_mul(LIPSYNC_SAMPLES_PER_FRAME));
    let mut awake = 0.0_f32;
    for (away, share) in AWAKE.iter().enumerate() {
        let later = loudness(&run.audio, Some(start.saturating_add(away * LIPSYNC_SAMPLES_PER_FRAME)));
        let earlier = loudness(&run.audio, start.checked_sub(away * LIPSYNC_SAMPLES_PER_FRAME));
        awake = awake.max(share * smoothstep(SILENCE, VOICE, later.max(earlier)));
    }
    1.0 - awake
}

/// Root mean square of the frame of sound that begins there; 0 outside of the sound.
#[allow(clippy::cast_precision_loss, reason = "640")]
fn loudness(audio: &Arc<[f32]>, start: Option<usize>) -> f32 {
    let sound =
        start.and_then(|start| audio.get(start..audio.len().min(start.saturating_add(LIPSYNC_SAMPLES_PER_FRAME))));
    let squares: f32 = sound.unwrap_or_default().iter().map(|sample| sample * sample).sum();
    (squares / LIPSYNC_SAMPLES_PER_FRAME as f32).sqrt()
}
