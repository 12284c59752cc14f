//! More sessions than can be served, in time that passes as the costs of batches say.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::lipsync::batch::batch_size;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// What batches take, in milliseconds.
#[derive(Clone, Copy, Debug)]
struct Cost {
    /// Each batch.
    batch: f64,
    /// Each window of sound.
    window: f64,
    /// Each frame.
    frame: f64,
    /// Up to which share of all that it takes more or less.
    noise: f64,
}

/// Calls cost more than arithmetic.
const GPU: Cost = Cost { batch: 12.0, window: 0.3, frame: 1.2, noise: 0.1 };
/// Arithmetic is what costs, on a core that others use too.
const CPU: Cost = Cost { batch: 4.0, window: 3.0, frame: 18.0, noise: 0.4 };

impl Cost {
    fn of(&self, frames: usize, windows: usize) -> f64 {
        self.batch + self.window * windows as f64 + self.frame * frames as f64
    }

    /// Sessions of 25 frames a second that it draws all mouths of.
    fn sessions(&self) -> f64 {
        let fit = BATCH_SIZES.into_iter().filter(|size| *size == 1 || self.of(*size, 1) <= 80.0);
        fit.map(|size| size as f64 * 1000.0 / self.of(size, size.div_ceil(4)) / 25.0).fold(0.0, f64::max)
    }
}

/// A session that speaks without a pause, sentence after sentence, as `animation` has it.
struct Speaker {
    start: Instant,
    /// Frames that were sent to be drawn, and of the sentence.
    sent: usize,
    of_sentence: usize,
    in_flight: usize,
    fresh: usize,
    late: usize,
    /// Frames since the last fresh one, and the most of them.
    held: usize,
    longest_held: usize,
    first_word: Option<Duration>,
}

/// Frames ahead of the screen, runs at the engine, and frames of a sentence.
const AHEAD: usize = 16;
const IN_FLIGHT: usize = 3;
const SENTENCE: usize = 60;

#[derive(Debug)]
struct Outcome {
    /// A second, of all.
    fresh: f64,
    /// Of the session that got fewest, as a share of the mean.
    least: f64,
    /// Drawn and too late, of all that was drawn.
    late: f64,
    /// The longest that any session's mouth was held, in frames.
    held: usize,
    /// What a session that begins to speak meanwhile waits for its first mouth, at most.
    first_word: Duration,
}

/// Each item is a session, the first frame of a run, and whether it begins to speak.
type Item = (usize, usize);

struct World {
    cost: Cost,
    speakers: Vec<Speaker>,
    scheduler: Scheduler<Item>,
    capacity: Capacity,
    rng: ChaCha8Rng,
    now: Instant,
    /// Time in which nothing was drawn.
    idle: Duration,
    /// How many batches there were, by their frames.
    batches: BTreeMap<usize, usize>,
}

impl World {
    fn new(cost: Cost, sessions: usize, seed: u64) -> Self {
        let (now, mut rng) = (Instant::now(), ChaCha8Rng::seed_from_u64(seed));
        let mut capacity = Capacity::default();
        for size in [1, 2, 4] {
            capacity.learn(size, 1, Duration::from_secs_f64(cost.of(size, 1) / 1000.0));
        }
        let speaker = |_| Speaker {
            start: now + ms(rng.random_range(0..1500)),
            sent: 0,
            of_sentence: 0,
            in_flight: 0,
            fresh: 0,
            late: 0,
            held: 0,
            longest_held: 0,
            first_word: None,
        };
        let speakers = (0..sessions).map(speaker).collect();
        Self {
            cost,
            speakers,
            scheduler: Scheduler::default(),
            capacity,
            rng,
            now,
            idle: Duration::ZERO,
            batches: BTreeMap::new(),
        }
    }

    /// Runs that there is room for are sent.
    fn send(&mut self) {
        for (at, speaker) in self.speakers.iter_mut().enumerate() {
            while speaker.start <= self.now && speaker.in_flight < IN_FLIGHT {
                let size = batch_size(speaker.of_sentence, SENTENCE);
                let shown = self.now.saturating_duration_since(speaker.due(0)).as_millis() as usize / 40;
                if speaker.sent + size > shown + AHEAD {
                    break;
                }
                let awaited = speaker.of_sentence == 0;
                let deadline = Some(speaker.due(speaker.sent));
                let run = Pending { session: at as u64, deadline, frames: size, awaited, item: (at, speaker.sent) };
                self.scheduler.push(run, self.now);
                speaker.sent += size;
                speaker.of_sentence = (speaker.of_sentence + size) % SENTENCE;
                speaker.in_flight += 1;
            }
        }
    }

    fn run(&mut self, until: Instant) {
        while self.now < until {
            self.send();
            for (session, _) in self.scheduler.remove_late(self.now, &self.capacity) {
                self.speakers[session].in_flight -= 1;
            }
            match self.scheduler.next(self.now, &self.capacity) {
                Next::Draw(batch) => self.draw(&batch),
                Next::Wait(until) => {
                    self.idle += until.min(self.now + ms(5)) - self.now;
                    self.now = until.min(self.now + ms(5));
                }
                Next::Nothing => {
                    self.idle += ms(1);
                    self.now += ms(1);
                }
            }
        }
    }

