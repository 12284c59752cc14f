//! A language model behind any OpenAI-compatible `chat/completions` endpoint, streaming.
//!
//! In here: settings, the request and how long it may take. `answer` reads the stream, `events` cuts it, `chunk` reads one
//! piece of it. Not in here: the connection and refusals (`endpoint`), what is told to the model (`Persona`, `history`),
//! thoughts within the text (`thinking`).
//! Runs on: whichever task polls the reply; dropping it closes the connection.

mod answer;
mod chunk;
mod events;

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::{DialogueError, Message, Persona, Reply, Responder, Role};
use crate::endpoint::{Endpoint, EndpointError, Key};
use answer::Answer;

/// Which model answers, where, and how patient we are with it.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Such as `http://127.0.0.1:8080/v1`.
    pub url: String,
    /// As the endpoint calls it.
    pub model: String,
    /// Sent with each request; local endpoints need none.
    pub key: Option<Key>,
    /// Of the conversation, without the system prompt.
    pub history_tokens: usize,
    /// For the connection alone.
    pub connect: Duration,
    /// From the request to the first sign of an answer. Ollama loads a model in this time.
    pub first_token: Duration,
    /// Between two signs.
    pub next_token: Duration,
    /// Replies begin with a thought of which only the end is marked (`</think>`), because its beginning is part of the
    /// prompt. Nothing is said before that end.
    pub begins_thinking: bool,
}

/// A client for one endpoint, shared by all sessions; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Llm(Arc<Model>);

#[derive(Debug)]
struct Model {
    endpoint: Endpoint,
    settings: Settings,
}

impl Llm {
    /// Fails if the URL makes no endpoint.
    pub(super) fn new(settings: Settings) -> Result<Self, DialogueError> {
        let Settings { url, key, connect, .. } = &settings;
        let endpoint = Endpoint::new("language model", url, "chat/completions", key.clone(), *connect)
            .map_err(|problem| DialogueError::Client { problem })?;
        Ok(Self(Arc::new(Model { endpoint, settings })))
    }

    /// How much of a conversation it is told.
    pub(super) fn history_tokens(&self) -> usize {
        self.0.settings.history_tokens
    }

    /// The responder of an avatar.
    pub(super) fn speaking_as(&self, name: &str, persona: &Persona) -> impl Responder + use<> {
        Speaking { model: Arc::clone(&self.0), prompt: persona.prompt(name), temperature: persona.temperature }
    }
}

struct Speaking {
    model: Arc<Model>,
    prompt: String,
    temperature: Option<f64>,
}

/// How far a reply is.
enum Step {
    Ask(Arc<Model>, Vec<u8>),
    Read(Box<Answer>),
}

impl Responder for Speaking {
    fn reply(&self, conversation: Vec<Message>) -> Reply {
        let body = self.body(conversation).to_string().into_bytes();
        let ask = Step::Ask(Arc::clone(&self.model), body);
        Box::pin(stream::try_unfold(ask, |step| async move {
            let mut answer = match step {
                Step::Ask(model, body) => Box::new(model.ask(body).await?),
                Step::Read(answer) => answer,
            };
            Ok(answer.next().await?.map(|delta| (delta, Step::Read(answer))))
        }))
    }
}

impl Speaking {
    fn body(&self, conversation: Vec<Message>) -> Value {
        let mut system = self.prompt.clone();
        let mut messages = Vec::with_capacity(conversation.len() + 1);
        for Message { role, content } in conversation {
            match role {
                // Templates of many models insist that the user begins.
                Role::Avatar if messages.is_empty() => {
                    system.push_str("\n\nYou have begun the conversation by saying: ");
                    system.push_str(&content);
                }
                Role::Avatar => messages.push(json!({"role": "assistant", "content": content})),
                Role::User => messages.push(json!({"role": "user", "content": content})),
            }
        }
        if !system.trim().is_empty() {
            messages.insert(0, json!({"role": "system", "content": system}));
        }
        let mut body = json!({"model": self.model.settings.model, "messages": messages, "stream": true});
        // Some models accept their own temperature only, so none is sent unless the avatar asks for one.
        if let Some(temperature) = self.temperature {
            body["temperature"] = json!(temperature);
        }
        body
    }
}

impl Model {
    async fn ask(&self, body: Vec<u8>) -> Result<Answer, DialogueError> {
        let deadline = Instant::now() + self.settings.first_token;
        let response = timeout_at(deadline, self.endpoint.post("text/event-stream", body)).await;
        let response = response.map_err(|_| self.no_first_token())??;
        if response.status().is_success() {
            return Ok(Answer::new(response, deadline, &self.settings));
        }
        Err(self.endpoint.refused(response).await.into())
    }

    fn no_first_token(&self) -> DialogueError {
        let seconds = self.settings.first_token.as_secs_f32();
        DialogueError::TooSlow { what: "did not begin to answer", seconds }
    }
}

impl From<EndpointError> for DialogueError {
    fn from(fault: EndpointError) -> Self {
        match fault {
            EndpointError::Unreachable { problem } => Self::Unreachable { problem },
            EndpointError::TooMany { status, words, retry_after_s } => {
                Self::RateLimited { status, words, retry_after_s }
            }
            EndpointError::Refused { status, words } => Self::Refused { status, words },
            EndpointError::BrokeOff { problem } => Self::BrokeOff { words: problem },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn speaking(temperature: Option<f64>) -> Speaking {
        let settings = Settings {
            url: "http://127.0.0.1:1/v1/".into(),
            model: "m".into(),
            key: Some(Key::new("sk-secret\n")),
            history_tokens: 100,
            connect: Duration::from_secs(1),
            first_token: Duration::from_secs(1),
            next_token: Duration::from_secs(1),
            begins_thinking: false,
        };
        let model = Llm::new(settings).unwrap().0;
        Speaking { model, prompt: "You are Mika.".into(), temperature }
    }

    fn message(role: Role, content: &str) -> Message {
        Message { role, content: content.into() }
    }

    #[test]
    fn the_request_is_what_every_endpoint_knows() {
        let conversation = vec![
            message(Role::Avatar, "Welcome."),
            message(Role::User, "Hi."),
            message(Role::Avatar, "Hello."),
            message(Role::User, "Bye."),
        ];
        let system = "You are Mika.\n\nYou have begun the conversation by saying: Welcome.";
        let messages = json!([
            {"role": "system", "content": system}, {"role": "user", "content": "Hi."},
            {"role": "assistant", "content": "Hello."}, {"role": "user", "content": "Bye."},
        ]);
        let body = speaking(None).body(conversation);
        assert_eq!(body, json!({"model": "m", "messages": messages, "stream": true}));
        let body = speaking(Some(0.7)).body(vec![message(Role::User, "Hi.")]);
        assert_eq!(body["temperature"], 0.7);
    }
}
