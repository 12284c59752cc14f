//! Tests of the signalling of one socket, as lists of inputs and what comes of them: turns, faults and ends here, offers
//! and candidates in `offers`.

mod offers;

use proptest::prelude::*;
use serde_json::json;

use super::super::limits::ID_CHARACTERS;
use super::*;
use crate::ids::UtteranceId;
use crate::session::TEXT_CHARACTERS;

/// A client and its signalling, with a clock that only the test moves.
#[derive(Default)]
struct Client {
    signalling: ClientState,
    now: Duration,
}

impl Client {
    fn give(&mut self, input: Input<'_>) -> Vec<Output> {
        let mut out = Vec::new();
        self.signalling.handle(self.now, input, &mut out);
        out
    }

    fn says(&mut self, message: serde_json::Value) -> Vec<Output> {
        self.give(Input::Text(&message.to_string()))
    }

    fn offers(&mut self) -> Vec<Output> {
        self.says(json!({"type": "webrtc_offer", "sdp": "v=0"}))
    }

    fn sends_candidate(&mut self, number: usize) -> Vec<Output> {
        self.says(json!({"type": "webrtc_ice_candidate", "candidate": {"candidate": line(number), "sdpMid": "0"}}))
    }

    fn speaks(&mut self, content: &str) -> Vec<Output> {
        self.says(json!({"type": "speak", "content": content}))
    }

    fn is_answered(&mut self, offer: u64) -> Vec<Output> {
        self.give(Input::PeerOpened { offer: OfferNumber(offer), answer: Ok("v=0 answer".to_owned()) })
    }

    fn renegotiates(&mut self, offer: u64, answer: Result<(), Refusal>) -> Vec<Output> {
        let answer = answer.map(|()| "v=0 answer".to_owned());
        self.give(Input::Renegotiated { offer: OfferNumber(offer), answer })
    }

    fn is_refused(&mut self, offer: u64) -> Vec<Output> {
        let error = Refusal { code: ErrorCode::BadSdp, message: "no SDP".to_owned() };
        self.give(Input::PeerOpened { offer: OfferNumber(offer), answer: Err(error) })
    }

    fn peer_says(&mut self, offer: u64, event: PeerEvent) -> Vec<Output> {
        self.give(Input::PeerEvent { offer: OfferNumber(offer), event })
    }

    /// Still served as on the first day.
    fn assert_served(&mut self) {
        self.now += Duration::from_secs(60);
        assert_eq!(self.speaks("Hello."), [Output::Submit(Turn::Text, speak("Hello."))]);
    }
}

fn line(number: usize) -> String {
    format!("candidate:{number} 1 UDP 2122 10.0.0.1 5000 typ host")
}

fn candidate(number: usize) -> IceCandidate {
    let sdp_mid = Some("0".to_owned());
    IceCandidate { candidate: line(number), sdp_mid, sdp_m_line_index: None, username_fragment: None }
}

fn speak(content: &str) -> Command {
    Command::Speak { text: content.to_owned(), id: None }
}

fn open(offer: u64) -> Output {
    Output::OpenPeer { offer: OfferNumber(offer), sdp: "v=0".to_owned() }
}

fn answer() -> Output {
    Output::Send(ServerMessage::WebrtcAnswer { sdp: "v=0 answer".to_owned() })
}

/// The error that is the only output.
#[track_caller]
fn the_error(out: &[Output]) -> (ErrorCode, &str) {
    match out {
        [Output::Send(ServerMessage::Error { code, message, fatal: false, .. })] => (*code, message),
        other => panic!("not one error: {other:?}"),
    }
}

#[test]
fn turns_reach_the_session_as_they_came() {
    let mut client = Client::default();
    let text = Command::Text { text: "😀 hi\u{7}".to_owned(), id: Some("a".to_owned()) };
    let out = client.says(json!({"type": "text", "content": "😀 hi\u{7}", "id": "a"}));
    assert_eq!(out, [Output::Submit(Turn::Text, text)]);
    assert_eq!(client.speaks("Hello."), [Output::Submit(Turn::Text, speak("Hello."))]);
    assert_eq!(client.says(json!({"type": "interrupt"})), [Output::Submit(Turn::Text, Command::Interrupt)]);
}

