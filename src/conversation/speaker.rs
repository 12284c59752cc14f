//! Speaks one turn after the other: the reply is read and shown while its sentences are made into speech and spoken.
//!
//! Reading (`reader`) and speaking run beside each other: the text is shown as fast as it is written, and the voice follows.
//! The first clause is spoken as soon as it is whole, then sentence by sentence, the next one made meanwhile.
//!
//! A turn of which playout was given anything ends when playout says so, any other one here.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{TryStreamExt, stream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::active::{Active, Failure};
use super::own_voice::Stream;
use super::reader::Reader;
use super::{Captions, Said, Say, Turn};
use crate::animation::{AnimationError, Animator};
use crate::dialogue::{Reply, Responder};
use crate::ids::UtteranceId;
use crate::latency::{Stage, TurnTimes};
use crate::session::{ErrorCode, Notice, Notices};
use crate::speech::code_blocks::CodeBlocks;
use crate::speech::sentence::SentenceSplitter;
use crate::speech::spoken::spoken;
use crate::speech::{PcmStream, SpeechError, Tts, Voice};

/// Sentences read and not yet spoken; a reply that is further ahead waits to be read.
const SENTENCES: usize = 64;
/// Playout tells within two ticks what was heard of an interrupted utterance. Only one that stands still takes this long,
/// and a turn is not lost then.
const ENDS_WITHIN: Duration = Duration::from_secs(5);

pub(super) struct Speaker {
    pub animator: Animator,
    pub tts: Arc<dyn Tts>,
    pub voice: Voice,
    pub responder: Arc<dyn Responder>,
    pub notices: Notices,
    pub active: Active,
    pub said: Said,
    pub captions: Captions,
}

struct Progress {
    utterance: UtteranceId,
    id: Option<String>,
    times: TurnTimes,
    cancelled: CancellationToken,
    /// Viewers were told that mouths are missing.
    warned: bool,
}

/// Why a turn stops before its end.
enum Stop {
    Cancelled,
    /// What was given to playout is still spoken.
    Failed(Failure),
    /// What was given to playout may lack pictures for ever.
    Broken(Failure),
}

impl From<AnimationError> for Stop {
    fn from(error: AnimationError) -> Self {
        let failure = |code| Failure { code, message: error.to_string() };
        match error {
            AnimationError::Cancelled => Self::Cancelled,
            AnimationError::Speech(_) => Self::Failed(failure(ErrorCode::SpeechFailed)),
            AnimationError::Engine(_) | AnimationError::Ended(_) => Self::Broken(failure(ErrorCode::LipSyncFailed)),
        }
    }
}

impl From<SpeechError> for Stop {
    fn from(error: SpeechError) -> Self {
        AnimationError::from(error).into()
    }
}

impl Speaker {
    pub(super) async fn run(mut self) {
        while let Some(turn) = self.active.next().await {
            let span = tracing::info_span!("utterance", id = %turn.utterance);
            self.turn(turn).instrument(span).await;
        }
    }

    async fn turn(&mut self, turn: Turn) {
        let Turn { utterance, id, say, cancelled, times } = turn;
        let mut progress = Progress { utterance, id, times, cancelled, warned: false };
        let before = self.animator.announced();
        let stop = self.say(&mut progress, say).await.err().filter(|_| !progress.cancelled.is_cancelled());
        let frames = self.animator.announced() - before;
        if let Some(Stop::Failed(failure) | Stop::Broken(failure)) = &stop {
            tracing::warn!(error = failure.message, "an utterance failed");
            self.active.fails(utterance, failure.clone());
            self.active.will_have_said(utterance, frames);
        }
        if let Some(Stop::Broken(_)) = stop {
            progress.cancelled.cancel();
        }
        if frames == 0 {
            self.active.ended_unheard(utterance);
        } else if self.animator.end_utterance(utterance, &progress.cancelled).await.is_err() {
            // All turns of the session end with playout's events.
            tracing::debug!("the session closes");
        }
    }

    async fn say(&mut self, progress: &mut Progress, say: Say) -> Result<(), Stop> {
        match say {
            Say::Sound(stream) => self.own_voice(progress, stream).await,
            Say::Exactly(text) => {
                self.begin(progress, "").await?;
                let whole: Reply = Box::pin(stream::iter([Ok(text)]));
                self.text(progress, whole, SentenceSplitter::new(), None).await
            }
            Say::ReplyTo(text) => {
                self.begin(progress, &text).await?;
                let reply = self.responder.reply(self.said.with(|history| history.messages()));
                let times = progress.times.clone();
                let reply = Box::pin(reply.inspect_ok(move |_| times.reach(Stage::FirstToken, Instant::now())));
                self.text(progress, reply, SentenceSplitter::clause_first(), Some(CodeBlocks::default())).await
            }
        }
    }

