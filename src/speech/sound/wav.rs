//! Reads WAV, whole or while it is still being written: RIFF, RIFX, RF64, BW64 and Wave64.
//!
//! In here: the walk from chunk to chunk, and what samples are stored as. Lengths are what a program that writes to a pipe
//! cannot know, so those of 0 and of all ones mean "until the end", others are believed as far as bytes come; nothing is
//! reserved for them. Not in here: mixing (`mono`). Runs on: the task that owns it; it does no input or output.

use super::SoundError;
use super::mono::Mono;
use crate::speech::pcm::from_i16;

/// A pad byte, and what a file begins with.
const PADDED_NAME: usize = 5;
/// Longest `fmt ` chunk that says anything to us.
const FORMAT: usize = 40;
/// What is behind the number of a coding where the extensible format puts it: all of a GUID but that.
const GUID: [u8; 14] = [0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xAA, 0, 0x38, 0x9B, 0x71];
/// The same for the names of Wave64's chunks, behind four letters.
const WAVE64: [u8; 12] = [0xF3, 0xAC, 0xD3, 0x11, 0x8C, 0xD1, 0x00, 0xC0, 0x4F, 0x8E, 0xDB, 0x8A];
/// The first of them is another one.
const WAVE64_RIFF: [u8; 12] = [0x2E, 0x91, 0xCF, 0x11, 0xA5, 0xD6, 0x28, 0xDB, 0x04, 0xC1, 0x00, 0x00];
/// Chunks that stand beside the samples.
const CHUNKS: [&[u8; 4]; 24] = [
    b"fmt ", b"data", b"LIST", b"fact", b"bext", b"iXML", b"cue ", b"smpl", b"inst", b"id3 ", b"ID3 ", b"PEAK",
    b"JUNK", b"junk", b"PAD ", b"FLLR", b"ds64", b"note", b"labl", b"plst", b"cart", b"axml", b"chna", b"umid",
];

#[derive(Default)]
pub struct WavReader {
    pending: Vec<u8>,
    layout: Layout,
    state: State,
    /// Length of the samples as RF64 tells it.
    long_length: Option<u64>,
    coding: Option<Coding>,
    /// Channels and rate.
    shape: (u16, u32),
    mono: Option<Mono>,
    has_begun: bool,
}

/// How chunks are told apart.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Layout {
    #[default]
    Riff,
    /// Numbers and samples have their first byte last.
    Rifx,
    Wave64,
}

#[derive(Clone, Copy, Default)]
enum State {
    #[default]
    Start,
    /// Before a chunk, so many bytes away; `odd` if the one before it has an odd length, and its pad byte perhaps.
    Chunks { away: u64, odd: bool },
    /// Among samples; `None` is until the end.
    Samples { left: Option<u64> },
    /// Behind them.
    Over,
}

/// What one sample of one channel is stored as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    /// From 0 to 255.
    Byte,
    /// Of so many bytes, the highest bits of which count.
    Integer(usize),
    Float,
    Double,
    ALaw,
    ULaw,
}

impl WavReader {
    /// Of the samples; known once they have begun.
    pub fn sample_rate(&self) -> Option<u32> {
        self.mono.as_ref().filter(|_| self.has_begun).map(Mono::sample_rate)
    }

