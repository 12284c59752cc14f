//! Random numbers that stand in no order: each is named by what it is for and when, so any of them can be had at once.
//!
//! In here: time cut into spans, numbers of a span, and the smooth curves through them. In a loop the spans fill the
//! loop evenly and the numbers come again with it.

/// What random numbers are for; each has its own.
#[derive(Clone, Copy)]
pub(super) enum Stream {
    Fixation,
    Micro,
    Breath,
    Depth,
    Beat,
    Nod,
    Blink,
    /// One of sixteen slow curves.
    Sway(u64),
}

impl Stream {
    const fn number(self) -> u64 {
        match self {
            Self::Fixation => 0,
            Self::Micro => 1,
            Self::Breath => 2,
            Self::Depth => 3,
            Self::Beat => 4,
            Self::Nod => 5,
            Self::Blink => 6,
            Self::Sway(which) => 16 + which,
        }
    }
}

/// Where random numbers come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chance {
    pub(super) seed: u64,
    /// In poses, not 0.
    pub(super) period: Option<u64>,
}

/// A stretch of time with numbers of its own.
pub(super) struct Span<'a> {
    chance: &'a Chance,
    stream: Stream,
    index: i64,
    count: Option<i64>,
    /// How much of it has passed; above 1 for those before the present one.
    passed: f64,
    /// In poses.
    pub(super) length: f64,
}

impl Chance {
    /// Poses since the beginning, or since that of the loop.
    pub(super) fn time(&self, at: u64) -> f64 {
        self.period.map_or(at, |period| at % period) as f64
    }

    /// The span that holds `time`, or one of those before it.
    pub(super) fn span(&self, stream: Stream, wanted: f64, time: f64, before: i64) -> Span<'_> {
        let (length, count) = self.length(wanted);
        let place = time / length;
        let index = whole(place) - before;
        Span { chance: self, stream, index, count, passed: place - index as f64, length }
    }

    /// How many spans have passed, those of a loop counted within it.
    pub(super) fn spans(&self, wanted: f64, time: f64) -> f64 {
        time / self.length(wanted).0
    }

    /// A curve that wanders between -1 and 1, with a new aim in each span; its second derivative has no jump.
    pub(super) fn drift(&self, stream: Stream, wanted: f64, time: f64) -> f32 {
        let here = self.span(stream, wanted, time, 0);
        let next = self.span(stream, wanted, time, -1);
        let (from, to) = (2.0 * here.draw(0) - 1.0, 2.0 * next.draw(0) - 1.0);
        from + (to - from) * ease(here.passed)
    }

    /// The length of spans about as long as wanted, and how many fill the loop.
    fn length(&self, wanted: f64) -> (f64, Option<i64>) {
        match self.period {
            None => (wanted, None),
            Some(period) => {
                let count = (period as f64 / wanted).round().max(1.0);
                (period as f64 / count, Some(whole(count)))
            }
        }
    }
}

impl Span<'_> {
    pub(super) fn passed(&self) -> f64 {
        self.passed
    }

    /// Number `which` of this span, from 0 up to 1.
    pub(super) fn draw(&self, which: u64) -> f32 {
        let index = self.count.map_or(self.index, |count| self.index.rem_euclid(count)).cast_unsigned();
        let mut mixed = self.chance.seed;
        for word in [self.stream.number(), index, which] {
            mixed = mix(mixed ^ word.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        }
        // 24 bits are what a float between 0.5 and 1 tells apart.
        (mixed >> 40) as f32 / (1_u32 << 24) as f32
    }

    /// Number `which`, from -1 up to 1.
    pub(super) fn signed(&self, which: u64) -> f32 {
        2.0 * self.draw(which) - 1.0
    }
}

/// From 0 to 1 while `passed` does, at rest on both ends (the path of least jerk).
pub(super) fn ease(passed: f64) -> f32 {
    let at = passed.clamp(0.0, 1.0);
    #[allow(clippy::cast_possible_truncation, reason = "0 to 1")]
    let way = (at * at * at * (10.0 + at * (6.0 * at - 15.0))) as f32;
    way
}

/// The finaliser of `SplitMix64`.
const fn mix(value: u64) -> u64 {
    let value = (value.wrapping_add(0x9e37_79b9_7f4a_7c15) ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[allow(clippy::cast_possible_truncation, reason = "the cast saturates, far beyond any session")]
fn whole(value: f64) -> i64 {
    value.floor() as i64
}
