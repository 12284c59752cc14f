//! The controller on simulated paths: time passes as the simulation says.

use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

const MOST: u32 = 1_500_000;
const FRAME: Duration = Duration::from_millis(40);
const PACKET: u32 = 1200;

/// A packet's number, and when it arrives if it does.
type Packet = (u16, Option<Duration>);

/// A path with a queue, and a receiver that reports every 100 ms.
struct Path {
    /// Bits a second.
    rate: f64,
    /// One way.
    delay: Duration,
    /// Bytes that the queue holds.
    queue: f64,
    /// Of 1000.
    loss: u32,
}

/// A sender over a path.
struct Simulation {
    control: Congestion,
    path: Path,
    now: Duration,
    /// When the queue is empty.
    free: Duration,
    random: ChaCha8Rng,
    /// Number and when it arrives, in the order sent.
    flying: Vec<Packet>,
    /// Number, when it arrived, or nothing: what the next report says.
    unreported: Vec<Packet>,
    reports: Vec<(Duration, Vec<Packet>)>,
    /// When each frame arrived whole.
    frames: Vec<Duration>,
}

impl Simulation {
    fn new(path: Path) -> Self {
        Self {
            control: Congestion::new(MOST),
            path,
            now: Duration::from_secs(1),
            free: Duration::ZERO,
            random: ChaCha8Rng::seed_from_u64(7),
            flying: Vec::new(),
            unreported: Vec::new(),
            reports: Vec::new(),
            frames: Vec::new(),
        }
    }

    fn rate(&self) -> u32 {
        self.control.estimate().rate
    }

    fn given(&self) -> u32 {
        (self.rate() * 9 / 10).min(MOST)
    }

    /// Sends frames for so long, of the rate that the controller gives.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            let given = self.given();
            self.control.given(given);
            let mut bytes = given / 8 / 25;
            bytes = bytes * self.random.random_range(80..120) / 100;
            let mut whole = Some(self.now);
            while bytes > 0 {
                let size = bytes.min(PACKET);
                bytes -= size;
                whole = self.packet(size).and_then(|at| whole.map(|whole| whole.max(at)));
            }
            self.frames.extend(whole);
            let before = self.now;
            self.now += FRAME;
            self.receive(before);
        }
    }

    fn packet(&mut self, size: u32) -> Option<Duration> {
        let number = self.control.sent(self.now, size as usize);
        let waits = self.free.saturating_sub(self.now).as_secs_f64();
        let fits = waits * self.path.rate / 8.0 + f64::from(size) <= self.path.queue;
        let arrives = (fits && self.random.random_range(0..1000) >= self.path.loss).then(|| {
            self.free = self.free.max(self.now) + Duration::from_secs_f64(f64::from(size) * 8.0 / self.path.rate);
            self.free + self.path.delay
        });
        self.flying.push((number, arrives));
        arrives
    }

    fn receive(&mut self, before: Duration) {
        let now = self.now;
        let arrived = |at: Option<Duration>| at.is_none_or(|at| at <= now);
        let come = self.flying.iter().take_while(|(_, at)| arrived(*at)).count();
        self.unreported.extend(self.flying.drain(..come));
        if now.as_millis() / 100 != before.as_millis() / 100 && !self.unreported.is_empty() {
            self.reports.push((now + self.path.delay, std::mem::take(&mut self.unreported)));
        }
        while self.reports.first().is_some_and(|(at, _)| *at <= now) {
            let (_, packets) = self.reports.remove(0);
            self.control.transport_feedback(now, &report(&packets));
        }
    }

    /// The longest time without a whole frame since a moment.
    fn freeze(&self, since: Duration) -> Duration {
        let frames: Vec<Duration> = self.frames.iter().copied().filter(|at| *at >= since).collect();
        frames.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).max().unwrap_or(Duration::MAX)
    }
}

/// What a receiver would write, read back.
fn report(packets: &[Packet]) -> TransportFeedback {
    let first = packets.iter().find_map(|(_, at)| *at).unwrap_or_default();
    let reference = (first.as_micros() / 64_000) as u32;
    let mut before = i64::from(reference) * 64_000;
    let (mut chunks, mut deltas) = (Vec::new(), Vec::new());
    for (_, at) in packets {
        let status: u16 = if at.is_some() { 2 } else { 0 };
        chunks.extend((status << 13 | 1).to_be_bytes());
        if let Some(at) = at {
            let delta = (at.as_micros() as i64 - before) / 250;
            before += delta * 250;
            deltas.extend((delta as i16).to_be_bytes());
        }
    }
    let head = [0x8f, 205, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2];
    let count = packets.len() as u16;
    let packet = [
        &head[..],
        &packets[0].0.to_be_bytes(),
        &count.to_be_bytes(),
        &reference.to_be_bytes()[1..],
        &[0],
        &chunks,
        &deltas,
    ]
    .concat();
    TransportFeedback::parse(&packet).unwrap()
}

