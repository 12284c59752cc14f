//! From samples to the audio tokens of each video frame: spectrogram, encoder and the rule which rows a frame hears.
//!
//! All the sound of a batch goes through the encoder at once, whosever it is: what is copied to the device, and how often
//! an operator is called, does not depend on how many sessions are in it. In here: the encoder's input and each frame's rows
//! of its output. `windows` says which windows that takes, `heard` keeps those of whole recordings between two batches.
//! Not in here: resampling to 16 kHz and cutting speech into sentences. Runs on: the engine's thread.

mod heard;
mod windows;

use std::sync::Arc;

use tch::{Device, Kind, Tensor, nn};

use crate::musetalk::Result;
use crate::musetalk::network::audio_rows::{FRAME_ROWS, LOCAL_MARGIN, ROW_STEP};
use crate::musetalk::network::config::{AudioWindow, MelConfig, ModelConfig, WhisperConfig};
use crate::musetalk::network::mel::LogMel;
use crate::musetalk::network::positional_encoding::positional_encoding;
use crate::musetalk::network::whisper::WhisperEncoder;
use heard::Heard;
use windows::Plan;

use super::steady::Steady;
use crate::musetalk::gpu::graphs::Graphs;

/// Consecutive frames, 25 a second, of one recording.
#[derive(Clone, Copy, Debug)]
pub struct Stretch<'a> {
    /// 16 kHz mono.
    pub audio: &'a Arc<[f32]>,
    /// The sample at which the first frame begins.
    pub first_frame_at: i64,
    /// How many, from then on.
    pub frames: i64,
}

/// Mel, encoder and window rule of a model.
#[derive(Debug)]
pub struct AudioFrontEnd {
    mel: LogMel,
    encoder: WhisperEncoder,
    window: AudioWindow,
    positions: i64,
    hop: i64,
    /// Added to every frame's tokens.
    positional: Tensor,
    /// What the encoder computes in; spectrograms are made in 32 bits.
    kind: Kind,
    /// Windows of recordings that are drawn in several batches.
    heard: Heard,
}

impl AudioFrontEnd {
    /// `p` is the path of `audio_encoder`.
    pub fn new(p: &nn::Path<'_>, config: &ModelConfig) -> Result<Self> {
        Self::of_parts(p, &config.mel, &config.audio_encoder, config.audio_window)
    }

    /// [`AudioFrontEnd::new`] of a model that has these parts alone.
    pub fn of_parts(p: &nn::Path<'_>, mel: &MelConfig, encoder: &WhisperConfig, window: AudioWindow) -> Result<Self> {
        let tokens = FRAME_ROWS * (encoder.encoder_layers + 1);
        Ok(Self {
            mel: LogMel::new(mel, p.device())?,
            encoder: WhisperEncoder::new(p, encoder)?,
            window,
            positions: encoder.max_source_positions,
            hop: mel.hop,
            positional: positional_encoding(tokens, encoder.d_model)?.f_to_device(p.device())?,
            kind: Kind::Float,
            heard: Heard::default(),
        })
    }

    /// Follows the encoder's weights to other floats.
    pub(super) fn set_kind(&mut self, kind: Kind) -> Result<()> {
        self.positional = self.positional.f_to_kind(kind)?;
        self.kind = kind;
        Ok(())
    }

    /// The most frames that one window can serve.
    pub fn most_frames(&self) -> i64 {
        match self.window {
            AudioWindow::Utterance => i64::from(u16::MAX),
            AudioWindow::Local { rows } => ((rows - FRAME_ROWS - LOCAL_MARGIN) / ROW_STEP + 1).max(1),
        }
    }

    /// How many samples before a frame are heard with it.
    pub fn context_samples(&self) -> usize {
        let rows = match self.window {
            AudioWindow::Utterance => self.positions,
            // The window, and half a spectrum before its first row.
            AudioWindow::Local { rows } => rows + ROW_STEP,
        };
        usize::try_from(rows * self.row_samples()).unwrap_or(0)
    }

    /// Tokens of so many frames without sound, as [`AudioFrontEnd::tokens`] gives them but of no encoder: to measure with.
    pub fn no_tokens(&self, frames: i64) -> Result<Tensor> {
        Ok(self.positional.f_unsqueeze(0)?.f_repeat([frames, 1, 1])?)
    }

