//! The real-time loop: every 40 ms one pair of a frame and its sound leaves for each session.
//!
//! In here: the playout thread, its clock, and what goes in and out of it. `schedule` decides what a session shows
//! at a tick and is pure. Not in here: inference, pixels, GStreamer objects.
//! Runs on: its own OS thread, "playout", one for all sessions. Nothing it calls may block longer than a frame.

pub mod schedule;
mod volume;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc as blocking;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::avatar::Avatar;
use crate::ids::{SegmentId, SessionId, UtteranceId};
use crate::picture::I420Frame;
use crate::timeline::{FPS, FRAME_DURATION, FrameIndex, MediaTime, PLAYOUT_SAMPLES_PER_FRAME, Timeline};
use crate::worker::Worker;
use schedule::Schedule;
use volume::Fader;
pub use volume::Volume;

/// Commands of one session waiting for the next tick: a frame takes two and 16 frames are in the air at most.
const COMMANDS: usize = 256;
/// Sessions opening and closing within one tick.
const CONTROLS: usize = 64;
/// Ticks that are made up for after a stall. Beyond a second, the time is skipped: a burst of a minute of idle pairs
/// after a suspended laptop wakes would only delay what is said next.
const MAX_CATCH_UP: u64 = FPS as u64;
/// Events that wait for a session's task, which takes them as they come. Beyond, only ends of utterances are kept.
const UNTOLD: usize = 256;

/// The sound of one frame: 40 ms of 48 kHz mono.
pub type FrameAudio = Box<[i16; PLAYOUT_SAMPLES_PER_FRAME]>;

/// One unit of media: a frame and the exact 40 ms of sound that belong to it.
#[derive(Clone, Debug)]
pub struct Pair {
    /// Frames since the session began; presentation time is this over the frame rate.
    pub index: FrameIndex,
    /// `Arc`, since idle frames are the avatar's own and shared by all sessions.
    pub frame: Arc<I420Frame>,
    /// `None` is silence.
    pub audio: Option<FrameAudio>,
    /// Whose speech this is; `None` while idle.
    pub utterance: Option<UtteranceId>,
}

/// Where pairs go. Called on the playout thread, so it must not block.
pub trait PairSink: Send {
    fn push(&mut self, pair: Pair);
}

/// Speech on its way to playout, in order of its frames.
#[derive(Debug)]
pub enum Command {
    /// A segment is being made; its frames were drawn for the poses from `start_pose` on.
    Begin { segment: SegmentId, utterance: UtteranceId, start_pose: u64, cancelled: CancellationToken },
    /// The next frame of a segment: its sound, and whether the avatar's own frame is its picture (silence) or a
    /// mouth follows. The permit bounds how far ahead of the picture on screen the engine works.
    Frame { segment: SegmentId, audio: FrameAudio, own: bool, permit: OwnedSemaphorePermit },
    /// The picture of a frame announced before; not `fresh` if its mouth is that of the frame before.
    Mouth { segment: SegmentId, index: u64, picture: Arc<I420Frame>, fresh: bool },
    /// All frames of the segment were announced.
    EndSegment { segment: SegmentId },
    /// All segments of the utterance have begun.
    EndUtterance { utterance: UtteranceId, cancelled: CancellationToken },
}

/// What playout tells a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The first pair of the utterance left.
    Started { utterance: UtteranceId, at: Instant },
    /// The next sentence of the utterance is heard, from this pair on.
    SentenceStarted { utterance: UtteranceId, index: FrameIndex },
    /// The first generated mouth of the utterance left, with this pair.
    FirstMouth { utterance: UtteranceId, index: FrameIndex, at: Instant },
    /// The utterance is over; `frames` of it were heard. `at` is when the first pair without it left.
    Ended { utterance: UtteranceId, frames: u64, interrupted: bool, at: Instant },
}

/// Where the idle loop of a session stands, for whoever draws mouths onto its coming frames.
#[derive(Debug, Default)]
pub struct PoseClock {
    next_pose: AtomicU64,
    next_tick: AtomicU64,
}

impl PoseClock {
    /// The pose of the first tick that is at least `delay` after `now`. Where nobody keeps this clock, as in a film, the
    /// next pose waits for as long as it takes.
    pub fn pose_after(&self, now: MediaTime, delay: Duration) -> u64 {
        let (pose, next_tick) = (self.next_pose.load(Ordering::Acquire), self.next_tick.load(Ordering::Acquire));
        if next_tick == 0 {
            return pose;
        }
        let until_tick = MediaTime::from_nanos(next_tick).since(now);
        let late = delay.saturating_sub(until_tick);
        let frame = FRAME_DURATION.as_nanos();
        pose + u64::try_from(late.as_nanos().div_ceil(frame)).unwrap_or(0)
    }

