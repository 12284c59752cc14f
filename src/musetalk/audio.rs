//! From samples to the audio tokens of each video frame.
//!
//! A row is one step of the encoder, 20 ms; row r is centred on sample 320 r. A frame that begins at row r hears rows
//! `[r - 4, r + 6)`: 80 ms before it to 80 ms after it. Not in here: resampling to 16 kHz and cutting speech into
//! segments.

use std::sync::Arc;

use tch::{Device, Kind, Tensor, nn};

use super::Result;
use super::config::{AudioWindow, ModelConfig};
use super::mel::LogMel;
use super::positional_encoding::positional_encoding;
use super::whisper::WhisperEncoder;
use crate::lipsync::LONGEST_CONTEXT;
use crate::timeline::FPS;

/// Rows that a frame hears.
pub const FRAME_ROWS: i64 = 10;
/// Of those, rows before the frame begins.
pub const ROWS_BEFORE: i64 = 4;
const ROWS_A_SECOND: i64 = 50;
/// Rows from one frame to the next at 25 fps.
pub const ROW_STEP: i64 = ROWS_A_SECOND / FPS as i64;
/// Rows a local window goes on after the last row that is heard, so that the encoder's convolutions see real sound.
pub const LOCAL_MARGIN: i64 = 2;

/// The first row that video frame `frame` hears, at 25 fps.
pub fn first_row(frame: i64) -> i64 {
    first_row_at(frame, i64::from(FPS))
}

/// The same at another whole number of frames a second. Upstream's rule agrees at 25 and 30 fps only: it pads by whole
/// rows a frame and so hears 40 ms early at 24 and below, 40 ms late at 50 and above.
pub fn first_row_at(frame: i64, fps: i64) -> i64 {
    (frame * ROWS_A_SECOND).div_euclid(fps) - ROWS_BEFORE
}

/// The rows of a local window for a run of `frames` frames, `[first, end)`, counted from the first frame's beginning.
pub fn local_window(frames: i64, rows: i64) -> [i64; 2] {
    let end = first_row(frames - 1) + FRAME_ROWS + LOCAL_MARGIN;
    [end - rows, end]
}

/// Cuts one window for each of `frames` frames out of `hidden`, `[rows, states, d]`, whose first row is row `start`
/// counted from the first frame's beginning: `[frames, 10 * states, d]`, time-major. Rows outside of `hidden` are zero.
pub fn frame_tokens(hidden: &Tensor, start: i64, frames: i64) -> Result<Tensor> {
    let (rows, states, size) = hidden.size3()?;
    let (first, end) = (first_row(0), first_row(frames - 1) + FRAME_ROWS);
    // What both have in common, which may be nothing.
    let from = first.max(start).min(end);
    let to = end.min(start + rows).max(from);
    let inside = hidden.f_narrow(0, (from - start).clamp(0, rows), to - from)?;
    // Innermost dimensions first: only rows are added.
    let padded = inside.f_constant_pad_nd([0, 0, 0, 0, from - first, end - to])?;
    let windows = padded.f_unfold(0, FRAME_ROWS, ROW_STEP)?.f_permute([0, 3, 1, 2])?;
    Ok(windows.f_reshape([frames, FRAME_ROWS * states, size])?)
}

/// Consecutive frames, 25 a second, of one recording.
#[derive(Clone, Copy, Debug)]
pub struct Stretch<'a> {
    /// 16 kHz mono.
    pub audio: &'a Arc<[f32]>,
    /// The sample at which the first frame begins.
    pub first_frame_at: i64,
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
    /// The last segment's encoded windows: a segment drawn in several batches is encoded once.
    encoded: Option<EncodedSegment>,
}

#[derive(Debug)]
struct EncodedSegment {
    audio: Arc<[f32]>,
    /// One for each window of `positions` rows, encoded when first needed.
    windows: Vec<Option<Tensor>>,
}

impl AudioFrontEnd {
    /// `p` is the path of `audio_encoder`.
    pub fn new(p: &nn::Path<'_>, config: &ModelConfig) -> Result<Self> {
        let encoder = &config.audio_encoder;
        let tokens = FRAME_ROWS * (encoder.encoder_layers + 1);
        Ok(Self {
            mel: LogMel::new(&config.mel, p.device())?,
            encoder: WhisperEncoder::new(p, encoder)?,
            window: config.audio_window,
            positions: encoder.max_source_positions,
            hop: config.mel.hop,
            positional: positional_encoding(tokens, encoder.d_model)?.f_to_device(p.device())?,
            kind: Kind::Float,
            encoded: None,
        })
    }

    /// Follows the encoder's weights to other floats.
    pub fn set_kind(&mut self, kind: Kind) -> Result<()> {
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
    pub fn hears_back(&self) -> usize {
        match self.window {
            AudioWindow::Utterance => LONGEST_CONTEXT,
            // The window, and half a spectrum before its first row.
            AudioWindow::Local { rows } => {
                usize::try_from((rows + ROW_STEP) * 2 * self.hop).unwrap_or(LONGEST_CONTEXT).min(LONGEST_CONTEXT)
            }
        }
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
        self.encoded = Some(EncodedSegment { audio: Arc::clone(audio), windows: encoded });
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
