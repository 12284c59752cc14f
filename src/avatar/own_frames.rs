//! The avatar's own frames as one session sees them: which one stands at which pose, made ready before it is due.
//!
//! A drawn avatar's frames are in memory. A clip's are decoded and a photo's are drawn, which takes milliseconds, so a thread
//! makes those of the next poses while playout shows the present one; memory holds some frames around it, however long the
//! material is. In here: that store, and the threads that fill it. Not in here: what a frame is made of (`material`), when it
//! is shown (`playout`), the mouth in it (`compose`).
//! `path` says what the avatar does at each pose besides speaking.
//! Runs on: asked on any thread; frames are made on threads "frames", or on whichever thread cannot wait for them.

mod path;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Avatar, AvatarError, Material, OwnFrame};
use crate::audience::Audience;
use crate::picture::{AvatarFrame, I420Frame};
use crate::still::{Attention, Gesture, HeadPose, Motion};
use crate::worker::{Worker, threads_for_all_sessions};
use path::Path;

/// Frames that are made before they are due: 160 ms.
const AHEAD: u64 = 4;
/// Frames that are kept behind the one that is shown, which rests there when speech is late.
const BEHIND: u64 = 2;
/// How far before the one that is shown a frame may be kept: as far as mouths are drawn, and some.
const FARTHEST: u64 = 24;
/// Sessions waiting for a thread; more ask again at their next tick.
const QUEUE: usize = 256;

/// One session's own frames. Cheap to clone.
#[derive(Clone)]
pub struct OwnFrames(Arc<Shared>);

struct Shared {
    avatar: Arc<Avatar>,
    audience: Audience,
    /// `None` where whoever asks makes them, as for a film.
    makers: Option<mpsc::Sender<OwnFrames>>,
    state: Mutex<State>,
}

struct State {
    path: Path,
    ready: BTreeMap<u64, OwnFrame>,
    /// The pose that is shown.
    shown: u64,
    /// One past the last that is wanted.
    until: u64,
    /// A thread has it on its list.
    queued: bool,
}

impl OwnFrames {
    /// Frames of an avatar that nobody makes ahead: whoever asks for one waits for it.
    pub fn of(avatar: Arc<Avatar>) -> Self {
        Self::new(avatar, 0, Audience::default(), None)
    }

    fn new(avatar: Arc<Avatar>, seed: u64, audience: Audience, makers: Option<mpsc::Sender<Self>>) -> Self {
        let motion = if avatar.manifest.still { Motion::none() } else { Motion::new(seed) };
        let path = Path::new(motion);
        let state = State { path, ready: BTreeMap::new(), shown: 0, until: 0, queued: false };
        Self(Arc::new(Shared { avatar, audience, makers, state: Mutex::new(state) }))
    }

