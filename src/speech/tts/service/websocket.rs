//! A voice behind a WebSocket, with a protocol so small that any synthesiser can be put behind it in an hour.
//!
//! One connection a sentence. The first message goes up, as JSON: `{"text": ..., "voice": ..., "sample_rate": ...}`, where
//! `sample_rate` is a wish; `model` and `speed` (1 is the voice's own) are there if they were set. Down come
//! `{"sample_rate": ...}`, what it really is; then binary messages of 16-bit little-endian mono PCM, cut anywhere, as they
//! are made; then `{"done": true}`. A sound file in them is known by its first bytes and read as one (`response_audio`).
//! `{"error": "why"}` in place of any of them ends it. Fields that are not known are passed over. A connection that is
//! closed before `done` has broken off; one that we close was interrupted.
//!
//! In here: that, and every way in which it can go wrong. Not in here: what speaks instead (`fallback`).
//! Runs on: one tokio task per sentence (`service`).

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::CapacityError;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::http::header::{AUTHORIZATION, HeaderValue};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

use super::response_audio::ResponseAudio;
use super::{SentenceSink, Settings, ask, check_rate, fault, late, speed};
use crate::endpoint::{CONNECT_AGAIN_AFTER, CONNECT_ATTEMPTS, Key, words};
use crate::speech::{PcmStream, SpeechError, Tts, Voice};

/// What an address of such a voice begins with.
pub const SCHEME: &str = "ws://";
/// Longest message: more than twenty seconds of sound at once is no stream.
const MAX_MESSAGE: usize = 2 << 20;
/// How long the voice may take to answer the end of a connection.
const CLOSES_WITHIN: Duration = Duration::from_millis(100);

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A client of one voice, shared by all sessions; cheap to clone.
#[derive(Clone, Debug)]
pub struct WebSocketVoice(Arc<Settings>);

/// A text message from the voice.
#[derive(serde::Deserialize)]
struct ServerMessage {
    sample_rate: Option<u32>,
    #[serde(default)]
    done: bool,
    error: Option<String>,
}

impl WebSocketVoice {
    pub fn new(settings: Settings) -> Self {
        Self(Arc::new(settings))
    }
}

impl Tts for WebSocketVoice {
    /// Must be called within a tokio runtime. Text without anything to say gives a stream that ends at once.
    fn speak(&self, text: &str, voice: &Voice) -> Result<PcmStream, SpeechError> {
        let (settings, speed) = (Arc::clone(&self.0), speed(voice));
        ask(text, |text, sentence| async move {
            let asked = asked(&settings, &text, speed);
            speak(&settings, asked, sentence).await
        })
    }
}

fn asked(settings: &Settings, text: &str, speed: Option<f64>) -> String {
    let mut asked = json!({"text": text, "voice": settings.voice, "sample_rate": settings.sample_rate});
    if !settings.model.is_empty() {
        asked["model"] = json!(settings.model);
    }
    if let Some(speed) = speed {
        asked["speed"] = json!(speed);
    }
    asked.to_string()
}

