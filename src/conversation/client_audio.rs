//! A client's own audio on its way to the avatar: each client has a stream of its own, and a turn of its own for it.
//!
//! In here: what waits of it, bounded by time, and passing it on as the speech of its turn. Not in here: what may come when
//! (`signalling`), the order of turns (`turns`).
//! Runs on: the task of the client's socket at one end, the session's tokio task that speaks at the other.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};

use crate::session::{ErrorCode, Refusal};
use crate::speech::pcm::from_i16;
use crate::speech::{PcmChunk, SpeechError};

/// Seconds of sound that may wait: a file sent at once, or a voice while the avatar finishes what it says. At most 9 MB.
const AHEAD_S: usize = 90;
/// A client that sends nothing for so long, and no end either, holds up every turn behind it.
const SILENCE: Duration = Duration::from_secs(30);

/// The audio of one client. Dropped with the client, which ends what it was saying.
#[derive(Default)]
pub struct ClientAudio(Mutex<Option<AudioInput>>);

/// Where the audio of one turn goes in.
struct AudioInput(Arc<Shared>);

/// Where it comes out.
pub(super) struct ClientAudioStream(Arc<Shared>);

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
    /// The stream is gone, and nobody wants more.
    unwanted: bool,
}

/// The client neither went on nor ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ClientFellSilent;

impl std::fmt::Display for ClientFellSilent {
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

impl ClientAudio {
    /// A turn of audio begins once `take` has taken its stream as one; what was not ended before ends.
    pub(super) fn start(
        &self,
        sample_rate: u32,
        take: impl FnOnce(ClientAudioStream) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let shared = Arc::new(Shared { sample_rate, state: Mutex::default(), changed: Notify::new() });
        take(ClientAudioStream(Arc::clone(&shared)))?;
        *self.lock() = Some(AudioInput(shared));
        Ok(())
    }

    /// The next of it, at the rate that it was started with.
    pub(super) fn push(&self, samples: &[i16]) -> Result<(), Refusal> {
        let input = self.lock();
        let Some(AudioInput(shared)) = input.as_ref() else {
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

    fn lock(&self) -> MutexGuard<'_, Option<AudioInput>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for AudioInput {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.changed.notify_one();
    }
}

impl Drop for ClientAudioStream {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.unwanted = true;
        state.waiting = VecDeque::new();
    }
}

impl ClientAudioStream {
    /// Passes the audio on until it ends or nobody takes it any more.
    pub async fn feed(self, speech: mpsc::Sender<Result<PcmChunk, SpeechError>>) -> Result<(), ClientFellSilent> {
        loop {
            let samples = tokio::select! {
                biased;
                () = speech.closed() => return Ok(()),
                samples = tokio::time::timeout(SILENCE, self.next_samples()) => samples.map_err(|_| ClientFellSilent)?,
            };
            let Some(samples) = samples else { return Ok(()) };
            if speech.send(Ok(PcmChunk::new(samples, self.0.sample_rate))).await.is_err() {
                return Ok(());
            }
        }
    }

    /// What waits, a second at most; `None` at the end.
    async fn next_samples(&self) -> Option<Vec<f32>> {
        loop {
            {
                let mut state = self.0.lock();
                let count = state.waiting.len().min(self.0.a_second());
                if count > 0 {
                    return Some(state.waiting.drain(..count).map(from_i16).collect());
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

    fn started(audio: &ClientAudio, sample_rate: u32) -> ClientAudioStream {
        let mut stream = None;
        audio
            .start(sample_rate, |given| {
                stream = Some(given);
                Ok(())
            })
            .unwrap();
        stream.unwrap()
    }

    /// All that comes out.
    async fn heard(stream: ClientAudioStream) -> (Vec<i16>, Result<(), ClientFellSilent>) {
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
        let (one, other) = (ClientAudio::default(), ClientAudio::default());
        let (first, second) = (started(&one, 16_000), started(&other, 8_000));
        for _ in 0..100 {
            one.push(&[1; 320]).unwrap();
            other.push(&[2; 160]).unwrap();
        }
        one.end().unwrap();
        assert_eq!(one.end().unwrap_err().code, ErrorCode::AudioNotStarted);
        other.push(&[2; 160]).unwrap();
        drop(other);
        assert_eq!(heard(first).await, (vec![1; 32_000], Ok(())));
        assert_eq!(heard(second).await, (vec![2; 16_160], Ok(())));
    }

    #[tokio::test]
    async fn no_more_than_so_many_seconds_wait_however_they_are_cut() {
        for size in [1, 160, 30_000] {
            let audio = ClientAudio::default();
            let stream = started(&audio, 8_000);
            let samples = vec![1; size];
            let taken = (0..).take_while(|_| audio.push(&samples).is_ok()).count();
            let most = AHEAD_S * 8_000;
            assert!((most - size..=most).contains(&(taken * size)), "{taken} pushes of {size}");
            assert_eq!(audio.push(&samples).unwrap_err().code, ErrorCode::Busy);
            audio.end().unwrap();
            assert_eq!(heard(stream).await.0.len(), taken * size, "what was taken is heard");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_falls_silent_holds_nobody_up_for_ever() {
        let audio = ClientAudio::default();
        let stream = started(&audio, 16_000);
        audio.push(&[7; 10]).unwrap();
        assert_eq!(heard(stream).await, (vec![7; 10], Err(ClientFellSilent)));
        assert_eq!(audio.push(&[7; 10]), Ok(()), "it was told how its turn ended");
        assert_eq!(audio.end(), Ok(()));
    }

    #[tokio::test]
    async fn a_refused_start_leaves_what_is_being_said_alone() {
        let audio = ClientAudio::default();
        let stream = started(&audio, 16_000);
        let busy = audio.start(8_000, |_| Err(Refusal::new(ErrorCode::Busy, "8 turns are waiting")));
        assert_eq!(busy.unwrap_err().code, ErrorCode::Busy);
        audio.push(&[3; 10]).unwrap();
        drop(audio);
        assert_eq!(heard(stream).await, (vec![3; 10], Ok(())));
    }
}
