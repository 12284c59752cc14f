//! Speaks one turn after the other: the reply is read and shown while its sentences are made into speech and spoken.
//!
//! Reading (`reply_reader`) and speaking run beside each other: the text is shown as fast as it is written, and the voice
//! follows. The first clause is spoken as soon as it is whole, then sentence by sentence, the next one made meanwhile.
//!
//! The character that speaks is changed between two turns only. A turn of which playout was given anything ends when playout says so, any other one here.
//! Runs on: one tokio task of the session.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::{TryStreamExt, stream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::Character;
use super::captions::Captions;
use super::client_audio::ClientAudioStream;
use super::reply_reader::ReplyReader;
use super::shared_history::SharedHistory;
use super::turns::{Failure, Turn, TurnSource, Turns};
use crate::animation::{AnimationError, Animator};
use crate::dialogue::Reply;
use crate::ids::{SentenceId, UtteranceId};
use crate::latency::{Stage, TurnTimes};
use crate::session::{ErrorCode, Notice, NoticeBroadcast};
use crate::speech::code_blocks::CodeBlocks;
use crate::speech::normalise::spoken_form;
use crate::speech::sentence::SentenceSplitter;
use crate::speech::{PcmStream, SpeechError, Tts, Voice, pcm};

/// Sentences read and not yet spoken; a reply that is further ahead waits to be read.
const SENTENCES: usize = 64;
/// Playout tells within two ticks what was heard of an interrupted utterance. Only one that stands still takes this long,
/// and a turn is not lost then.
const ENDS_WITHIN: Duration = Duration::from_secs(5);

/// Speaks the turns of one session.
pub(super) struct Speaker {
    pub animator: Animator,
    pub character: Character,
    pub next_character: NextCharacter,
    pub notices: NoticeBroadcast,
    pub turns: Turns,
    pub history: SharedHistory,
    pub captions: Captions,
    /// Mouths of the last sentence were left out for want of time.
    pub leaves_out: bool,
}

/// The character that speaks from the next turn on, if it is another one. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct NextCharacter(Arc<Mutex<Option<Character>>>);

impl NextCharacter {
    pub fn set(&self, character: Character) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(character);
    }

    fn take(&self) -> Option<Character> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The turn that is being spoken.
struct CurrentTurn {
    utterance: UtteranceId,
    id: Option<String>,
    times: TurnTimes,
    cancelled: CancellationToken,
    /// Clients were told that mouths are missing.
    missing_mouths_told: bool,
}

/// A sentence whose speech is on its way.
struct VoicedSentence {
    id: SentenceId,
    /// As it is written, for captions; empty if a client speaks it.
    text: String,
    speech: PcmStream,
}

/// The sentences of one utterance as they are cut from its text; each is given its id and to the voice when it is asked for.
struct Voicing {
    texts: mpsc::Receiver<String>,
    utterance: UtteranceId,
    /// Of the next sentence.
    number: usize,
    tts: Arc<dyn Tts>,
    voice: Voice,
}

/// Why a turn stops before its end.
enum StopReason {
    Cancelled,
    /// What was given to playout is still spoken.
    Failed(Failure),
    /// What was given to playout may lack pictures for ever.
    Broken(Failure),
}

impl From<AnimationError> for StopReason {
    fn from(error: AnimationError) -> Self {
        let failure = |code| Failure { code, message: error.to_string() };
        match error {
            AnimationError::Cancelled => Self::Cancelled,
            AnimationError::Speech(_) => Self::Failed(failure(ErrorCode::SpeechFailed)),
            AnimationError::Engine(_) | AnimationError::Ended(_) => Self::Broken(failure(ErrorCode::LipSyncFailed)),
        }
    }
}

impl From<SpeechError> for StopReason {
    fn from(error: SpeechError) -> Self {
        AnimationError::from(error).into()
    }
}

impl Speaker {
    pub(super) async fn run(mut self) {
        while let Some(turn) = self.turns.next().await {
            if let Some(character) = self.next_character.take() {
                self.turns.speak_in(&character.voice.language);
                self.character = character;
            }
            let span = tracing::info_span!("utterance", id = %turn.utterance);
            self.speak_turn(turn).instrument(span).await;
        }
    }

    async fn speak_turn(&mut self, turn: Turn) {
        let Turn { utterance, id, source, cancelled, times } = turn;
        let mut turn = CurrentTurn { utterance, id, times, cancelled, missing_mouths_told: false };
        let before = self.animator.announced();
        let stop = self.speak(&mut turn, source).await.err().filter(|_| !turn.cancelled.is_cancelled());
        let frames = self.animator.announced() - before;
        if let Some(StopReason::Failed(failure) | StopReason::Broken(failure)) = &stop {
            tracing::warn!(error = failure.message, "an utterance failed");
            self.turns.fail(utterance, failure.clone());
            self.turns.remember_what_will_be_heard(utterance, frames);
        }
        if let Some(StopReason::Broken(_)) = stop {
            turn.cancelled.cancel();
        }
        if frames == 0 {
            self.turns.ended_unheard(utterance);
        } else if self.animator.end_utterance(utterance, &turn.cancelled).await.is_err() {
            // All turns of the session end with playout's events.
            tracing::debug!("the session closes");
        }
    }

