//! How often pictures change while there is no time to draw every mouth.
//!
//! Encoding takes from the time that mouths are drawn in. So while some are left out and no core has anything left to do, a
//! picture without a new mouth stands for as many frames as there are for each mouth that is drawn, and what stands is not
//! encoded (`media`). Where cores are idle, as on a machine whose GPU is what is short, standing would gain nothing.
//! In here: that number, of the server (`Pace`), and what it does to the pictures of a session (`PacedPicture`). Not in here: what
//! a session shows (`schedule`). Runs on: the thread "playout".

use std::sync::Arc;

use super::AvatarNumber;
use super::schedule::Kind;
use crate::picture::I420Frame;

/// How many frames a picture stands for at most, as long as an encoder leaves out one that stands: no browser counts 160 ms
/// without a picture as a freeze.
const LONGEST: u32 = 4;
/// Of how many mouths that are due one is drawn, from which on pictures stand for so many frames: nearly as many. Of two, every
/// picture is worth its time for a little longer.
const STEPS: [(f64, u32); 3] = [(3.5, LONGEST), (2.5, 3), (1.9, 2)];
/// What is kept of the counts at each tick: they are those of about the last second, which has 25.
const KEPT: f64 = 0.96;
/// Ticks between two looks at how busy the cores are.
const LOOK: u32 = 12;
/// Of their time, from which on there is nothing to gain but from each other's work.
const BUSY: f64 = 0.95;

/// For how many frames the pictures of all sessions stand.
#[derive(Debug)]
pub(super) struct Pace {
    /// Mouths that were drawn, of those that were due.
    fresh: f64,
    due: f64,
    frames: u32,
    busy: bool,
    /// What was read of the cores, so many ticks ago.
    cores: Option<Cores>,
    age: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self { fresh: 0.0, due: 0.0, frames: 1, busy: false, cores: None, age: 0 }
    }
}

impl Pace {
    /// For how many frames a picture stands, 1 to [`LONGEST`].
    pub(super) fn frames(&self) -> u32 {
        self.frames
    }

    /// A session has shown this.
    pub(super) fn count(&mut self, kind: Kind) {
        match kind {
            Kind::Mouth => (self.fresh, self.due) = (self.fresh + 1.0, self.due + 1.0),
            // Voices are made on the same cores.
            Kind::Repeated | Kind::Starved => self.due += 1.0,
            Kind::Idle | Kind::Held | Kind::Own => {}
        }
    }

    /// All sessions have shown what they show at this tick. `read` tells what the cores have done so far.
    pub(super) fn tick(&mut self, read: impl FnOnce() -> Option<Cores>) {
        (self.fresh, self.due) = (self.fresh * KEPT, self.due * KEPT);
        let wished = STEPS.into_iter().find(|(of, _)| self.due >= of * self.fresh).map(|(_, frames)| frames);
        // Nobody speaks.
        let wished = wished.filter(|_| self.due >= 1.0).unwrap_or(1);
        if wished == 1 {
            // What they did until now says nothing of the next time.
            (self.busy, self.cores, self.age) = (false, None, 0);
        } else {
            self.look(read);
        }
        self.frames = if self.busy { wished } else { 1 };
    }

    fn look(&mut self, read: impl FnOnce() -> Option<Cores>) {
        self.age += 1;
        if self.cores.is_some() && self.age < LOOK {
            return;
        }
        let now = read();
        if let Some(before) = self.cores {
            self.busy = now.and_then(|now| now.busy_since(before)).is_some_and(|busy| busy >= BUSY);
        }
        (self.cores, self.age) = (now, 0);
    }
}

/// What the machine's cores have done since it started, in its own unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cores {
    idle: u64,
    all: u64,
}

impl Cores {
    /// From `/proc/stat`; `None` where there is none.
    pub(super) fn read() -> Option<Self> {
        Self::parse(&std::fs::read_to_string("/proc/stat").ok()?)
    }

    /// The first line: user, nice, system, idle, waiting for disks, two kinds of interrupts, stolen (proc(5)). Guests are
    /// users too.
    fn parse(stat: &str) -> Option<Self> {
        let times = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace().take(8);
        let times: Vec<u64> = times.map(str::parse).collect::<Result<_, _>>().ok()?;
        Some(Self { idle: times.get(3..5)?.iter().sum(), all: times.iter().sum() })
    }

    /// The share of their time in which they worked; `None` if none has passed.
    #[allow(clippy::cast_precision_loss, reason = "ticks of a second")]
    fn busy_since(self, before: Self) -> Option<f64> {
        let all = self.all.checked_sub(before.all).filter(|all| *all > 0)?;
        Some(1.0 - self.idle.saturating_sub(before.idle) as f64 / all as f64)
    }
}

/// The picture that a session shows, and for how long.
#[derive(Debug, Default)]
pub(super) struct PacedPicture(Option<Shown>);

