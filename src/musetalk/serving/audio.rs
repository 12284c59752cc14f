//! From samples to the audio tokens of each video frame: spectrogram, encoder and the rule which rows a frame hears.
//!
//! In here: what sound one encoder window serves, and keeping a long window between two batches. Not in here: resampling to
//! 16 kHz and cutting speech into sentences. Runs on: the engine's thread.

use std::sync::Arc;

use tch::{Device, Kind, Tensor, nn};

use crate::musetalk::Result;
use crate::musetalk::network::audio_rows::{FRAME_ROWS, LOCAL_MARGIN, ROW_STEP, first_row, frame_tokens, local_window};
use crate::musetalk::network::config::{AudioWindow, MelConfig, ModelConfig, WhisperConfig};
use crate::musetalk::network::mel::LogMel;
use crate::musetalk::network::positional_encoding::positional_encoding;
use crate::musetalk::network::whisper::WhisperEncoder;

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
    /// The last sentence's encoded windows: a sentence drawn in several batches is encoded once.
    encoded: Option<EncodedSentence>,
}

#[derive(Debug)]
struct EncodedSentence {
    audio: Arc<[f32]>,
    /// One for each window of `positions` rows, encoded when first needed.
    windows: Vec<Option<Tensor>>,
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
            encoded: None,
        })
    }

    /// Follows the encoder's weights to other floats.
    pub(super) fn set_kind(&mut self, kind: Kind) -> Result<()> {
        self.positional = self.positional.f_to_kind(kind)?;
        self.kind = kind;
        Ok(())
    }

    /// Hidden states of windows, `[windows, rows, states, d]`.
    fn encode(&self, mels: &[Tensor]) -> Result<Tensor> {
        self.encoder.hidden_states(&Tensor::f_stack(mels, 0)?.f_to_kind(self.kind)?)
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
        usize::try_from(rows * 2 * self.hop).unwrap_or(0)
    }

    /// Tokens with their positional encoding, `[all frames, tokens, d_model]`, of stretches of sound one after the other.
    pub fn tokens(&mut self, stretches: &[Stretch<'_>]) -> Result<Tensor> {
        let tokens: Vec<Tensor> = match self.window {
            AudioWindow::Local { rows } => self.local(stretches, rows)?,
            AudioWindow::Utterance => stretches.iter().map(|stretch| self.utterance(stretch)).collect::<Result<_>>()?,
        };
        Ok(Tensor::f_cat(&tokens, 0)?.f_add(&self.positional)?)
    }

    /// A window of its own for each stretch, all encoded together.
    fn local(&self, stretches: &[Stretch<'_>], rows: i64) -> Result<Vec<Tensor>> {
        let start = |stretch: &Stretch<'_>| local_window(stretch.frames, rows)[0];
        let mel = |stretch: &Stretch<'_>| {
            let from = stretch.first_frame_at + 2 * start(stretch) * self.hop;
            self.mel.stretch(stretch.audio, from, 2 * rows)
        };
        let hidden = self.encode(&stretches.iter().map(mel).collect::<Result<Vec<_>>>()?)?;
        let each = (0_i64..).zip(stretches);
        each.map(|(at, stretch)| frame_tokens(&hidden.f_get(at)?, start(stretch), stretch.frames)).collect()
    }

    /// Whisper's own way: windows of `positions` rows from the start of the audio, the last one padded with zeros.
    fn utterance(&mut self, stretch: &Stretch<'_>) -> Result<Tensor> {
        let Stretch { audio, first_frame_at, frames } = *stretch;
        let row_samples = 2 * self.hop;
        let samples = i64::try_from(audio.len()).unwrap_or(i64::MAX);
        let window = self.positions * row_samples;
        let known = self.encoded.as_ref().is_some_and(|last| Arc::ptr_eq(&last.audio, audio));
        let mut encoded = match self.encoded.take() {
            Some(last) if known => last.windows,
            _ => (0..(samples + window - 1) / window).map(|_| None).collect(),
        };
        let frame_row = first_frame_at / row_samples;
        // Rows of the audio's own length only: what the encoder makes of the padding is not used.
        let rows = samples / row_samples;
        let first = (frame_row + first_row(0)).clamp(0, rows);
        let end = (frame_row + first_row(frames - 1) + FRAME_ROWS).clamp(first, rows);
        let mut parts = Vec::new();
        for (index, slot) in (0i64..).zip(&mut encoded) {
            let (from, to) = (first.max(index * self.positions), end.min((index + 1) * self.positions));
            if from >= to {
                continue;
            }
            let hidden = match slot {
                Some(hidden) => hidden,
                None => slot.insert(self.encode_window(audio, index * window, window)?),
            };
            parts.push(hidden.f_narrow(0, from - index * self.positions, to - from)?);
        }
        self.encoded = Some(EncodedSentence { audio: Arc::clone(audio), windows: encoded });
        let hidden = if parts.is_empty() {
            let (tokens, size) = self.positional.size2()?;
            Tensor::f_zeros([0, tokens / FRAME_ROWS, size], (self.kind, self.positional.device()))?
        } else {
            Tensor::f_cat(&parts, 0)?
        };
        frame_tokens(&hidden, first - frame_row, frames)
    }

    fn encode_window(&self, audio: &[f32], start: i64, length: i64) -> Result<Tensor> {
        let (from, to) = (usize::try_from(start).unwrap_or(0), usize::try_from(start + length).unwrap_or(usize::MAX));
        let part = audio.get(from..to.min(audio.len())).unwrap_or_default();
        let part = Tensor::f_from_slice(part)?.f_to_device(self.device())?;
        let missing = length - part.size1()?;
        Ok(self.encode(&[self.mel.segment(&part.f_constant_pad_nd([0, missing])?)?])?.f_squeeze_dim(0)?)
    }

    fn device(&self) -> Device {
        self.positional.device()
    }
}
