//! What a client is sent.
//!
//! Runs on: whichever task calls it; nothing here waits.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Avatar, CandidateInit, Role};
use crate::ids::SentenceId;
use crate::latency::Stages;
use crate::session::{CaptionWord, ErrorCode, IceServer, NetworkFigures, Notice};

/// A message to a client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerMessage {
    /// `{"type":"session","session_id":"s-1","protocol":1,"avatar":{"id":"anna","name":"Anna","width":512,"height":512,"fps":25,"gestures":["nod"]},"ice_servers":[{"urls":["stun:stun.example.org"]}],"listens":true}`
    ///
    /// Always the first message. `ice_servers` and, if it is there, `ice_transport_policy` (`"relay"`: by TURN only) are what
    /// the page gives to RTCPeerConnection. If it `listens`, the offer may
    /// have a microphone in its audio m-line (`sendrecv`); otherwise what comes there is thrown away.
    Session {
        session_id: String,
        protocol: u32,
        avatar: Avatar,
        ice_servers: Vec<IceServer>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ice_transport_policy: Option<String>,
        listens: bool,
    },
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
    /// `{"type":"stats","mouths":60,"mouths_left_out":24}`
    ///
    /// There was no time to draw all mouths of a sentence: so many of so many frames held the mouth before, while the sound
    /// went on. Told of each sentence of which that is so, when the last of it is drawn, and of the first one of which it is
    /// not any more.
    ///
    /// `{"type":"stats","network":{"rate_kbps":440,"lost":0.012,"round_trip_ms":48,"rung":"middle"}}`
    ///
    /// What the network to this viewer carries, told when it changed and every two seconds at most: what its picture has, the
    /// share of packets that were lost, the round trip if its receiver reports times, and the rung of the picture.
    Stats {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mouths: Option<u64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mouths_left_out: Option<u64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        network: Option<Network>,
    },
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
    /// `{"type":"avatar","id":"anna","name":"Anna","width":512,"height":512,"fps":25,"gestures":["nod"]}`
    ///
    /// Another avatar is seen from now on, which somebody asked for. Its pictures may be of another size; the connections go on.
    /// The next turn is in its voice.
    Avatar(Avatar),
    /// `{"type":"outputs","outputs":[{"id":"o-1","kind":"record","target":"talk.mp4","state":"live","message":null,"frames":250,"dropped":0,"reconnects":0}]}`
    ///
    /// The session's outputs, whenever one of them is in another state; only where clients may start and stop them.
    Outputs { outputs: Vec<Value> },
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

/// What the network to a viewer carries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Network {
    pub rate_kbps: u32,
    /// From 0 to 1.
    pub lost: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_trip_ms: Option<u32>,
    /// `full`, `middle` or `low`.
    pub rung: String,
}

impl ServerMessage {
    /// What a peer tells of its network.
    pub fn of_network(figures: &NetworkFigures) -> Self {
        let network = Network {
            rate_kbps: figures.rate_kbps,
            lost: f64::from(figures.lost_permille) / 1000.0,
            round_trip_ms: figures.round_trip_ms,
            rung: figures.rung.to_owned(),
        };
        Self::Stats { mouths: None, mouths_left_out: None, network: Some(network) }
    }

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
            Self::Stats { .. } => "stats",
            Self::SpeechEnded { .. } => "speech_ended",
            Self::Avatar(_) => "avatar",
            Self::Outputs { .. } => "outputs",
            Self::Error { .. } => "error",
            Self::Missed { .. } => "missed",
            Self::Pong(_) => "pong",
        }
    }
}

impl From<Notice> for ServerMessage {
    fn from(notice: Notice) -> Self {
        match notice {
            Notice::Text { delta, utterance, id, is_final } => {
                Self::Text { content: delta, utterance_id: utterance.to_string(), is_final, id }
            }
            Notice::Transcript { content, is_final } => Self::Transcript { role: Role::User, content, is_final },
            Notice::SpeechStarted { utterance, id } => Self::SpeechStarted { utterance_id: utterance.to_string(), id },
            Notice::Caption { sentence: SentenceId { utterance, number }, rtp_timestamp, words } => {
                Self::Caption { utterance_id: utterance.to_string(), sentence: number, rtp_timestamp, words }
            }
            Notice::Latency { utterance, rtp_timestamp, stages } => {
                Self::Latency { utterance_id: utterance.to_string(), rtp_timestamp, stages }
            }
            Notice::Stats { mouths, mouths_left_out } => {
                Self::Stats { mouths: Some(mouths), mouths_left_out: Some(mouths_left_out), network: None }
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
            Notice::Avatar(avatar) => Self::Avatar(avatar.into()),
            Notice::Outputs(outputs) => Self::Outputs {
                outputs: outputs.iter().filter_map(|output| serde_json::to_value(output).ok()).collect(),
            },
            Notice::Error { code, message, fatal } => Self::of_error(code, message, fatal),
            Notice::Missed { count } => Self::Missed { count },
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::PROTOCOL_VERSION;
    use super::*;
    use crate::ids::UtteranceId;
    use crate::session::{AvatarInfo, IceCandidate};

    fn assert_json(message: impl Into<ServerMessage>, expected: &str) {
        let message = message.into();
        assert_eq!(message.to_json(), expected);
        assert_eq!(serde_json::from_str::<ServerMessage>(expected).unwrap(), message);
        assert!(expected.starts_with(&format!(r#"{{"type":"{}""#, message.kind())));
    }

    fn anna() -> AvatarInfo {
        let gestures = vec!["nod".to_owned()];
        let (id, name) = ("anna".parse().unwrap(), "Anna".to_owned());
        AvatarInfo { id, name, width: 512, height: 512, fps: 25, matte: None, gestures }
    }

    #[test]
    fn every_server_message_is_written_as_its_json() {
        assert_json(
            ServerMessage::Session {
                session_id: "s-1".to_owned(),
                protocol: PROTOCOL_VERSION,
                avatar: anna().into(),
                ice_servers: vec![IceServer { urls: vec!["stun:h".to_owned()], username: None, credential: None }],
                ice_transport_policy: Some("relay".to_owned()),
                listens: true,
            },
            r#"{"type":"session","session_id":"s-1","protocol":1,"avatar":{"id":"anna","name":"Anna","width":512,"height":512,"fps":25,"gestures":["nod"]},"ice_servers":[{"urls":["stun:h"]}],"ice_transport_policy":"relay","listens":true}"#,
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
            Notice::Text { delta: "Hi".to_owned(), utterance, id: id.clone(), is_final: true },
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
        assert_json(
            Notice::Avatar(anna()),
            r#"{"type":"avatar","id":"anna","name":"Anna","width":512,"height":512,"fps":25,"gestures":["nod"]}"#,
        );
        assert_json(
            Notice::Stats { mouths: 60, mouths_left_out: 24 },
            r#"{"type":"stats","mouths":60,"mouths_left_out":24}"#,
        );
        let figures = NetworkFigures { rate_kbps: 440, lost_permille: 12, round_trip_ms: Some(48), rung: "middle" };
        assert_json(
            ServerMessage::of_network(&figures),
            r#"{"type":"stats","network":{"rate_kbps":440,"lost":0.012,"round_trip_ms":48,"rung":"middle"}}"#,
        );
        assert_json(Notice::Missed { count: 12 }, r#"{"type":"missed","count":12}"#);
        let full = ServerMessage::error(ErrorCode::ServerFull, "m");
        let json = r#"{"type":"error","code":"server_full","message":"m","fatal":false,"retry_after_s":5}"#;
        assert_eq!(full.to_json(), json);
    }
}
