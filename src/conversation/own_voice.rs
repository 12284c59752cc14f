//! A client's own voice on its way to the avatar: each client has a stream of its own, and a turn of its own for it.
//!
//! In here: what waits of it, bounded by time, and passing it on as the voice of its turn. Not in here: what may come when
//! (`signalling::audio`), the order of turns (`active`).
//! Runs on: the task of the client's socket at one end, the session's tokio task at the other.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};

use crate::session::{ErrorCode, Refusal};
use crate::speech::{PcmChunk, SpeechError};

/// Seconds of sound that may wait: a file sent at once, or a voice while the avatar finishes what it says. At most 9 MB.
const AHEAD_S: usize = 90;
/// A client that sends nothing for so long, and no end either, holds up every turn behind it.
const SILENCE: Duration = Duration::from_secs(30);

/// The voice of one client. Dropped with the client, which ends what it was saying.
#[derive(Default)]
pub struct OwnVoice(Mutex<Option<Mouth>>);

/// Where a client's sound goes in.
struct Mouth(Arc<Shared>);

/// Where it comes out.
pub(super) struct Stream(Arc<Shared>);

struct Shared {
    sample_rate: u32,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<i16>,
    /// No more comes.
    ended: bool,
    /// Nobody wants more.
    unwanted: bool,
}

/// The client neither went on nor ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Silent;

impl std::fmt::Display for Silent {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = SILENCE.as_secs();
        write!(
            formatter,
            "no audio came for {seconds} s and no audio_end, so the turn is over: send audio_start for another"
        )
    }
}

impl Shared {
    /// Held for a copy at most, never across an await.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn a_second(&self) -> usize {
        usize::try_from(self.sample_rate).unwrap_or(usize::MAX)
    }
}

impl OwnVoice {
    /// Begins to speak once `take` has the stream; what was not ended before ends.
    pub(super) fn start(
        &self,
        sample_rate: u32,
        take: impl FnOnce(Stream) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let shared = Arc::new(Shared { sample_rate, state: Mutex::default(), changed: Notify::new() });
        take(Stream(Arc::clone(&shared)))?;
        *self.lock() = Some(Mouth(shared));
        Ok(())
    }

    /// The next of it.
    pub(super) fn sound(&self, samples: &[i16]) -> Result<(), Refusal> {
        let mouth = self.lock();
        let Some(Mouth(shared)) = mouth.as_ref() else {
            return Err(Refusal::new(ErrorCode::AudioNotStarted, "audio came before audio_start {sample_rate}"));
        };
        let mut state = shared.lock();
        // Its turn has ended, and the client was told how: the rest has no use.
        if state.unwanted {
            return Ok(());
        }
        if state.waiting.len() + samples.len() > AHEAD_S * shared.a_second() {
            let message = format!(
                "{AHEAD_S} s of this audio wait already, the rest of the turn is not taken: send it in real time, and \
                 after what is being said"
            );
            return Err(Refusal::new(ErrorCode::Busy, message));
        }
        state.waiting.extend(samples);
        drop(state);
        shared.changed.notify_one();
        Ok(())
    }

    /// There is no more of it.
    pub(super) fn end(&self) -> Result<(), Refusal> {
        let ended = self.lock().take();
        ended.map(drop).ok_or_else(|| Refusal::new(ErrorCode::AudioNotStarted, "audio_end came without audio_start"))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Mouth>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Mouth {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.changed.notify_one();
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.unwanted = true;
        state.waiting = VecDeque::new();
    }
}

impl Stream {
    /// Passes the sound on until it ends or nobody takes it any more.
    pub async fn feed(self, sound: mpsc::Sender<Result<PcmChunk, SpeechError>>) -> Result<(), Silent> {
        loop {
            let piece = tokio::select! {
                biased;
                () = sound.closed() => return Ok(()),
                piece = tokio::time::timeout(SILENCE, self.next()) => piece.map_err(|_| Silent)?,
            };
            let Some(samples) = piece else { return Ok(()) };
            if sound.send(Ok(PcmChunk::new(samples, self.0.sample_rate))).await.is_err() {
                return Ok(());
            }
        }
    }

