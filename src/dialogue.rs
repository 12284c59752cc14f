//! What the avatar answers: a language model behind an OpenAI-compatible endpoint, or rules that need nobody else.
//!
//! In here: the trait that a conversation drives, what an avatar is told of itself, and who answers for it.
//! `llm` talks to the endpoint, `rules` answers without one, `history` keeps what was said and heard, `thinking` and `marks`
//! tell what of a reply is not for the user.
//! Not in here: turns and interruptions (`conversation`), sentences and voices (`speech`).
//! Runs on: the session's tokio task, which polls the reply; nothing is spawned.

pub mod history;
pub mod llm;
mod marks;
mod rules;
mod thinking;

use std::pin::Pin;
use std::sync::Arc;

use futures_util::Stream;

use history::History;
use llm::{Llm, Settings};
use rules::Rules;

use crate::endpoint::shown;

/// What an answer is spoken from when nothing bounds the history otherwise.
const RULES_HISTORY_TOKENS: usize = 500;

/// Who says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Whoever the avatar talks with.
    User,
    /// The avatar, or the model that answers for it.
    Avatar,
}

/// Something that was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who said it.
    pub role: Role,
    /// Plain text, never empty in a history.
    pub content: String,
}

/// A reply as it is written, delta by delta. Nothing happens until it is polled; dropping it ends the work behind it, a
/// connection included, at once.
pub type Reply = Pin<Box<dyn Stream<Item = Result<String, DialogueError>> + Send>>;

/// Answers for one avatar.
pub trait Responder: Send + Sync {
    /// Replies to the last message, which is the user's. Must be called and polled within a tokio runtime.
    fn reply(&self, conversation: Vec<Message>) -> Reply;
}

/// The `[dialogue]` table of an avatar's manifest.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Persona {
    /// What a language model is told before the conversation; something general with the avatar's name if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_prompt: Option<String>,
    /// 0 to 2; the endpoint's own if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
}

impl Persona {
    /// Longest system prompt, in characters.
    const MAX_PROMPT: usize = 20_000;

    /// Whether the manifest says nothing of it, so that it is not written.
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Whether what a manifest holds is in range; the error names the field.
    pub(crate) fn validate(&self) -> Result<(), String> {
        if let Some(given) = self.temperature.filter(|given| !(0.0..=2.0).contains(given)) {
            return Err(format!("dialogue.temperature is {given}, must be 0 to 2"));
        }
        match self.system_prompt.as_ref().map(|prompt| prompt.chars().count()) {
            Some(length) if length > Self::MAX_PROMPT => {
                Err(format!("dialogue.system_prompt has {length} characters, at most {} are sent", Self::MAX_PROMPT))
            }
            _ => Ok(()),
        }
    }

    fn prompt(&self, name: &str) -> String {
        self.system_prompt.clone().unwrap_or_else(|| {
            format!(
                "You are {name}, a friendly talking avatar. What you write is spoken aloud as it comes: answer in one \
                 to three short sentences of plain prose, begin with a short one, and use no lists, markdown, emoji or \
                 stage directions. Answer in the user's language."
            )
        })
    }
}

/// Makes the responder of each session.
pub struct Dialogues(Option<Llm>);

impl Dialogues {
    /// Says in the log who will answer.
    pub fn new(settings: Option<Settings>) -> Result<Self, DialogueError> {
        let Some(settings) = settings else {
            tracing::info!("no language model is set, so built-in rules answer `text`: give --llm-url and --llm-model");
            return Ok(Self(None));
        };
        tracing::info!(url = shown(&settings.url), model = settings.model, "a language model answers `text`");
        Ok(Self(Some(Llm::new(settings)?)))
    }

    /// Who answers for an avatar of this name, manifest and language, and what is kept of its conversation.
    pub fn of(&self, name: &str, persona: &Persona, language: &str) -> (Arc<dyn Responder>, History) {
        match &self.0 {
            Some(llm) => (Arc::new(llm.speaking_as(name, persona)), History::new(llm.history_tokens())),
            None => (Arc::new(Rules::new(name, language)), History::new(RULES_HISTORY_TOKENS)),
        }
    }
}

/// Why there is no reply, or no more of it. Holds neither the key nor where the endpoint is: it is told to viewers.
#[derive(Debug, thiserror::Error)]
pub enum DialogueError {
    /// No connection came about.
    #[error("the language model cannot be reached: {problem}")]
    Unreachable {
        /// The innermost reason.
        problem: String,
    },
    /// It took longer than the settings grant.
    #[error("the language model {what} within {seconds} s")]
    TooSlow {
        /// What it did not do.
        what: &'static str,
        /// What was granted.
        seconds: f32,
    },
    /// Answered with another status than 200.
    #[error("the language model answers {status}{}", Words(words))]
    Refused {
        /// Such as `401 Unauthorized`.
        status: String,
        /// The provider's own, short and without keys; may be empty.
        words: String,
    },
    /// HTTP 429.
    #[error("the language model is asked more than it allows ({status}){}{}", Wait(*retry_after_s), Words(words))]
    RateLimited {
        /// `429 Too Many Requests`.
        status: String,
        /// The provider's own, short and without keys; may be empty.
        words: String,
        /// From the header `Retry-After`, where that holds seconds.
        retry_after_s: Option<u64>,
    },
    /// An error object in the middle of the stream.
    #[error("the language model broke off{}", Words(words))]
    BrokeOff {
        /// The provider's own, or why the connection ended.
        words: String,
    },
    /// What came is no stream of chat completions.
    #[error("the language model's answer cannot be read: {problem}")]
    Unreadable {
        /// What is wrong with it.
        problem: String,
    },
    /// The answer ended, and all of it was thought, asked of tools or left out.
    #[error("the language model answered without a word that can be said{}", Reason(reason))]
    Empty {
        /// The model's own `finish_reason`, where it is not the usual one.
        reason: Option<String>,
    },
    /// The settings do not make a client.
    #[error("the client for the language model cannot be made: {problem}")]
    Client {
        /// What is wrong with them.
        problem: String,
    },
}

/// What the provider says, after a colon.
struct Words<'a>(&'a str);
struct Wait(Option<u64>);
struct Reason<'a>(&'a Option<String>);

impl std::fmt::Display for Words<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(formatter, ": {}", self.0) }
    }
}

impl std::fmt::Display for Wait {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.map_or(Ok(()), |seconds| write!(formatter, ", again in {seconds} s"))
    }
}

impl std::fmt::Display for Reason<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.as_ref().map_or(Ok(()), |reason| write!(formatter, " ({reason})"))
    }
}