fn wide() -> Path {
    Path { rate: 3e6, delay: Duration::from_millis(25), queue: 100_000.0, loss: 0 }
}

#[test]
fn a_wide_path_is_used_as_far_as_it_is_of_use() {
    let mut simulation = Simulation::new(wide());
    simulation.run(Duration::from_secs(20));
    assert!(simulation.rate() >= MOST, "{}", simulation.rate());
    assert!(simulation.rate() <= MOST * 13 / 10 + 1);
}

#[test]
fn a_path_that_becomes_narrow_and_wide_again_is_followed_without_a_freeze() {
    for queue in [20_000.0, 50_000.0, 150_000.0] {
        let mut simulation = Simulation::new(Path { queue, ..wide() });
        simulation.run(Duration::from_secs(5));
        simulation.path.rate = 400e3;
        let narrow = simulation.now;
        simulation.run(Duration::from_secs(2));
        let settled = simulation.rate();
        assert!((120_000..440_000).contains(&settled), "queue of {queue}: {settled} after two seconds");
        simulation.run(Duration::from_secs(10));
        assert!(simulation.rate() > 220_000, "queue of {queue}: {}", simulation.rate());
        simulation.path.rate = 3e6;
        simulation.run(Duration::from_secs(10));
        assert!(simulation.rate() >= MOST, "queue of {queue}: {} after ten seconds", simulation.rate());
        let freeze = simulation.freeze(narrow);
        assert!(freeze <= Duration::from_millis(500), "queue of {queue}: {freeze:?}");
    }
}

#[test]
fn losses_of_the_path_itself_cost_no_rate() {
    let mut simulation = Simulation::new(Path { loss: 50, delay: Duration::from_millis(50), ..wide() });
    simulation.run(Duration::from_secs(60));
    assert!(simulation.rate() >= MOST * 9 / 10, "{}", simulation.rate());
    assert!((0.02..0.09).contains(&simulation.control.estimate().loss));
}

#[test]
fn of_few_packets_chance_cuts_no_rate() {
    let mut simulation = Simulation::new(Path { loss: 50, delay: Duration::from_millis(50), ..wide() });
    simulation.control = Congestion::new(200_000);
    let mut least = u32::MAX;
    for _ in 0..120 {
        simulation.run(Duration::from_millis(500));
        least = least.min(simulation.rate());
    }
    assert!(least >= 180_000, "{least}");
}

#[test]
fn a_sender_that_hears_nothing_sends_less() {
    let mut simulation = Simulation::new(wide());
    simulation.run(Duration::from_secs(5));
    let before = simulation.rate();
    for _ in 0..50 {
        simulation.now += FRAME;
        simulation.control.sent(simulation.now, 1000);
    }
    assert!(simulation.control.is_unheard(simulation.now));
    simulation.control.unheard(simulation.now);
    assert!(simulation.rate() < before * 3 / 4);
}

#[test]
fn of_a_peer_without_transport_feedback_what_it_says_it_lost_is_taken() {
    let mut control = Congestion::new(MOST);
    control.given(MOST);
    let mut now = Duration::from_secs(1);
    for lost in [0, 0, 5, 100, 100] {
        now += Duration::from_secs(1);
        control.receiver_report(now, lost);
    }
    assert!(control.estimate().rate < MOST * 3 / 4, "{:?}", control.estimate());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn any_path_is_filled_and_not_overfilled(kbps in 200..2500u32, ms in 5..120u64, queue in 15..200u32) {
        let rate = f64::from(kbps) * 1000.0;
        let path = Path { rate, delay: Duration::from_millis(ms), queue: f64::from(queue) * 1000.0, loss: 0 };
        let mut simulation = Simulation::new(path);
        simulation.run(Duration::from_secs(30));
        let mut rates = Vec::new();
        for _ in 0..100 {
            simulation.run(Duration::from_millis(200));
            rates.push(f64::from(simulation.given()));
        }
        let mean = rates.iter().sum::<f64>() / 100.0;
        let most = rate.min(f64::from(MOST));
        prop_assert!((0.5 * most..1.1 * rate).contains(&mean), "{mean} of {rate}");
    }
}
