//! The wire protocol, version 1: JSON text frames on `GET /ws`, whose field `type` says what they are.
//!
//! In here: one type per direction, reading and writing them, and what is wrong with a message that cannot be read.
//! Not in here: what a message does (`session`), sockets (`connection`), what SDP may hold (`media`).
//! Runs on: whichever task calls it; nothing here waits.
//!
//! # How a turn ends
//!
//! `text`, `speak` and `audio_start` begin a turn, and so does speech into a microphone. One that is refused is answered by
//! an `error` with the turn's `id` and no `utterance_id`, to the client that sent it. One that is taken gets an utterance,
//! and ends in exactly one of these two, told to all clients of the session:
//!
//! - `speech_ended`: it was spoken to its end, or it is `interrupted`. One that is cancelled before anything of it is heard,
//!   as one that still waits, has `spoken_ms` 0. So has one with nothing in it that can be spoken, which is not
//!   `interrupted`.
//! - `error` with `utterance_id`: something failed. It comes when what was made before the fault has been heard, and says as
//!   `speech_ended` does how much that was.
//!
//! Nothing more is told of an utterance after its end. A `fatal` error, or the end of the connection, ends all of them. An
//! `error` without `utterance_id` ends no turn: the mouth that could not be drawn while the voice goes on, the microphone
//! that was not understood. A client that reads too slowly is told by `missed` that it does not know everything.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::latency::Stages;
use crate::session::{AvatarInfo, CaptionWord, ErrorCode, IceCandidate, IceServer, Notice};

/// Sent in `session`; raised when a message changes in a way that an existing client would misread.
pub const PROTOCOL_VERSION: u32 = 1;

/// Longest message that is read, text and binary alike. An SDP offer of a browser has 3 to 10 kB.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// A message from a client. Fields that are not listed are refused, so that a misspelt one is not lost in silence.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ClientMessage {
    /// `{"type":"webrtc_offer","sdp":"v=0\r\n..."}`
    ///
    /// Answered by `webrtc_answer`. Another one on the same socket is answered by the peer that is there, if it comes from the
    /// same RTCPeerConnection; else by another peer that takes its place once it has answered. One that is refused, an ICE
    /// restart among them, changes nothing.
    WebrtcOffer { sdp: String },
    /// `{"type":"webrtc_ice_candidate","candidate":{"candidate":"candidate:1 1 UDP 2122 ...","sdpMid":"0","sdpMLineIndex":0,"usernameFragment":"q7Xb"}}`
    ///
    /// `null` instead of the object says that there are no more. May come before the answer, even before the offer.
    WebrtcIceCandidate {
        // Without this, serde takes an absent field for null, and a client that forgot it would never hear of it.
        #[serde(deserialize_with = "Option::deserialize")]
        candidate: Option<CandidateInit>,
    },
    /// `{"type":"text","content":"What is the time?","id":"turn-1"}`
    ///
    /// A user's turn: the language model, or what stands in for it, replies, and the reply is spoken. `id` may be left out.
    Text { content: String, id: Option<String> },
    /// `{"type":"speak","content":"Hello, my name is Anna.","id":"turn-2"}`
    ///
    /// Says exactly this. `id` may be left out.
    Speak { content: String, id: Option<String> },
    /// `{"type":"interrupt"}`
    Interrupt {},
    /// `{"type":"shown","utterance_id":"u-1","ms":412}`
    ///
    /// The frame that a `latency` message told of is on the client's screen, so many milliseconds after the turn began. For
    /// `/metrics`; the first client to say so counts, and nothing is answered.
    Shown { utterance_id: String, ms: u32 },
    /// `{"type":"push_to_talk","pressed":true}`
    ///
    /// The button to talk went down or up. While it is down the microphone's turn goes on through every pause; pressing
    /// it interrupts the avatar. Without it, turns begin and end with the voice.
    PushToTalk { pressed: bool },
    /// `{"type":"audio_start","sample_rate":16000,"id":"turn-3"}`
    ///
    /// A turn in the client's own voice, which moves the avatar's lips: followed by binary frames of 16-bit little-endian
    /// mono PCM, in real time, up to `audio_end`. It waits for its turn as `speak` does, and up to ninety seconds of its
    /// sound with it; each client of a session has a stream of its own. `id` may be left out.
    AudioStart { sample_rate: u32, id: Option<String> },
    /// `{"type":"audio_end"}`
    AudioEnd {},
    /// `{"type":"ping","sent_at":1234}`
    ///
    /// Any fields; `pong` has the same.
    Ping(Map<String, Value>),
}