    async fn speak(&mut self, turn: &mut CurrentTurn, source: TurnSource) -> Result<(), StopReason> {
        match source {
            TurnSource::Audio(stream) => self.speak_audio(turn, stream).await,
            TurnSource::Text(text) => {
                self.enter_history(turn, "").await?;
                let whole: Reply = Box::pin(stream::iter([Ok(text)]));
                self.speak_reply(turn, whole, SentenceSplitter::new(), None).await
            }
            TurnSource::Reply(text) => {
                self.enter_history(turn, &text).await?;
                let reply = self.character.responder.reply(self.history.with(|history| history.messages()));
                let times = turn.times.clone();
                let reply = Box::pin(reply.inspect_ok(move |_| times.reach(Stage::FirstToken, Instant::now())));
                self.speak_reply(turn, reply, SentenceSplitter::clause_first(), Some(CodeBlocks::default())).await
            }
        }
    }

    /// Enters the turn into the history, once that says what was heard of the turns before. One that is cancelled by then
    /// is entered too: that the user said it is remembered.
    async fn enter_history(&self, turn: &CurrentTurn, user: &str) -> Result<(), StopReason> {
        let ended = tokio::time::timeout(ENDS_WITHIN, self.turns.interrupted_have_ended(turn.utterance));
        let told = turn.cancelled.run_until_cancelled(ended).await;
        if matches!(told, Some(Err(_))) {
            tracing::warn!("playout has not told how much of an interrupted utterance was heard");
        }
        self.history.with(|history| history.begin(turn.utterance, user));
        if turn.cancelled.is_cancelled() { Err(StopReason::Cancelled) } else { Ok(()) }
    }

    /// Speaks a client's own audio: one sentence without words.
    async fn speak_audio(&mut self, turn: &mut CurrentTurn, stream: ClientAudioStream) -> Result<(), StopReason> {
        let (sender, speech) = mpsc::channel(1);
        let speech = pcm::received(speech);
        let sentence = VoicedSentence { id: turn.utterance.sentence(0), text: String::new(), speech };
        let (fed, spoken) = tokio::join!(stream.feed(sender), self.speak_sentence(turn, sentence));
        spoken?;
        fed.map_err(|silent| StopReason::Failed(Failure { code: ErrorCode::BadAudio, message: silent.to_string() }))
    }

    /// Reads, shows and speaks a reply, or a text that is taken for one.
    async fn speak_reply(
        &mut self,
        turn: &mut CurrentTurn,
        reply: Reply,
        splitter: SentenceSplitter,
        code_blocks: Option<CodeBlocks>,
    ) -> Result<(), StopReason> {
        let (sentences, texts) = mpsc::channel(SENTENCES);
        let utterance = turn.utterance;
        let (turns, id) = (self.turns.clone(), turn.id.clone());
        let reader = ReplyReader { turns, utterance, id, splitter, code_blocks, sentences };
        let cancelled = turn.cancelled.clone();
        // Returning drops the reply, and with it the connection that it comes from.
        let reading = async { Ok(cancelled.run_until_cancelled(reader.run(reply)).await) };
        let (text, ()) = tokio::try_join!(reading, self.speak_sentences(turn, texts))?;
        let Some(text) = text else { return Err(StopReason::Cancelled) };
        self.history.with(|history| match turn.cancelled.is_cancelled() {
            // How much of it was heard, playout tells.
            true => {}
            false if text.is_empty() => history.forget(utterance),
            false => history.said(utterance, &text),
        });
        Ok(())
    }

    /// Speaks sentences as they come; while one is spoken the next is being made.
    async fn speak_sentences(
        &mut self,
        turn: &mut CurrentTurn,
        texts: mpsc::Receiver<String>,
    ) -> Result<(), StopReason> {
        let Character { tts, voice, .. } = self.character.clone();
        let mut voicing = Voicing { texts, utterance: turn.utterance, number: 0, tts, voice };
        let mut next = voicing.next().await;
        while let Some(sentence) = next {
            let sentence = sentence?;
            // Only the speaking can fail here, so it is never dropped half way.
            let making = async { Ok(voicing.next().await) };
            ((), next) = tokio::try_join!(self.speak_sentence(turn, sentence), making)?;
        }
        Ok(())
    }

    async fn speak_sentence(&mut self, turn: &mut CurrentTurn, sentence: VoicedSentence) -> Result<(), StopReason> {
        let VoicedSentence { id, text, speech } = sentence;
        let turns = self.turns.clone();
        turns.begin_sentence(id, text);
        let words = move |starts| turns.add_word_starts(id, starts);
        let outcome = self.animator.speak(id, speech, &turn.cancelled, &turn.times, words).await?;
        if let Some(timing) = self.turns.set_frames(id, outcome.frames) {
            self.captions.tell(timing);
        }
        let leaves_out = outcome.mouths_left_out > 0;
        if std::mem::replace(&mut self.leaves_out, leaves_out) || leaves_out {
            let (mouths, mouths_left_out) = (outcome.mouths, outcome.mouths_left_out);
            self.notices.tell(&Notice::Stats { mouths, mouths_left_out });
        }
        if let Some(error) = outcome.lip_sync_error
            && !std::mem::replace(&mut turn.missing_mouths_told, true)
        {
            let message = format!("the voice goes on without lip-sync: {error}");
            self.notices.tell(&Notice::Error { code: ErrorCode::LipSyncFailed, message, fatal: false });
        }
        Ok(())
    }
}

impl Voicing {
    /// The next sentence that can be spoken. The one place where a sentence of a text gets its id.
    async fn next(&mut self) -> Option<Result<VoicedSentence, SpeechError>> {
        loop {
            let text = self.texts.recv().await?;
            if let Some(normalised) = spoken_form(&text, &self.voice.language) {
                let id = self.utterance.sentence(self.number);
                self.number += 1;
                let speech = self.tts.speak(&normalised.text, &self.voice);
                return Some(speech.map(|speech| VoicedSentence { id, text, speech }));
            }
        }
    }
}
