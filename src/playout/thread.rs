//! The playout thread, and the ways to it: one for whoever opens sessions, one for each session.
//!
//! Not in here: what a session shows at a tick (`schedule`).
//! Runs on: its own OS thread, "playout", one for all sessions. Nothing it calls may block longer than a frame.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc as blocking;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::clock::{PlayoutClock, PoseClock};
use super::pace::{Cores, Pace, PacedPicture};
use super::schedule::Schedule;
use super::volume::{Fader, Volume};
use super::{Command, Event, Pair, PairSink};
use crate::avatar::OwnFrames;
use crate::ids::SessionId;
use crate::timeline::{FPS, FrameIndex, MediaTime, Timeline};
use crate::worker::Worker;

/// Commands of one session waiting for the next tick: a frame takes two and 16 frames are in the air at most.
const COMMANDS: usize = 256;
/// Sessions opening and closing within one tick.
const CONTROLS: usize = 64;
/// Ticks that are made up for after a stall. Beyond a second, the time is skipped: a burst of a minute of idle pairs
/// after a suspended laptop wakes would only delay what is said next.
const MAX_CATCH_UP: u64 = FPS as u64;
/// Events that wait for a session's task, which takes them as they come. Beyond, only ends of utterances are kept.
const UNTOLD: usize = 256;

struct RunningSession {
    id: SessionId,
    schedule: Schedule,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<Event>,
    /// Found no room in `events` yet.
    untold: VecDeque<Event>,
    sink: Box<dyn PairSink>,
    clock: Arc<PoseClock>,
    fader: Fader,
    picture: PacedPicture,
    /// Tick of the loop at which this session's pair 0 left.
    first_tick: Option<u64>,
}

enum Control {
    Add(Box<RunningSession>),
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
    /// What is to be spoken.
    pub commands: mpsc::Sender<Command>,
    /// Where the session's idle loop stands.
    pub pose: Arc<PoseClock>,
    /// How loud the session speaks.
    pub volume: Arc<Volume>,
    /// The time that `pose` is in.
    pub clock: PlayoutClock,
}

/// Nothing is played out any more, which while the server runs is a fault.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the playout thread has ended")]
pub struct PlayoutEnded;

impl Playout {
    /// Starts the thread.
    pub fn spawn() -> std::io::Result<(Self, PlayoutThread)> {
        Self::spawn_on(PlayoutClock::start())
    }

    /// Starts the thread with a clock of one's own.
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
        own: OwnFrames,
        sink: Box<dyn PairSink>,
        events: mpsc::Sender<Event>,
    ) -> Result<SessionPlayout, PlayoutEnded> {
        let (sender, commands) = mpsc::channel(COMMANDS);
        let pose = Arc::new(PoseClock::default());
        let volume = Arc::new(Volume::default());
        let running = RunningSession {
            id,
            schedule: Schedule::new(own),
            commands,
            events,
            untold: VecDeque::new(),
            sink,
            clock: Arc::clone(&pose),
            fader: Fader::new(Arc::clone(&volume)),
            picture: PacedPicture::default(),
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
    let mut sessions: Vec<RunningSession> = Vec::new();
    let (mut next_tick, mut pace) = (0u64, Pace::default());
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
                session.tick(next_tick, following, &mut pace);
            }
            pace.tick(Cores::read);
            next_tick += 1;
        }
    }
}

impl RunningSession {
    fn tick(&mut self, tick: u64, following: MediaTime, pace: &mut Pace) {
        while let Ok(command) = self.commands.try_recv() {
            self.schedule.apply(command);
        }
        let index = FrameIndex(tick - *self.first_tick.get_or_insert(tick));
        let mut shown = self.schedule.tick();
        self.fader.tick(shown.audio.as_deref_mut());
        self.clock.publish(self.schedule.next_pose(), following);
        pace.count(shown.kind);
        let frame = self.picture.show(shown.frame, shown.kind, self.schedule.avatar(), pace);
        self.sink.push(Pair { index, frame, audio: shown.audio, utterance: shown.utterance });
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
            let event = Event::of(change, index, at);
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
    use crate::ids::UtteranceId;
    use crate::kit;
    use crate::playout::AvatarNumber;
    use crate::timeline::PLAYOUT_SAMPLES_PER_FRAME;

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
        let own = OwnFrames::of(Arc::new(kit::avatar::tiny()));
        let add = async |sink: Box<dyn PairSink>| {
            let (events, told) = mpsc::channel(1);
            let id = SessionId::next();
            (id, playout.add(id, own.clone(), sink, events).await.unwrap(), told)
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
        let session =
            playout.add(id, OwnFrames::of(Arc::new(kit::avatar::tiny())), Box::new(Nowhere), events).await.unwrap();
        let permits = Arc::new(tokio::sync::Semaphore::new(64));
        let mut spoken = Vec::new();
        for _ in 0..20 {
            let (utterance, cancelled) = (UtteranceId::next(), CancellationToken::new());
            let sentence = utterance.sentence(0);
            spoken.push(utterance);
            let audio = Box::new([1; PLAYOUT_SAMPLES_PER_FRAME]);
            let permit = Arc::clone(&permits).acquire_owned().await.unwrap();
            let commands = [
                Command::BeginSentence { sentence, start_pose: 0, cancelled: cancelled.clone() },
                Command::Frame { sentence, audio, own: true, avatar: AvatarNumber::default(), permit },
                Command::EndSentence { sentence },
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
        let session =
            playout.add(id, OwnFrames::of(Arc::new(kit::avatar::tiny())), Box::new(Nowhere), events).await.unwrap();
        let cancelled = CancellationToken::new();
        let sentence = UtteranceId::next().sentence(0);
        let permit = Arc::new(tokio::sync::Semaphore::new(1)).acquire_owned().await.unwrap();
        let audio = Box::new([1; PLAYOUT_SAMPLES_PER_FRAME]);
        session.commands.send(Command::BeginSentence { sentence, start_pose: 0, cancelled }).await.unwrap();
        session
            .commands
            .send(Command::Frame { sentence, audio, own: true, avatar: AvatarNumber::default(), permit })
            .await
            .unwrap();
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
