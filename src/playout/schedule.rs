//! What one session shows and sounds at each tick. No clock, no thread, nothing is waited for: a tick is a call. What it
//! gives back are pairs, the room of frames that have left, and counts in `metrics`.
//!
//! The rules:
//! - Idle, the avatar's own frames pass, one a tick. The place in their endless cycle is the *pose*.
//! - A sentence was drawn for given poses. Idle runs up to its first pose and, if the first mouth is not
//!   there yet, the head rests there until it is (at most `MAX_HOLD` ticks), so it never jumps.
//! - Once a sentence runs, its sound runs. A mouth that is late is not waited for: the last picture stands once more
//!   and the late one is dropped when it comes. So lateness shows in a count, never as drift.
//! - If the sound itself is not there, silence and the last pose are shown and the sentence goes on where it stood.
//! - A cancelled utterance vanishes before the tick that follows the cancellation.
//! - Another avatar takes over between two ticks, as soon as its own frame of the pose is ready. The pose and the sound go
//!   on; of frames whose mouth was drawn for the one before, the new one's own frames are shown.
//! - Each [`Command::EndUtterance`] leads to one `Change::Ended`, whether anything of the utterance was heard or not.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio_util::sync::CancellationToken;

use super::{AvatarNumber, Command, FrameAudio};
use crate::avatar::OwnFrames;
use crate::ids::{SentenceId, UtteranceId};
use crate::picture::I420Frame;

/// Ticks (400 ms) that the head rests for speech that is late. Beyond, standing still looks worse than a small jump.
const MAX_HOLD: u32 = 10;
/// Ticks (a second) that another avatar's first own frame is waited for. Beyond, its first frame stands until one is there.
const MAX_SWAP_WAIT: u32 = 25;
/// Frames of speech within which an own frame is looked for, to have it made before it is due: as many as are made ahead.
const OWN_FRAMES_AHEAD: usize = 5;

/// What a pair was made of; a label in the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The avatar's own frame and silence.
    Idle,
    /// As idle, with the head resting for speech that is about to come.
    Held,
    /// Speech with a mouth drawn for it.
    Mouth,
    /// A silent stretch of speech, showing the avatar's own frame.
    Own,
    /// Speech whose mouth came too late, the last picture again, or was not drawn for want of time, the last mouth again.
    Repeated,
    /// A running sentence had no sound to play.
    Starved,
}

impl Kind {
    /// The label.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Held => "held",
            Self::Mouth => "mouth",
            Self::Own => "own",
            Self::Repeated => "repeated",
            Self::Starved => "starved",
        }
    }

    /// What the mouth in it is, as in `/metrics`, where there is a generated one.
    pub(super) const fn mouth(self) -> Option<&'static str> {
        match self {
            Self::Mouth => Some("fresh"),
            Self::Repeated | Self::Starved => Some("repeated"),
            Self::Idle | Self::Held | Self::Own => None,
        }
    }
}

/// The outcome of a tick.
pub struct Shown {
    /// What is seen.
    pub frame: Arc<I420Frame>,
    /// What is heard; `None` is silence.
    pub audio: Option<FrameAudio>,
    /// Whose speech it is; `None` while idle.
    pub utterance: Option<UtteranceId>,
    /// What the two were made of.
    pub kind: Kind,
}

/// What changed for an utterance at a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Its first frame leaves.
    Started(UtteranceId),
    /// Its first frame leaves.
    SentenceStarted(SentenceId),
    /// The first frame with a mouth drawn for it leaves.
    FirstMouth(UtteranceId),
    /// Nothing more of it leaves, and so many frames did.
    Ended { utterance: UtteranceId, frames: u64, interrupted: bool },
}

struct SpeechFrame {
    audio: FrameAudio,
    own: bool,
    /// Whose mouth its picture has, or will have.
    avatar: AvatarNumber,
    picture: Option<Arc<I420Frame>>,
    /// Whether the picture's mouth was drawn for this frame.
    fresh: bool,
    /// Given back when the frame is shown or dropped.
    _permit: OwnedSemaphorePermit,
}

