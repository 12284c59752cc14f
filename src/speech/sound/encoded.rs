//! Everything that is not WAV: FLAC, MP3, AAC, Vorbis, Opus and the containers that they come in.
//!
//! In here: symphonia's readers and decoders behind one loop, Opus by a decoder of its own, and what is cut off at both
//! ends, which encoders add. What is damaged within is passed over as long as something is left. Not in here: mixing
//! (`mono`). Runs on: whoever reads; decoding ten seconds takes some tens of milliseconds.

use std::io::{self, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use opus_decoder::OpusDecoder;
use symphonia::core::codecs::audio::well_known::CODEC_ID_OPUS;
use symphonia::core::codecs::audio::{AudioCodecParameters, AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, TrackType};
use symphonia::core::io::{MediaSource, MediaSourceStream, MediaSourceStreamOptions};
use symphonia::core::meta::MetadataOptions;
use symphonia::core::packet::Packet;

use super::mono::Mono;
use super::{Bytes, SoundError};
use crate::boxes::Boxes;

const OPUS_RATE: u32 = 48_000;
/// Samples of the longest packet of Opus, 120 ms.
const OPUS_PACKET: usize = 5_760;
/// Packets in a row that are no sound: more is no damage but something else.
const TOLERATED: u32 = 50;
/// No header makes us read on for ever.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

pub(super) struct Encoded {
    form: &'static str,
    format: Box<dyn FormatReader>,
    track: u32,
    decoder: Decoder,
    mono: Mono,
    /// Samples (of each channel) that are still to be left out, and how many are left after that.
    skip: u64,
    left: u64,
    /// Decoded by `new`, which has to know what comes out.
    first: Vec<f32>,
    is_over: bool,
}

enum Decoder {
    Opus(Box<OpusDecoder>),
    Other(Box<dyn AudioDecoder>),
}

/// Samples of a packet, of all channels one after another.
struct Decoded {
    samples: Vec<f32>,
    channels: u16,
    rate: u32,
}

/// Bytes as symphonia wants them. It goes to the end of what it can and gives up where that is not there, so what was cut
/// short is read a second time as if it came through a pipe.
struct Whole {
    bytes: Arc<Mutex<Box<dyn Bytes>>>,
    /// `None` if there is no way back in it.
    length: Option<u64>,
}

impl Whole {
    fn locked(&self) -> MutexGuard<'_, Box<dyn Bytes>> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Read for Whole {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.locked().read(into)
    }
}

impl Seek for Whole {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.locked().seek(to)
    }
}

impl MediaSource for Whole {
    fn is_seekable(&self) -> bool {
        self.length.is_some()
    }

    fn byte_len(&self) -> Option<u64> {
        self.length
    }
}

impl Encoded {
    pub fn new(form: &'static str, mut bytes: Box<dyn Bytes>) -> Result<Self, SoundError> {
        let damaged = |error: &dyn std::fmt::Display| SoundError::Damaged { form, problem: error.to_string() };
        let edit = if form == "MP4" { Edit::of(&mut bytes).map_err(|error| damaged(&error))? } else { None };
        let length = bytes.seek(SeekFrom::End(0)).map_err(|error| damaged(&error))?;
        let bytes = Arc::new(Mutex::new(bytes));
        let probed = |length| {
            let mut whole = Whole { bytes: Arc::clone(&bytes), length };
            whole.rewind().map_err(|error| damaged(&error))?;
            let stream = MediaSourceStream::new(Box::new(whole), MediaSourceStreamOptions::default());
            let (options, about) = (FormatOptions::default(), MetadataOptions::default());
            guarded(form, || symphonia::default::get_probe().probe(&Hint::new(), stream, options, about))
        };
        let format = probed(Some(length)).or_else(|error| probed(None).map_err(|_| error))?;
        let track = format.default_track(TrackType::Audio).ok_or_else(|| damaged(&"there is no sound in it"))?;
        let parameters = track.codec_params.as_ref().and_then(|parameters| parameters.audio());
        let parameters = parameters.ok_or_else(|| damaged(&"it does not say what its sound is in"))?;
        let (decoder, skip) = decoder(form, parameters)?;
        let track = track.id;
        let mono = Mono::new(1, OPUS_RATE)?;
        let mut encoded =
            Self { form, format, track, decoder, mono, skip, left: u64::MAX, first: Vec::new(), is_over: false };
        // What the track says of its shape is not always what its decoder makes of it.
        let Some(decoded) = encoded.decode()? else { return Err(SoundError::Empty) };
        encoded.mono = Mono::new(decoded.channels, decoded.rate)?;
        if let Some(edit) = edit {
            (encoded.skip, encoded.left) = edit.samples(decoded.rate);
        }
        encoded.left = encoded.left.min(LONGEST.as_secs() * u64::from(decoded.rate));
        encoded.first = encoded.cut(decoded)?;
        Ok(encoded)
    }