    /// Enters the turn into the history, once that says what was heard of the turns before. One that is cancelled by then
    /// is entered too: that the user said it is remembered.
    async fn begin(&self, progress: &Progress, user: &str) -> Result<(), Stop> {
        let ended = tokio::time::timeout(ENDS_WITHIN, self.active.interrupted_have_ended(progress.utterance));
        let told = progress.cancelled.run_until_cancelled(ended).await;
        if matches!(told, Some(Err(_))) {
            tracing::warn!("playout has not told how much of an interrupted utterance was heard");
        }
        self.said.with(|history| history.begin(progress.utterance, user));
        if progress.cancelled.is_cancelled() { Err(Stop::Cancelled) } else { Ok(()) }
    }

    /// Speaks what a client says itself.
    async fn own_voice(&mut self, progress: &mut Progress, stream: Stream) -> Result<(), Stop> {
        let (sender, sound) = mpsc::channel(1);
        let (fed, spoken) = tokio::join!(stream.feed(sender), self.segment(progress, String::new(), sound));
        spoken?;
        fed.map_err(|silent| Stop::Failed(Failure { code: ErrorCode::BadAudio, message: silent.to_string() }))
    }

    /// Reads, shows and speaks a text.
    async fn text(
        &mut self,
        progress: &mut Progress,
        reply: Reply,
        splitter: SentenceSplitter,
        code_blocks: Option<CodeBlocks>,
    ) -> Result<(), Stop> {
        let (sentences, queue) = mpsc::channel(SENTENCES);
        let utterance = progress.utterance;
        let (active, id) = (self.active.clone(), progress.id.clone());
        let reader = Reader { active, utterance, id, splitter, code_blocks, sentences };
        let cancelled = progress.cancelled.clone();
        // Returning drops the reply, and with it the connection that it comes from.
        let reading = async { Ok(cancelled.run_until_cancelled(reader.run(reply)).await) };
        let (text, ()) = tokio::try_join!(reading, self.sentences(progress, queue))?;
        let Some(text) = text else { return Err(Stop::Cancelled) };
        self.said.with(|history| match progress.cancelled.is_cancelled() {
            // How much of it was heard, playout tells.
            true => {}
            false if text.is_empty() => history.forget(utterance),
            false => history.said(utterance, &text),
        });
        Ok(())
    }

    /// Speaks sentences as they come; while one is spoken the next is being made.
    async fn sentences(&mut self, progress: &mut Progress, mut queue: mpsc::Receiver<String>) -> Result<(), Stop> {
        let (tts, voice) = (Arc::clone(&self.tts), self.voice.clone());
        let mut next = made(&mut queue, &*tts, &voice).await;
        while let Some(speech) = next {
            let (sentence, speech) = speech?;
            // Only the segment can fail here, so it is never dropped half way.
            let making = async { Ok(made(&mut queue, &*tts, &voice).await) };
            ((), next) = tokio::try_join!(self.segment(progress, sentence, speech), making)?;
        }
        Ok(())
    }

    async fn segment(&mut self, progress: &mut Progress, sentence: String, speech: PcmStream) -> Result<(), Stop> {
        let (active, utterance) = (self.active.clone(), progress.utterance);
        active.sentence_begins(utterance, sentence);
        let words = move |starts| active.sentence_has_words(utterance, starts);
        let outcome = self.animator.speak(utterance, speech, &progress.cancelled, &progress.times, words).await?;
        if let Some(heard) = self.active.sentence_has(utterance, outcome.frames) {
            self.captions.tell(utterance, heard);
        }
        if let Some(error) = outcome.lip_sync_error
            && !std::mem::replace(&mut progress.warned, true)
        {
            let message = format!("the voice goes on without lip-sync: {error}");
            self.notices.tell(&Notice::Error { code: ErrorCode::LipSyncFailed, message, fatal: false });
        }
        Ok(())
    }
}

/// The next sentence that can be spoken and its speech, which is on its way.
async fn made(
    queue: &mut mpsc::Receiver<String>,
    tts: &dyn Tts,
    voice: &Voice,
) -> Option<Result<(String, PcmStream), SpeechError>> {
    loop {
        let sentence = queue.recv().await?;
        if let Some(text) = spoken(&sentence, &voice.language) {
            return Some(tts.speak(&text, voice).map(|speech| (sentence, speech)));
        }
    }
}
