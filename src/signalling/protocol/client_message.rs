//! What a client sends, and what is wrong with a message that cannot be read.
//!
//! Runs on: whichever task calls it; nothing here waits.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{CandidateInit, clipped};
use crate::endpoint::Key;
use crate::session::{ErrorCode, OutputOrder};

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
    /// `{"type":"avatar","id":"anna"}`
    ///
    /// Another avatar takes the place of the one that is there, for all who watch the session and in the connections that they
    /// have. It is loaded while the one before goes on, and what is being said is said to its end in the voice that it began
    /// in. Answered by `avatar`, or by an `error`, and then the one before stays. Another one before that takes its place.
    Avatar { id: String },
    /// `{"type":"gesture","name":"nod"}`
    ///
    /// Has the avatar do one of its `gestures`. Answered only if it has no such gesture, by an `error` that names those it has.
    Gesture { name: String },
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
    /// `{"type":"output_start","kind":"rtmp","url":"rtmps://live.example.org/app/key"}`
    ///
    /// Has the session recorded (`record`), written (`hls`), pushed (`rtmp`, `srt`) or shown as a camera (`v4l2`), where the
    /// server allows that. `url` is for kinds that are pushed, `name` for those that are written. Answered by `outputs`, which
    /// all clients of the session are told, or by an `error`.
    OutputStart(OutputOrder),
    /// `{"type":"output_stop","output_id":"o-1"}`
    ///
    /// Answered by `outputs` when what it wrote is whole, or by an `error`.
    OutputStop { output_id: String },
    /// `{"type":"token","token":"eyJ0eXAi..."}`
    ///
    /// Who the client is, as its first message, where the server asks for tokens and the handshake had none. Nothing is
    /// answered but `session`, or a fatal `error`.
    Token { token: Key },
    /// `{"type":"ping","sent_at":1234}`
    ///
    /// Any fields; `pong` has the same.
    Ping(Map<String, Value>),
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
    pub const TYPES: [&str; 15] = [
        "webrtc_offer",
        "webrtc_ice_candidate",
        "text",
        "speak",
        "interrupt",
        "avatar",
        "gesture",
        "shown",
        "push_to_talk",
        "audio_start",
        "audio_end",
        "output_start",
        "output_stop",
        "token",
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
            Self::Avatar { .. } => "avatar",
            Self::Gesture { .. } => "gesture",
            Self::Shown { .. } => "shown",
            Self::PushToTalk { .. } => "push_to_talk",
            Self::AudioStart { .. } => "audio_start",
            Self::AudioEnd {} => "audio_end",
            Self::OutputStart(_) => "output_start",
            Self::OutputStop { .. } => "output_stop",
            Self::Token { .. } => "token",
            Self::Ping(_) => "ping",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::ServerMessage;
    use super::*;

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
        let token = parse(r#"{"type":"token","token":"abc"}"#);
        assert_eq!(token, ClientMessage::Token { token: Key::new("abc") });
        assert!(!format!("{token:?}").contains("abc"));
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