#[derive(Debug)]
struct Shown {
    picture: Arc<I420Frame>,
    avatar: AvatarNumber,
    /// A generated mouth is in it.
    mouth: bool,
    /// Frames that it was shown for.
    frames: u32,
}

impl PacedPicture {
    /// What is shown of what is due. A new mouth is shown at once, and so are the avatar's own lips after speech, and another
    /// avatar.
    pub(super) fn show(
        &mut self,
        due: Arc<I420Frame>,
        kind: Kind,
        avatar: AvatarNumber,
        pace: &Pace,
    ) -> Arc<I420Frame> {
        let mouth = matches!(kind, Kind::Mouth | Kind::Repeated);
        match &mut self.0 {
            Some(shown)
                if kind != Kind::Mouth
                    && shown.avatar == avatar
                    && shown.mouth == mouth
                    && shown.frames < pace.frames() =>
            {
                shown.frames += 1;
                Arc::clone(&shown.picture)
            }
            shown => {
                *shown = Some(Shown { picture: Arc::clone(&due), avatar, mouth, frames: 1 });
                due
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timeline::FPS;

    /// Seconds of speech in which of every `of` mouths one is drawn, on cores that are idle for a share of their time.
    fn after(pace: &mut Pace, seconds: u32, of: u32, idle: u64) -> u32 {
        let mut cores = Cores { idle: 0, all: 0 };
        for tick in 0..seconds * FPS {
            for session in 0..10 {
                pace.count(if (tick + session) % of == 0 { Kind::Mouth } else { Kind::Repeated });
                pace.count(Kind::Idle);
            }
            cores = Cores { idle: cores.idle + idle, all: cores.all + 100 };
            pace.tick(|| Some(cores));
        }
        pace.frames()
    }

    #[test]
    fn pictures_stand_for_as_long_as_mouths_do_while_no_core_is_idle() {
        let mut pace = Pace::default();
        for (of, frames) in [(1, 1), (2, 2), (3, 3), (9, LONGEST), (1, 1)] {
            assert_eq!(after(&mut pace, 5, of, 0), frames, "one of {of}");
        }
        assert_eq!(after(&mut pace, 5, 3, 50), 1, "the cores have time");
        assert_eq!(after(&mut pace, 5, 3, 1), 3);
        (0..10 * FPS).for_each(|_| pace.tick(|| None));
        assert_eq!(pace.frames(), 1, "nobody speaks");
    }

    #[test]
    fn where_it_cannot_be_told_how_busy_cores_are_nothing_stands() {
        let mut pace = Pace::default();
        for _ in 0..5 * FPS {
            pace.count(Kind::Repeated);
            pace.tick(|| None);
        }
        assert_eq!(pace.frames(), 1);
    }

    #[test]
    fn how_busy_cores_are_is_read_from_the_first_line() {
        let read = |stat: &str| Cores::parse(stat);
        let before = read("cpu  100 0 50 800 50 0 0 0 70 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n").unwrap();
        assert_eq!(before, Cores { idle: 850, all: 1000 });
        let now = read("cpu  190 0 50 810 50 0 0 0 160 0").unwrap();
        assert_eq!((now.busy_since(before), before.busy_since(before)), (Some(0.9), None));
        assert_eq!([read(""), read("cpu 1 2 3"), read("cpu a b c d e f g h")], [None; 3]);
    }

    #[test]
    fn a_new_mouth_shut_lips_after_speech_and_another_avatar_are_shown_at_once_and_all_else_stands() {
        let pace = Pace { frames: 3, ..Pace::default() };
        let mut paced = PacedPicture::default();
        let mut changes = |kind, avatar| {
            let due = Arc::new(I420Frame { width: 2, height: 2, data: vec![0; 6] });
            Arc::ptr_eq(&paced.show(Arc::clone(&due), kind, avatar, &pace), &due)
        };
        let first = AvatarNumber::default();
        assert_eq!([Kind::Idle; 7].map(|kind| u8::from(changes(kind, first))), [1, 0, 0, 1, 0, 0, 1]);
        let speech =
            [Kind::Held, Kind::Mouth, Kind::Mouth, Kind::Repeated, Kind::Repeated, Kind::Repeated, Kind::Mouth];
        assert_eq!(speech.map(|kind| u8::from(changes(kind, first))), [0, 1, 1, 0, 0, 1, 1]);
        let silence = [Kind::Repeated, Kind::Own, Kind::Own, Kind::Own, Kind::Own];
        assert_eq!(silence.map(|kind| u8::from(changes(kind, first))), [0, 1, 0, 0, 1]);
        assert!(changes(Kind::Idle, AvatarNumber(1)));
    }

    #[test]
    fn with_time_for_all_mouths_every_picture_is_shown() {
        let mut paced = PacedPicture::default();
        for _ in 0..5 {
            let due = Arc::new(I420Frame { width: 2, height: 2, data: vec![0; 6] });
            let shown = paced.show(Arc::clone(&due), Kind::Idle, AvatarNumber::default(), &Pace::default());
            assert!(Arc::ptr_eq(&shown, &due));
        }
    }
}