    /// When a pose will be shown if nothing holds the head. `None` if nobody keeps this clock.
    pub fn due(&self, pose: u64) -> Option<MediaTime> {
        let (next_pose, next_tick) = (self.next_pose.load(Ordering::Acquire), self.next_tick.load(Ordering::Acquire));
        let frame = u64::try_from(FRAME_DURATION.as_nanos()).unwrap_or(0);
        let ahead = pose.saturating_sub(next_pose).saturating_mul(frame);
        (next_tick > 0).then(|| MediaTime::from_nanos(next_tick.saturating_add(ahead)))
    }

    fn publish(&self, next_pose: u64, next_tick: MediaTime) {
        self.next_pose.store(next_pose, Ordering::Release);
        self.next_tick.store(next_tick.nanos(), Ordering::Release);
    }
}

/// Media time as the playout thread reads it: nanoseconds of the monotonic clock since the loop began.
#[derive(Clone, Copy, Debug)]
pub struct PlayoutClock {
    began: Instant,
    speed: u32,
}

impl PlayoutClock {
    /// A clock that reads zero now.
    pub fn start() -> Self {
        Self::at_speed(1)
    }

    /// For simulations: time passes so many times as fast.
    pub fn at_speed(speed: u32) -> Self {
        Self { began: Instant::now(), speed: speed.max(1) }
    }

    pub fn now(&self) -> MediaTime {
        let passed = self.began.elapsed().as_nanos() * u128::from(self.speed);
        MediaTime::from_nanos(u64::try_from(passed).unwrap_or(u64::MAX))
    }

    /// The moment at which this clock reads `time`.
    pub fn instant(&self, time: MediaTime) -> Instant {
        self.began + Duration::from_nanos(time.nanos().div_ceil(u64::from(self.speed)))
    }
}

struct Running {
    id: SessionId,
    schedule: Schedule,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<Event>,
    /// Found no room in `events` yet.
    untold: VecDeque<Event>,
    sink: Box<dyn PairSink>,
    clock: Arc<PoseClock>,
    fader: Fader,
    /// Tick of the loop at which this session's pair 0 left.
    first_tick: Option<u64>,
}

enum Control {
    Add(Box<Running>),
    Remove(SessionId, oneshot::Sender<Box<dyn PairSink>>),
}

/// A way to the playout thread.
#[derive(Clone)]
pub struct Playout {
    control: blocking::SyncSender<Control>,
    clock: PlayoutClock,
    /// Cancelled when the thread ends, by a panic too.
    ended: CancellationToken,
}

/// Owns the thread, which ends when this or the last [`Playout`] is dropped.
pub struct PlayoutThread(Worker);

/// One session's way in; commands are taken at the next tick.
pub struct SessionPlayout {
    pub commands: mpsc::Sender<Command>,
    pub pose: Arc<PoseClock>,
    pub volume: Arc<Volume>,
    pub clock: PlayoutClock,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the playout thread has ended")]
pub struct PlayoutEnded;

impl Playout {
    pub fn spawn() -> std::io::Result<(Self, PlayoutThread)> {
        Self::spawn_on(PlayoutClock::start())
    }

    /// With a clock of one's own.
    pub fn spawn_on(clock: PlayoutClock) -> std::io::Result<(Self, PlayoutThread)> {
        let (control, controls) = blocking::sync_channel(CONTROLS);
        let ended = CancellationToken::new();
        let guard = ended.clone().drop_guard();
        let thread = Worker::spawn("playout", move |stop| {
            let _guard = guard;
            run(&controls, clock, &stop);
        })?;
        Ok((Self { control, clock, ended }, PlayoutThread(thread)))
    }

    /// Starts a session: from the next tick on it gets a pair every 40 ms, idle until it is told to speak.
    /// Events that find `events` full are told later; the end of an utterance is never left out.
    pub async fn add(
        &self,
        id: SessionId,
        avatar: Arc<Avatar>,
        sink: Box<dyn PairSink>,
        events: mpsc::Sender<Event>,
    ) -> Result<SessionPlayout, PlayoutEnded> {
        let (sender, commands) = mpsc::channel(COMMANDS);
        let pose = Arc::new(PoseClock::default());
        let volume = Arc::new(Volume::default());
        let running = Running {
            id,
            schedule: Schedule::new(avatar),
            commands,
            events,
            untold: VecDeque::new(),
            sink,
            clock: Arc::clone(&pose),
            fader: Fader::new(Arc::clone(&volume)),
            first_tick: None,
        };
        self.control(Control::Add(Box::new(running))).await?;
        Ok(SessionPlayout { commands: sender, pose, volume, clock: self.clock })
    }