/// A message to a client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerMessage {
    /// `{"type":"session","session_id":"s-1","protocol":1,"avatar":{"id":"anna","name":"Anna","width":512,"height":512,"fps":25},"ice_servers":[{"urls":["stun:stun.example.org"]}],"listens":true}`
    ///
    /// Always the first message. `ice_servers` is what the page gives to RTCPeerConnection. If it `listens`, the offer may
    /// have a microphone in its audio m-line (`sendrecv`); otherwise what comes there is thrown away.
    Session { session_id: String, protocol: u32, avatar: Avatar, ice_servers: Vec<IceServer>, listens: bool },
    /// `{"type":"webrtc_answer","sdp":"v=0\r\n..."}`
    ///
    /// Holds the server's host candidates already.
    WebrtcAnswer { sdp: String },
    /// `{"type":"webrtc_ice_candidate","candidate":{"candidate":"candidate:1 1 UDP 2015 ...","sdpMid":"0","sdpMLineIndex":0,"usernameFragment":null}}`
    ///
    /// What comes after the answer; `null` instead of the object after the last one.
    WebrtcIceCandidate { candidate: Option<CandidateInit> },
    /// `{"type":"text","content":"It is noon.","utterance_id":"u-1","final":true}`
    ///
    /// A piece of the reply, shown at once; the last one of an utterance, which may be empty, is `final`. `id` is the one the turn came with, absent if it had none.
    Text {
        content: String,
        utterance_id: String,
        #[serde(rename = "final")]
        is_final: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<String>,
    },
    /// `{"type":"transcript","role":"user","content":"What is the time?","final":true}`
    ///
    /// What somebody says into a microphone. Drafts come while it is being said, each instead of the one before; the last is
    /// `final`, and empty if it was no speech after all.
    Transcript {
        role: Role,
        content: String,
        #[serde(rename = "final")]
        is_final: bool,
    },
    /// `{"type":"speech_started","utterance_id":"u-1"}`
    SpeechStarted {
        utterance_id: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<String>,
    },
    /// `{"type":"caption","utterance_id":"u-1","sentence":0,"rtp_timestamp":96000,"words":[{"text":"It ","start_ms":0,"end_ms":180},{"text":"is ","start_ms":180,"end_ms":360}]}`
    ///
    /// A sentence is about to be heard. `rtp_timestamp` is that of the audio packet it begins with, at 48 kHz, the same for
    /// all viewers; null if nothing is sent yet. Words are timed from there. The same `sentence` comes again, when it is
    /// known better how long its words take.
    Caption { utterance_id: String, sentence: usize, rtp_timestamp: Option<u32>, words: Vec<CaptionWord> },
    /// `{"type":"latency","utterance_id":"u-1","rtp_timestamp":180000,"stages":{"first_token":52,"first_audio":140,"first_frame":270}}`
    ///
    /// The first lip-synced frame of an utterance has left. `rtp_timestamp` is that of its video packets, at 90 kHz, the same
    /// for all viewers; null if nothing is sent. `stages` are milliseconds since the turn began, with its text or with the
    /// end of the user's speech; a stage that the turn skipped is absent: `transcript` is there for speech only,
    /// `first_token` for replies only. Nothing of it comes where nobody watches, since then no mouth is drawn.
    Latency { utterance_id: String, rtp_timestamp: Option<u32>, stages: Stages },
    /// `{"type":"speech_ended","utterance_id":"u-1","interrupted":false,"spoken_ms":1240,"text_spoken":"It is noon."}`
    ///
    /// The end of a turn, with what was heard of it.
    SpeechEnded {
        utterance_id: String,
        interrupted: bool,
        spoken_ms: u64,
        text_spoken: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<String>,
    },
    /// `{"type":"error","code":"text_too_long","message":"the content of ...","fatal":false}`
    ///
    /// After `fatal` the server closes the socket. With `utterance_id` it is the end of that turn, and `spoken_ms` and
    /// `text_spoken` say what was heard of it. With `id` alone it refuses the turn of that `id`.
    Error {
        code: ErrorCode,
        message: String,
        fatal: bool,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        utterance_id: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        id: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        spoken_ms: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        text_spoken: Option<String>,
        /// Seconds after which another try may succeed, where that is known.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        retry_after_s: Option<u64>,
    },
    /// `{"type":"missed","count":12}`
    ///
    /// So many messages would have come here, and were left out because the client did not read in time. Turns may have begun
    /// or ended among them.
    Missed { count: u64 },
    /// `{"type":"pong","sent_at":1234}`
    Pong(Map<String, Value>),
}

