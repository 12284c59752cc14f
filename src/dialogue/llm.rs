//! A language model behind any OpenAI-compatible `chat/completions` endpoint, streaming.
//!
//! In here: settings, the request, the connection with its time limits, and refusals. `answer` reads the stream,
//! `chunk` one piece of it, `words` makes a provider's words fit for others.
//! Not in here: what is told to the model (`Persona`, `history`), thoughts (`thinking`).
//! Runs on: whichever task polls the reply; dropping it closes the connection.
//!
//! reqwest carries it and tokio-util's `LinesCodec` cuts the stream, because providers stray from the SSE standard in
//! ways that a strict parser loses: llama.cpp writes errors as a field `error:`, some put one newline between events,
//! and a line without end must not fill the memory. Every event of this protocol is one line of JSON.

mod answer;
mod chunk;
mod words;

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use reqwest::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url, redirect};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::{DialogueError, Message, Persona, Reply, Responder, Role};
use answer::Answer;

/// Attempts to connect. Nothing else is tried again: a request that was received may have been paid for.
const CONNECT_ATTEMPTS: u32 = 3;
/// Before the second attempt; twice as long before the third.
const CONNECT_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// What is read of a refusal.
const REFUSAL_BYTES: usize = 16 * 1024;
/// How long the rest of a refusal may take.
const REFUSAL_TIME: Duration = Duration::from_secs(2);

/// A key that no log or error shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(String);

impl Key {
    /// Surrounding white space, as at the end of a file, is not part of it.
    pub fn new(text: &str) -> Self {
        Self(text.trim().to_owned())
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("(not shown)")
    }
}

/// Which model answers, where, and how patient we are with it.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Such as `http://127.0.0.1:8080/v1`.
    pub url: String,
    pub model: String,
    pub key: Option<Key>,
    /// Of the conversation, without the system prompt.
    pub history_tokens: usize,
    pub connect: Duration,
    /// From the request to the first sign of an answer. Ollama loads a model in this time.
    pub first_token: Duration,
    /// Between two signs.
    pub next_token: Duration,
}

/// Says what is wrong with an endpoint's address.
pub fn check_url(url: &str) -> Result<(), &'static str> {
    let url = Url::parse(url).map_err(|_| "is not a URL")?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err("has no host or is not of the web");
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        return Err("holds credentials or a query: a key belongs into MOUTHPIECE_LLM_KEY or a key file");
    }
    Ok(())
}

/// A client for one endpoint, shared by all sessions; cheap to clone.
#[derive(Clone, Debug)]
pub struct Llm(Arc<Endpoint>);

#[derive(Debug)]
struct Endpoint {
    client: Client,
    url: String,
    settings: Settings,
}