    fn draw(&mut self, batch: &[Scheduled<Item>]) {
        let frames = batch.iter().map(|run| run.drawn.len()).sum();
        if frames > 0 {
            let windows = batch.iter().filter(|run| !run.drawn.is_empty()).map(|run| run.item.0);
            let windows = windows.collect::<std::collections::BTreeSet<_>>().len();
            let noise = 1.0 + self.rng.random_range(-self.cost.noise..=self.cost.noise);
            let took = Duration::from_secs_f64(self.cost.of(frames, windows) * noise / 1000.0);
            *self.batches.entry(frames).or_default() += 1;
            self.capacity.learn(frames, windows, took);
            self.now += took;
        }
        for run in batch {
            let (session, first) = run.item;
            let now = self.now;
            let speaker = &mut self.speakers[session];
            speaker.in_flight -= 1;
            for frame in &run.drawn {
                if first + frame == 0 {
                    speaker.first_word = Some(now.saturating_duration_since(speaker.start));
                }
                if now <= speaker.due(first + frame) || first + frame == 0 {
                    speaker.fresh += 1;
                    speaker.longest_held = speaker.longest_held.max(first + frame - speaker.held);
                    speaker.held = first + frame;
                } else {
                    speaker.late += 1;
                }
            }
        }
    }
}

impl Speaker {
    /// When a frame is due: the first one as soon as it may be there.
    fn due(&self, frame: usize) -> Instant {
        self.start + ms(60) + FRAME_DURATION * frame as u32
    }
}

fn overload(cost: Cost, times: f64, seed: u64) -> Outcome {
    let sessions = ((cost.sessions() * times).round() as usize).max(1);
    let mut world = World::new(cost, sessions, seed);
    let (start, settled) = (world.now, ms(3_000));
    world.run(start + settled);
    let before: Vec<(usize, usize)> = world.speakers.iter().map(|speaker| (speaker.fresh, speaker.late)).collect();
    for speaker in &mut world.speakers {
        speaker.longest_held = 0;
    }
    let measured = ms(10_000);
    world.run(start + settled + measured);
    let counts: Vec<(usize, usize)> = world
        .speakers
        .iter()
        .zip(&before)
        .map(|(speaker, (fresh, late))| (speaker.fresh - fresh, speaker.late - late))
        .collect();
    let fresh: usize = counts.iter().map(|(fresh, _)| fresh).sum();
    let late: usize = counts.iter().map(|(_, late)| late).sum();
    let least = counts.iter().map(|(fresh, _)| *fresh).min().unwrap_or(0);
    Outcome {
        fresh: fresh as f64 / measured.as_secs_f64(),
        least: least as f64 * sessions as f64 / fresh as f64,
        late: late as f64 / (fresh + late) as f64,
        held: world.speakers.iter().map(|speaker| speaker.longest_held).max().unwrap_or(0),
        first_word: world.speakers.iter().filter_map(|speaker| speaker.first_word).max().unwrap_or(Duration::MAX),
    }
}

/// The bounds, at several times what can be drawn; fresh mouths as a share of those at the edge.
fn assert_bends(cost: Cost, seed: u64, least: impl Fn(f64) -> f64) -> Result<(), TestCaseError> {
    let edge = overload(cost, 1.0, seed);
    for times in [1.25, 1.5, 2.0, 3.0, 4.0, 6.0] {
        let found = overload(cost, times, seed);
        let told = format!("{times} times: {found:?}, at the edge {edge:?}, {cost:?}");
        prop_assert!(found.fresh >= least(times) * edge.fresh, "{}", told);
        prop_assert!(found.least >= 0.5 && found.late <= 0.1 && found.first_word <= ms(450), "{}", told);
    }
    Ok(())
}

#[test]
fn beyond_what_can_be_drawn_as_much_is_drawn_in_equal_shares_and_first_words_come_first() {
    for cost in [GPU, CPU] {
        assert_bends(cost, 1, |_| 0.9).unwrap();
    }
}

#[test]
fn no_mouth_is_held_for_long_even_where_batches_take_by_turns_much_more_and_much_less_than_expected() {
    for cost in [GPU, CPU] {
        for (times, most) in [(1.25, 10), (2.0, 10), (4.0, 16)] {
            let found = overload(cost, times, 7);
            assert!(found.held <= most, "{times} times: {found:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever a batch and a frame cost, as long as one session can be drawn; a window costs less than a frame. The more
    /// sessions, the fewer frames share a window, and which size of batch is taken falls now to this side, now to that.
    #[test]
    fn overload_bends_and_does_not_break(
        batch in 0.5..20.0_f64,
        window in 0.0..0.4_f64,
        frame in 1.5..16.0_f64,
        noise in 0.0..0.4_f64,
        seed in any::<u64>(),
    ) {
        let least = |times: f64| if times > 4.0 { 0.65 } else { 0.75 };
        assert_bends(Cost { batch, window: window * frame, frame, noise }, seed, least)?;
    }
}