/// Whose words a transcript holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    User,
}

/// The avatar of a session, in `session`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Avatar {
    pub id: String,
    /// What people call it.
    pub name: String,
    pub width: u32,
    pub height: u32,
    pub fps: u32,
}

/// RTCIceCandidateInit. Browsers add fields of their own (`foundation`, `address`, ...), so others are ignored here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CandidateInit {
    pub candidate: String,
    // Renamed one by one: camelCase of sdp_m_line_index is right only by luck of the underscores.
    #[serde(rename = "sdpMid")]
    pub sdp_mid: Option<String>,
    #[serde(rename = "sdpMLineIndex")]
    pub sdp_m_line_index: Option<u32>,
    #[serde(rename = "usernameFragment")]
    pub username_fragment: Option<String>,
}

/// Why a text frame is no message of this protocol.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    #[error("the message is not JSON ({reason}): send one JSON object with a field \"type\" per text frame")]
    NotJson { reason: String },
    #[error("there is no message type {given:?}: the types are {}", ClientMessage::TYPES.join(", "))]
    UnknownType { given: String },
    #[error("{place}: {reason}")]
    BadField { place: String, reason: String },
}

impl ProtocolError {
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::NotJson { .. } => ErrorCode::BadJson,
            Self::UnknownType { .. } => ErrorCode::UnknownType,
            Self::BadField { .. } => ErrorCode::BadMessage,
        }
    }
}

impl ClientMessage {
    /// Every `type` a client may send.
    pub const TYPES: [&str; 10] = [
        "webrtc_offer",
        "webrtc_ice_candidate",
        "text",
        "speak",
        "interrupt",
        "shown",
        "push_to_talk",
        "audio_start",
        "audio_end",
        "ping",
    ];

    /// Reads one text frame. Nesting deeper than 128 counts as not JSON, so no message can exhaust the stack.
    pub fn parse(text: &str) -> Result<Self, ProtocolError> {
        let message =
            serde_json::from_str(text).map_err(|error| ProtocolError::NotJson { reason: error.to_string() })?;
        let bad_type = |reason: &str| ProtocolError::BadField { place: "type".to_owned(), reason: reason.to_owned() };
        let Value::Object(mut fields) = message else {
            return Err(bad_type("the message is not a JSON object, so it has no field \"type\""));
        };
        let kind = match fields.remove("type") {
            Some(Value::String(kind)) => kind,
            Some(_) => return Err(bad_type("it has to be a string")),
            None => return Err(bad_type("the field is missing")),
        };
        if !Self::TYPES.contains(&kind.as_str()) {
            return Err(ProtocolError::UnknownType { given: clipped(&kind, 40) });
        }
        // {"TYPE": {fields}} is serde's plain form of an enum. Unlike a tagged enum it is read without buffering, which
        // would lose the path to the field that is wrong.
        let plain = Value::Object(Map::from_iter([(kind, Value::Object(fields))]));
        serde_path_to_error::deserialize(plain).map_err(|error| ProtocolError::BadField {
            // Both quote what came, which may be as long as a message.
            place: clipped(&error.path().to_string(), 100),
            reason: clipped(&error.inner().to_string(), 200),
        })
    }

    /// The `type`, for metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::WebrtcOffer { .. } => "webrtc_offer",
            Self::WebrtcIceCandidate { .. } => "webrtc_ice_candidate",
            Self::Text { .. } => "text",
            Self::Speak { .. } => "speak",
            Self::Interrupt {} => "interrupt",
            Self::Shown { .. } => "shown",
            Self::PushToTalk { .. } => "push_to_talk",
            Self::AudioStart { .. } => "audio_start",
            Self::AudioEnd {} => "audio_end",
            Self::Ping(_) => "ping",
        }
    }
}

impl ServerMessage {
    /// An error after which the socket stays open.
    pub fn error(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::of_error(code, message.into(), false)
    }

    /// An error that refuses a turn, with the client's own name of it.
    pub fn refusal(code: ErrorCode, message: impl Into<String>, turn: Option<String>) -> Self {
        let mut error = Self::error(code, message);
        if let Self::Error { id, .. } = &mut error {
            *id = turn;
        }
        error
    }