    /// What waits, a second at most; `None` at the end.
    async fn next(&self) -> Option<Vec<f32>> {
        loop {
            {
                let mut state = self.0.lock();
                let count = state.waiting.len().min(self.0.a_second());
                if count > 0 {
                    return Some(state.waiting.drain(..count).map(|sample| f32::from(sample) / 32768.0).collect());
                }
                if state.ended {
                    return None;
                }
            }
            self.0.changed.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(voice: &OwnVoice, sample_rate: u32) -> Stream {
        let mut stream = None;
        voice
            .start(sample_rate, |given| {
                stream = Some(given);
                Ok(())
            })
            .unwrap();
        stream.unwrap()
    }

    /// All that comes out.
    async fn heard(stream: Stream) -> (Vec<i16>, Result<(), Silent>) {
        let (sender, mut sound) = mpsc::channel::<Result<PcmChunk, SpeechError>>(1);
        let mut heard = Vec::new();
        let listening = async {
            while let Some(Ok(chunk)) = sound.recv().await {
                #[allow(clippy::cast_possible_truncation)]
                heard.extend(chunk.samples.iter().map(|sample| (sample * 32768.0) as i16));
            }
        };
        let (fed, ()) = tokio::join!(stream.feed(sender), listening);
        (heard, fed)
    }

    #[tokio::test]
    async fn two_clients_are_never_mixed_and_end_each_for_itself() {
        let (one, other) = (OwnVoice::default(), OwnVoice::default());
        let (first, second) = (started(&one, 16_000), started(&other, 8_000));
        for _ in 0..100 {
            one.sound(&[1; 320]).unwrap();
            other.sound(&[2; 160]).unwrap();
        }
        one.end().unwrap();
        assert_eq!(one.end().unwrap_err().code, ErrorCode::AudioNotStarted);
        other.sound(&[2; 160]).unwrap();
        drop(other);
        assert_eq!(heard(first).await, (vec![1; 32_000], Ok(())));
        assert_eq!(heard(second).await, (vec![2; 16_160], Ok(())));
    }

    #[tokio::test]
    async fn no_more_than_so_many_seconds_wait_however_they_are_cut() {
        for piece in [1, 160, 30_000] {
            let voice = OwnVoice::default();
            let stream = started(&voice, 8_000);
            let samples = vec![1; piece];
            let taken = (0..).take_while(|_| voice.sound(&samples).is_ok()).count();
            let most = AHEAD_S * 8_000;
            assert!((most - piece..=most).contains(&(taken * piece)), "{taken} pieces of {piece}");
            assert_eq!(voice.sound(&samples).unwrap_err().code, ErrorCode::Busy);
            voice.end().unwrap();
            assert_eq!(heard(stream).await.0.len(), taken * piece, "what was taken is heard");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_falls_silent_holds_nobody_up_for_ever() {
        let voice = OwnVoice::default();
        let stream = started(&voice, 16_000);
        voice.sound(&[7; 10]).unwrap();
        assert_eq!(heard(stream).await, (vec![7; 10], Err(Silent)));
        assert_eq!(voice.sound(&[7; 10]), Ok(()), "it was told how its turn ended");
        assert_eq!(voice.end(), Ok(()));
    }

    #[tokio::test]
    async fn a_refused_start_leaves_what_is_being_said_alone() {
        let voice = OwnVoice::default();
        let stream = started(&voice, 16_000);
        let busy = voice.start(8_000, |_| Err(Refusal::new(ErrorCode::Busy, "8 turns are waiting")));
        assert_eq!(busy.unwrap_err().code, ErrorCode::Busy);
        voice.sound(&[3; 10]).unwrap();
        drop(voice);
        assert_eq!(heard(stream).await, (vec![3; 10], Ok(())));
    }
}