struct Sentence {
    id: SentenceId,
    cancelled: CancellationToken,
    start_pose: u64,
    /// Frames already shown; the index of `frames[0]`.
    shown: u64,
    frames: VecDeque<SpeechFrame>,
    running: bool,
    complete: bool,
}

enum Item {
    Sentence(Sentence),
    UtteranceEnd { utterance: UtteranceId, cancelled: CancellationToken },
}

/// The utterance that was last heard.
struct Speaking {
    utterance: UtteranceId,
    cancelled: CancellationToken,
    frames: u64,
    mouth_seen: bool,
}

/// An avatar that is about to take over.
struct NextAvatar {
    own: OwnFrames,
    number: AvatarNumber,
    shown: oneshot::Sender<()>,
    /// Ticks since it was asked for.
    waited: u32,
}

/// One session's queue of speech and its place in the idle loop.
pub struct Schedule {
    own: OwnFrames,
    avatar: AvatarNumber,
    next_avatar: Option<NextAvatar>,
    /// The pose of the next tick.
    pose: u64,
    held: u32,
    last: Arc<I420Frame>,
    queue: VecDeque<Item>,
    speaking: Option<Speaking>,
    /// The utterance that was last reported as ended.
    ended: Option<UtteranceId>,
    changes: Vec<Change>,
}

impl Schedule {
    /// Idle, from the beginning of the avatar's cycle.
    pub fn new(own: OwnFrames) -> Self {
        let last = Arc::clone(&own.avatar().base);
        Self {
            own,
            avatar: AvatarNumber::default(),
            next_avatar: None,
            pose: 0,
            held: 0,
            last,
            queue: VecDeque::new(),
            speaking: None,
            ended: None,
            changes: Vec::new(),
        }
    }

    /// The pose that the next tick would show if nothing is said.
    pub(super) fn next_pose(&self) -> u64 {
        self.pose
    }

    /// Whose pictures are shown.
    pub(super) fn avatar(&self) -> AvatarNumber {
        self.avatar
    }

    /// What happened since the last call.
    pub(crate) fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Takes a command in; what belongs to a sentence that is gone (cancelled) is dropped.
    pub fn apply(&mut self, command: Command) {
        match command {
            Command::BeginSentence { sentence, start_pose, cancelled } => {
                if !cancelled.is_cancelled() {
                    self.queue.push_back(Item::Sentence(Sentence {
                        id: sentence,
                        cancelled,
                        start_pose,
                        shown: 0,
                        frames: VecDeque::new(),
                        running: false,
                        complete: false,
                    }));
                }
            }
            Command::Frame { sentence, audio, own, avatar, permit } => {
                // Its mouth was to be drawn for an avatar that is gone by now.
                let own = own || avatar < self.avatar;
                if let Some(sentence) = self.sentence(sentence) {
                    let frame = SpeechFrame { audio, own, avatar, picture: None, fresh: false, _permit: permit };
                    sentence.frames.push_back(frame);
                }
            }
            Command::Mouth { avatar, .. } if avatar < self.avatar => {}
            Command::Mouth { sentence, index, picture, fresh, avatar } => {
                if let Some(sentence) = self.sentence(sentence) {
                    let place = index.checked_sub(sentence.shown).and_then(|at| usize::try_from(at).ok());
                    if let Some(frame) = place.and_then(|at| sentence.frames.get_mut(at)) {
                        (frame.picture, frame.fresh, frame.own, frame.avatar) = (Some(picture), fresh, false, avatar);
                    } else {
                        crate::metrics::mouth_late();
                    }
                }
            }
            Command::EndSentence { sentence } => {
                if let Some(sentence) = self.sentence(sentence) {
                    sentence.complete = true;
                }
            }
            Command::Swap { own, avatar, shown } => {
                self.next_avatar = Some(NextAvatar { own, number: avatar, shown, waited: 0 });
            }
            // One that is cancelled ends at the next tick, as everything does that is cancelled.
            Command::EndUtterance { utterance, cancelled } => {
                self.queue.push_back(Item::UtteranceEnd { utterance, cancelled });
            }
        }
    }