    /// Stops a session and gives its sink back. After this no pair of it leaves.
    pub async fn remove(&self, id: SessionId) -> Option<Box<dyn PairSink>> {
        let (reply, sink) = oneshot::channel();
        self.control(Control::Remove(id, reply)).await.ok()?;
        sink.await.ok()
    }

    async fn control(&self, control: Control) -> Result<(), PlayoutEnded> {
        match self.control.try_send(control) {
            Ok(()) => Ok(()),
            Err(blocking::TrySendError::Disconnected(_)) => Err(PlayoutEnded),
            // Many sessions open or end at once; the thread has room again after its tick.
            Err(blocking::TrySendError::Full(waiting)) => {
                let control = self.control.clone();
                let sent = tokio::task::spawn_blocking(move || control.send(waiting)).await;
                sent.ok().and_then(Result::ok).ok_or(PlayoutEnded)
            }
        }
    }

    /// Resolves when the thread has ended, which while the server runs is a fault.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }
}

impl PlayoutThread {
    /// Ends the thread and waits for it. True if it ended without a panic.
    pub fn join(self) -> bool {
        self.0.join()
    }
}

fn run(controls: &blocking::Receiver<Control>, clock: PlayoutClock, stop: &CancellationToken) {
    let timeline = Timeline::playout(MediaTime::default());
    let mut sessions: Vec<Running> = Vec::new();
    let mut next_tick = 0u64;
    // Looked at every tick, since that is never far.
    while !stop.is_cancelled() {
        let wait = clock.instant(timeline.video_pts(FrameIndex(next_tick))).saturating_duration_since(Instant::now());
        match controls.recv_timeout(wait) {
            Ok(Control::Add(session)) => {
                session.clock.publish(0, timeline.video_pts(FrameIndex(next_tick)));
                sessions.push(*session);
                continue;
            }
            Ok(Control::Remove(id, reply)) => {
                let place = sessions.iter().position(|session| session.id == id);
                if let Some(at) = place {
                    // Nobody waits for the sink if the session's owner was itself dropped.
                    let _ = reply.send(sessions.swap_remove(at).close());
                }
                continue;
            }
            Err(blocking::RecvTimeoutError::Timeout) => {}
            Err(blocking::RecvTimeoutError::Disconnected) => return,
        }
        let now = clock.now();
        let Some(FrameIndex(due)) = timeline.frame_due(now) else { continue };
        if due < next_tick {
            continue;
        }
        crate::metrics::tick_late(now.since(timeline.video_pts(FrameIndex(next_tick))));
        let missed = due - next_tick;
        if missed > MAX_CATCH_UP {
            crate::metrics::ticks_skipped(missed);
            tracing::warn!(ticks = missed, "playout stood still; the time is skipped");
            next_tick = due;
        }
        while next_tick <= due {
            let following = timeline.video_pts(FrameIndex(next_tick + 1));
            for session in &mut sessions {
                session.tick(next_tick, following);
            }
            next_tick += 1;
        }
    }
}

impl Running {
    fn tick(&mut self, tick: u64, following: MediaTime) {
        while let Ok(command) = self.commands.try_recv() {
            self.schedule.apply(command);
        }
        let index = FrameIndex(tick - *self.first_tick.get_or_insert(tick));
        let mut shown = self.schedule.tick();
        self.fader.tick(shown.audio.as_deref_mut());
        self.clock.publish(self.schedule.next_pose(), following);
        self.sink.push(Pair { index, frame: shown.frame, audio: shown.audio, utterance: shown.utterance });
        crate::metrics::pair_pushed(shown.kind.as_str(), shown.kind.mouth());
        self.tell(index);
    }

    /// Reports how much was heard of what is being said, and gives the sink back.
    fn close(mut self) -> Box<dyn PairSink> {
        self.schedule.close();
        self.tell(FrameIndex(0));
        self.sink
    }