    /// Tokens with their positional encoding, `[all frames, tokens, d_model]`, of stretches of sound one after the other.
    /// Frames of one recording that are near each other share a window, whichever stretches they are of.
    pub fn tokens(&mut self, stretches: &[Stretch<'_>]) -> Result<Tensor> {
        self.tokens_by(stretches, &mut Graphs::none())
    }

    /// [`AudioFrontEnd::tokens`], with what is steady of it captured.
    pub(super) fn tokens_by(&mut self, stretches: &[Stretch<'_>], graphs: &mut Graphs<Steady>) -> Result<Tensor> {
        let (rows, index) = match self.window {
            // Its shapes depend on the frames.
            AudioWindow::Local { rows } => self.local(stretches, rows)?,
            AudioWindow::Utterance => self.utterance(stretches, graphs)?,
        };
        let index = Tensor::f_from_slice(&index)?.f_to_device(self.device())?;
        let (tokens, size) = self.positional.size2()?;
        Ok(rows.f_index_select(0, &index)?.f_view([-1, tokens, size])?.f_add(&self.positional)?)
    }

    /// Rows of the encoder's output, `[rows, states * d]`, and which of them each frame hears, frame after frame.
    fn local(&self, stretches: &[Stretch<'_>], rows: i64) -> Result<(Tensor, Vec<i64>)> {
        let plan = Plan::local(stretches, rows, self.row_samples());
        let sound: Vec<(&[f32], i64)> = plan.windows.iter().map(|window| (&**window.audio, window.start)).collect();
        // A window ends with its last frame, so nobody hears the rows at its beginning.
        let unheard = plan.frames.iter().map(|(_, row)| *row).min().unwrap_or(0);
        let hidden = self.encode(&self.mel.stretches(&sound, 2 * rows)?, unheard)?;
        let first = |window: usize| i64::try_from(window).unwrap_or(0) * (rows - unheard) - unheard;
        let heard =
            plan.frames.iter().flat_map(|(window, row)| (0..FRAME_ROWS).map(move |at| first(*window) + row + at));
        Ok((flat(&hidden)?, heard.collect()))
    }

    /// The same by Whisper's own way: windows of `positions` rows from the start of the audio, the last one padded with zeros.
    fn utterance(&mut self, stretches: &[Stretch<'_>], graphs: &mut Graphs<Steady>) -> Result<(Tensor, Vec<i64>)> {
        let (row_samples, positions) = (self.row_samples(), self.positions);
        let wanted = windows::of_recordings(stretches, positions, row_samples);
        let missing = self.heard.missing(&wanted);
        if !missing.is_empty() {
            let sound: Vec<(&[f32], i64)> = missing.iter().map(|window| (&**window.audio, window.start)).collect();
            let sound = self.mel.cut(&sound, positions * row_samples)?;
            let steady = Steady::Hear { windows: sound.size2()?.0 };
            let hidden = graphs.run(&steady, [&sound], &|[sound]| self.encode(&self.mel.reflected(sound)?, 0))?;
            self.heard.keep(&missing, &hidden)?;
        }
        let mut index = Vec::new();
        for stretch in stretches {
            for frame in 0..stretch.frames {
                let rows = windows::rows_of_frame(stretch, frame, row_samples);
                index.extend(rows.map(|row| self.heard.place(stretch.audio, row, positions, row_samples)));
            }
        }
        let (tokens, size) = self.positional.size2()?;
        Ok((self.heard.rows(tokens / FRAME_ROWS * size, self.kind, self.device())?, index))
    }

    /// Hidden states, `[windows, rows - first, states, d]`, of spectrograms, `[windows, n_mels, 2 * rows]`: those of the rows
    /// from `first` on.
    fn encode(&self, mel: &Tensor, first: i64) -> Result<Tensor> {
        self.encoder.hidden_states_from(&mel.f_to_kind(self.kind)?, first)
    }

    fn row_samples(&self) -> i64 {
        2 * self.hop
    }

    fn device(&self) -> Device {
        self.positional.device()
    }
}

/// All rows of all windows, each with all of its states.
fn flat(hidden: &Tensor) -> Result<Tensor> {
    let (windows, rows, states, size) = hidden.size4()?;
    Ok(hidden.f_reshape([windows * rows, states * size])?)
}