#[test]
fn what_a_viewer_says_it_was_shown_reaches_the_session_if_it_names_an_utterance() {
    let mut client = Client::default();
    let utterance = UtteranceId::next();
    let shown = Command::Shown { utterance, after: Duration::from_millis(412) };
    let out = client.says(json!({"type": "shown", "utterance_id": utterance.to_string(), "ms": 412}));
    assert_eq!(out, [Output::Submit(Turn::Text, shown)]);
    assert_eq!(client.says(json!({"type": "shown", "utterance_id": "\u{0}", "ms": 412})), []);
    client.assert_served();
}

#[test]
fn another_avatar_and_a_gesture_reach_the_session_if_they_can_be_names() {
    let mut client = Client::default();
    let anna = "anna".parse().unwrap();
    assert_eq!(client.says(json!({"type": "avatar", "id": "anna"})), [Output::SwapAvatar(anna)]);
    let nod = Command::Gesture { name: "nod".to_owned() };
    assert_eq!(client.says(json!({"type": "gesture", "name": "nod"})), [Output::Submit(Turn::Text, nod)]);
    for (message, code) in [
        (json!({"type": "avatar", "id": "../anna"}), ErrorCode::UnknownAvatar),
        (json!({"type": "avatar"}), ErrorCode::BadMessage),
        (json!({"type": "gesture", "name": "n".repeat(ID_CHARACTERS + 1)}), ErrorCode::BadMessage),
    ] {
        assert_eq!(the_error(&client.says(message)).0, code);
    }
}

#[test]
fn a_turn_without_anything_to_say_is_an_error() {
    let mut client = Client::default();
    for empty in ["", " \n\t", "\u{0}\u{7}\u{1b}", "\u{3000}"] {
        assert_eq!(the_error(&client.speaks(empty)).0, ErrorCode::NothingToSay, "{empty:?}");
    }
    client.assert_served();
}

#[test]
fn a_turn_that_is_too_long_is_an_error_with_the_limit() {
    let mut client = Client::default();
    let out = client.speaks(&"é".repeat(TEXT_CHARACTERS));
    assert!(matches!(out[..], [Output::Submit(..)]), "the limit is in characters");
    let out = client.speaks(&"a".repeat(TEXT_CHARACTERS + 1));
    let (code, message) = the_error(&out);
    assert_eq!(code, ErrorCode::TextTooLong);
    assert!(message.contains("10000"), "{message}");
    let out = client.speaks(&"a".repeat(100_000));
    let (code, message) = the_error(&out);
    assert_eq!(code, ErrorCode::MessageTooLong);
    assert!(message.contains("65536"), "{message}");
    let out = client.says(json!({"type": "speak", "content": "a", "id": "i".repeat(ID_CHARACTERS + 1)}));
    assert_eq!(the_error(&out).0, ErrorCode::BadMessage);
    client.assert_served();
}

#[test]
fn what_cannot_be_read_is_an_error_and_the_socket_stays() {
    let mut client = Client::default();
    assert_eq!(the_error(&client.give(Input::Text("hello"))).0, ErrorCode::BadJson);
    assert_eq!(the_error(&client.says(json!({"type": "dance"}))).0, ErrorCode::UnknownType);
    assert_eq!(the_error(&client.says(json!({"type": "speak", "content": 1}))).0, ErrorCode::BadMessage);
    client.assert_served();
}

#[test]
fn too_many_messages_are_told_once_and_ignored() {
    let mut client = Client::default();
    let out: Vec<Output> = (0..1_000).flat_map(|_| client.says(json!({"type": "ping"}))).collect();
    let pongs = out.iter().filter(|output| matches!(output, Output::Send(ServerMessage::Pong(_)))).count();
    assert_eq!((pongs, out.len()), (100, 101));
    assert_eq!(the_error(&out[100..]).0, ErrorCode::TooManyMessages);
    client.assert_served();
}

