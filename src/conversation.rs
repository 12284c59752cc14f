//! What is said in a session: turns in order, each a reply spoken sentence by sentence, and interruption.
//!
//! What one turn speaks is an *utterance*, and the unit of it is a *sentence*: its one id ([`crate::ids::SentenceId`]) is
//! given where the speaker takes the next one that can be spoken, and goes with it to `animation`, to `playout`, and back to
//! its caption. What a model writes at a time is a *delta*, what a voice makes at a time a *chunk*.
//!
//! # Who does what
//!
//! | where | runs on | what it does | ends |
//! |---|---|---|---|
//! | [`Conversation`] | whoever submits | takes commands, never waits | with the session's last client |
//! | `speaker`, with `reply_reader` | tokio task 1 | takes one turn after the other, has it answered, voiced and animated | when no more turns come |
//! | `playout_observer`, with `captions` | tokio task 2 | makes notices and ends of turns of playout's events | with the session's place in playout |
//! | `attention` | whoever asks, and tokio task 3 | decides from all of this what the avatar attends to | with the session |
//! | `turns` | whoever asks; a lock | the queue of turns, what is known of each, and how each ends | |
//! | `client_audio` | the client's task and task 1; a lock | the audio that a client sends as its own turn | with the client |
//!
//! | on its way | through | bound, and what happens beyond |
//! |---|---|---|
//! | a command to task 1 | `turns`, a queue and a signal | 8 turns, then refused as busy |
//! | a client's audio to task 1 | `client_audio`, a queue and a signal | 90 s, then refused as busy |
//! | a sentence's text from `reply_reader` to `speaker`, both task 1 | mpsc | 64 sentences, then the model waits |
//! | a sentence's sound from a voice to task 1 | [`PcmStream`](crate::speech::PcmStream) | the voice waits |
//! | frames and sound to playout | mpsc of [`playout::Command`] | 16 frames ahead of the screen, then task 1 waits |
//! | what was heard to task 2 | mpsc of [`playout::Event`] | 64 events, then told later; ends are never left out |
//! | notices to each client | [`NoticeBroadcast`] | a client that is too slow is told how many it missed |
//!
//! Who ends a turn? `turns`, in one place: told by task 2 when playout was given anything of it, by task 1 if not, by
//! an interruption if it waited. Where is a caption's time made? In `captions` (RTP) and `word_timing` (its words).
//!
//! Not in here: what is answered (`dialogue`), sockets (`signalling`), pictures (`lipsync`, `playout`), GStreamer (`media`).
//! The tasks are owned by the tracker that was passed in.

mod attention;
mod captions;
mod client_audio;
mod playout_observer;
mod reply_reader;
mod sentences;
mod shared_history;
mod speaker;
mod turns;
mod word_timing;

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::animation::{Animator, Performer};
use crate::avatar::OwnFrames;
use crate::dialogue::Responder;
use crate::dialogue::history::History;
use crate::latency::TurnTimes;
use crate::lipsync::AvatarHandle;
use crate::playout::{self, PlayoutEnded, Volume};
use crate::session::{Command, ErrorCode, NoticeBroadcast, Refusal, check_text_length};
use crate::speech::clean::speakable;
use crate::speech::{Tts, Voice};
use crate::timeline::FrameIndex;

use attention::Attentive;
use captions::Captions;
pub use client_audio::ClientAudio;
use playout_observer::PlayoutObserver;
use shared_history::SharedHistory;
use speaker::{NextCharacter, Speaker};
pub use turns::Turns;
use turns::{QueueMode, TurnSource};

/// Who speaks for an avatar: what it says and in which voice.
#[derive(Clone)]
pub struct Character {
    /// Makes sound of sentences.
    pub tts: Arc<dyn Tts>,
    /// How they are to be spoken.
    pub voice: Voice,
    /// Answers what the user says.
    pub responder: Arc<dyn Responder>,
}

/// What one session needs to speak.
pub struct ConversationParts {
    /// Takes sound to playout.
    pub animator: Animator,
    /// Who speaks, until another avatar takes over.
    pub character: Character,
    /// What was said before; nothing in a new session.
    pub history: History,
    /// To the session's clients.
    pub notices: NoticeBroadcast,
    /// Of the place in playout that the animator speaks to.
    pub playout_events: mpsc::Receiver<playout::Event>,
    /// Of the sound of a pair, at 48 kHz.
    pub audio_clock: RtpClock,
    /// Of the picture of a pair, at 90 kHz.
    pub video_clock: RtpClock,
}

/// The RTP timestamp with which the sound of a pair leaves, at 48 kHz, or its picture, at 90 kHz; `None` while nothing
/// is sent.
pub type RtpClock = Arc<dyn Fn(FrameIndex) -> Option<u32> + Send + Sync>;

/// What is said in one session: takes commands, never waits.
pub struct Conversation {
    turns: Turns,
    volume: Arc<Volume>,
    performer: Performer,
    attentive: Attentive,
    next_character: NextCharacter,
}

