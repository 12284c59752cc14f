//! One answer as it streams in: bytes become lines, lines become text that is meant to be heard.

use bytes::BytesMut;
use reqwest::Response;
use reqwest::header::CONTENT_TYPE;
use tokio::time::{Instant, timeout_at};
use tokio_util::codec::{Decoder, LinesCodec, LinesCodecError};

use super::Settings;
use super::chunk::{Chunk, Line};
use crate::dialogue::DialogueError;
use crate::dialogue::thinking::Thoughtless;
use crate::endpoint::{Key, cause, words};

/// Longest line. A chunk has some hundred bytes; a whole answer from one that does not stream has some thousand.
const MAX_LINE: usize = 256 * 1024;
/// Everything that one answer may send, thoughts and keep-alives included.
const MAX_BYTES: usize = 32 * 1024 * 1024;
/// Longest answer in characters, twenty minutes of speech; what a model in a loop says further is not read.
const MAX_TEXT: usize = 20_000;
/// After the last word the end of the stream lets the connection be used again, if it comes soon.
const END_WAIT: std::time::Duration = std::time::Duration::from_millis(100);

pub(super) struct Answer {
    response: Response,
    codec: LinesCodec,
    buffer: BytesMut,
    /// The body is one JSON document and not a stream.
    whole: bool,
    thoughtless: Thoughtless,
    deadline: Instant,
    /// A word or a thought has come.
    begun: bool,
    settings: Limits,
    received: usize,
    said: usize,
    finish: Option<String>,
    state: State,
}

struct Limits {
    first_token: f32,
    next_token: std::time::Duration,
    key: Option<Key>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Reading,
    /// The model has said that it is done.
    Finished,
    /// Nothing more will be read.
    Over,
}

impl Answer {
    pub(super) fn new(response: Response, deadline: Instant, settings: &Settings) -> Self {
        let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        Self {
            whole: kind.starts_with("application/json"),
            response,
            codec: LinesCodec::new_with_max_length(MAX_LINE),
            buffer: BytesMut::new(),
            thoughtless: Thoughtless::default(),
            deadline,
            begun: false,
            settings: Limits {
                first_token: settings.first_token.as_secs_f32(),
                next_token: settings.next_token,
                key: settings.key.clone(),
            },
            received: 0,
            said: 0,
            finish: None,
            state: State::Reading,
        }
    }

    /// The next text that is meant to be heard; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<String>, DialogueError> {
        loop {
            if self.state != State::Reading {
                return self.end().await;
            }
            let piece = match self.line()? {
                Some(line) => self.take(&line)?,
                None => match self.receive().await? {
                    true => String::new(),
                    false => self.last_line()?,
                },
            };
            if let Some(piece) = self.audible(piece) {
                return Ok(Some(piece));
            }
        }
    }

    /// A whole line of what has come.
    fn line(&mut self) -> Result<Option<String>, DialogueError> {
        if self.whole {
            return Ok(None);
        }
        self.codec.decode(&mut self.buffer).map_err(line_error)
    }

    /// Waits for more; false at the end of the stream.
    async fn receive(&mut self) -> Result<bool, DialogueError> {
        let received = timeout_at(self.deadline, self.response.chunk()).await.map_err(|_| self.too_slow())?;
        let bytes = received.map_err(|error| DialogueError::Unreadable {
            problem: format!("the connection broke in the middle of it ({})", cause(&error)),
        })?;
        let Some(bytes) = bytes else { return Ok(false) };
        self.received += bytes.len();
        if self.received > MAX_BYTES || (self.whole && self.received > MAX_LINE) {
            let problem = format!("it has more than {} bytes", if self.whole { MAX_LINE } else { MAX_BYTES });
            return Err(DialogueError::Unreadable { problem });
        }
        self.buffer.extend_from_slice(&bytes);
        // Some call a stream a document.
        self.whole &= self.buffer.trim_ascii_start().first().is_none_or(|first| *first == b'{');
        Ok(true)
    }

    /// The stream has ended: what is left is a line without its end, or a document.
    fn last_line(&mut self) -> Result<String, DialogueError> {
        let left = if self.whole {
            Some(format!("data: {}", String::from_utf8_lossy(&self.buffer.split())))
        } else {
            self.codec.decode_eof(&mut self.buffer).map_err(line_error)?
        };
        let piece = left.map_or(Ok(String::new()), |line| self.take(&line))?;
        if self.state == State::Reading && !self.whole && self.finish.is_none() {
            return Err(DialogueError::Unreadable { problem: "it ended before it was finished".to_owned() });
        }
        self.state = State::Over;
        Ok(piece)
    }

    fn take(&mut self, line: &str) -> Result<String, DialogueError> {
        let data = match Line::of(line) {
            Line::Other => return Ok(String::new()),
            Line::Done => {
                self.state = State::Finished;
                return Ok(String::new());
            }
            Line::Error(words) => {
                return Err(self.broke_off(words.as_bytes()));
            }
            Line::Data(data) => data,
        };
        let chunk = match Chunk::read(data) {
            Ok(chunk) => chunk,
            // The parser's complaint quotes nothing of the text, so it holds no secret.
            Err(problem) => return Err(DialogueError::Unreadable { problem }),
        };
        if let Some(error) = chunk.error {
            return Err(self.broke_off(error.to_string().as_bytes()));
        }
        self.begun |= !chunk.is_empty;
        if self.begun {
            self.deadline = Instant::now() + self.settings.next_token;
        }
        if let Some(reason) = chunk.finish {
            // What follows is a count of tokens, if anything.
            self.deadline = Instant::now() + END_WAIT;
            self.finish = Some(reason);
        }
        Ok(chunk.text)
    }

    fn broke_off(&self, said: &[u8]) -> DialogueError {
        let words = words::of_refusal(said, self.settings.key.as_ref());
        tracing::warn!(words, "the language model broke off");
        DialogueError::BrokeOff { words }
    }

    fn too_slow(&mut self) -> DialogueError {
        let (what, seconds) = match self.begun {
            true => ("did not go on with its answer", self.settings.next_token.as_secs_f32()),
            false => ("did not begin to answer", self.settings.first_token),
        };
        DialogueError::TooSlow { what, seconds }
    }

    /// Without thoughts, without the white space before the first word, and not without end.
    fn audible(&mut self, piece: String) -> Option<String> {
        let mut text = self.thoughtless.push(&piece);
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

    /// What was held back, then the end.
    async fn end(&mut self) -> Result<Option<String>, DialogueError> {
        let held = std::mem::take(&mut self.thoughtless).finish();
        if !held.trim().is_empty() {
            self.said += held.len();
            return Ok(Some(held));
        }
        if self.state == State::Finished {
            // An answer that is read to its end leaves the connection to the next one.
            let _ = timeout_at(Instant::now() + END_WAIT, self.response.chunk()).await;
        }
        if self.said == 0 {
            let reason = self.finish.take().map(|reason| words::clean(&reason, self.settings.key.as_ref()));
            return Err(DialogueError::Empty { reason });
        }
        Ok(None)
    }
}

fn line_error(error: LinesCodecError) -> DialogueError {
    let problem = match error {
        LinesCodecError::MaxLineLengthExceeded => format!("it has a line of more than {MAX_LINE} bytes"),
        LinesCodecError::Io(error) => error.to_string(),
    };
    DialogueError::Unreadable { problem }
}
