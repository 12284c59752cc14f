//! The client's own audio on its way in: from `audio_start` to `audio_end`, and the bytes between.
//!
//! In here: what may come when, bytes to samples. Not in here: rates of frames (`limits`), what audio does
//! (`conversation`). Runs on: the task of its socket.

use super::limits::SAMPLE_RATES;
use crate::session::{Command, ErrorCode, Refusal};

#[derive(Debug, Default)]
pub struct AudioTurns(State);

#[derive(Debug, Default)]
enum State {
    #[default]
    Off,
    On,
    /// The session did not take all of it; the rest would be speech with holes and is dropped.
    Refused {
        started: bool,
    },
}

impl AudioTurns {
    pub fn start(&mut self, sample_rate: u32, id: Option<String>) -> Result<Command, Refusal> {
        if !matches!(self.0, State::Off) {
            let message = "audio_start: the audio before it is not ended: send audio_end first";
            return Err(Refusal::new(ErrorCode::BadAudio, message));
        }
        if !SAMPLE_RATES.contains(&sample_rate) {
            let (lowest, highest) = (SAMPLE_RATES.start(), SAMPLE_RATES.end());
            let message =
                format!("audio_start.sample_rate: {sample_rate} Hz is not supported: use {lowest} to {highest} Hz");
            return Err(Refusal::new(ErrorCode::BadAudio, message));
        }
        self.0 = State::On;
        Ok(Command::AudioStart { sample_rate, id })
    }

    /// One binary frame of 16-bit little-endian mono PCM; nothing for the session if it holds nothing.
    pub fn frame(&mut self, bytes: &[u8]) -> Result<Option<Command>, Refusal> {
        let (samples, rest) = bytes.as_chunks::<2>();
        match self.0 {
            State::Off => {
                let message =
                    "a binary frame is audio, and no audio is under way: send audio_start with its sample_rate first";
                Err(Refusal::new(ErrorCode::AudioNotStarted, message))
            }
            State::On | State::Refused { .. } if !rest.is_empty() => {
                let message = format!(
                    "a binary frame of {} bytes holds half a sample: send 16-bit little-endian mono PCM, 2 bytes a \
                     sample",
                    bytes.len()
                );
                Err(Refusal::new(ErrorCode::BadAudio, message))
            }
            State::On if !samples.is_empty() => {
                let samples = samples.iter().map(|sample| i16::from_le_bytes(*sample)).collect();
                Ok(Some(Command::Audio(samples)))
            }
            State::On | State::Refused { .. } => Ok(None),
        }
    }

    /// The end of it, also when the client goes without one; nothing for the session if it never heard of the start.
    pub fn end(&mut self) -> Result<Option<Command>, Refusal> {
        match std::mem::take(&mut self.0) {
            State::On | State::Refused { started: true } => Ok(Some(Command::AudioEnd)),
            State::Refused { started: false } => Ok(None),
            State::Off => {
                let message = "audio_end: there is no audio to end: send audio_start first";
                Err(Refusal::new(ErrorCode::AudioNotStarted, message))
            }
        }
    }

    /// The session did not take the start or, if it is `started`, a frame.
    pub fn refuse(&mut self, started: bool) {
        self.0 = State::Refused { started };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_samples_between_the_start_and_the_end() {
        let mut audio = AudioTurns::default();
        let id = Some("mine".to_owned());
        assert_eq!(audio.start(16_000, id.clone()), Ok(Command::AudioStart { sample_rate: 16_000, id }));
        let bytes = [0x01, 0x00, 0xff, 0xff, 0x00, 0x80];
        assert_eq!(audio.frame(&bytes), Ok(Some(Command::Audio(vec![1, -1, i16::MIN]))));
        assert_eq!(audio.frame(&[]), Ok(None));
        assert_eq!(audio.end(), Ok(Some(Command::AudioEnd)));
        assert_eq!(audio.end().unwrap_err().code, ErrorCode::AudioNotStarted);
    }

    #[test]
    fn audio_that_makes_no_sense_is_an_error_and_changes_nothing() {
        let mut audio = AudioTurns::default();
        assert_eq!(audio.frame(&[1, 2]).unwrap_err().code, ErrorCode::AudioNotStarted);
        for rate in [0, 7_999, 48_001, u32::MAX] {
            assert_eq!(audio.start(rate, None).unwrap_err().code, ErrorCode::BadAudio);
        }
        assert_eq!(audio.frame(&[1, 2]).unwrap_err().code, ErrorCode::AudioNotStarted);
        assert!(audio.start(8_000, None).is_ok());
        assert_eq!(audio.frame(&[1, 2, 3]).unwrap_err().code, ErrorCode::BadAudio);
        assert_eq!(audio.start(8_000, None).unwrap_err().code, ErrorCode::BadAudio);
        assert!(audio.frame(&[1, 2]).is_ok_and(|command| command.is_some()));
    }

    #[test]
    fn audio_that_the_session_does_not_take_is_dropped_and_still_ended() {
        let mut audio = AudioTurns::default();
        audio.start(16_000, None).unwrap();
        audio.refuse(true);
        assert_eq!(audio.frame(&[0; 640]), Ok(None));
        assert_eq!(audio.end(), Ok(Some(Command::AudioEnd)));
        audio.start(16_000, None).unwrap();
        audio.refuse(false);
        assert_eq!(audio.frame(&[0; 640]), Ok(None));
        assert_eq!(audio.end(), Ok(None), "what never began needs no end");
    }
}
