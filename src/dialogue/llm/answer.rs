//! One answer as it streams in: bytes become events, events become text that is meant to be heard.
//!
//! In here: how long is waited for what, and what counts as the end. A finish reason is a hint: servers give one with every
//! chunk, between thoughts and answer, or none at all. Not in here: where events end (`events`), what one says (`chunk`).

use bytes::Bytes;
use reqwest::Response;
use reqwest::header::CONTENT_TYPE;
use tokio::time::{Duration, Instant, timeout_at};

use super::Settings;
use super::chunk::Chunk;
use super::events::{Event, Events};
use crate::dialogue::DialogueError;
use crate::dialogue::thinking::Thoughtless;
use crate::endpoint::{Key, cause, words};

/// Everything that one answer may send, thoughts and keep-alives included.
const MAX_BYTES: usize = 32 * 1024 * 1024;
/// Longest answer in characters, twenty minutes of speech; what a model in a loop says further is not read.
const MAX_TEXT: usize = 20_000;
/// After the last word the end of the stream lets the connection be used again, if it comes soon.
const END_WAIT: Duration = Duration::from_millis(100);
/// Silence of this length after a finish reason is the end, where a server neither says so nor closes the connection.
const SILENCE_AFTER_FINISH: Duration = Duration::from_secs(1);
/// After an event without the empty line that ends it, which some servers leave out.
const SILENCE_AFTER_EVENT: Duration = Duration::from_millis(200);

pub(super) struct Answer {
    response: Response,
    /// What the server calls it.
    kind: String,
    events: Events,
    thoughtless: Thoughtless,
    deadline: Instant,
    settings: Limits,
    received: usize,
    /// An event has come.
    has_events: bool,
    /// A word or a thought has come.
    begun: bool,
    /// A word or a thought has come after a finish reason, so that the next reason means little.
    went_on: bool,
    said: usize,
    finish: Option<String>,
    state: State,
}

struct Limits {
    first_token: f32,
    next_token: Duration,
    key: Option<Key>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Reading,
    /// All has come, and some of it is to be read.
    Received,
    /// The server has said that this is all.
    Finished,
    /// Nothing more will be read.
    Over,
}

impl Answer {
    pub(super) fn new(response: Response, deadline: Instant, settings: &Settings) -> Self {
        let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        Self {
            kind: kind.to_owned(),
            response,
            events: Events::default(),
            thoughtless: Thoughtless::new(settings.begins_thinking),
            deadline,
            settings: Limits {
                first_token: settings.first_token.as_secs_f32(),
                next_token: settings.next_token,
                key: settings.key.clone(),
            },
            received: 0,
            has_events: false,
            begun: false,
            went_on: false,
            said: 0,
            finish: None,
            state: State::Reading,
        }
    }

