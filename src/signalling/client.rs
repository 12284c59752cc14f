//! What one client may do when: the signalling of one socket as a pure state machine.
//!
//! In here: what a client sends, turns, what happens to a client that goes over a limit (`limits`). In `offers` its
//! offers, the peer they lead to and candidates that come early.
//! Not in here: sockets (`client_task`), a clock (time since the socket opened is an argument), peers and speech.
//! Runs on: the task of its socket. Inputs go in, outputs come out in the order in which they are to be carried out;
//! so any fault of a client can be replayed as a list of inputs.

mod offers;

use std::time::Duration;

use super::audio_turns::AudioTurns;
use super::handshake::avatar_id;
use super::limits::{
    IGNORED_BEFORE_CLOSE, Taken, TokenBucket, audio_frames, check_gesture, check_id, check_turn, messages, offers,
};
use super::protocol::{ClientMessage, MAX_MESSAGE_BYTES, ServerMessage};
use crate::ids::AvatarId;
use crate::session::{Command, ErrorCode, IceCandidate, Notice, OutputOrder, PeerEvent, Refusal};

/// Which of a socket's offers something belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OfferNumber(u64);

/// What happens to a client.
#[derive(Debug)]
pub enum Input<'a> {
    /// A text frame, whatever it holds.
    Text(&'a str),
    /// A binary frame, whatever it holds.
    Binary(&'a [u8]),
    /// What came cannot be read as frames; nothing more can be read from the socket.
    Unreadable(Unreadable),
    /// What became of `Output::OpenPeer`: the answer of a new peer, which `Output::TakePeer` puts in its place.
    PeerOpened {
        offer: OfferNumber,
        answer: Result<String, Refusal>,
    },
    /// The other outcome of `Output::OpenPeer`: the peer that is there has answered the offer, or refused it and goes on.
    Renegotiated {
        offer: OfferNumber,
        answer: Result<String, Refusal>,
    },
    /// To be given in only after `PeerOpened`: a browser cannot use candidates before the answer.
    PeerEvent {
        offer: OfferNumber,
        event: PeerEvent,
    },
    Notice(Notice),
    /// The session did not take a command. `id` is the client's own name of the turn, if it had one.
    Refused {
        turn: Turn,
        id: Option<String>,
        refusal: Refusal,
    },
    /// The session is gone and will send no more notices.
    SessionEnded,
    /// About once a second.
    Tick,
    /// The server is going down.
    Shutdown,
    /// The client is gone.
    Disconnected,
}

/// Why nothing more can be read from a socket.
#[derive(Debug, PartialEq, Eq)]
pub enum Unreadable {
    TooLong { bytes: usize },
    NotUtf8,
    Violation { reason: String },
}

/// Whether a command belongs to a turn of text or to the client's own audio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    Text,
    AudioStart,
    Audio,
}

/// What is to be done about it, in order.
#[derive(Debug, PartialEq)]
#[expect(
    clippy::enum_variant_names,
    reason = "an output of the session is another thing than what this machine puts out"
)]
pub enum Output {
    Send(ServerMessage),
    /// Drop the peer, if there is one.
    ClosePeer,
    /// Have an offer answered, by the peer that is there or by another one; in place of an offer that is still in hand.
    OpenPeer {
        offer: OfferNumber,
        sdp: String,
    },
    /// Give up the offer in hand.
    GiveUpOffer,
    /// The peer that has just been opened takes the place of the one before, which is dropped.
    TakePeer,
    AddCandidate(IceCandidate),
    PushToTalk {
        is_pressed: bool,
    },
    /// Have another avatar loaded and take over, in place of one that is still in hand.
    SwapAvatar(AvatarId),
    Submit(Turn, Command),
    /// Start an output of the session's.
    StartOutput(OutputOrder),
    /// Stop the output of this id.
    StopOutput(String),
    /// Close the socket; nothing comes after this.
    Close(CloseReason),
}