    /// Whose frames they are.
    pub fn avatar(&self) -> &Arc<Avatar> {
        &self.0.avatar
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where in the material the frame of a pose is: which of the frames, 0 for a photo.
    pub fn index(&self, pose: u64) -> usize {
        match &self.0.avatar.material {
            Material::Photo(_) => 0,
            Material::Frames(_) | Material::Film(_) => {
                let played = self.state().path.played(pose);
                played.unwrap_or_else(|| self.0.avatar.cycle.frame(pose))
            }
        }
    }

    /// What a photo's head does at a pose.
    fn head(&self, pose: u64) -> HeadPose {
        self.state().path.head(pose)
    }

    /// Attends to something else, from the first pose on that nobody has asked for; seen of a photo only.
    pub fn attend(&self, attention: Attention) {
        self.state().path.attend(attention);
    }

    /// Plays a gesture: one of the avatar's clips, or a movement of a photo's head. An error names those that there are.
    pub fn gesture(&self, name: &str) -> Result<(), UnknownGesture> {
        let avatar = &self.0.avatar;
        if let Some(clip) = avatar.manifest.clips.get(name) {
            let first = usize::try_from(clip.first).unwrap_or(usize::MAX);
            self.state().path.play(first, clip.frames.into());
            return Ok(());
        }
        let own = |gesture: &Gesture| gesture.name() == name && matches!(avatar.material, Material::Photo(_));
        if let Some(gesture) = Gesture::ALL.into_iter().find(own) {
            self.state().path.gesture(gesture);
            return Ok(());
        }
        Err(UnknownGesture { name: name.to_owned(), known: self.gestures().join(", ") })
    }

    /// Names of the gestures that the avatar has.
    pub fn gestures(&self) -> Vec<&str> {
        let avatar = &self.0.avatar;
        let mut names: Vec<&str> = avatar.manifest.clips.keys().map(String::as_str).collect();
        if matches!(avatar.material, Material::Photo(_)) {
            names.extend(Gesture::ALL.map(Gesture::name));
        }
        names
    }

    /// The frame of the pose that is due now, if it is ready; those of the next poses are made meanwhile. Never waits, unless
    /// nobody makes them ahead.
    pub fn show(&self, pose: u64) -> Option<Arc<I420Frame>> {
        let shown = self.wanted(pose);
        if shown.is_none() {
            crate::metrics::own_frame_late();
        }
        shown
    }

    /// A pose passes that is shown with a mouth, as are the next ones. A photo's head is drawn together with its mouth, so none
    /// of them is made by itself; a film's frames are what mouths are pasted into.
    pub fn pass(&self, pose: u64) {
        match (&self.0.avatar.material, &self.0.makers) {
            (Material::Photo(_), Some(_)) => {
                let mut state = self.state();
                (state.shown, state.until) = (pose, pose);
                state.ready = state.ready.split_off(&pose.saturating_sub(BEHIND));
            }
            _ => drop(self.show(pose)),
        }
    }

    /// Whether the frame of a pose that is not due yet is ready; it and the next ones are made meanwhile.
    pub fn is_ready(&self, pose: u64) -> bool {
        self.wanted(pose).is_some()
    }

    fn wanted(&self, pose: u64) -> Option<Arc<I420Frame>> {
        if let Material::Frames(frames) = &self.0.avatar.material {
            return frames.get(self.index(pose)).map(|frame| Arc::clone(&frame.picture));
        }
        let Some(makers) = &self.0.makers else { return Some(self.picture(pose)) };
        // A session that nobody watches draws nothing.
        if self.0.audience.is_empty() {
            return Some(Arc::clone(&self.0.avatar.base));
        }
        let mut state = self.state();
        (state.shown, state.until) = (pose, pose + 1 + AHEAD);
        state.ready = state.ready.split_off(&pose.saturating_sub(BEHIND));
        let shown = state.ready.get(&pose).map(|frame| Arc::clone(&frame.picture));
        if !state.queued && state.missing().is_some() {
            state.queued = makers.try_send(self.clone()).is_ok();
        }
        shown
    }

    /// The frame of a pose, made here and now if it is not ready.
    pub fn picture(&self, pose: u64) -> Arc<I420Frame> {
        if let Material::Frames(frames) = &self.0.avatar.material {
            let frame = frames.get(self.index(pose)).map(|frame| Arc::clone(&frame.picture));
            return frame.unwrap_or_else(|| Arc::clone(&self.0.avatar.base));
        }
        self.frame(pose).picture
    }

    /// The frame of a pose and what a mouth is pasted into, made here and now if it is not ready.
    fn frame(&self, pose: u64) -> OwnFrame {
        let known = self.state().ready.get(&pose).cloned();
        known.unwrap_or_else(|| self.make(pose))
    }

    /// The frame of a pose with a mouth in it. `paste` puts one into a frame.
    pub fn with_mouth(&self, pose: u64, paste: impl FnOnce(&AvatarFrame) -> I420Frame) -> I420Frame {
        match &self.0.avatar.material {
            Material::Frames(frames) => match frames.get(self.index(pose)) {
                Some(frame) => paste(frame),
                None => self.0.avatar.base.as_ref().clone(),
            },
            Material::Film(_) => {
                let frame = self.frame(pose);
                // A frame that cannot be read has no place for a mouth.
                frame.canvas.as_deref().map_or_else(|| frame.picture.as_ref().clone(), paste)
            }
            Material::Photo(photo) => photo.draw(&paste(&photo.frame), &self.head(pose)),
        }
    }

    /// Makes a frame, which takes milliseconds, and keeps it if it is of use.
    fn make(&self, pose: u64) -> OwnFrame {
        let started = std::time::Instant::now();
        let frame = self.try_make(pose).unwrap_or_else(|error| {
            crate::metrics::own_frame_failed();
            tracing::error!(%error, "a frame of the avatar cannot be read: its first stands for it");
            self.stand_in()
        });
        crate::metrics::own_frame_took(started.elapsed());
        let mut state = self.state();
        if (state.shown.saturating_sub(BEHIND)..state.shown + FARTHEST).contains(&pose) {
            return state.ready.entry(pose).or_insert(frame).clone();
        }
        frame
    }

    fn try_make(&self, pose: u64) -> Result<OwnFrame, AvatarError> {
        let index = self.index(pose);
        if let Material::Photo(photo) = &self.0.avatar.material {
            let picture = Arc::new(photo.draw(&photo.frame.picture, &self.head(pose)));
            return Ok(OwnFrame { picture, canvas: None });
        }
        let canvas = self.0.avatar.canvas(index)?;
        Ok(OwnFrame { picture: Arc::clone(&canvas.picture), canvas: Some(Arc::new(canvas)) })
    }

    /// The first frame without a mouth.
    fn stand_in(&self) -> OwnFrame {
        OwnFrame { picture: Arc::clone(&self.0.avatar.base), canvas: None }
    }

    /// Makes the earliest frame that is wanted and not there. False if there is none.
    fn make_next(&self) -> bool {
        let missing = {
            let mut state = self.state();
            let missing = state.missing();
            state.queued = missing.is_some();
            missing
        };
        missing.map(|pose| self.make(pose)).is_some()
    }
}

impl fmt::Debug for OwnFrames {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "OwnFrames({})", self.0.avatar.manifest.id)
    }
}

