//! Speaks one turn after the other: the reply is read and shown while its sentences are made into speech and spoken.
//!
//! Reading and speaking run beside each other: the text is shown as fast as it is written, and the voice follows. The
//! first clause is spoken as soon as it is whole, then sentence by sentence, the next one made meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::active::Active;
use super::{Captions, Notices, Said, Say, Turn};
use crate::dialogue::{DialogueError, Reply, Responder};
use crate::ids::UtteranceId;
use crate::latency::{Stage, TurnTimes};
use crate::lipsync::driver::{Driver, DriverError};
use crate::signalling::{ErrorCode, Notice};
use crate::speech::code_blocks::CodeBlocks;
use crate::speech::sentence::SentenceSplitter;
use crate::speech::spoken::spoken;
use crate::speech::{PcmStream, SpeechError, Tts, Voice};

/// Sentences read and not yet spoken; a reply that is further ahead waits to be read.
const SENTENCES: usize = 64;
/// Text that comes faster is shown together, so that it never outruns a viewer's queue.
const SHOW_EVERY: Duration = Duration::from_millis(30);
/// Playout tells within two ticks what was heard of an interrupted utterance; a turn is not lost if it does not.
const ENDS_WITHIN: Duration = Duration::from_millis(200);

pub(super) struct Speaker {
    pub driver: Driver,
    pub tts: Arc<dyn Tts>,
    pub voice: Voice,
    pub responder: Arc<dyn Responder>,
    pub notices: Notices,
    pub active: Active,
    pub said: Said,
    pub captions: Captions,
}

impl Speaker {
    pub(super) async fn run(mut self, mut turns: mpsc::Receiver<Turn>) {
        while let Some(turn) = turns.recv().await {
            let span = tracing::info_span!("utterance", id = %turn.utterance);
            self.turn(turn).instrument(span).await;
        }
    }

    async fn turn(&mut self, turn: Turn) {
        let Turn { utterance, id, say, cancelled, times } = turn;
        let mut progress = Progress { utterance, id, times, cancelled, sound_heard: false, failed: false };
        let spoken = match say {
            // Forgotten while it waited. That the user said it is remembered.
            Say::ReplyTo(text) if progress.cancelled.is_cancelled() => {
                self.begin(utterance, &text).await;
                Err(DriverError::Cancelled)
            }
            _ if progress.cancelled.is_cancelled() => Err(DriverError::Cancelled),
            Say::Sound(stream) => self.segment(&mut progress, String::new(), stream).await,
            Say::Exactly(text) => {
                self.begin(utterance, "").await;
                let whole: Reply = Box::pin(stream::iter([Ok(text)]));
                self.text(&mut progress, whole, SentenceSplitter::new(), None).await
            }
            Say::ReplyTo(text) => {
                self.begin(utterance, &text).await;
                let reply = self.responder.reply(self.said.with(|history| history.messages()));
                let times = progress.times.clone();
                let reply = Box::pin(reply.inspect_ok(move |_| times.reach(Stage::FirstToken, Instant::now())));
                self.text(&mut progress, reply, SentenceSplitter::clause_first(), Some(CodeBlocks::default())).await
            }
        };
        let ended = match spoken {
            Ok(()) => self.driver.end_utterance(utterance, &progress.cancelled).await,
            Err(error) => Err(error),
        };
        match ended {
            Ok(()) if progress.sound_heard => {}
            // Cancelled while heard: playout reports the end. Cancelled before: nobody waits for an end.
            Ok(()) | Err(DriverError::Cancelled) => self.active.remove_if_unheard(utterance),
            Err(error) => {
                tracing::warn!(%error, "an utterance failed");
                crate::metrics::utterance_ended("failed");
                let code = if matches!(error, DriverError::Speech(_)) {
                    ErrorCode::SpeechFailed
                } else {
                    ErrorCode::LipSyncFailed
                };
                self.notices.tell(&Notice::Error { code, message: error.to_string(), fatal: false });
                // What was already handed on is still heard, and reported as ended by playout.
                if self.driver.end_utterance(utterance, &progress.cancelled).await.is_err() || !progress.sound_heard {
                    self.active.remove_if_unheard(utterance);
                }
            }
        }
    }

    /// Enters the turn into the history, once that says what was heard of the turn before.
    async fn begin(&self, utterance: UtteranceId, user: &str) {
        if tokio::time::timeout(ENDS_WITHIN, self.active.interrupted_have_ended()).await.is_err() {
            tracing::warn!("playout has not told how much of an interrupted utterance was heard");
        }
        self.said.with(|history| history.begin(utterance, user));
    }