    fn sentence(&mut self, id: SentenceId) -> Option<&mut Sentence> {
        self.queue.iter_mut().find_map(|item| match item {
            Item::Sentence(sentence) if sentence.id == id => Some(sentence),
            _ => None,
        })
    }

    /// Whether a tick would show the next frame of speech as it was meant, neither late nor starved. For who has no
    /// clock to keep.
    pub fn is_whole(&mut self) -> bool {
        self.drop_played();
        let Some(Item::Sentence(sentence)) = self.queue.front() else { return false };
        sentence.frames.front().is_some_and(|frame| frame.own || frame.picture.is_some())
    }

    /// Decides what leaves now.
    pub fn tick(&mut self) -> Shown {
        self.drop_cancelled();
        self.drop_played();
        self.swap_if_ready();
        let Some(Item::Sentence(sentence)) = self.queue.front_mut() else {
            return self.idle(Kind::Idle);
        };
        if !sentence.running {
            let ready = sentence.frames.front().is_some_and(|first| first.own || first.picture.is_some());
            if self.pose < sentence.start_pose || (!ready && self.held >= MAX_HOLD) {
                return self.idle(Kind::Idle);
            }
            if !ready {
                return self.hold(Kind::Held);
            }
            if self.pose != sentence.start_pose {
                crate::metrics::pose_jumped();
            }
            sentence.running = true;
        }
        self.speak()
    }

    /// Lets the next avatar take over, if there is one and it can.
    fn swap_if_ready(&mut self) {
        let Some(mut next) = self.next_avatar.take() else { return };
        let front = match self.queue.front() {
            Some(Item::Sentence(sentence)) => sentence.frames.front(),
            _ => None,
        };
        // What was drawn for it already is not shown as somebody else's.
        let speaks = front.is_some_and(|frame| frame.avatar >= next.number);
        next.waited += 1;
        if !next.own.is_ready(self.pose) && !speaks && next.waited <= MAX_SWAP_WAIT {
            self.next_avatar = Some(next);
            return;
        }
        let NextAvatar { own, number, shown, .. } = next;
        self.last = own.show(self.pose).unwrap_or_else(|| Arc::clone(&own.avatar().base));
        (self.own, self.avatar) = (own, number);
        for item in &mut self.queue {
            let Item::Sentence(sentence) = item else { continue };
            for frame in sentence.frames.iter_mut().filter(|frame| frame.avatar < number) {
                (frame.own, frame.picture) = (true, None);
            }
        }
        // Whoever asked may be gone.
        let _ = shown.send(());
    }

    fn speak(&mut self) -> Shown {
        let Some(Item::Sentence(sentence)) = self.queue.front_mut() else {
            return self.idle(Kind::Idle);
        };
        let pose = sentence.start_pose + sentence.shown;
        let (id, cancelled) = (sentence.id, sentence.cancelled.clone());
        let Some(frame) = sentence.frames.pop_front() else {
            return if self.held < MAX_HOLD { self.hold(Kind::Starved) } else { self.idle(Kind::Starved) };
        };
        let first = sentence.shown == 0;
        sentence.shown += 1;
        // Own frames are made ahead of where they are seen: at pauses, and after the last mouth.
        let mut next = sentence.frames.iter().take(OWN_FRAMES_AHEAD);
        let ends_soon = sentence.complete && sentence.frames.len() < OWN_FRAMES_AHEAD;
        let own_soon = frame.own || ends_soon || next.any(|next| next.own);
        self.held = 0;
        self.pose = pose + 1;
        let own = if own_soon {
            self.own_frame(pose)
        } else {
            // If the speech is interrupted now, the last picture stands for the tick in which the next is made.
            self.own.pass(pose);
            Arc::clone(&self.last)
        };
        let (picture, kind) = match frame.picture {
            _ if frame.own => (own, Kind::Own),
            Some(picture) => (picture, if frame.fresh { Kind::Mouth } else { Kind::Repeated }),
            None => (Arc::clone(&self.last), Kind::Repeated),
        };
        self.last = Arc::clone(&picture);
        self.count_heard(id, &cancelled, kind == Kind::Mouth, first);
        Shown { frame: picture, audio: Some(frame.audio), utterance: Some(id.utterance), kind }
    }