    /// An error after which the socket is closed.
    pub fn fatal(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::of_error(code, message.into(), true)
    }

    fn of_error(code: ErrorCode, message: String, fatal: bool) -> Self {
        let retry_after_s = code.retry_after().map(|after| after.as_secs());
        Self::Error {
            code,
            message,
            fatal,
            utterance_id: None,
            id: None,
            spoken_ms: None,
            text_spoken: None,
            retry_after_s,
        }
    }

    /// The JSON of one text frame.
    pub fn to_json(&self) -> String {
        // Only a map with keys that are not strings or a failing Serialize can fail here; neither exists in this type.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The `type`, for metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Session { .. } => "session",
            Self::WebrtcAnswer { .. } => "webrtc_answer",
            Self::WebrtcIceCandidate { .. } => "webrtc_ice_candidate",
            Self::Text { .. } => "text",
            Self::Transcript { .. } => "transcript",
            Self::SpeechStarted { .. } => "speech_started",
            Self::Caption { .. } => "caption",
            Self::Latency { .. } => "latency",
            Self::SpeechEnded { .. } => "speech_ended",
            Self::Error { .. } => "error",
            Self::Missed { .. } => "missed",
            Self::Pong(_) => "pong",
        }
    }
}

impl From<Notice> for ServerMessage {
    fn from(notice: Notice) -> Self {
        match notice {
            Notice::Text { content, utterance, id, is_final } => {
                Self::Text { content, utterance_id: utterance.to_string(), is_final, id }
            }
            Notice::Transcript { content, is_final } => Self::Transcript { role: Role::User, content, is_final },
            Notice::SpeechStarted { utterance, id } => Self::SpeechStarted { utterance_id: utterance.to_string(), id },
            Notice::Caption { utterance, sentence, rtp_timestamp, words } => {
                Self::Caption { utterance_id: utterance.to_string(), sentence, rtp_timestamp, words }
            }
            Notice::Latency { utterance, rtp_timestamp, stages } => {
                Self::Latency { utterance_id: utterance.to_string(), rtp_timestamp, stages }
            }
            Notice::SpeechEnded { utterance, id, interrupted, spoken_ms, text_spoken } => {
                Self::SpeechEnded { utterance_id: utterance.to_string(), interrupted, spoken_ms, text_spoken, id }
            }
            Notice::Failed { utterance, id, code, message, spoken_ms, text_spoken } => Self::Error {
                code,
                message,
                fatal: false,
                utterance_id: Some(utterance.to_string()),
                id,
                spoken_ms: Some(spoken_ms),
                text_spoken: Some(text_spoken),
                retry_after_s: code.retry_after().map(|after| after.as_secs()),
            },
            Notice::Error { code, message, fatal } => Self::of_error(code, message, fatal),
            Notice::Missed { count } => Self::Missed { count },
        }
    }
}

impl From<AvatarInfo> for Avatar {
    fn from(info: AvatarInfo) -> Self {
        Self { id: info.id.to_string(), name: info.name, width: info.width, height: info.height, fps: info.fps }
    }
}

impl From<IceCandidate> for CandidateInit {
    fn from(candidate: IceCandidate) -> Self {
        let IceCandidate { candidate, sdp_mid, sdp_m_line_index, username_fragment } = candidate;
        Self { candidate, sdp_mid, sdp_m_line_index, username_fragment }
    }
}

impl From<CandidateInit> for IceCandidate {
    fn from(candidate: CandidateInit) -> Self {
        let CandidateInit { candidate, sdp_mid, sdp_m_line_index, username_fragment } = candidate;
        Self { candidate, sdp_mid, sdp_m_line_index, username_fragment }
    }
}