    /// Reads, shows and speaks a text.
    async fn text(
        &mut self,
        progress: &mut Progress,
        reply: Reply,
        splitter: SentenceSplitter,
        code_blocks: Option<CodeBlocks>,
    ) -> Result<(), DriverError> {
        let (sentences, queue) = mpsc::channel(SENTENCES);
        let reader = Reader {
            notices: self.notices.clone(),
            utterance: progress.utterance,
            id: progress.id.clone(),
            splitter,
            code_blocks,
            sentences,
        };
        let cancelled = progress.cancelled.clone();
        let reading = async {
            // Returning drops the reply, and with it the connection that it comes from.
            tokio::select! {
                biased;
                () = cancelled.cancelled() => None,
                read = reader.run(reply) => Some(read),
            }
        };
        let (read, ()) = tokio::try_join!(async { Ok(reading.await) }, self.say(progress, queue))?;
        let Some(Read { text, error }) = read else { return Err(DriverError::Cancelled) };
        let utterance = progress.utterance;
        self.said.with(|history| match progress.cancelled.is_cancelled() {
            // How much of it was heard, playout tells.
            true => {}
            false if text.is_empty() => history.forget(utterance),
            false => history.said(utterance, &text),
        });
        if error.is_some() && !progress.sound_heard {
            crate::metrics::utterance_ended("failed");
        }
        Ok(())
    }

    /// Speaks sentences as they come; while one is spoken the next is being made.
    async fn say(&mut self, progress: &mut Progress, mut queue: mpsc::Receiver<String>) -> Result<(), DriverError> {
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

    async fn segment(
        &mut self,
        progress: &mut Progress,
        sentence: String,
        speech: PcmStream,
    ) -> Result<(), DriverError> {
        self.active.sentence_begins(progress.utterance, sentence);
        let (active, utterance) = (self.active.clone(), progress.utterance);
        let words = move |starts| active.sentence_has_words(utterance, starts);
        let outcome = self.driver.speak(utterance, speech, &progress.cancelled, &progress.times, words).await?;
        if let Some(heard) = self.active.sentence_has(progress.utterance, outcome.frames) {
            self.captions.tell(progress.utterance, heard);
        }
        progress.sound_heard |= outcome.frames > 0;
        if let Some(error) = outcome.lip_sync_error
            && !std::mem::replace(&mut progress.failed, true)
        {
            let message = format!("the voice goes on without lip-sync: {error}");
            self.notices.tell(&Notice::Error { code: ErrorCode::LipSyncFailed, message, fatal: false });
        }
        Ok(())
    }
}

struct Progress {
    utterance: UtteranceId,
    id: Option<String>,
    times: TurnTimes,
    cancelled: CancellationToken,
    sound_heard: bool,
    failed: bool,
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

/// Shows a text as it comes and cuts it into sentences.
struct Reader {
    notices: Notices,
    utterance: UtteranceId,
    id: Option<String>,
    splitter: SentenceSplitter,
    /// Leaves out what a model writes and nobody wants to hear; what a client has spoken is spoken whole.
    code_blocks: Option<CodeBlocks>,
    sentences: mpsc::Sender<String>,
}

/// What came of a reply.
struct Read {
    text: String,
    error: Option<DialogueError>,
}

impl Reader {
    async fn run(mut self, mut reply: Reply) -> Read {
        let mut text = String::new();
        // How much of the text is shown, and when more may be.
        let (mut shown, mut next_show) = (0, tokio::time::Instant::now());
        let outcome = loop {
            let piece = tokio::select! {
                biased;
                piece = reply.next() => piece,
                () = tokio::time::sleep_until(next_show), if shown < text.len() => {
                    self.show(&text[shown..], false);
                    (shown, next_show) = (text.len(), tokio::time::Instant::now() + SHOW_EVERY);
                    continue;
                }
            };
            let piece = match piece {
                Some(Ok(piece)) => piece,
                Some(Err(error)) => break Err(error),
                None => break Ok(()),
            };
            text.push_str(&piece);
            if tokio::time::Instant::now() >= next_show {
                self.show(&text[shown..], false);
                (shown, next_show) = (text.len(), tokio::time::Instant::now() + SHOW_EVERY);
            }
            let prose = self.code_blocks.as_mut().map_or_else(|| piece.clone(), |blocks| blocks.push(&piece));
            for sentence in self.splitter.push(&prose) {
                // Nobody speaks any more: the turn has failed, and whoever waits for it knows.
                if self.sentences.send(sentence).await.is_err() {
                    return Read { text, error: None };
                }
            }
        };
        self.show(&text[shown..], true);
        let prose = self.code_blocks.as_mut().map(CodeBlocks::finish).unwrap_or_default();
        for rest in self.splitter.push(&prose).into_iter().chain(self.splitter.finish()) {
            let _ = self.sentences.send(rest).await;
        }
        let error = outcome.err();
        if let Some(error) = &error {
            let code = match error {
                DialogueError::RateLimited { .. } => ErrorCode::LlmRateLimited,
                _ => ErrorCode::LlmFailed,
            };
            tracing::warn!(%error, "no reply, or not all of it");
            self.notices.tell(&Notice::Error { code, message: error.to_string(), fatal: false });
        }
        Read { text, error }
    }

    fn show(&self, content: &str, is_final: bool) {
        let Self { utterance, id, .. } = self;
        let notice = Notice::Text { content: content.to_owned(), utterance: *utterance, id: id.clone(), is_final };
        self.notices.tell(&notice);
    }
}