async fn speak(settings: &Settings, asked: String, mut sentence: SentenceSink) -> Result<(), SpeechError> {
    let Settings { first_audio, next_audio, .. } = settings;
    let mut deadline = Instant::now() + *first_audio;
    let mut patience = *first_audio;
    let opened = async {
        let mut socket = connect(settings).await?;
        socket.send(Message::text(asked)).await.map_err(|error| broken(&error, settings))?;
        Ok::<Socket, SpeechError>(socket)
    };
    let mut socket = timeout_at(deadline, opened).await.map_err(|_| late(patience))??;
    let mut rate = None;
    let mut answer: Option<ResponseAudio> = None;
    loop {
        let message = timeout_at(deadline, socket.next()).await.map_err(|_| late(patience))?;
        match message.transpose().map_err(|error| broken(&error, settings))? {
            Some(Message::Binary(bytes)) => {
                let Some(rate) = rate else { return Err(fault("sent sound before its sample_rate")) };
                let answer = answer.get_or_insert_with(|| ResponseAudio::new(rate, None, settings.key.clone()));
                let Some((samples, rate)) = answer.push(&bytes)? else { continue };
                if !sentence.say(samples, rate).await? {
                    return Ok(());
                }
                // Counted from here: the reader takes its time.
                (patience, deadline) = (*next_audio, Instant::now() + *next_audio);
            }
            Some(Message::Text(text)) => {
                let told: ServerMessage = serde_json::from_str(&text)
                    .map_err(|_| fault("sent a text that is none of sample_rate, done and error"))?;
                if let Some(error) = told.error {
                    return Err(fault(&format!("broke off: {}", words::clean(&error, settings.key.as_ref()))));
                }
                match told.sample_rate.map(check_rate).transpose()? {
                    Some(new) if rate.is_some_and(|rate| rate != new) => {
                        return Err(fault("changed its sample_rate within a sentence"));
                    }
                    Some(new) => rate = Some(new),
                    None => {}
                }
                if told.done {
                    // Whether it hears the end of the connection is its own affair.
                    let _ = timeout(CLOSES_WITHIN, socket.close(None)).await;
                    let answer = answer.ok_or_else(|| fault("answered without a sound"))?;
                    return answer.finish(&mut sentence).await;
                }
            }
            Some(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
            Some(Message::Close(_)) | None => return Err(fault("broke off: it closed the connection before done")),
        }
    }
}

async fn connect(settings: &Settings) -> Result<Socket, SpeechError> {
    let config = WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
    let mut wait = CONNECT_AGAIN_AFTER;
    for attempt in 1.. {
        let connecting = connect_async_with_config(request(settings)?, Some(config), true);
        let problem = match timeout(settings.connect, connecting).await {
            Ok(Ok((socket, _))) => return Ok(socket),
            // Nothing was asked yet, so it may be tried again.
            Ok(Err(Error::Io(error))) if attempt < CONNECT_ATTEMPTS => {
                tracing::debug!(url = settings.url, %error, "the voice cannot be reached yet");
                sleep(wait).await;
                wait *= 2;
                continue;
            }
            Ok(Err(Error::Io(error))) => format!("cannot be reached: {error}"),
            Ok(Err(Error::Http(response))) => {
                let said = response.body().as_deref().map(|body| words::of_refusal(body, settings.key.as_ref()));
                format!("answers {}: {}", response.status(), said.unwrap_or_default())
            }
            Ok(Err(error)) => format!("speaks no WebSocket: {}", words::clean(&error.to_string(), None)),
            Err(_) => format!("cannot be reached: no connection within {} s", settings.connect.as_secs_f32()),
        };
        tracing::warn!(url = settings.url, problem, "the voice cannot be asked");
        return Err(fault(&problem));
    }
    Err(fault("cannot be reached"))
}

/// With the key, if there is one.
fn request(settings: &Settings) -> Result<Request, SpeechError> {
    let bad = |_| fault("has an address or a key that cannot be sent");
    let mut request = settings.url.as_str().into_client_request().map_err(bad)?;
    if let Some(bearer) = settings.key.as_ref().map(Key::bearer) {
        let bearer = HeaderValue::from_str(&bearer).map_err(|_| fault("has a key that cannot be sent"))?;
        request.headers_mut().insert(AUTHORIZATION, bearer);
    }
    Ok(request)
}

fn broken(error: &Error, settings: &Settings) -> SpeechError {
    let problem = match error {
        Error::Capacity(CapacityError::MessageTooLong { size, max_size }) => {
            format!("sent a message of {size} bytes, at most {max_size} are taken")
        }
        other => format!("broke off: {}", words::clean(&other.to_string(), settings.key.as_ref())),
    };
    fault(&problem)
}
