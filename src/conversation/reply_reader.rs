//! Reads a reply as it is written: shows it and cuts it into sentences.
//!
//! Not in here: writing it (`dialogue`), speaking its sentences (`speaker`). Runs on: the session's tokio task that speaks.

use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::mpsc;

use super::turns::{Failure, Turns};
use crate::dialogue::{DialogueError, Reply};
use crate::ids::UtteranceId;
use crate::session::{ErrorCode, Notice};
use crate::speech::code_blocks::CodeBlocks;
use crate::speech::sentence::SentenceSplitter;

/// Text that comes faster is shown together, so that it never outruns a viewer's queue.
const SHOW_EVERY: Duration = Duration::from_millis(30);

/// Reads the reply of one turn.
pub(super) struct ReplyReader {
    pub turns: Turns,
    pub utterance: UtteranceId,
    /// The client's own name for the turn.
    pub id: Option<String>,
    pub splitter: SentenceSplitter,
    /// Leaves out what a model writes and nobody wants to hear; what a client has spoken is spoken whole.
    pub code_blocks: Option<CodeBlocks>,
    /// Takes each sentence as it is written, in order.
    pub sentences: mpsc::Sender<String>,
}

impl ReplyReader {
    /// Gives all of the text that came. If that is not all of the reply, the turn has failed.
    pub async fn run(mut self, mut reply: Reply) -> String {
        let mut text = String::new();
        // How much of the text is shown, and when more may be.
        let (mut shown, mut next_show) = (0, tokio::time::Instant::now());
        let outcome = loop {
            let delta = tokio::select! {
                biased;
                delta = reply.next() => delta,
                () = tokio::time::sleep_until(next_show), if shown < text.len() => {
                    self.show(&text[shown..], false);
                    (shown, next_show) = (text.len(), tokio::time::Instant::now() + SHOW_EVERY);
                    continue;
                }
            };
            let delta = match delta {
                Some(Ok(delta)) => delta,
                Some(Err(error)) => break Err(error),
                None => break Ok(()),
            };
            text.push_str(&delta);
            if tokio::time::Instant::now() >= next_show {
                self.show(&text[shown..], false);
                (shown, next_show) = (text.len(), tokio::time::Instant::now() + SHOW_EVERY);
            }
            let spoken = self.code_blocks.as_mut().map_or_else(|| delta.clone(), |blocks| blocks.push(&delta));
            for sentence in self.splitter.push(&spoken) {
                // Nobody speaks any more: the turn has failed, and whoever waits for it knows.
                if self.sentences.send(sentence).await.is_err() {
                    return text;
                }
            }
        };
        self.show(&text[shown..], true);
        let spoken = self.code_blocks.as_mut().map(CodeBlocks::finish).unwrap_or_default();
        for sentence in self.splitter.push(&spoken).into_iter().chain(self.splitter.finish()) {
            let _ = self.sentences.send(sentence).await;
        }
        let Err(error) = outcome else { return text };
        tracing::warn!(%error, "no reply, or not all of it");
        let code = match error {
            DialogueError::RateLimited { .. } => ErrorCode::LlmRateLimited,
            _ => ErrorCode::LlmFailed,
        };
        // At once, so that an interruption of what is left to say does not hide it.
        self.turns.fail(self.utterance, Failure { code, message: error.to_string() });
        text
    }

    fn show(&self, delta: &str, is_final: bool) {
        let Self { utterance, id, .. } = self;
        let notice = Notice::Text { delta: delta.to_owned(), utterance: *utterance, id: id.clone(), is_final };
        self.turns.tell(*utterance, &notice);
    }
}