impl Conversation {
    /// Starts the session's tasks on `tracker`; they end when `shutdown` is cancelled or the conversation dropped.
    pub fn start(parts: ConversationParts, tracker: &TaskTracker, shutdown: &CancellationToken) -> Self {
        let ConversationParts { animator, character, history, notices, playout_events, audio_clock, video_clock } =
            parts;
        let history = SharedHistory::new(history);
        let performer = animator.performer();
        let attentive = Attentive::new(performer.clone());
        let turns = Turns::new(&character.voice.language, history.clone(), notices.clone(), attentive.clone());
        let next_character = NextCharacter::default();
        let captions = Captions { turns: turns.clone(), audio_clock };
        let volume = animator.volume();
        let speaker = Speaker {
            animator,
            character,
            next_character: next_character.clone(),
            notices,
            turns: turns.clone(),
            history,
            captions: captions.clone(),
            leaves_out: false,
        };
        let (token, ending) = (shutdown.clone(), turns.clone());
        let speaking = async move {
            let _ = token.run_until_cancelled(Box::pin(speaker.run())).await;
            // What is being heard ends when playout lets go of the session.
            ending.close();
        };
        tracker.spawn(speaking.in_current_span());
        let observer = PlayoutObserver { turns: turns.clone(), captions, video_clock };
        tracker.spawn(observer.run(playout_events).in_current_span());
        let (token, attending) = (shutdown.clone(), attentive.clone());
        tracker.spawn(async move { token.run_until_cancelled(attending.run()).await });
        Self { turns, volume, performer, attentive, next_character }
    }

    /// Takes a command; an error says why it is not done. `audio` is that of the client it comes from.
    pub fn submit(&self, command: Command, audio: &ClientAudio) -> Result<(), Refusal> {
        match command {
            Command::Text { text, id } => self.reply_to(text, id, TurnTimes::since(Instant::now())),
            Command::Speak { text, id } => {
                check_text(&text)?;
                self.append(id, TurnSource::Text(text))
            }
            Command::Interrupt => {
                self.interrupt();
                Ok(())
            }
            Command::Gesture { name } => self
                .performer
                .gesture(&name)
                .map_err(|unknown| Refusal::new(ErrorCode::UnknownGesture, unknown.to_string())),
            Command::Shown { utterance, after } => {
                self.turns.shown(utterance, after);
                Ok(())
            }
            Command::AudioStart { sample_rate, id } => {
                audio.start(sample_rate, |stream| self.append(id, TurnSource::Audio(stream)))
            }
            Command::Audio(samples) => audio.push(&samples),
            Command::AudioEnd => audio.end(),
        }
    }

    /// Takes a user's turn. One of speech has its transcript in `times`, which began at the end of the speech.
    pub fn reply_to(&self, text: String, id: Option<String>, times: TurnTimes) -> Result<(), Refusal> {
        check_text(&text)?;
        self.volume.raise();
        // Who says something new does not want to hear the rest.
        self.turns.add(id, TurnSource::Reply(text), times, QueueMode::Interrupt).map(drop)
    }

    /// Stops what is being said and forgets what is queued.
    pub fn interrupt(&self) {
        self.volume.raise();
        self.turns.interrupt();
    }

    /// Somebody may be about to take the turn: the avatar speaks lower for a while, until [`Self::go_on`] or
    /// [`Self::interrupt`] says what it was.
    pub fn speak_lower(&self) {
        self.volume.lower();
    }

    /// It was no more than a noise or an "mm-hm".
    pub fn go_on(&self) {
        self.volume.raise();
    }

    /// A microphone has somebody's speech, or it has no more of it; each beginning has its end.
    pub fn hears(&self, speech: bool) {
        self.attentive.hears(speech);
    }

    /// Another avatar takes over: its picture at once, while what is being said goes on, and its character with the next turn.
    /// Resolves when its first picture has left, and before that no other may be asked for.
    pub fn swap(
        &self,
        own: OwnFrames,
        handle: AvatarHandle,
        character: Character,
    ) -> impl Future<Output = Result<(), PlayoutEnded>> + Send + use<> {
        let (performer, next) = (self.performer.clone(), self.next_character.clone());
        async move {
            performer.swap(own, handle).await?;
            next.set(character);
            Ok(())
        }
    }

    /// How far each of the session's turns is.
    pub fn turns(&self) -> Turns {
        self.turns.clone()
    }

    fn append(&self, id: Option<String>, source: TurnSource) -> Result<(), Refusal> {
        self.turns.add(id, source, TurnTimes::since(Instant::now()), QueueMode::Append).map(drop)
    }
}

impl Drop for Conversation {
    /// Nobody can say anything more, or hear what is being said.
    fn drop(&mut self) {
        self.turns.close();
    }
}

/// A text that is too long or holds nothing to say is refused.
fn check_text(text: &str) -> Result<(), Refusal> {
    check_text_length(text)?;
    if speakable(text).is_none() {
        return Err(Refusal::new(ErrorCode::NothingToSay, "the text holds nothing that can be spoken: send words"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