/// Status codes of RFC 6455, section 7.4.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    GoingAway,
    ProtocolViolation,
    NotUtf8,
    Policy,
    TooLong,
    SessionFailed,
}

impl CloseReason {
    pub fn status(self) -> u16 {
        match self {
            Self::GoingAway => 1001,
            Self::ProtocolViolation => 1002,
            Self::NotUtf8 => 1007,
            Self::Policy => 1008,
            Self::TooLong => 1009,
            Self::SessionFailed => 1011,
        }
    }
}

#[derive(Debug)]
enum PeerState {
    None,
    /// Answered; ICE and DTLS are under way.
    Connecting {
        since: Duration,
    },
    Connected,
}

/// What one client may do next.
#[derive(Debug)]
pub struct ClientState {
    /// The latest offer.
    offer: OfferNumber,
    /// When it was made, while it is in hand.
    opening: Option<Duration>,
    peer: PeerState,
    /// The offer that the peer came of: events of others are late.
    peer_offer: OfferNumber,
    /// Candidates that came before the peer they are for.
    held: Vec<IceCandidate>,
    /// Candidates taken since the latest offer, held ones included.
    candidates: usize,
    too_many_candidates_told: bool,
    audio: AudioTurns,
    messages: TokenBucket,
    offers: TokenBucket,
    audio_frames: TokenBucket,
    ignored: u32,
    received: Option<&'static str>,
    closed: bool,
}

impl Default for ClientState {
    fn default() -> Self {
        Self {
            offer: OfferNumber::default(),
            opening: None,
            peer: PeerState::None,
            peer_offer: OfferNumber::default(),
            held: Vec::new(),
            candidates: 0,
            too_many_candidates_told: false,
            audio: AudioTurns::default(),
            messages: messages(),
            offers: offers(),
            audio_frames: audio_frames(),
            ignored: 0,
            received: None,
            closed: false,
        }
    }
}

impl ClientState {
    /// Takes one input at `now`, the time since the socket opened, and appends what is to be done about it.
    pub fn handle(&mut self, now: Duration, input: Input<'_>, out: &mut Vec<Output>) {
        if self.closed {
            return;
        }
        match input {
            Input::Text(text) => self.text_frame(now, text, out),
            Input::Binary(bytes) => self.binary_frame(now, bytes, out),
            Input::Unreadable(unreadable) => self.unreadable(unreadable, out),
            Input::PeerOpened { offer, answer } => self.peer_opened(now, offer, answer, out),
            Input::Renegotiated { offer, answer } => self.renegotiated(offer, answer, out),
            Input::PeerEvent { offer, event } => self.peer_event(offer, event, out),
            Input::Notice(Notice::Error { code, message, fatal: true }) => {
                let reason = match code {
                    ErrorCode::ShuttingDown => CloseReason::GoingAway,
                    ErrorCode::TokenEnded => CloseReason::Policy,
                    _ => CloseReason::SessionFailed,
                };
                self.fatal(code, message, reason, out);
            }
            Input::Notice(notice) => out.push(Output::Send(notice.into())),
            Input::Refused { turn, id, refusal } => self.refused(turn, id, refusal, out),
            Input::SessionEnded => {
                let message = "the session has ended: connect again for a new one";
                self.fatal(ErrorCode::ShuttingDown, message, CloseReason::GoingAway, out);
            }
            Input::Tick => self.tick(now, out),
            Input::Shutdown => {
                let message = "the server is shutting down: connect again in a while";
                self.fatal(ErrorCode::ShuttingDown, message, CloseReason::GoingAway, out);
            }
            Input::Disconnected => self.release(out),
        }
    }