impl State {
    fn missing(&self) -> Option<u64> {
        (self.shown..self.until).find(|pose| !self.ready.contains_key(pose))
    }
}

/// There is no such gesture.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the avatar has no gesture {name:?}; it has: {}", if known.is_empty() { "none" } else { known })]
pub struct UnknownGesture {
    /// What was asked for.
    pub name: String,
    /// Those that there are, with commas between.
    pub known: String,
}

/// Ways to the threads that make frames ahead. Cheap to clone.
#[derive(Clone)]
pub struct FrameMakers {
    queues: Arc<[mpsc::Sender<OwnFrames>]>,
    next: Arc<AtomicUsize>,
}

/// Owns the threads.
pub struct FrameThreads(Vec<Worker>);

impl FrameMakers {
    /// Starts the threads; an error if the machine gives none.
    pub fn spawn() -> std::io::Result<(Self, FrameThreads)> {
        let (mut queues, mut threads) = (Vec::new(), Vec::new());
        for _ in 0..threads_for_all_sessions() {
            let (sender, queue) = mpsc::channel(QUEUE);
            // For waiting for two things at once.
            let waits = tokio::runtime::Builder::new_current_thread().build()?;
            threads.push(Worker::spawn("frames", move |stop| make_frames(queue, &waits, &stop))?);
            queues.push(sender);
        }
        Ok((Self { queues: queues.into(), next: Arc::default() }, FrameThreads(threads)))
    }

    /// One session's own frames of an avatar, made ahead while somebody watches.
    pub fn frames_of(&self, avatar: Arc<Avatar>, audience: Audience) -> OwnFrames {
        let at = self.next.fetch_add(1, Ordering::Relaxed) % self.queues.len().max(1);
        OwnFrames::new(avatar, rand::random(), audience, self.queues.get(at).cloned())
    }

    /// Resolves when a thread has ended, which while the server runs is a fault.
    pub async fn ended(&self) {
        let closed = self.queues.iter().map(|queue| Box::pin(queue.closed()));
        futures_util::future::select_all(closed).await;
    }
}

impl FrameThreads {
    /// Ends the threads and waits for them. True if all ended without a panic.
    pub fn join(self) -> bool {
        // All of them, whatever the first says.
        self.0.into_iter().map(Worker::join).filter(|sound| !sound).count() == 0
    }
}

/// Makes one frame of each session in turn.
fn make_frames(mut queue: mpsc::Receiver<OwnFrames>, waits: &tokio::runtime::Runtime, stop: &CancellationToken) {
    let mut turn = std::collections::VecDeque::new();
    while !stop.is_cancelled() {
        while let Ok(frames) = queue.try_recv() {
            turn.push_back(frames);
        }
        match turn.pop_front() {
            Some(frames) if OwnFrames::make_next(&frames) => turn.push_back(frames),
            Some(_) => {}
            None => match waits.block_on(stop.run_until_cancelled(queue.recv())).flatten() {
                Some(frames) => turn.push_back(frames),
                None => return,
            },
        }
    }
}

#[cfg(test)]
mod tests;