    /// Takes the next bytes and returns the samples completed by them.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<f32>, SoundError> {
        self.pending.extend_from_slice(bytes);
        let mut samples = Vec::new();
        while self.step(&mut samples)? {}
        Ok(samples)
    }

    /// What is left at the end, after the last byte. A sample that is cut in two is none.
    pub fn finish(&mut self) -> Result<Vec<f32>, SoundError> {
        match self.state {
            State::Start => Err(SoundError::NotWav),
            State::Chunks { .. } => Err(SoundError::Empty),
            State::Samples { .. } | State::Over => self.mono.as_mut().map_or(Ok(Vec::new()), Mono::finish),
        }
    }

    /// False if more bytes are needed.
    fn step(&mut self, samples: &mut Vec<f32>) -> Result<bool, SoundError> {
        match self.state {
            State::Start => self.start(),
            State::Chunks { away, odd } if away > 0 => {
                let passed = self.pending.len().min(usize::try_from(away).unwrap_or(usize::MAX));
                self.pending.drain(..passed);
                let away = away - passed as u64;
                self.state = State::Chunks { away, odd };
                Ok(away == 0)
            }
            State::Chunks { odd, .. } => self.chunk(odd),
            State::Samples { left } => self.samples(left, samples),
            State::Over => {
                // Some services send one file after another, with a pad byte between them or without.
                let again = (0..2).find(|at| self.pending.get(*at..).is_some_and(|rest| rest.starts_with(b"RIFF")));
                match again {
                    Some(at) => {
                        self.pending.drain(..at);
                        self.state = State::Start;
                    }
                    // Whatever else it is, it is no sound, and its first bytes tell so once for all.
                    None => self.pending.truncate(PADDED_NAME),
                }
                Ok(again.is_some())
            }
        }
    }

    fn start(&mut self) -> Result<bool, SoundError> {
        let has = |at: usize, mark: &[u8]| {
            let there = self.pending.get(at..).unwrap_or_default();
            mark.starts_with(&there[..there.len().min(mark.len())])
        };
        let guid = |letters: &[u8], rest: &[u8]| [letters, rest].concat();
        let (layout, length) = if has(0, &guid(b"riff", &WAVE64_RIFF)) && has(24, &guid(b"wave", &WAVE64)) {
            (Layout::Wave64, 40)
        } else if has(0, b"RIFX") && has(8, b"WAVE") {
            (Layout::Rifx, 12)
        } else if [b"RIFF", b"RF64", b"BW64"].iter().any(|name| has(0, *name)) && has(8, b"WAVE") {
            (Layout::Riff, 12)
        } else {
            return Err(SoundError::NotWav);
        };
        if self.pending.len() < length {
            return Ok(false);
        }
        self.pending.drain(..length);
        self.layout = layout;
        self.state = State::Chunks { away: 0, odd: false };
        Ok(true)
    }

    fn chunk(&mut self, odd: bool) -> Result<bool, SoundError> {
        // One byte more, to look whether there is a pad byte.
        let wide = self.layout == Layout::Wave64;
        let head = if wide { 24 } else { 8 };
        if self.pending.len() < head + usize::from(odd) {
            return Ok(false);
        }
        if odd {
            if is_pad(&self.pending) {
                self.pending.drain(..1);
            }
            // It is not asked again.
            self.state = State::Chunks { away: 0, odd: false };
            return Ok(true);
        }
        let name: [u8; 4] = std::array::from_fn(|at| self.pending[at]);
        let length = match wide {
            // Of the head too.
            true => wide_number(&self.pending[16..24]).saturating_sub(24),
            false => u64::from(self.number(4)),
        };
        let body = &self.pending[head..];
        match &name {
            b"data" => {
                if self.coding.is_none() {
                    return Err(SoundError::NoFormat);
                }
                let left = match (length, self.long_length) {
                    (0xFFFF_FFFF, Some(long)) if !wide => Some(long),
                    (0xFFFF_FFFF, None) if !wide => None,
                    (0, _) if body.len() < 4 => return Ok(false),
                    // Nothing is in it if the next chunk follows.
                    (0, _) if CHUNKS.iter().any(|chunk| body.starts_with(*chunk)) => Some(0),
                    (0, _) => None,
                    (length, _) => Some(length),
                };
                self.pending.drain(..head);
                self.state = State::Samples { left };
                self.has_begun = true;
                return Ok(true);
            }
            b"fmt " => {
                let there = usize::try_from(length).unwrap_or(usize::MAX).min(FORMAT);
                if body.len() < there {
                    return Ok(false);
                }
                let format = body[..there].to_vec();
                self.read_format(&format)?;
            }
            b"ds64" if length >= 16 => {
                if body.len() < 16 {
                    return Ok(false);
                }
                self.long_length = Some(wide_number(&body[8..16])).filter(|length| !matches!(*length, 0 | u64::MAX));
            }
            _ => {}
        }
        self.pending.drain(..head);
        // Wave64 pads to eight bytes, and its heads have 24.
        let away = if wide { length.saturating_add(7) & !7 } else { length };
        self.state = State::Chunks { away, odd: !wide && length % 2 == 1 };
        Ok(true)
    }

    fn samples(&mut self, left: Option<u64>, samples: &mut Vec<f32>) -> Result<bool, SoundError> {
        let (Some(coding), Some(mono)) = (self.coding, self.mono.as_mut()) else { return Err(SoundError::NoFormat) };
        let frame = size_of_sample(coding) * mono.channels();
        let mine =
            left.map_or(self.pending.len(), |left| self.pending.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
        let whole = mine - mine % frame;
        let is_big = self.layout == Layout::Rifx;
        let read: Vec<f32> = self.pending[..whole]
            .chunks_exact(size_of_sample(coding))
            .map(|sample| value(sample, coding, is_big))
            .collect();
        if !read.is_empty() {
            samples.extend(mono.push(&read)?);
        }
        self.pending.drain(..whole);
        let left = left.map(|left| left - whole as u64);
        // A part of a frame at the end is none.
        let is_over = left.is_some_and(|left| left < frame as u64);
        self.state = if is_over { State::Over } else { State::Samples { left } };
        if is_over {
            let rest = usize::try_from(left.unwrap_or(0)).unwrap_or(0).min(self.pending.len());
            self.pending.drain(..rest);
        }
        Ok(is_over)
    }

    fn read_format(&mut self, format: &[u8]) -> Result<(), SoundError> {
        if format.len() < 14 {
            return Err(SoundError::Coding("a format of too few bytes".to_owned()));
        }
        let is_big = self.layout == Layout::Rifx;
        let short = |at: usize| {
            let two = format.get(at..at + 2).map_or([0, 0], |two| [two[0], two[1]]);
            if is_big { u16::from_be_bytes(two) } else { u16::from_le_bytes(two) }
        };
        let long = |at: usize| {
            let four = format.get(at..at + 4).map_or([0; 4], |four| [four[0], four[1], four[2], four[3]]);
            if is_big { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) }
        };
        let (channels, rate, bytes_a_second, block, bits) = (short(2), long(4), long(8), short(12), short(14));
        let kind = match short(0) {
            0xFFFE if format.len() >= FORMAT && (is_big || format[26..40] == GUID) => short(24),
            kind => kind,
        };
        let mono = Mono::new(channels, rate)?;
        let container = container(channels, rate, bytes_a_second, block, bits);
        let coding = match (kind, container) {
            (1, 1) => Coding::Byte,
            (1, 2..=4) => Coding::Integer(container),
            (3, 4) => Coding::Float,
            (3, 8) => Coding::Double,
            (6, 1) => Coding::ALaw,
            (7, 1) => Coding::ULaw,
            _ => return Err(SoundError::Coding(format!("{bits} bits in {}", name_of(kind)))),
        };
        let shape = (channels, rate);
        if self.mono.is_none() {
            (self.mono, self.shape) = (Some(mono), shape);
        } else if self.shape != shape {
            return Err(SoundError::Damaged {
                form: "WAV",
                problem: "its channels or its rate change within".to_owned(),
            });
        }
        self.coding = Some(coding);
        Ok(())
    }

    fn number(&self, at: usize) -> u32 {
        let four = std::array::from_fn(|place| self.pending.get(at + place).copied().unwrap_or_default());
        if self.layout == Layout::Rifx { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) }
    }
}