    /// The type of the message that the last input held, for metrics; once.
    pub fn take_received(&mut self) -> Option<&'static str> {
        self.received.take()
    }

    fn text_frame(&mut self, now: Duration, text: &str, out: &mut Vec<Output>) {
        if text.len() > MAX_MESSAGE_BYTES {
            return self.if_in_rate(now, out, |_, out| out.push(message_too_long(text.len())));
        }
        let message = ClientMessage::parse(text);
        self.received = Some(message.as_ref().map_or("unreadable", ClientMessage::kind));
        match message {
            // Candidates come in bursts and have limits of their own.
            Ok(ClientMessage::WebrtcIceCandidate { candidate }) => self.candidate(candidate, out),
            Ok(message) => self.if_in_rate(now, out, |client, out| client.message(now, message, out)),
            Err(error) => self.if_in_rate(now, out, |_, out| out.push(told(error.code(), error.to_string()))),
        }
    }

    fn message(&mut self, now: Duration, message: ClientMessage, out: &mut Vec<Output>) {
        match message {
            ClientMessage::WebrtcOffer { sdp } => self.new_offer(now, sdp, out),
            ClientMessage::WebrtcIceCandidate { candidate } => self.candidate(candidate, out),
            ClientMessage::Text { content, id } => {
                let checked = check_turn("text", &content, id.as_deref());
                out.push(begun(Turn::Text, id, checked, |id| Ok(Command::Text { text: content, id })));
            }
            ClientMessage::Speak { content, id } => {
                let checked = check_turn("speak", &content, id.as_deref());
                out.push(begun(Turn::Text, id, checked, |id| Ok(Command::Speak { text: content, id })));
            }
            ClientMessage::Interrupt {} => out.push(Output::Submit(Turn::Text, Command::Interrupt)),
            ClientMessage::Avatar { id } => {
                out.push(avatar_id(&id).map_or_else(Output::from, Output::SwapAvatar));
            }
            ClientMessage::Gesture { name } => {
                let checked = check_gesture(&name);
                out.push(submitted(Turn::Text, checked.map(|()| Command::Gesture { name })));
            }
            // What names no utterance has no effect either.
            ClientMessage::Shown { utterance_id, ms } => out.extend(utterance_id.parse().ok().map(|utterance| {
                let after = Duration::from_millis(u64::from(ms));
                Output::Submit(Turn::Text, Command::Shown { utterance, after })
            })),
            ClientMessage::PushToTalk { pressed } => out.push(Output::PushToTalk { is_pressed: pressed }),
            ClientMessage::AudioStart { sample_rate, id } => {
                let checked = check_id("audio_start", id.as_deref());
                out.push(begun(Turn::AudioStart, id, checked, |id| self.audio.start(sample_rate, id)));
            }
            ClientMessage::AudioEnd {} => {
                out.extend(self.audio.end().transpose().map(|end| submitted(Turn::Text, end)));
            }
            ClientMessage::OutputStart(order) => out.push(Output::StartOutput(order)),
            ClientMessage::OutputStop { output_id } => out.push(Output::StopOutput(output_id)),
            // Whoever had to show one has by now.
            ClientMessage::Token { .. } => {}
            ClientMessage::Ping(fields) => out.push(Output::Send(ServerMessage::Pong(fields))),
        }
    }

    fn binary_frame(&mut self, now: Duration, bytes: &[u8], out: &mut Vec<Output>) {
        self.received = Some("audio");
        if bytes.len() > MAX_MESSAGE_BYTES {
            return self.if_in_rate(now, out, |_, out| out.push(message_too_long(bytes.len())));
        }
        match self.audio.frame(bytes) {
            Err(refusal) => self.if_in_rate(now, out, |_, out| out.push(refusal.into())),
            Ok(command) => match self.audio_frames.take(now) {
                Taken::Yes => out.extend(command.map(|command| Output::Submit(Turn::Audio, command))),
                taken => self.too_many(taken, out),
            },
        }
    }

    fn refused(&mut self, turn: Turn, id: Option<String>, refusal: Refusal, out: &mut Vec<Output>) {
        match turn {
            Turn::Text => {}
            Turn::AudioStart => self.audio.refuse(false),
            Turn::Audio => self.audio.refuse(true),
        }
        out.push(Output::Send(ServerMessage::refusal(refusal.code, refusal.message, id)));
    }

    fn unreadable(&mut self, unreadable: Unreadable, out: &mut Vec<Output>) {
        match unreadable {
            Unreadable::TooLong { bytes } => {
                let message =
                    format!("a message of {bytes} bytes is not even read: at most {MAX_MESSAGE_BYTES} bytes are");
                self.fatal(ErrorCode::MessageTooLong, message, CloseReason::TooLong, out);
            }
            Unreadable::NotUtf8 => {
                let message = "the message is not UTF-8: send text frames of JSON in UTF-8, and audio as binary frames";
                self.fatal(ErrorCode::BadJson, message, CloseReason::NotUtf8, out);
            }
            Unreadable::Violation { reason } => {
                let message = format!("what came is not a WebSocket frame ({reason}): RFC 6455 says what is");
                self.fatal(ErrorCode::BadMessage, message, CloseReason::ProtocolViolation, out);
            }
        }
    }

    /// Carries out `then` unless this client has sent more messages than it may.
    fn if_in_rate(&mut self, now: Duration, out: &mut Vec<Output>, then: impl FnOnce(&mut Self, &mut Vec<Output>)) {
        match self.messages.take(now) {
            Taken::Yes => then(self, out),
            taken => self.too_many(taken, out),
        }
    }

    fn too_many(&mut self, taken: Taken, out: &mut Vec<Output>) {
        if taken == Taken::Refused {
            let message = "too many messages, some are ignored: wait a second and send fewer";
            out.push(told(ErrorCode::TooManyMessages, message));
        }
        self.ignore(out);
    }

    fn ignore(&mut self, out: &mut Vec<Output>) {
        self.ignored += 1;
        if self.ignored >= IGNORED_BEFORE_CLOSE {
            let message = format!("{} messages over the limits were sent on this socket: it is closed", self.ignored);
            self.fatal(ErrorCode::TooManyMessages, message, CloseReason::Policy, out);
        }
    }

    fn fatal(&mut self, code: ErrorCode, message: impl Into<String>, reason: CloseReason, out: &mut Vec<Output>) {
        out.push(Output::Send(ServerMessage::fatal(code, message)));
        self.release(out);
        out.push(Output::Close(reason));
    }

    /// Lets go of the peer, and of audio that nobody would end any more.
    fn release(&mut self, out: &mut Vec<Output>) {
        self.closed = true;
        if self.opening.take().is_some() {
            out.push(Output::GiveUpOffer);
        }
        self.no_offer();
        self.no_peer(out);
        let end = self.audio.end().ok().flatten();
        out.extend(end.map(|end| Output::Submit(Turn::Text, end)));
    }
}