    /// The next text that is meant to be heard; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<String>, DialogueError> {
        loop {
            if matches!(self.state, State::Finished | State::Over) {
                return self.end().await;
            }
            let event = self.events.next().map_err(|problem| DialogueError::Unreadable { problem })?;
            match event {
                Some(event) => {
                    if let Some(chunk) = self.take(&event)?
                        && let Some(said) = self.heed(chunk)
                    {
                        return Ok(Some(said));
                    }
                }
                None if self.state == State::Received => self.state = State::Over,
                None => match self.receive().await? {
                    Some(bytes) => self.events.push(&bytes),
                    None => {
                        self.state = State::Received;
                        self.events.end().map_err(|problem| DialogueError::Unreadable { problem })?;
                    }
                },
            }
        }
    }

    /// Waits for more; nothing at the end of the stream.
    async fn receive(&mut self) -> Result<Option<Bytes>, DialogueError> {
        let deadline = match self.events.is_unsettled() {
            true => self.deadline.min(Instant::now() + SILENCE_AFTER_EVENT),
            false => self.deadline,
        };
        let bytes = match timeout_at(deadline, self.response.chunk()).await {
            Ok(Ok(bytes)) => bytes,
            // What was wanted has come.
            Ok(Err(_)) if self.finish.is_some() => None,
            Ok(Err(error)) => {
                let problem = format!("the connection broke in the middle of it ({})", cause(&error));
                return Err(DialogueError::Unreadable { problem });
            }
            Err(_) if self.events.settle() => Some(Bytes::new()),
            Err(_) if self.finish.is_some() => None,
            Err(_) => return Err(self.too_slow()),
        };
        self.received += bytes.as_ref().map_or(0, Bytes::len);
        if self.received > MAX_BYTES {
            return Err(DialogueError::Unreadable { problem: format!("it has more than {MAX_BYTES} bytes") });
        }
        Ok(bytes)
    }

    fn take(&mut self, event: &Event) -> Result<Option<Chunk>, DialogueError> {
        self.has_events = true;
        let Event { name, data } = event;
        let name = name.to_ascii_lowercase();
        if name == "error" || name.ends_with(".error") {
            return Err(self.broke_off(data));
        }
        if data.trim().trim_matches('"').eq_ignore_ascii_case("[done]") {
            self.state = State::Finished;
            return Ok(None);
        }
        match Chunk::read(data) {
            Ok(Chunk { error: Some(error), .. }) => Err(self.broke_off(&error.to_string())),
            Ok(chunk) => Ok(Some(chunk)),
            // A beat of the server's own.
            Err(_) if !matches!(name.as_str(), "" | "message") && !data.trim_start().starts_with('{') => Ok(None),
            // The end of a stream that broke after its last word.
            Err(_) if self.state == State::Received && self.finish.is_some() => Ok(None),
            Err(problem) => Err(DialogueError::Unreadable { problem }),
        }
    }

    /// What a chunk lets be heard, and how long the next one may take.
    fn heed(&mut self, chunk: Chunk) -> Option<String> {
        let Chunk { text, is_empty, is_whole, finish, .. } = chunk;
        self.begun |= !is_empty;
        self.went_on |= !is_empty && self.finish.is_some();
        let is_news = !is_empty || self.finish.is_none();
        self.finish = finish.or(self.finish.take());
        // Of a whole text is known whether it begins with a thought.
        if is_whole && self.said == 0 && Thoughtless::ends_a_thought(&text) {
            self.thoughtless = Thoughtless::new(true);
        }
        let said = self.thoughtless.push(&text);
        let said = self.audible(said);
        if is_news && (self.begun || self.finish.is_some()) {
            let is_end = self.finish.is_some() && self.said > 0 && !self.went_on;
            let patience =
                if is_end { SILENCE_AFTER_FINISH.min(self.settings.next_token) } else { self.settings.next_token };
            self.deadline = Instant::now() + patience;
        }
        if self.thoughtless.is_over() {
            self.state = State::Over;
        }
        said
    }

    /// Without the white space before the first word, and not without end.
    fn audible(&mut self, mut text: String) -> Option<String> {
        if self.said == 0 {
            text.drain(..text.len() - text.trim_start().len());
        }
        self.said += text.chars().count();
        if self.said > MAX_TEXT {
            tracing::warn!("the language model says more than {MAX_TEXT} characters: the rest is not read");
            self.state = State::Over;
        }
        (!text.is_empty()).then_some(text)
    }

    fn broke_off(&self, said: &str) -> DialogueError {
        let words = words::of_refusal(said.as_bytes(), self.settings.key.as_ref());
        tracing::warn!(words, "the language model broke off");
        DialogueError::BrokeOff { words }
    }

    fn too_slow(&self) -> DialogueError {
        let (what, seconds) = match self.begun {
            true => ("did not go on with its answer", self.settings.next_token.as_secs_f32()),
            false => ("did not begin to answer", self.settings.first_token),
        };
        DialogueError::TooSlow { what, seconds }
    }

    /// What was held back, then the end.
    async fn end(&mut self) -> Result<Option<String>, DialogueError> {
        let held = self.thoughtless.finish();
        if let Some(held) = self.audible(held) {
            return Ok(Some(held));
        }
        if self.state == State::Finished {
            // An answer that is read to its end leaves the connection to the next one.
            let _ = timeout_at(Instant::now() + END_WAIT, self.response.chunk()).await;
        }
        if self.thoughtless.has_said_a_thought() {
            tracing::warn!(
                "the language model marks only the end of its thoughts, so they were spoken: set `begins_thinking` in [llm]"
            );
        }
        let finish = self.finish.take().map(|reason| words::clean(&reason, self.settings.key.as_ref()));
        match finish {
            Some(reason) if reason.eq_ignore_ascii_case("error") => {
                Err(DialogueError::BrokeOff { words: "it says no more than that there was an error".to_owned() })
            }
            _ if self.said > 0 => Ok(None),
            _ if !self.has_events => Err(DialogueError::Unreadable { problem: self.no_events() }),
            reason if self.thoughtless.is_thinking() => {
                let reason = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
                Err(DialogueError::Empty { reason: Some(format!("its thoughts did not end{reason}")) })
            }
            reason => Err(DialogueError::Empty { reason }),
        }
    }

    fn no_events(&self) -> String {
        let kind = words::clean(&self.kind, self.settings.key.as_ref());
        match (self.received, kind.as_str()) {
            (0, _) => "nothing came".to_owned(),
            (_, "") => "it is no stream of events".to_owned(),
            (_, kind) => format!("it is no stream of events but {kind}"),
        }
    }
}