/// Whether the first byte belongs to no chunk. Not everybody writes it, and some write another one than zero.
fn is_pad(bytes: &[u8]) -> bool {
    let is_known = |at: usize| CHUNKS.iter().any(|name| bytes[at..].starts_with(*name));
    let is_name = |at: usize| bytes[at..at + 4].iter().all(|letter| (b' '..=b'~').contains(letter));
    bytes[0] == 0 || (!is_known(0) && (is_known(1) || !is_name(0)))
}

/// Bytes of one sample of one channel. A header that contradicts itself is believed where two of its fields agree.
fn container(channels: u16, rate: u32, bytes_a_second: u32, block: u16, bits: u16) -> usize {
    let of_bits = usize::from(bits.div_ceil(8));
    let of_block = if block.is_multiple_of(channels) { usize::from(block / channels) } else { 0 };
    let fits = |container: usize| u64::from(bytes_a_second) == u64::from(rate) * u64::from(channels) * container as u64;
    if of_bits == 0 || (of_block > of_bits && !fits(of_bits)) { of_block } else { of_bits }
}

const fn size_of_sample(coding: Coding) -> usize {
    match coding {
        Coding::Byte | Coding::ALaw | Coding::ULaw => 1,
        Coding::Integer(bytes) => bytes,
        Coding::Float => 4,
        Coding::Double => 8,
    }
}

/// A sample's bytes, of which there are as many as its coding has.
fn value(sample: &[u8], coding: Coding, is_big: bool) -> f32 {
    // The last ones of eight, in the order of a small first byte.
    let mut bytes = [0; 8];
    let first = 8 - sample.len().min(8);
    bytes[first..].copy_from_slice(&sample[..8 - first]);
    if is_big {
        bytes[first..].reverse();
    }
    let [.., last] = bytes;
    let highest = [bytes[4], bytes[5], bytes[6], bytes[7]];
    match coding {
        Coding::Byte => (f32::from(last) - 128.0) / 128.0,
        #[allow(clippy::cast_precision_loss, reason = "24 bits are kept, the rest is never heard")]
        Coding::Integer(_) => i32::from_le_bytes(highest) as f32 / 2_147_483_648.0,
        Coding::Float => f32::from_le_bytes(highest),
        #[allow(clippy::cast_possible_truncation, reason = "the nearest float is wanted")]
        Coding::Double => f64::from_le_bytes(bytes) as f32,
        Coding::ALaw => from_i16(of_a_law(last)),
        Coding::ULaw => from_i16(of_u_law(last)),
    }
}

/// ITU-T G.711.
fn of_u_law(byte: u8) -> i16 {
    let byte = !byte;
    let size = (((i16::from(byte & 0x0F) << 3) + 0x84) << ((byte >> 4) & 7)) - 0x84;
    if byte & 0x80 == 0 { size } else { -size }
}

/// ITU-T G.711.
fn of_a_law(byte: u8) -> i16 {
    let byte = byte ^ 0x55;
    let (step, within) = ((byte >> 4) & 7, i16::from(byte & 0x0F) << 4);
    let size = if step == 0 { within + 8 } else { (within + 0x108) << (step - 1) };
    if byte & 0x80 == 0 { -size } else { size }
}

fn wide_number(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |eight| u64::from_le_bytes(*eight))
}

fn name_of(kind: u16) -> String {
    match kind {
        1 => "PCM".to_owned(),
        2 | 0x11 => "ADPCM".to_owned(),
        3 => "floats".to_owned(),
        0x31 => "GSM".to_owned(),
        0x50 | 0x55 => "MP3".to_owned(),
        0x160..=0x163 => "WMA".to_owned(),
        _ => format!("format {kind:#x}"),
    }
}

#[cfg(test)]
mod tests;
