//! Reads 16-bit mono PCM out of a WAV stream that is still being written.
//!
//! In here: the chunk walk up to the samples. Not in here: length fields, which a program that writes to a pipe
//! cannot know and fills with a large number; the samples end where the stream ends.
//! Runs on: the task that owns it; it does no input or output.

/// Everything before the samples must fit in here; espeak-ng's takes 44 bytes.
const HEADER_LIMIT: usize = 4_096;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum WavError {
    #[error("it does not start like a WAV file")]
    NotWav,
    #[error("it has no samples within its first {HEADER_LIMIT} bytes")]
    NoData,
    #[error("its samples come before their format")]
    NoFormat,
    #[error(
        "it is format {format} with {channels} channels of {bits} bits at {rate} Hz, not 16-bit mono PCM at 8 to 48 kHz"
    )]
    Unsupported { format: u16, channels: u16, bits: u16, rate: u32 },
}

#[derive(Default)]
pub(super) struct WavReader {
    pending: Vec<u8>,
    sample_rate: Option<u32>,
}

impl WavReader {
    /// Known once the samples have begun.
    pub const fn sample_rate(&self) -> Option<u32> {
        self.sample_rate
    }

    /// Takes the next bytes and returns the samples completed by them.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<f32>, WavError> {
        self.pending.extend_from_slice(bytes);
        if self.sample_rate.is_none() {
            let Some((rate, start)) = parse_header(&self.pending)? else {
                return if self.pending.len() > HEADER_LIMIT { Err(WavError::NoData) } else { Ok(Vec::new()) };
            };
            self.sample_rate = Some(rate);
            self.pending.drain(..start);
        }
        let whole = self.pending.len() & !1;
        let decode = |pair: &[u8]| crate::speech::resample::from_i16(i16::from_le_bytes([pair[0], pair[1]]));
        let samples = self.pending[..whole].chunks_exact(2).map(decode).collect();
        self.pending.drain(..whole);
        Ok(samples)
    }
}

/// Sample rate and offset of the first sample, `None` as long as bytes are missing.
fn parse_header(bytes: &[u8]) -> Result<Option<(u32, usize)>, WavError> {
    for (at, tag) in [(0, b"RIFF"), (8, b"WAVE")] {
        let there = bytes.len().clamp(at, at + 4);
        if bytes.get(at..there).is_some_and(|have| have != &tag[..have.len()]) {
            return Err(WavError::NotWav);
        }
    }
    let mut at = 12;
    let mut rate = None;
    while let Some(head) = bytes.get(at..at + 8) {
        let body = at + 8;
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        match &head[..4] {
            b"data" => return rate.map(|rate| Some((rate, body))).ok_or(WavError::NoFormat),
            b"fmt " => {
                let Some(format) = bytes.get(body..body + 16) else { return Ok(None) };
                rate = Some(parse_format(format)?);
            }
            _ => {}
        }
        // Chunks are padded to an even length; past the limit the search is given up by the caller.
        at = body.saturating_add(length).saturating_add(length & 1).min(2 * HEADER_LIMIT);
    }
    Ok(None)
}

fn parse_format(format: &[u8]) -> Result<u32, WavError> {
    let short = |at: usize| u16::from_le_bytes([format[at], format[at + 1]]);
    let rate = u32::from_le_bytes([format[4], format[5], format[6], format[7]]);
    let (format, channels, bits) = (short(0), short(2), short(14));
    let known = (crate::speech::resample::MIN_RATE..=crate::speech::resample::MAX_RATE).contains(&rate);
    match (format, channels, bits) {
        (1, 1, 16) if known => Ok(rate),
        _ => Err(WavError::Unsupported { format, channels, bits, rate }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wav(channels: u16, rate: u32, extra: &[u8], samples: &[i16]) -> Vec<u8> {
        let mut bytes = b"RIFF\x24\xf0\xff\x7fWAVEfmt \x10\0\0\0\x01\0".to_vec();
        bytes.extend(channels.to_le_bytes());
        bytes.extend(rate.to_le_bytes());
        bytes.extend((rate * 2).to_le_bytes());
        bytes.extend([2, 0, 16, 0]);
        bytes.extend(extra);
        bytes.extend(b"data\x00\xf0\xff\x7f");
        bytes.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
        bytes
    }

    fn read(bytes: &[u8], piece: usize) -> Result<(Option<u32>, Vec<f32>), WavError> {
        let mut reader = WavReader::default();
        let mut samples = Vec::new();
        for piece in bytes.chunks(piece) {
            samples.extend(reader.push(piece)?);
        }
        Ok((reader.sample_rate(), samples))
    }

    #[test]
    fn samples_are_read_whatever_the_pieces_and_the_length_fields() {
        let bytes = wav(1, 22_050, b"LIST\x03\0\0\0abc\0", &[0, 16_384, -32_768]);
        for piece in 1..bytes.len() {
            assert_eq!(read(&bytes, piece), Ok((Some(22_050), vec![0.0, 0.5, -1.0])), "pieces of {piece}");
        }
    }

    #[test]
    fn what_is_not_mono_pcm_says_what_it_is() {
        let error = read(&wav(2, 44_100, b"", &[1, 2]), 9).unwrap_err().to_string();
        assert!(error.contains("2 channels of 16 bits at 44100 Hz"), "{error}");
        assert_eq!(read(b"Error: no such voice", 3), Err(WavError::NotWav));
        assert_eq!(read(b"RIFF....WAVEdata....", 100), Err(WavError::NoFormat));
        assert_eq!(read(&wav(1, 22_050, &vec![b'x'; 9_000], &[]), 64), Err(WavError::NoData));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), piece in 1usize..50) {
            let _ = read(&bytes, piece);
            let _ = read(&[b"RIFF\0\0\0\0WAVEfmt ".to_vec(), bytes].concat(), piece);
        }
    }
}