    fn count_heard(&mut self, sentence: SentenceId, cancelled: &CancellationToken, mouth: bool, first: bool) {
        let utterance = sentence.utterance;
        if self.speaking.as_ref().is_none_or(|speaking| speaking.utterance != utterance) {
            self.changes.push(Change::Started(utterance));
            self.speaking = Some(Speaking { utterance, cancelled: cancelled.clone(), frames: 0, mouth_seen: false });
        }
        if first {
            self.changes.push(Change::SentenceStarted(sentence));
        }
        if let Some(speaking) = &mut self.speaking {
            speaking.frames += 1;
            if mouth && !speaking.mouth_seen {
                speaking.mouth_seen = true;
                self.changes.push(Change::FirstMouth(utterance));
            }
        }
    }

    /// The avatar's own frame of a pose; one that is not ready is replaced by the picture before.
    fn own_frame(&self, pose: u64) -> Arc<I420Frame> {
        self.own.show(pose).unwrap_or_else(|| Arc::clone(&self.last))
    }

    /// The avatar's own next frame.
    fn idle(&mut self, kind: Kind) -> Shown {
        let frame = self.own_frame(self.pose);
        self.pose += 1;
        if kind == Kind::Idle && self.queue.is_empty() {
            self.held = 0;
        }
        self.last = Arc::clone(&frame);
        Shown { frame, audio: None, utterance: None, kind }
    }

    /// The avatar's own frame of the last tick once more, lips shut.
    fn hold(&mut self, kind: Kind) -> Shown {
        self.held += 1;
        let frame = self.own_frame(self.pose.saturating_sub(1));
        self.last = Arc::clone(&frame);
        Shown { frame, audio: None, utterance: None, kind }
    }

    fn drop_cancelled(&mut self) {
        if let Some(speaking) = self.speaking.take_if(|speaking| speaking.cancelled.is_cancelled()) {
            self.held = 0;
            self.end(speaking.utterance, speaking.frames, true);
        }
        let mut unheard = Vec::new();
        self.queue.retain(|item| match item {
            Item::Sentence(sentence) => !sentence.cancelled.is_cancelled(),
            Item::UtteranceEnd { utterance, cancelled } => {
                unheard.extend(cancelled.is_cancelled().then_some(*utterance));
                !cancelled.is_cancelled()
            }
        });
        unheard.into_iter().for_each(|utterance| self.end(utterance, 0, true));
    }

    /// Takes finished sentences and the ends of utterances off the front of the queue.
    fn drop_played(&mut self) {
        loop {
            match self.queue.front() {
                Some(Item::Sentence(sentence)) if sentence.complete && sentence.frames.is_empty() => {
                    self.queue.pop_front();
                }
                Some(Item::UtteranceEnd { utterance, .. }) => {
                    let utterance = *utterance;
                    self.queue.pop_front();
                    let speaking = self.speaking.take_if(|speaking| speaking.utterance == utterance);
                    self.end(utterance, speaking.map_or(0, |speaking| speaking.frames), false);
                }
                _ => return,
            }
        }
    }

    /// The session is closed: what is being heard is not heard any further.
    pub(crate) fn close(&mut self) {
        if let Some(speaking) = self.speaking.take() {
            self.end(speaking.utterance, speaking.frames, true);
        }
        self.queue.clear();
    }

    /// Reports an end. The utterance that was interrupted while more of it was made ended before its last command came.
    fn end(&mut self, utterance: UtteranceId, frames: u64, interrupted: bool) {
        if self.ended.replace(utterance) != Some(utterance) {
            self.changes.push(Change::Ended { utterance, frames, interrupted });
        }
    }
}

#[cfg(test)]
mod tests;