    pub fn sample_rate(&self) -> u32 {
        self.mono.sample_rate()
    }

    pub fn next_samples(&mut self) -> Result<Option<Vec<f32>>, SoundError> {
        let mut samples = std::mem::take(&mut self.first);
        while samples.is_empty() && !self.is_over {
            samples = match self.decode()? {
                Some(decoded) if self.left > 0 => self.cut(decoded)?,
                _ => {
                    self.is_over = true;
                    self.mono.finish()?
                }
            };
        }
        Ok(Some(samples).filter(|samples| !samples.is_empty()))
    }

    /// The next packet of the track; `None` at the end, which also comes too early.
    fn decode(&mut self) -> Result<Option<Decoded>, SoundError> {
        let mut damages = 0;
        let (form, track) = (self.form, self.track);
        loop {
            let (format, decoder) = (&mut self.format, &mut self.decoder);
            let decoded = guarded(form, || match format.next_packet() {
                Ok(Some(packet)) if packet.track_id == track => decoder.decode(&packet),
                Ok(Some(_)) => Ok(Some(None)),
                Ok(None) => Ok(None),
                // Of what ends early, or is something else from here on, there is what there was.
                Err(Error::IoError(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
                Err(Error::ResetRequired) => Ok(None),
                Err(error) => Err(error),
            });
            match decoded {
                Ok(Some(Some(decoded))) => return Ok(Some(decoded)),
                Ok(Some(None)) => {}
                Ok(None) => return Ok(None),
                Err(_) if damages < TOLERATED => damages += 1,
                Err(error) => return Err(error),
            }
        }
    }

    fn cut(&mut self, mut decoded: Decoded) -> Result<Vec<f32>, SoundError> {
        let channels = self.mono.channels();
        if usize::from(decoded.channels) != channels {
            return Err(SoundError::Damaged { form: self.form, problem: "its channels change within".to_owned() });
        }
        let there = decoded.samples.len() / channels;
        let skipped = there.min(usize::try_from(self.skip).unwrap_or(usize::MAX));
        self.skip -= skipped as u64;
        let kept = (there - skipped).min(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= kept as u64;
        decoded.samples.truncate((skipped + kept) * channels);
        self.mono.push(&decoded.samples[skipped * channels..])
    }
}

/// What decodes a track, and how many samples of its beginning are its own.
fn decoder(form: &'static str, parameters: &AudioCodecParameters) -> Result<(Decoder, u64), SoundError> {
    let damaged = |error: &dyn std::fmt::Display| SoundError::Damaged { form, problem: error.to_string() };
    if parameters.codec != CODEC_ID_OPUS {
        let options = AudioDecoderOptions::default();
        let made = symphonia::default::get_codecs().make_audio_decoder(parameters, &options);
        return Ok((Decoder::Other(made.map_err(|error| damaged(&error))?), 0));
    }
    let head = parameters.extra_data.as_deref().filter(|head| head.starts_with(b"OpusHead"));
    // RFC 7845, 5.1: channels at 9, pre-skip at 10, and a mapping of more than one stream at 18.
    if head.and_then(|head| head.get(18)).is_some_and(|mapping| *mapping != 0) {
        return Err(damaged(&"Opus of more than two channels is not read"));
    }
    let skip = head.and_then(|head| head.get(10..12)).map_or(0, |skip| u16::from_le_bytes([skip[0], skip[1]]));
    let made = OpusDecoder::new(OPUS_RATE, 1).map_err(|error| damaged(&error))?;
    Ok((Decoder::Opus(Box::new(made)), skip.into()))
}

impl Decoder {
    /// `Some(None)` is a packet without samples.
    #[allow(clippy::option_option, reason = "the end, nothing and something")]
    fn decode(&mut self, packet: &Packet) -> Result<Option<Option<Decoded>>, Error> {
        let decoded = match self {
            Self::Opus(decoder) => {
                let mut samples = vec![0.0; OPUS_PACKET];
                let made = decoder.decode_float(&packet.data, &mut samples, false);
                let made = made.map_err(|_| Error::DecodeError("a packet of Opus is damaged"))?;
                // The container tells what is too much at the end; what is at the beginning Opus tells itself.
                let padding = usize::try_from(packet.trim_end.get()).unwrap_or(usize::MAX);
                samples.truncate(made.saturating_sub(padding));
                Decoded { samples, channels: 1, rate: OPUS_RATE }
            }
            Self::Other(decoder) => {
                let decoded = decoder.decode(packet)?;
                let channels = u16::try_from(decoded.spec().channels().count()).unwrap_or(u16::MAX);
                let rate = decoded.spec().rate();
                let mut samples = vec![0.0; decoded.samples_interleaved()];
                decoded.copy_to_slice_interleaved(&mut samples);
                Decoded { samples, channels, rate }
            }
        };
        Ok(Some((!decoded.samples.is_empty()).then_some(decoded)))
    }
}

/// Of bytes that anybody may have made, a decoder may make a panic.
fn guarded<T>(form: &'static str, work: impl FnOnce() -> Result<T, Error>) -> Result<T, SoundError> {
    let problem = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(made)) => return Ok(made),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "its decoder panicked".to_owned(),
    };
    Err(SoundError::Damaged { form, problem })
}

/// The part of an MP4 file's sound that is to be heard, which symphonia does not look at: encoders of AAC put up to 48 ms in
/// front of it.
struct Edit {
    from: u64,
    of: u32,
    length: u64,
    in_movie: u32,
}

impl Edit {
    fn of(file: &mut Box<dyn Bytes>) -> io::Result<Option<Self>> {
        Ok(Boxes::of(file)?.and_then(|(moov, _)| Self::in_index(&moov)))
    }