    /// Reports what changed with this pair.
    fn tell(&mut self, index: FrameIndex) {
        let at = Instant::now();
        for change in self.schedule.take_changes() {
            let event = match change {
                schedule::Change::Started(utterance) => Event::Started { utterance, at },
                schedule::Change::SentenceStarted(utterance) => Event::SentenceStarted { utterance, index },
                schedule::Change::FirstMouth(utterance) => Event::FirstMouth { utterance, index, at },
                schedule::Change::Ended { utterance, frames, interrupted } => {
                    Event::Ended { utterance, frames, interrupted, at }
                }
            };
            if self.untold.len() < UNTOLD || matches!(event, Event::Ended { .. }) {
                self.untold.push_back(event);
            } else {
                crate::metrics::event_dropped();
            }
        }
        while let Some(event) = self.untold.pop_front() {
            match self.events.try_send(event) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(event)) => {
                    self.untold.push_front(event);
                    break;
                }
                // Nobody wants to know any more.
                Err(mpsc::error::TrySendError::Closed(_)) => self.untold.clear(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::avatar::fixture;

    /// Reports its first pair and holds the thread in that tick until it is let go.
    struct Holding(Option<(oneshot::Sender<()>, blocking::Receiver<()>)>);
    struct Nowhere;

    impl PairSink for Holding {
        fn push(&mut self, _: Pair) {
            if let Some((holding, release)) = self.0.take() {
                holding.send(()).unwrap();
                let _ = release.recv();
            }
        }
    }

    impl PairSink for Nowhere {
        fn push(&mut self, _: Pair) {}
    }

    #[tokio::test]
    async fn however_many_sessions_end_within_one_tick_none_is_left_behind() {
        let (playout, thread) = Playout::spawn().unwrap();
        let avatar = Arc::new(fixture::avatar());
        let add = async |sink: Box<dyn PairSink>| {
            let (events, told) = mpsc::channel(1);
            let id = SessionId::next();
            (id, playout.add(id, Arc::clone(&avatar), sink, events).await.unwrap(), told)
        };
        let mut sessions = Vec::new();
        for _ in 0..3 * CONTROLS {
            sessions.push(add(Box::new(Nowhere)).await);
        }
        let (holding, held) = oneshot::channel();
        let (release, released) = blocking::channel();
        sessions.push(add(Box::new(Holding(Some((holding, released))))).await);
        held.await.unwrap();
        let mut removals = Vec::new();
        for (id, ..) in &sessions {
            let mut removal = Box::pin(playout.remove(*id));
            assert!(futures_util::poll!(&mut removal).is_pending());
            removals.push(removal);
        }
        drop(release);
        for removal in removals {
            assert!(removal.await.is_some());
        }
        for (_, _, mut told) in sessions {
            assert_eq!(told.recv().await, None);
        }
        drop(playout);
        assert!(thread.join());
    }

    #[tokio::test]
    async fn the_end_of_an_utterance_is_told_however_late_its_session_listens() {
        let (playout, thread) = Playout::spawn_on(PlayoutClock::at_speed(100)).unwrap();
        let (events, mut told) = mpsc::channel(1);
        let id = SessionId::next();
        let session = playout.add(id, Arc::new(fixture::avatar()), Box::new(Nowhere), events).await.unwrap();
        let permits = Arc::new(tokio::sync::Semaphore::new(64));
        let mut spoken = Vec::new();
        for _ in 0..20 {
            let (segment, utterance, cancelled) = (SegmentId::next(), UtteranceId::next(), CancellationToken::new());
            spoken.push(utterance);
            let audio = Box::new([1; PLAYOUT_SAMPLES_PER_FRAME]);
            let permit = Arc::clone(&permits).acquire_owned().await.unwrap();
            let commands = [
                Command::Begin { segment, utterance, start_pose: 0, cancelled: cancelled.clone() },
                Command::Frame { segment, audio, own: true, permit },
                Command::EndSegment { segment },
                Command::EndUtterance { utterance, cancelled },
            ];
            for command in commands {
                session.commands.send(command).await.unwrap();
            }
        }
        // All are shown, and their permits back, before anybody listens.
        let _all = permits.acquire_many(64).await.unwrap();
        let mut ended = Vec::new();
        while ended.len() < spoken.len() {
            if let Event::Ended { utterance, frames: 1, interrupted: false, .. } = told.recv().await.unwrap() {
                ended.push(utterance);
            }
        }
        assert_eq!(ended, spoken);
        drop((session, playout));
        assert!(thread.join());
    }

    #[tokio::test]
    async fn a_session_that_is_taken_out_is_told_how_much_was_heard() {
        let (playout, thread) = Playout::spawn_on(PlayoutClock::at_speed(100)).unwrap();
        let (events, mut told) = mpsc::channel(8);
        let id = SessionId::next();
        let session = playout.add(id, Arc::new(fixture::avatar()), Box::new(Nowhere), events).await.unwrap();
        let (segment, utterance, cancelled) = (SegmentId::next(), UtteranceId::next(), CancellationToken::new());
        let permit = Arc::new(tokio::sync::Semaphore::new(1)).acquire_owned().await.unwrap();
        let audio = Box::new([1; PLAYOUT_SAMPLES_PER_FRAME]);
        session.commands.send(Command::Begin { segment, utterance, start_pose: 0, cancelled }).await.unwrap();
        session.commands.send(Command::Frame { segment, audio, own: true, permit }).await.unwrap();
        assert!(matches!(told.recv().await, Some(Event::Started { .. })));
        playout.remove(id).await.unwrap();
        let mut last = None;
        while let Some(event) = told.recv().await {
            last = Some(event);
        }
        assert!(matches!(last, Some(Event::Ended { frames: 1, interrupted: true, .. })), "{last:?}");
        drop((session, playout));
        assert!(thread.join());
    }
}