/// The first characters of something that came from a client, for a message about it.
pub(super) fn clipped(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::ids::UtteranceId;

    fn parse(text: &str) -> ClientMessage {
        ClientMessage::parse(text).unwrap()
    }

    fn fault(text: &str) -> (ErrorCode, String) {
        let error = ClientMessage::parse(text).unwrap_err();
        (error.code(), error.to_string())
    }

    #[test]
    fn every_client_message_is_read_from_its_json() {
        let offer = parse(r#"{"type":"webrtc_offer","sdp":"v=0\r\n"}"#);
        assert_eq!(offer, ClientMessage::WebrtcOffer { sdp: "v=0\r\n".to_owned() });
        let candidate = parse(
            r#"{"type":"webrtc_ice_candidate","candidate":{"candidate":"candidate:1 1 UDP 2122 10.0.0.1 5000 typ host",
                "sdpMid":"0","sdpMLineIndex":1,"usernameFragment":"q7Xb"}}"#,
        );
        let expected = CandidateInit {
            candidate: "candidate:1 1 UDP 2122 10.0.0.1 5000 typ host".to_owned(),
            sdp_mid: Some("0".to_owned()),
            sdp_m_line_index: Some(1),
            username_fragment: Some("q7Xb".to_owned()),
        };
        assert_eq!(candidate, ClientMessage::WebrtcIceCandidate { candidate: Some(expected) });
        let text = parse(r#"{"type":"text","content":"Hi","id":"turn-1"}"#);
        assert_eq!(text, ClientMessage::Text { content: "Hi".to_owned(), id: Some("turn-1".to_owned()) });
        let speak = parse(r#"{"content":"你好 😀","type":"speak"}"#);
        assert_eq!(speak, ClientMessage::Speak { content: "你好 😀".to_owned(), id: None });
        assert_eq!(parse(r#"{"type":"interrupt"}"#), ClientMessage::Interrupt {});
        let shown = parse(r#"{"type":"shown","utterance_id":"u-1","ms":412}"#);
        assert_eq!(shown, ClientMessage::Shown { utterance_id: "u-1".to_owned(), ms: 412 });
        assert_eq!(parse(r#"{"type":"push_to_talk","pressed":true}"#), ClientMessage::PushToTalk { pressed: true });
        let start = parse(r#"{"type":"audio_start","sample_rate":16000}"#);
        assert_eq!(start, ClientMessage::AudioStart { sample_rate: 16_000, id: None });
        let start = parse(r#"{"type":"audio_start","sample_rate":8000,"id":"mine"}"#);
        assert_eq!(start, ClientMessage::AudioStart { sample_rate: 8_000, id: Some("mine".to_owned()) });
        assert_eq!(parse(r#"{"type":"audio_end"}"#), ClientMessage::AudioEnd {});
        let ClientMessage::Ping(fields) = parse(r#"{"type":"ping","n":1,"deep":{"a":[null]}}"#) else {
            panic!("not a ping");
        };
        assert_eq!(Value::Object(fields), json!({"n": 1, "deep": {"a": [null]}}));
    }

    #[test]
    fn every_type_that_an_error_lists_is_known_under_that_name() {
        for kind in ClientMessage::TYPES {
            match ClientMessage::parse(&json!({"type": kind}).to_string()) {
                Ok(message) => assert_eq!(message.kind(), kind),
                Err(error) => assert!(error.to_string().contains("missing field"), "{kind}: {error}"),
            }
        }
    }

    #[test]
    fn a_candidate_may_be_null_but_not_absent() {
        let last = parse(r#"{"type":"webrtc_ice_candidate","candidate":null}"#);
        assert_eq!(last, ClientMessage::WebrtcIceCandidate { candidate: None });
        let (code, message) = fault(r#"{"type":"webrtc_ice_candidate"}"#);
        assert_eq!(code, ErrorCode::BadMessage);
        assert!(message.contains("candidate"), "{message}");
    }

    #[test]
    fn fields_that_browsers_add_to_a_candidate_are_ignored() {
        let candidate = parse(
            r#"{"type":"webrtc_ice_candidate","candidate":{"candidate":"candidate:1","sdpMid":"0","sdpMLineIndex":0,
                "foundation":"1","component":"rtp","relatedAddress":null}}"#,
        );
        assert!(matches!(candidate, ClientMessage::WebrtcIceCandidate { candidate: Some(_) }));
    }

    #[test]
    fn a_wrong_field_is_named_with_its_path() {
        for (text, place) in [
            (r#"{"type":"webrtc_offer","sdp":5}"#, "webrtc_offer.sdp"),
            (r#"{"type":"webrtc_offer"}"#, "`sdp`"),
            (r#"{"type":"speak","content":["a"]}"#, "speak.content"),
            (r#"{"type":"speak","contents":"a"}"#, "`contents`"),
            (r#"{"type":"text","content":"a","id":7}"#, "text.id"),
            (r#"{"type":"audio_start","sample_rate":"16000"}"#, "audio_start.sample_rate"),
            (r#"{"type":"audio_start","sample_rate":-1}"#, "audio_start.sample_rate"),
            (r#"{"type":"interrupt","utterance":"u-1"}"#, "`utterance`"),
            (r#"{"type":"shown","utterance_id":"u-1","ms":-1}"#, "shown.ms"),
            (r#"{"type":"shown","utterance_id":"u-1","ms":1e300}"#, "shown.ms"),
            (
                r#"{"type":"webrtc_ice_candidate","candidate":{"candidate":"c","sdpMLineIndex":"0"}}"#,
                "webrtc_ice_candidate.candidate.sdpMLineIndex",
            ),
            (r#"{"type":"webrtc_ice_candidate","candidate":"candidate:1"}"#, "webrtc_ice_candidate.candidate"),
            (r#"{"type":7}"#, "type"),
            (r#"{"sdp":"v=0"}"#, "type"),
            (r#"["type"]"#, "type"),
            ("null", "type"),
        ] {
            let (code, message) = fault(text);
            assert_eq!(code, ErrorCode::BadMessage, "{text}");
            assert!(message.contains(place), "{text}: {message}");
        }
    }

    #[test]
    fn what_is_not_json_is_told_where_it_breaks() {
        for text in ["", "hello", "{", r#"{"type":"text","content":"a"#, "{'type':'ping'}", "\u{0}"] {
            let (code, message) = fault(text);
            assert_eq!(code, ErrorCode::BadJson, "{text}");
            assert!(message.contains("line 1 column"), "{message}");
        }
    }

    #[test]
    fn an_unknown_type_is_told_the_known_ones() {
        let (code, message) = fault(r#"{"type":"webrtc_ofer","sdp":"v=0"}"#);
        assert_eq!(code, ErrorCode::UnknownType);
        assert!(message.contains("webrtc_ofer") && message.contains("webrtc_offer, webrtc_ice_candidate"), "{message}");
    }

    #[test]
    fn an_error_quotes_no_more_than_a_line_of_what_came() {
        let long = "x".repeat(60_000);
        for message in [
            json!({"type": long}),
            json!({"type": "audio_start", "sample_rate": long}),
            json!({"type": "speak", "content": "a", &long: 1}),
        ] {
            assert!(fault(&message.to_string()).1.len() < 500);
        }
    }

    #[test]
    fn nesting_however_deep_is_refused_and_not_followed() {
        for depth in [200, 30_000] {
            let text = format!(r#"{{"type":"ping","deep":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
            assert_eq!(fault(&text).0, ErrorCode::BadJson);
        }
    }

    fn assert_json(message: impl Into<ServerMessage>, expected: &str) {
        let message = message.into();
        assert_eq!(message.to_json(), expected);
        assert_eq!(serde_json::from_str::<ServerMessage>(expected).unwrap(), message);
        assert!(expected.starts_with(&format!(r#"{{"type":"{}""#, message.kind())));
    }

    #[test]
    fn every_server_message_is_written_as_its_json() {
        assert_json(
            ServerMessage::Session {
                session_id: "s-1".to_owned(),
                protocol: PROTOCOL_VERSION,
                avatar: Avatar { id: "anna".to_owned(), name: "Anna".to_owned(), width: 512, height: 512, fps: 25 },
                ice_servers: vec![IceServer { urls: vec!["stun:h".to_owned()], username: None, credential: None }],
                listens: true,
            },
            r#"{"type":"session","session_id":"s-1","protocol":1,"avatar":{"id":"anna","name":"Anna","width":512,"height":512,"fps":25},"ice_servers":[{"urls":["stun:h"]}],"listens":true}"#,
        );
        assert_json(
            Notice::Transcript { content: "Hi".to_owned(), is_final: false },
            r#"{"type":"transcript","role":"user","content":"Hi","final":false}"#,
        );
        assert_json(
            ServerMessage::WebrtcAnswer { sdp: "v=0\r\n".to_owned() },
            r#"{"type":"webrtc_answer","sdp":"v=0\r\n"}"#,
        );
        let candidate = IceCandidate {
            candidate: "candidate:1".to_owned(),
            sdp_mid: None,
            sdp_m_line_index: Some(0),
            username_fragment: None,
        };
        assert_json(
            ServerMessage::WebrtcIceCandidate { candidate: Some(candidate.into()) },
            r#"{"type":"webrtc_ice_candidate","candidate":{"candidate":"candidate:1","sdpMid":null,"sdpMLineIndex":0,"usernameFragment":null}}"#,
        );
        assert_json(
            ServerMessage::WebrtcIceCandidate { candidate: None },
            r#"{"type":"webrtc_ice_candidate","candidate":null}"#,
        );
        assert_json(
            ServerMessage::error(ErrorCode::OfferWithoutMedia, "no m= line"),
            r#"{"type":"error","code":"offer_without_media","message":"no m= line","fatal":false}"#,
        );
        let Value::Object(fields) = json!({"n": 1}) else { panic!() };
        assert_json(ServerMessage::Pong(fields), r#"{"type":"pong","n":1}"#);
    }

    #[test]
    fn every_notice_is_written_as_its_json() {
        let utterance = UtteranceId::next();
        let id = Some("turn-1".to_owned());
        assert_json(
            Notice::Text { content: "Hi".to_owned(), utterance, id: id.clone(), is_final: true },
            &format!(r#"{{"type":"text","content":"Hi","utterance_id":"{utterance}","final":true,"id":"turn-1"}}"#),
        );
        assert_json(
            Notice::SpeechStarted { utterance, id: None },
            &format!(r#"{{"type":"speech_started","utterance_id":"{utterance}"}}"#),
        );
        let stages = Stages { first_audio: Some(140), first_frame: Some(270), ..Stages::default() };
        assert_json(
            Notice::Latency { utterance, rtp_timestamp: Some(180_000), stages },
            &format!(
                r#"{{"type":"latency","utterance_id":"{utterance}","rtp_timestamp":180000,"stages":{{"first_audio":140,"first_frame":270}}}}"#
            ),
        );
        let text_spoken = "Hi".to_owned();
        assert_json(
            Notice::SpeechEnded { utterance, id: None, interrupted: true, spoken_ms: 640, text_spoken },
            &format!(
                r#"{{"type":"speech_ended","utterance_id":"{utterance}","interrupted":true,"spoken_ms":640,"text_spoken":"Hi"}}"#
            ),
        );
        assert_json(
            Notice::Error { code: ErrorCode::SpeechFailed, message: "m".to_owned(), fatal: true },
            r#"{"type":"error","code":"speech_failed","message":"m","fatal":true}"#,
        );
        let text_spoken = "It is".to_owned();
        let (code, message) = (ErrorCode::SpeechFailed, "m".to_owned());
        assert_json(
            Notice::Failed { utterance, id: Some("turn-1".to_owned()), code, message, spoken_ms: 480, text_spoken },
            &format!(
                r#"{{"type":"error","code":"speech_failed","message":"m","fatal":false,"utterance_id":"{utterance}","id":"turn-1","spoken_ms":480,"text_spoken":"It is"}}"#
            ),
        );
        assert_json(
            ServerMessage::refusal(ErrorCode::Busy, "m", Some("turn-1".to_owned())),
            r#"{"type":"error","code":"busy","message":"m","fatal":false,"id":"turn-1"}"#,
        );
        assert_json(Notice::Missed { count: 12 }, r#"{"type":"missed","count":12}"#);
        let full = ServerMessage::error(ErrorCode::ServerFull, "m");
        let json = r#"{"type":"error","code":"server_full","message":"m","fatal":false,"retry_after_s":5}"#;
        assert_eq!(full.to_json(), json);
    }

    #[test]
    fn a_pong_has_the_fields_of_its_ping() {
        let ClientMessage::Ping(fields) = parse(r#"{"type":"ping","sent_at":12.5,"tag":"a"}"#) else { panic!() };
        let pong: Value = serde_json::from_str(&ServerMessage::Pong(fields).to_json()).unwrap();
        assert_eq!(pong, json!({"type": "pong", "sent_at": 12.5, "tag": "a"}));
    }

    proptest! {
        #[test]
        fn any_text_at_all_is_a_message_or_an_error(text in ".{0,200}") {
            let _ = ClientMessage::parse(&text);
        }

        #[test]
        fn any_fields_at_all_are_a_message_or_a_named_field(kind in 0..9usize, field in "[a-z]{1,8}", value in ".{0,40}") {
            let text = json!({"type": ClientMessage::TYPES[kind], &field: value}).to_string();
            if let Err(error) = ClientMessage::parse(&text) {
                prop_assert_eq!(error.code(), ErrorCode::BadMessage);
            }
        }
    }
}