    /// Of the first track of sound, if it has one edit.
    fn in_index(moov: &Boxes) -> Option<Self> {
        let is_sound = |track: &std::ops::Range<usize>| {
            let handler = moov.path(track, &[*b"mdia", *b"hdlr"]);
            handler.is_some_and(|handler| moov.number(handler.start + 8) == Some(u32::from_be_bytes(*b"soun")))
        };
        let track = moov.all(moov.whole(), *b"trak").into_iter().find(is_sound)?;
        let rate_of =
            |place: &std::ops::Range<usize>| moov.number(place.start + if moov.is_wide(place) { 20 } else { 12 });
        let of = rate_of(&moov.path(&track, &[*b"mdia", *b"mdhd"])?)?;
        let in_movie = rate_of(&moov.child(&moov.whole(), *b"mvhd")?)?;
        let edits = moov.path(&track, &[*b"edts", *b"elst"])?;
        let at = edits.start + 8;
        let (length, from) = match moov.is_wide(&edits) {
            true => (moov.wide(at)?, moov.wide(at + 8)?),
            false => (moov.number(at)?.into(), moov.number(at + 4)?.into()),
        };
        // A time of -1 is a pause in front, which is not what this is for.
        let is_one = moov.number(edits.start + 4)? == 1 && of > 0 && in_movie > 0 && from <= u64::from(u32::MAX >> 1);
        is_one.then_some(Self { from, of, length, in_movie })
    }

    /// How many samples are left out, and how many follow: all, where the length is not told.
    fn samples(&self, rate: u32) -> (u64, u64) {
        let scaled = |time: u64, of: u32| {
            u64::try_from(u128::from(time) * u128::from(rate) / u128::from(of)).unwrap_or(u64::MAX)
        };
        let length = scaled(self.length, self.in_movie);
        (scaled(self.from, self.of), if length == 0 { u64::MAX } else { length })
    }
}
