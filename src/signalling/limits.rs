//! How much one client may ask for, and what holds it to that.
//!
//! In here: the numbers, each with its reason, the checks of content, a token bucket. Not in here: what happens to a client
//! that goes over (`client`), the longest message (`protocol`), how long a socket may stall (`socket`).
//! Runs on: whichever task calls it; time is an argument.

use std::time::Duration;

use super::protocol::CandidateInit;
use crate::session::{CANDIDATE_BYTES, ErrorCode, Refusal, TEXT_CHARACTERS, TextTooLong, check_text_length};

/// Candidates kept until the peer exists. A browser gathers 5 to 20; a host with many networks and TURN servers 40.
pub const HELD_CANDIDATES: usize = 64;

/// Candidates taken for one offer. More add connectivity checks, not connectivity.
pub const CANDIDATES_PER_OFFER: usize = 256;

/// Messages and candidates that were ignored because of a limit, over the life of a socket, before it is closed.
/// Above what one mistaken loop of a page sends, below what is worth the server's time.
pub const IGNORED_BEFORE_CLOSE: u32 = 20_000;

/// Longest `id` of a turn.
pub const ID_CHARACTERS: usize = 128;

/// Rates that speech can be sent at: telephony to studio.
pub use crate::speech::pcm::SAMPLE_RATES;

/// Time for a peer to give its answer. It takes some 50 ms; gathering behind a dead STUN server takes seconds.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Time from the answer to a connection. A peer that answers and then sends nothing is otherwise held for ever.
/// The only limit of it: `media` has none of its own.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// JSON messages but candidates: a person's typing and clicking, and the pings of a page, with room to spare.
pub fn messages() -> TokenBucket {
    TokenBucket::new(100.0, 50.0)
}

/// Offers: each costs a DTLS certificate and a pipeline, so a page that offers in a loop is stopped early.
pub fn offers() -> TokenBucket {
    TokenBucket::new(6.0, 0.5)
}

/// Binary frames: twice the 100 a second of the shortest usual packets, and a file of minutes at once in long ones.
pub fn audio_frames() -> TokenBucket {
    TokenBucket::new(400.0, 200.0)
}

/// A turn of `text` or `speak`.
pub fn check_turn(kind: &str, content: &str, id: Option<&str>) -> Result<(), Refusal> {
    // The session checks it too; here it is told by the field's name.
    check_text_length(content).map_err(|TextTooLong { characters }| {
        let message = format!(
            "{kind}.content: {characters} characters are too many: at most {TEXT_CHARACTERS} are spoken in one turn"
        );
        Refusal::new(ErrorCode::TextTooLong, message)
    })?;
    if content.chars().all(|character| character.is_whitespace() || character.is_control()) {
        let message = format!("{kind}.content: there is nothing to say in it: send at least one word");
        return Err(Refusal::new(ErrorCode::NothingToSay, message));
    }
    check_id(kind, id)
}

/// A client's own name of a turn, which comes back in everything that is told of it.
pub fn check_id(kind: &str, id: Option<&str>) -> Result<(), Refusal> {
    if id.is_some_and(|id| id.chars().count() > ID_CHARACTERS) {
        let message = format!("{kind}.id: it is too long: at most {ID_CHARACTERS} characters are taken");
        return Err(Refusal::new(ErrorCode::BadMessage, message));
    }
    Ok(())
}

/// The name of a gesture; whether the avatar has it, the session knows.
pub fn check_gesture(name: &str) -> Result<(), Refusal> {
    if name.chars().count() > ID_CHARACTERS {
        let message = format!("gesture.name: it is too long: at most {ID_CHARACTERS} characters are taken");
        return Err(Refusal::new(ErrorCode::BadMessage, message));
    }
    Ok(())
}

/// Refuses what RTCPeerConnection itself would refuse, and what could not be one line of SDP.
pub fn check_candidate(candidate: &CandidateInit) -> Result<(), Refusal> {
    let problem = if candidate.candidate.len() > CANDIDATE_BYTES {
        "candidate.candidate is too long to be a candidate"
    } else if !candidate.candidate.starts_with("candidate:") || candidate.candidate.contains(char::is_control) {
        "candidate.candidate is not one line that starts with \"candidate:\""
    } else if candidate.sdp_mid.is_none() && candidate.sdp_m_line_index.is_none() {
        "candidate has neither sdpMid nor sdpMLineIndex: one must say which m= line it is for"
    } else {
        return Ok(());
    };
    Err(Refusal::new(ErrorCode::BadCandidate, format!("webrtc_ice_candidate: {problem}")))
}

/// Lets `burst` through at once and `per_second` in the long run.
#[derive(Debug)]
pub struct TokenBucket {
    burst: f64,
    per_second: f64,
    tokens: f64,
    filled_at: Duration,
    /// Refused since it was last half full; a client hears of that once, not once per message.
    dry: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    Yes,
    /// Refused, for the first time since the bucket was half full.
    Refused,
    RefusedAgain,
}

impl TokenBucket {
    pub fn new(burst: f64, per_second: f64) -> Self {
        Self { burst, per_second, tokens: burst, filled_at: Duration::ZERO, dry: false }
    }

    pub fn take(&mut self, now: Duration) -> Taken {
        let elapsed = now.saturating_sub(self.filled_at);
        self.filled_at = now;
        self.tokens = (self.tokens + elapsed.as_secs_f64() * self.per_second).min(self.burst);
        if self.tokens >= self.burst / 2.0 {
            self.dry = false;
        }
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            Taken::Yes
        } else if std::mem::replace(&mut self.dry, true) {
            Taken::RefusedAgain
        } else {
            Taken::Refused
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_lets_its_burst_through_and_then_its_rate() {
        let mut bucket = TokenBucket::new(3.0, 2.0);
        let at = Duration::from_millis;
        assert_eq!([0, 0, 0, 0, 0].map(|ms| bucket.take(at(ms)) == Taken::Yes), [true, true, true, false, false]);
        assert_eq!(bucket.take(at(400)), Taken::RefusedAgain, "0.8 of a token is none");
        assert_eq!(bucket.take(at(500)), Taken::Yes);
        assert_eq!((0..10).filter(|_| bucket.take(at(60_000)) == Taken::Yes).count(), 3, "a rest earns no more");
    }

    #[test]
    fn a_client_hears_of_a_refusal_once_until_it_has_calmed_down() {
        let mut bucket = TokenBucket::new(2.0, 1.0);
        let takes = |bucket: &mut TokenBucket, ms| bucket.take(Duration::from_millis(ms));
        assert_eq!(
            [0, 0, 0, 0].map(|ms| takes(&mut bucket, ms)),
            [Taken::Yes, Taken::Yes, Taken::Refused, Taken::RefusedAgain]
        );
        takes(&mut bucket, 2_000);
        takes(&mut bucket, 2_000);
        assert_eq!(takes(&mut bucket, 2_000), Taken::Refused);
    }

    #[test]
    fn a_clock_that_steps_back_gives_nothing_away() {
        let mut bucket = TokenBucket::new(1.0, 1.0);
        assert_eq!(bucket.take(Duration::from_secs(5)), Taken::Yes);
        assert_eq!(bucket.take(Duration::from_secs(1)), Taken::Refused);
    }
}