fn told(code: ErrorCode, message: impl Into<String>) -> Output {
    Output::Send(ServerMessage::error(code, message))
}

/// The beginning of a turn for the session, or why it cannot be one, with the client's own name of it.
fn begun(
    turn: Turn,
    id: Option<String>,
    checked: Result<(), Refusal>,
    command: impl FnOnce(Option<String>) -> Result<Command, Refusal>,
) -> Output {
    // One that is too long is not sent back.
    let named = id.clone().filter(|id| check_id("", Some(id)).is_ok());
    match checked.and_then(|()| command(id)) {
        Ok(command) => Output::Submit(turn, command),
        Err(refusal) => Output::Send(ServerMessage::refusal(refusal.code, refusal.message, named)),
    }
}

/// A command for the session, or why it cannot be one.
fn submitted(turn: Turn, command: Result<Command, Refusal>) -> Output {
    command.map_or_else(Output::from, |command| Output::Submit(turn, command))
}

impl From<Refusal> for Output {
    fn from(refusal: Refusal) -> Self {
        told(refusal.code, refusal.message)
    }
}

fn message_too_long(bytes: usize) -> Output {
    let message = format!(
        "a message of {bytes} bytes is ignored: at most {MAX_MESSAGE_BYTES} bytes are taken, send it in smaller parts"
    );
    told(ErrorCode::MessageTooLong, message)
}

#[cfg(test)]
mod tests;
