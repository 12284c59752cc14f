//! The thread's own turns beside more sessions than its network can draw, in time that passes only as the network says, so
//! that what comes out does not depend on the machine.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;

use super::thread::Turn;
use super::*;
use crate::kit::{self, network::FakeNetwork};
use crate::timeline::{FRAME_DURATION, LIPSYNC_SAMPLES_PER_FRAME};

/// On a core of a laptop: milliseconds of a batch, a window of sound and a frame. Two sessions and a half can be drawn.
const COST: [u64; 3] = [4, 3, 15];
/// Frames ahead of the screen, runs in flight, and frames of a run, as `animation` has them.
const AHEAD: usize = 16;
const IN_FLIGHT: usize = 3;
const RUN: usize = 4;

type Reply = oneshot::Receiver<Result<DrawnRun, LipSyncError>>;

struct Speaker {
    start: Instant,
    sent: usize,
    waiting: Vec<(usize, Reply)>,
    /// In time, too late, and left out.
    fresh: usize,
    late: usize,
    left_out: usize,
}

impl Speaker {
    fn due(&self, frame: usize) -> Instant {
        self.start + FRAME_DURATION * (frame as u32 + 2)
    }

    fn send(&mut self, session: usize, engine: &Engine, now: Instant) {
        let shown = now.saturating_duration_since(self.due(0)).as_millis() as usize / 40;
        while now >= self.start && self.waiting.len() < IN_FLIGHT && self.sent + RUN <= shown + AHEAD {
            let urgency = Urgency { deadline: Some(self.due(self.sent)), awaited: self.sent == 0 };
            let run = MouthRun {
                avatar: AvatarHandle(0),
                poses: (self.sent..self.sent + RUN).map(|frame| frame % 200).collect(),
                audio: vec![session as f32].into(),
                first_frame_at: self.sent * LIPSYNC_SAMPLES_PER_FRAME,
            };
            let reply = engine.draw(session as u64, run, urgency, CancellationToken::new()).now_or_never();
            self.waiting.push((self.sent, reply.expect("there is room").unwrap()));
            self.sent += RUN;
        }
    }

    fn receive(&mut self, now: Instant) {
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.retain_mut(|(first, reply)| {
            let Ok(mouths) = reply.try_recv() else { return true };
            for (at, mouth) in mouths.unwrap().into_iter().enumerate() {
                let in_time = now <= self.due(*first + at) || *first == 0;
                match mouth {
                    None => self.left_out += 1,
                    Some(mouth) => {
                        let drawn = (*first + at) % 200;
                        assert_eq!(mouth.into_crop().map(|crop| crop.rgb[0]), u8::try_from(drawn).ok());
                        if in_time { self.fresh += 1 } else { self.late += 1 }
                    }
                }
            }
            false
        });
        self.waiting = waiting;
    }
}

/// So many sessions speak for ten seconds, after two that are not counted: of each the fresh, late and left out mouths.
fn speak(sessions: usize) -> Vec<[usize; 3]> {
    speak_with(sessions, COST, 0)
}

/// [`speak`] with a network that takes these milliseconds, and `first` more for the first batch.
fn speak_with(sessions: usize, cost: [u64; 3], first: u64) -> Vec<[usize; 3]> {
    let start = Instant::now();
    let time = Arc::new(Mutex::new(start));
    let (clock, passing) = (Arc::clone(&time), Arc::clone(&time));
    let more = Mutex::new(first);
    let network = FakeNetwork::of_batches(move |runs| {
        let frames = runs.iter().map(|run| run.poses.len()).sum::<usize>() as u64;
        let windows = runs.iter().map(|run| Arc::as_ptr(&run.audio).cast::<f32>()).collect::<BTreeSet<_>>().len();
        let [batch, window, frame] = cost;
        let first = std::mem::take(&mut *more.lock().unwrap());
        *passing.lock().unwrap() += Duration::from_millis(first + batch + window * windows as u64 + frame * frames);
        let pixel = |pose: &usize| kit::network::pixel([u8::try_from(*pose).unwrap(); 3]);
        Ok(runs.iter().map(|run| run.poses.iter().map(pixel).collect()).collect())
    });
    let (requests, queue) = mpsc::channel(QUEUE);
    let engine = Engine { requests, context_samples: Arc::default(), rate: Arc::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let now: super::inference::Clock = Box::new(move || *clock.lock().unwrap());
    let stop = CancellationToken::new();
    let mut thread = Thread::with_time(Box::new(network), queue, runtime, Arc::default(), stop, now);
    let speaker = |at: usize| Speaker {
        start: start + Duration::from_millis(at as u64 * 130),
        sent: 0,
        waiting: Vec::new(),
        fresh: 0,
        late: 0,
        left_out: 0,
    };
    let mut speakers: Vec<Speaker> = (0..sessions).map(speaker).collect();
    let mut settled = Vec::new();
    loop {
        let now = *time.lock().unwrap();
        for (session, speaker) in speakers.iter_mut().enumerate() {
            speaker.receive(now);
            speaker.send(session, &engine, now);
        }
        let counts = |speaker: &Speaker| [speaker.fresh, speaker.late, speaker.left_out];
        let all = || speakers.iter().map(counts).collect::<Vec<_>>();
        if settled.is_empty() && now >= start + Duration::from_secs(2) {
            settled = all();
        }
        if now >= start + Duration::from_secs(12) {
            let since = |(now, then): ([usize; 3], &[usize; 3])| [now[0] - then[0], now[1] - then[1], now[2] - then[2]];
            return all().into_iter().zip(&settled).map(since).collect();
        }
        match thread.turn() {
            Turn::Busy => {}
            Turn::Idle(_) => *time.lock().unwrap() += Duration::from_millis(1),
            Turn::Over => panic!("it draws no more"),
        }
    }
}

#[test]
fn with_two_and_four_times_the_sessions_it_draws_as_much_and_every_session_its_share() {
    let total = |found: &[[usize; 3]]| found.iter().map(|[fresh, ..]| fresh).sum::<usize>();
    let edge = total(&speak(3));
    assert!(edge > 450, "{edge} in ten seconds of what 15 ms a frame allow");
    for sessions in [1, 2] {
        let found = speak(sessions);
        assert!(found.iter().all(|[fresh, late, left_out]| *fresh >= 246 && late + left_out == 0), "{found:?}");
    }
    for sessions in [4, 6, 10] {
        let found = speak(sessions);
        let (fresh, late) = (total(&found), found.iter().map(|[_, late, _]| late).sum::<usize>());
        assert!(fresh * 100 >= edge * 88, "{sessions} sessions: {fresh} of {edge}: {found:?}");
        assert!(found.iter().all(|[own, ..]| own * sessions * 2 >= fresh), "{sessions} sessions: {found:?}");
        // Hardly anything is drawn for nothing.
        assert!(late * 50 <= fresh, "{sessions} sessions: {found:?}");
    }
}

#[test]
fn a_batch_that_was_slow_once_is_doubted_after_two_seconds() {
    // 300 frames a second but for a moment when something else had the device.
    for sessions in [1, 8] {
        let found = speak_with(sessions, [4, 0, 3], 1000);
        assert!(found.iter().all(|[fresh, ..]| *fresh >= 200), "{found:?}");
    }
}