#[test]
fn bytes_that_are_no_messages_are_answered_no_more_often_than_messages() {
    let mut client = Client::default();
    let out: Vec<Output> = (0..1_000).flat_map(|_| client.give(Input::Text("\u{fffd}"))).collect();
    assert_eq!(out.len(), 101);
    client.assert_served();
}

#[test]
fn audio_reaches_the_session_until_it_takes_no_more() {
    let mut client = Client::default();
    assert_eq!(the_error(&client.give(Input::Binary(&[1, 2]))).0, ErrorCode::AudioNotStarted);
    let start = Command::AudioStart { sample_rate: 16_000, id: None };
    let out = client.says(json!({"type": "audio_start", "sample_rate": 16_000}));
    assert_eq!(out, [Output::Submit(Turn::AudioStart, start)]);
    let out = client.give(Input::Binary(&[1, 0]));
    assert_eq!(out, [Output::Submit(Turn::Audio, Command::Audio(vec![1]))]);
    assert_eq!(the_error(&client.give(Input::Binary(&[0; 65_538]))).0, ErrorCode::MessageTooLong);
    let busy = Refusal { code: ErrorCode::Busy, message: "the queue is full".to_owned() };
    let out = client.give(Input::Refused { turn: Turn::Audio, id: None, refusal: busy });
    assert_eq!(the_error(&out).0, ErrorCode::Busy);
    assert_eq!(client.give(Input::Binary(&[0; 640])), [], "and is not told again");
    assert_eq!(client.says(json!({"type": "audio_end"})), [Output::Submit(Turn::Text, Command::AudioEnd)]);
    assert_eq!(the_error(&client.says(json!({"type": "audio_end"}))).0, ErrorCode::AudioNotStarted);
}

#[test]
fn a_turn_that_is_refused_is_named_by_the_clients_own_id() {
    let mut client = Client::default();
    let named = |out: Vec<Output>| match &out[..] {
        [Output::Send(ServerMessage::Error { id, utterance_id: None, .. })] => id.clone(),
        other => panic!("not one refusal: {other:?}"),
    };
    let mine = Some("mine".to_owned());
    assert_eq!(named(client.says(json!({"type": "speak", "content": " ", "id": "mine"}))), mine);
    let long = "a".repeat(TEXT_CHARACTERS + 1);
    assert_eq!(named(client.says(json!({"type": "text", "content": long, "id": "mine"}))), mine);
    assert_eq!(named(client.says(json!({"type": "audio_start", "sample_rate": 1, "id": "mine"}))), mine);
    let id = "i".repeat(ID_CHARACTERS + 1);
    assert_eq!(named(client.says(json!({"type": "text", "content": "a", "id": id}))), None, "too long to come back");
    assert_eq!(named(client.says(json!({"type": "audio_start", "sample_rate": 16_000, "id": id}))), None);
    assert_eq!(the_error(&client.give(Input::Binary(&[1, 2]))).0, ErrorCode::AudioNotStarted);
    let error = Refusal { code: ErrorCode::Busy, message: "8 turns are waiting".to_owned() };
    assert_eq!(named(client.give(Input::Refused { turn: Turn::Text, id: mine.clone(), refusal: error })), mine);
}

#[test]
fn a_flood_of_audio_is_told_once() {
    let mut client = Client::default();
    client.says(json!({"type": "audio_start", "sample_rate": 16_000}));
    let out: Vec<Output> = (0..1_000).flat_map(|_| client.give(Input::Binary(&[0, 0]))).collect();
    assert_eq!(out.len(), 401);
    assert_eq!(the_error(&out[400..]).0, ErrorCode::TooManyMessages);
    client.assert_served();
}