impl Llm {
    pub fn new(settings: Settings) -> Result<Self, DialogueError> {
        let problem = |error: reqwest::Error| DialogueError::Client { problem: cause(&error) };
        let mut client = Client::builder()
            .user_agent(concat!("mouthpiece/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(settings.connect)
            .tcp_nodelay(true)
            // A redirected POST becomes a GET, whose refusal would hide where the fault lies.
            .redirect(redirect::Policy::none());
        if is_local(&settings.url) {
            client = client.no_proxy();
        }
        let base = settings.url.trim_end_matches('/').trim_end_matches("/chat/completions");
        let url = format!("{base}/chat/completions");
        Ok(Self(Arc::new(Endpoint { client: client.build().map_err(problem)?, url, settings })))
    }

    pub fn history_tokens(&self) -> usize {
        self.0.settings.history_tokens
    }

    /// The responder of an avatar.
    pub fn speaking_as(&self, name: &str, persona: &Persona) -> impl Responder + use<> {
        Speaking { endpoint: Arc::clone(&self.0), prompt: persona.prompt(name), temperature: persona.temperature }
    }
}

struct Speaking {
    endpoint: Arc<Endpoint>,
    prompt: String,
    temperature: Option<f64>,
}

/// How far a reply is.
enum Step {
    Ask(Arc<Endpoint>, Vec<u8>),
    Read(Box<Answer>),
}

impl Responder for Speaking {
    fn reply(&self, conversation: Vec<Message>) -> Reply {
        let body = self.body(conversation).to_string().into_bytes();
        let ask = Step::Ask(Arc::clone(&self.endpoint), body);
        Box::pin(stream::try_unfold(ask, |step| async move {
            let mut answer = match step {
                Step::Ask(endpoint, body) => Box::new(endpoint.ask(body).await?),
                Step::Read(answer) => answer,
            };
            Ok(answer.next().await?.map(|piece| (piece, Step::Read(answer))))
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
        let mut body = json!({"model": self.endpoint.settings.model, "messages": messages, "stream": true});
        // Some models accept their own temperature only, so none is sent unless the avatar asks for one.
        if let Some(temperature) = self.temperature {
            body["temperature"] = json!(temperature);
        }
        body
    }
}

impl Endpoint {
    async fn ask(&self, body: Vec<u8>) -> Result<Answer, DialogueError> {
        let deadline = Instant::now() + self.settings.first_token;
        let response = timeout_at(deadline, self.connect(body)).await.map_err(|_| self.no_first_token())??;
        if response.status().is_success() {
            return Ok(Answer::new(response, deadline, &self.settings));
        }
        Err(self.refused(response).await)
    }

    async fn connect(&self, body: Vec<u8>) -> Result<Response, DialogueError> {
        let mut wait = CONNECT_AGAIN_AFTER;
        for attempt in 1.. {
            let mut request = self.client.post(&self.url).header(CONTENT_TYPE, "application/json");
            if let Some(Key(key)) = &self.settings.key {
                request = request.bearer_auth(key);
            }
            let error = match request.header(ACCEPT, "text/event-stream").body(body.clone()).send().await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            // One that took the whole time to connect has had its chance.
            if attempt >= CONNECT_ATTEMPTS || !error.is_connect() || error.is_timeout() {
                let problem = if error.is_timeout() {
                    format!("no connection within {} s", self.settings.connect.as_secs_f32())
                } else {
                    cause(&error)
                };
                tracing::warn!(url = self.url, problem, "the language model cannot be reached");
                return Err(DialogueError::Unreachable { problem });
            }
            sleep(wait).await;
            wait *= 2;
        }
        Err(self.no_first_token())
    }

    fn no_first_token(&self) -> DialogueError {
        let seconds = self.settings.first_token.as_secs_f32();
        DialogueError::TooSlow { what: "did not begin to answer", seconds }
    }

    /// The provider's own words, as far as they come soon and are not long.
    async fn refused(&self, mut response: Response) -> DialogueError {
        let code = response.status();
        let retry_after =
            response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let mut body = Vec::new();
        let read = async {
            while body.len() < REFUSAL_BYTES
                && let Ok(Some(bytes)) = response.chunk().await
            {
                body.extend_from_slice(&bytes[..bytes.len().min(REFUSAL_BYTES - body.len())]);
            }
        };
        // What came in time is enough.
        let _ = timeout(REFUSAL_TIME, read).await;
        let words = words::of_refusal(&body, self.settings.key.as_ref());
        tracing::warn!(url = self.url, status = code.as_u16(), words, "the language model refuses");
        let status = code.to_string();
        match code {
            StatusCode::TOO_MANY_REQUESTS => DialogueError::RateLimited { status, words, retry_after_s: retry_after },
            _ => DialogueError::Refused { status, words },
        }
    }
}

/// A proxy that the environment names is not for this machine.
fn is_local(url: &str) -> bool {
    let Ok(url) = Url::parse(url) else { return false };
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The innermost reason; the outer ones only say that a request failed, and where.
fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
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
        };
        let endpoint = Llm::new(settings).unwrap().0;
        Speaking { endpoint, prompt: "You are Mika.".into(), temperature }
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

    #[test]
    fn a_key_is_never_shown() {
        let speaking = speaking(None);
        assert_eq!(speaking.endpoint.url, "http://127.0.0.1:1/v1/chat/completions");
        assert!(!format!("{:?}", speaking.endpoint).contains("secret"));
        assert_eq!(speaking.endpoint.settings.key, Some(Key("sk-secret".into())));
    }

    #[test]
    fn an_address_with_credentials_in_it_is_refused() {
        for good in ["http://127.0.0.1:8080/v1", "https://api.example.org/v1/", "http://[::1]:1"] {
            assert_eq!(check_url(good), Ok(()), "{good}");
        }
        for bad in ["", "localhost:8080", "ftp://h/v1", "http://u:p@h/v1", "http://h/v1?key=k", "/v1"] {
            assert!(check_url(bad).is_err(), "{bad}");
        }
    }
}