#[test]
fn a_client_that_goes_leaves_no_peer_and_no_open_audio() {
    let mut client = Client::default();
    client.offers();
    client.says(json!({"type": "audio_start", "sample_rate": 16_000}));
    let expected = [Output::GiveUpOffer, Output::Submit(Turn::Text, Command::AudioEnd)];
    assert_eq!(client.give(Input::Disconnected), expected);
    assert_eq!(client.give(Input::Tick), []);
    assert_eq!(client.is_answered(1), []);
}

#[test]
fn notices_are_forwarded_and_a_fatal_one_closes() {
    let mut client = Client::default();
    let utterance = UtteranceId::next();
    let out = client.give(Input::Notice(Notice::SpeechStarted { utterance, id: None }));
    assert!(matches!(out[..], [Output::Send(ServerMessage::SpeechStarted { .. })]));
    let notice = |fatal| Notice::Error { code: ErrorCode::LipSyncFailed, message: "m".to_owned(), fatal };
    assert_eq!(the_error(&client.give(Input::Notice(notice(false)))).0, ErrorCode::LipSyncFailed);
    client.assert_served();
    let out = client.give(Input::Notice(notice(true)));
    assert!(matches!(out[..], [Output::Send(_), Output::Close(CloseReason::SessionFailed)]), "{out:?}");
}

#[test]
fn an_end_from_outside_is_told_before_the_socket_closes() {
    for (input, code, reason) in [
        (Input::Shutdown, ErrorCode::ShuttingDown, CloseReason::GoingAway),
        (Input::SessionEnded, ErrorCode::ShuttingDown, CloseReason::GoingAway),
        (Input::Unreadable(Unreadable::TooLong { bytes: 10_000_000 }), ErrorCode::MessageTooLong, CloseReason::TooLong),
        (Input::Unreadable(Unreadable::NotUtf8), ErrorCode::BadJson, CloseReason::NotUtf8),
    ] {
        let mut client = Client::default();
        client.offers();
        client.is_answered(1);
        match &client.give(input)[..] {
            [
                Output::Send(ServerMessage::Error { code: told, fatal: true, .. }),
                Output::ClosePeer,
                Output::Close(closed),
            ] => assert_eq!((*told, *closed), (code, reason)),
            other => panic!("{other:?}"),
        }
    }
}

proptest! {
    /// Whatever a client and a peer do in whatever order: a peer is taken only where an offer is in hand, candidates go only
    /// to a peer, and nothing comes after the close.
    #[test]
    fn any_order_of_inputs_keeps_the_rules(inputs in prop::collection::vec((0..13u8, 0..4u64), 0..200)) {
        let mut client = Client::default();
        let (mut exists, mut opening, mut closed) = (false, false, false);
        for (kind, number) in inputs {
            client.now += Duration::from_millis(number * 700);
            let out = match kind {
                0 | 1 => client.offers(),
                2 | 3 => client.is_answered(number),
                4 => client.sends_candidate(1),
                5 => client.peer_says(number, PeerEvent::Connected),
                6 => client.peer_says(number, PeerEvent::Closed { reason: String::new() }),
                7 => client.give(Input::Binary(&[1, 2])),
                8 => client.says(json!({"type": "audio_start", "sample_rate": 16_000})),
                9 => client.give(Input::Tick),
                10 => client.speaks("Hello."),
                11 if exists => client.renegotiates(number, Ok(())),
                _ if number == 3 => client.give(Input::Disconnected),
                _ => client.says(json!({"type": "audio_end"})),
            };
            for output in out {
                prop_assert!(!closed);
                match output {
                    Output::OpenPeer { .. } => opening = true,
                    Output::GiveUpOffer => prop_assert!(std::mem::replace(&mut opening, false)),
                    Output::TakePeer => {
                        prop_assert!(opening);
                        exists = true;
                    }
                    Output::ClosePeer => prop_assert!(std::mem::replace(&mut exists, false)),
                    Output::Send(ServerMessage::WebrtcAnswer { .. }) => {
                        prop_assert!(exists && std::mem::replace(&mut opening, false));
                    }
                    Output::AddCandidate(_) => prop_assert!(exists),
                    Output::Close(_) => closed = true,
                    _ => {}
                }
            }
        }
    }
}
