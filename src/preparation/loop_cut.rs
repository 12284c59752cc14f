//! Where a clip is cut so that it can go round for ever.
//!
//! In here: a pure search over what is left of each frame, a small grey thumbnail and numbers of the head's pose: the two
//! places between which a jump is seen least, how it is hidden, and which frames are shown in which order. A place is
//! compared with its neighbours on both sides, so that the head also moves the same way there. Not in here: frames.
//!
//! Cost: at most `STARTS` x `ENDS` comparisons of a coarse thumbnail, whatever the clip's length, then a local search round
//! the best of them. Memory: `THUMBNAIL` bytes and the pose for each frame, 55 MB for two hours with a pose of six numbers.

/// Bytes of a thumbnail: 16 x 16 levels of grey, rows from the top, of the face and what is round it.
pub const THUMBNAIL: usize = 256;
const SIDE: usize = 16;
/// A coarse thumbnail has means of 4 x 4 of its levels.
const COARSE: usize = 16;
/// Places that are tried as starts and as ends.
const STARTS: usize = 512;
const ENDS: usize = 4096;
/// Coarse pairs that are looked at closely.
const CLOSE: usize = 48;
/// Frames to each side of a cut that are compared too.
const AROUND: isize = 2;
/// A jump that is as small as a step from frame to frame, times this, is not seen.
const UNSEEN: f32 = 1.5;
/// As is this, in grey levels, in a clip that hardly moves: noise of a camera.
const NOISE: f32 = 1.5;
/// In grey levels: a jump that a cross-fade hides; above it two faces are seen at once.
const FADES: f32 = 9.0;
/// What a loop that is shorter by all of the clip may be better for, in grey levels.
const LENGTH_IS_WORTH: f32 = 2.0;

/// What is left of a frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Signature {
    /// Levels of grey.
    pub thumbnail: [u8; THUMBNAIL],
    /// Numbers of the head's pose and the mouth, each so scaled that one is as much as a grey level: what is barely seen.
    pub pose: Vec<f32>,
}

impl Signature {
    /// From grey levels of a picture of these sides, each cell the mean of its pixels. A picture without pixels is black.
    pub fn of_grey(grey: &[u8], width: usize, height: usize, pose: Vec<f32>) -> Self {
        let mut thumbnail = [0; THUMBNAIL];
        for (at, cell) in thumbnail.iter_mut().enumerate() {
            let (column, row) = (at % SIDE, at / SIDE);
            let span =
                |cell: usize, side: usize| cell * side / SIDE..((cell + 1) * side / SIDE).max(cell * side / SIDE + 1);
            let (mut sum, mut count) = (0_u64, 0_u64);
            for y in span(row, height) {
                for level in span(column, width).filter(|x| *x < width).filter_map(|x| grey.get(y * width + x)) {
                    sum += u64::from(*level);
                    count += 1;
                }
            }
            *cell = u8::try_from(sum / count.max(1)).unwrap_or(u8::MAX);
        }
        Self { thumbnail, pose }
    }
}

/// What is asked of a loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoopOptions {
    /// Frames that it has at least; of a clip with fewer, all are used.
    pub least_frames: usize,
    /// Frames over which a jump may be faded.
    pub most_fade: usize,
}

impl Default for LoopOptions {
    fn default() -> Self {
        Self { least_frames: 100, most_fade: 10 }
    }
}

/// How a loop closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// From the last frame to the first, and nobody sees it.
    Cut,
    /// The last frames turn into those before the first one; as many as are said.
    CrossFade(usize),
    /// There and back.
    PingPong,
}

/// A loop in a clip.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoopCut {
    /// Its first frame.
    pub start: usize,
    /// One past its last frame.
    pub end: usize,
    /// How it closes.
    pub closing: Closing,
    /// The jump from its end to its start in grey levels, root of the mean square; of one there and back, how fast the head
    /// moves where it turns.
    pub error: f32,
}

/// What is shown at a place of a loop.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shown {
    /// This frame of the clip.
    Frame(usize),
    /// A mixture of two.
    Blend {
        /// The frame that fades.
        from: usize,
        /// The frame that appears.
        to: usize,
        /// How much of that, between 0 and 1.
        share: f32,
    },
}

impl LoopCut {
    /// Places of a round: frames that are shown until it begins anew.
    pub fn round(&self) -> usize {
        let frames = self.end.saturating_sub(self.start);
        if self.closing == Closing::PingPong && frames > 2 { frames * 2 - 2 } else { frames }
    }

    /// What is shown at a place, counted from the start of the first round.
    pub fn shown(&self, place: usize) -> Shown {
        let frames = self.end.saturating_sub(self.start).max(1);
        let place = place % self.round().max(1);
        match self.closing {
            Closing::PingPong if place >= frames => Shown::Frame(self.start + 2 * frames - 2 - place),
            Closing::CrossFade(fade) if place + fade >= frames => {
                let step = place + fade - frames;
                let share = (step + 1) as f32 / (fade + 1) as f32;
                Shown::Blend { from: self.start + place, to: self.start + step - fade.min(self.start), share }
            }
            _ => Shown::Frame(self.start + place),
        }
    }
}

/// The best loop of a clip; `None` of one without frames.
pub fn find(frames: &[Signature], options: &LoopOptions) -> Option<LoopCut> {
    if frames.is_empty() {
        return None;
    }
    let whole = LoopCut { start: 0, end: frames.len(), closing: Closing::PingPong, error: 0.0 };
    // A cut goes to a frame that the clip has as well, hence one more.
    if frames.len() <= options.least_frames || frames.len() < 8 {
        return Some(LoopCut { error: step(frames, frames.len() / 2), ..whole });
    }
    let least = options.least_frames.max(2);
    let unseen = (usual_step(frames) * UNSEEN).max(NOISE);
    if let Some((start, end, error)) = best_pair(frames, 0, least).filter(|(.., error)| *error <= unseen) {
        return Some(LoopCut { start, end, closing: Closing::Cut, error });
    }
    // What is faded in lies before the start.
    let fade = options.most_fade.min((frames.len() - least) / 2).min(least / 2);
    if let Some((start, end, error)) = best_pair(frames, fade, least).filter(|(.., error)| fade > 0 && *error <= FADES)
    {
        return Some(LoopCut { start, end, closing: Closing::CrossFade(fade), error });
    }
    Some(turns(frames, options))
}

/// The jump that is seen least of those to `from` or later: the frame it goes to, the one before which it leaves, and how
/// much is seen of it.
fn best_pair(frames: &[Signature], from: usize, least: usize) -> Option<(usize, usize, f32)> {
    let last = frames.len() - 1;
    if from + least > last {
        return None;
    }
    let length_is_worth =
        |start: usize, end: usize| LENGTH_IS_WORTH * (1.0 - (end - start) as f32 / frames.len() as f32);
    let places = |from: usize, to: usize, most: usize| {
        let stride = ((to - from) / most).max(1);
        (from..=to).step_by(stride)
    };
    let start_stride = ((last - least) / STARTS).max(1);
    let end_stride = ((last - least) / ENDS).max(1);
    let starts: Vec<(usize, Coarse)> =
        places(from, last - least, STARTS).map(|at| (at, Coarse::of(frames, at))).collect();
    let ends: Vec<(usize, Coarse)> = places(from + least, last, ENDS).map(|at| (at, Coarse::of(frames, at))).collect();

    // The best end of each start, and of those the best.
    let mut near: Vec<(f32, usize, usize)> = starts
        .iter()
        .filter_map(|(start, coarse)| {
            let first = ends.partition_point(|(end, _)| *end < start + least);
            ends[first..]
                .iter()
                .map(|(end, other)| (coarse.distance(other) + length_is_worth(*start, *end), *start, *end))
                .min_by(|one, other| one.0.total_cmp(&other.0))
        })
        .collect();
    near.sort_by(|one, other| one.0.total_cmp(&other.0));
    near.truncate(CLOSE);

    let mut best: Option<(f32, usize, usize, f32)> = None;
    for (_, start, end) in near {
        // Every start within a stride is tried with every end within one of both.
        let reach = start_stride.max(end_stride).min(32);
        let near_start =
            start.saturating_sub(start_stride.min(32)).max(from)..=(start + start_stride.min(32)).min(last - least);
        for start in near_start {
            for end in (end.saturating_sub(reach)).max(start + least)..=(end + reach).min(last) {
                let error = jump(frames, start, end);
                let cost = error + length_is_worth(start, end);
                if best.is_none_or(|(least, ..)| cost < least) {
                    best = Some((cost, start, end, error));
                }
            }
        }
    }
    best.map(|(_, start, end, error)| (start, end, error))
}

/// There and back: turning where the head moves least, near the clip's ends.
fn turns(frames: &[Signature], options: &LoopOptions) -> LoopCut {
    let slack = (frames.len().saturating_sub(options.least_frames) / 2).min(frames.len() / 5);
    let slowest = |places: &mut dyn Iterator<Item = usize>| {
        places.map(|at| (at, step(frames, at))).min_by(|one, other| one.1.total_cmp(&other.1)).unwrap_or((0, 0.0))
    };
    let last = frames.len() - 1;
    let (start, at_start) = slowest(&mut (0..=slack));
    let (end, at_end) = slowest(&mut (last - slack..=last).rev());
    LoopCut { start, end: end + 1, closing: Closing::PingPong, error: at_start.max(at_end) }
}

/// How far two frames are apart, in grey levels: of the pictures, and of the pose as much again.
fn distance(one: &Signature, other: &Signature) -> f32 {
    let squares: u32 = one.thumbnail.iter().zip(&other.thumbnail).map(|(a, b)| u32::from(a.abs_diff(*b)).pow(2)).sum();
    (squares as f32 / THUMBNAIL as f32 + pose_squares(&one.pose, &other.pose)).sqrt()
}

fn pose_squares(one: &[f32], other: &[f32]) -> f32 {
    let count = one.len().min(other.len()).max(1) as f32;
    one.iter().zip(other).map(|(a, b)| (a - b).powi(2)).filter(|square| square.is_finite()).sum::<f32>() / count
}

/// What is seen of a jump from before `end` to `start`: the frames round both are compared, the nearest count most.
fn jump(frames: &[Signature], start: usize, end: usize) -> f32 {
    let (mut sum, mut weights) = (0.0, 0.0);
    for offset in -AROUND..=AROUND {
        let pair = start.checked_add_signed(offset).zip(end.checked_add_signed(offset));
        let Some((one, other)) = pair.and_then(|(one, other)| frames.get(one).zip(frames.get(other))) else { continue };
        let weight = 1.0 / (1 + offset.unsigned_abs()) as f32;
        sum += weight * distance(one, other);
        weights += weight;
    }
    sum / weights
}

/// How much changes from a frame to the next.
fn step(frames: &[Signature], at: usize) -> f32 {
    frames
        .get(at)
        .zip(frames.get(at + 1).or_else(|| frames.get(at.checked_sub(1)?)))
        .map_or(0.0, |(a, b)| distance(a, b))
}

/// The middle one of a clip's steps.
fn usual_step(frames: &[Signature]) -> f32 {
    let stride = (frames.len() / 2000).max(1);
    let mut steps: Vec<f32> = (0..frames.len() - 1).step_by(stride).map(|at| step(frames, at)).collect();
    let middle = steps.len() / 2;
    *steps.select_nth_unstable_by(middle, f32::total_cmp).1
}

/// A frame and where it moves, small enough to be compared a million times.
struct Coarse {
    levels: [f32; COARSE],
    /// Of the frame after next, from this one.
    motion: [f32; COARSE],
    pose: Vec<f32>,
}

impl Coarse {
    fn of(frames: &[Signature], at: usize) -> Self {
        let levels = |at: usize| frames.get(at).map(coarse_levels);
        let here = levels(at).unwrap_or_default();
        let (before, after) = (levels(at.saturating_sub(1)).unwrap_or(here), levels(at + 1).unwrap_or(here));
        let motion = std::array::from_fn(|cell| after[cell] - before[cell]);
        Self { levels: here, motion, pose: frames.get(at).map(|frame| frame.pose.clone()).unwrap_or_default() }
    }

    fn distance(&self, other: &Self) -> f32 {
        let squares = |one: &[f32; COARSE], other: &[f32; COARSE]| {
            one.iter().zip(other).map(|(a, b)| (a - b).powi(2)).sum::<f32>() / COARSE as f32
        };
        (squares(&self.levels, &other.levels)
            + squares(&self.motion, &other.motion)
            + pose_squares(&self.pose, &other.pose))
        .sqrt()
    }
}

fn coarse_levels(frame: &Signature) -> [f32; COARSE] {
    let mut levels = [0.0; COARSE];
    for (at, level) in frame.thumbnail.iter().enumerate() {
        let cell = at / SIDE / 4 * 4 + at % SIDE / 4;
        levels[cell] += f32::from(*level) / 16.0;
    }
    levels
}

#[cfg(test)]
mod tests {
    use std::f32::consts::TAU;

    use super::*;

    /// A bright head on dark ground, moved to the side and down, with what a camera adds.
    fn head(aside: f32, down: f32, seed: usize) -> Signature {
        let mut thumbnail = [0; THUMBNAIL];
        for (at, level) in thumbnail.iter_mut().enumerate() {
            let (x, y) = ((at % SIDE) as f32 - 7.5 - aside, (at / SIDE) as f32 - 7.5 - down);
            let noise = (at * 31 + seed * 17 + at * seed % 13) % 2;
            *level = (30.0 + 170.0 / (1.0 + ((x * x + y * y).sqrt() - 5.0).exp())) as u8 + noise as u8;
        }
        Signature { thumbnail, pose: vec![aside * 10.0, down * 10.0] }
    }

    /// Sways with one period and nods with another part of it, so that no shorter time repeats.
    fn swaying(frames: usize, period: f32, drift: f32) -> Vec<Signature> {
        (0..frames)
            .map(|at| {
                let turn = at as f32 / period * TAU;
                head(2.0 * turn.sin() + drift * at as f32, 0.8 * (2.0 * turn + 1.0).sin(), at)
            })
            .collect()
    }

    #[test]
    fn a_motion_that_repeats_is_cut_after_whole_periods() {
        let cut = find(&swaying(300, 83.0, 0.0), &LoopOptions { least_frames: 60, most_fade: 10 }).unwrap();
        assert_eq!(cut.closing, Closing::Cut, "{cut:?}");
        let length = cut.end - cut.start;
        assert!([83_usize, 166, 249].iter().any(|periods| length.abs_diff(*periods) <= 1), "{cut:?}");
        assert!(length > 200, "the longest is preferred where all are as good: {cut:?}");
        assert_eq!(cut.round(), length);
        assert_eq!(cut.shown(length + 3), Shown::Frame(cut.start + 3));
    }

    #[test]
    fn a_head_that_wanders_off_goes_there_and_back() {
        let frames = swaying(200, 400.0, 0.04);
        let cut = find(&frames, &LoopOptions { least_frames: 100, most_fade: 10 }).unwrap();
        assert_eq!(cut.closing, Closing::PingPong, "{cut:?}");
        assert!(cut.end - cut.start >= 100);
        let shown: Vec<usize> = (0..=cut.round())
            .map(|place| match cut.shown(place) {
                Shown::Frame(frame) => frame,
                blend @ Shown::Blend { .. } => panic!("{blend:?}"),
            })
            .collect();
        assert!(shown.windows(2).all(|pair| pair[0].abs_diff(pair[1]) == 1), "{shown:?}");
        assert_eq!((shown[0], shown.last()), (cut.start, Some(&cut.start)));
        assert_eq!(shown.iter().max(), Some(&(cut.end - 1)));
    }

    #[test]
    fn a_match_that_is_near_is_faded_and_the_fade_ends_where_the_loop_begins() {
        // It leans to the side, slowly.
        let frames: Vec<Signature> = (0..150).map(|at| head(0.008 * at as f32, 0.0, at)).collect();
        let cut = find(&frames, &LoopOptions { least_frames: 60, most_fade: 8 }).unwrap();
        let Closing::CrossFade(fade) = cut.closing else { panic!("{cut:?}") };
        assert!((1..=8).contains(&fade) && cut.start >= fade, "{cut:?}");
        let last = cut.round() - 1;
        let Shown::Blend { from, to, share } = cut.shown(last) else { panic!("{:?}", cut.shown(last)) };
        assert_eq!((from, to), (cut.end - 1, cut.start - 1));
        assert!(share > 0.85 && share < 1.0, "{share}");
        assert_eq!(cut.shown(last - fade), Shown::Frame(cut.end - 1 - fade));
        let Shown::Blend { from, to, share } = cut.shown(last - fade + 1) else { panic!() };
        assert_eq!((from, to), (cut.end - fade, cut.start - fade));
        assert!(share < 0.15, "{share}");
    }

    #[test]
    fn the_same_place_moved_through_the_other_way_is_no_match() {
        // A pendulum passes its middle twice a period.
        let frames: Vec<Signature> = (0..150).map(|at| head(3.0 * (at as f32 / 100.0 * TAU).sin(), 0.0, at)).collect();
        let cut = find(&frames, &LoopOptions { least_frames: 40, most_fade: 8 }).unwrap();
        assert!((cut.end - cut.start).abs_diff(100) <= 1, "{cut:?}");
    }

    #[test]
    fn a_head_that_does_not_move_is_cut_almost_whole() {
        let frames: Vec<Signature> = (0..120).map(|at| head(0.0, 0.0, at)).collect();
        let cut = find(&frames, &LoopOptions { least_frames: 50, most_fade: 10 }).unwrap();
        assert!(cut.closing == Closing::Cut && cut.end - cut.start > 100, "{cut:?}");
    }

    #[test]
    fn short_clips_are_used_whole() {
        assert_eq!(find(&[], &LoopOptions::default()), None);
        for frames in [1, 2, 3, 7, 60] {
            let cut = find(&swaying(frames, 50.0, 0.0), &LoopOptions::default()).unwrap();
            assert_eq!((cut.start, cut.end, cut.closing), (0, frames, Closing::PingPong));
            let all: Vec<Shown> = (0..cut.round()).map(|place| cut.shown(place)).collect();
            assert_eq!(all.len(), if frames > 2 { frames * 2 - 2 } else { frames });
            assert!(all.iter().all(|shown| matches!(shown, Shown::Frame(frame) if *frame < frames)), "{all:?}");
        }
    }

    #[test]
    fn a_match_in_ten_minutes_is_found_among_what_does_not_match() {
        // It wanders without repeating, but for two seconds of the ninth minute that are those of the first.
        let wander = |at: usize| {
            let at = at as f32;
            (3.0 * (at * 0.0131).sin() + 2.0 * (at * 0.000_73).sin(), 2.0 * (at * 0.0077).cos() - at * 0.000_2)
        };
        let mut frames: Vec<Signature> =
            (0..15_000).map(|at| (wander(at), at)).map(|((x, y), at)| head(x, y, at)).collect();
        let (here, there) = (900, 13_400);
        for at in 0..50 {
            let (x, y) = wander(here + at);
            frames[there + at] = head(x, y + 0.01, at);
        }
        let cut = find(&frames, &LoopOptions::default()).unwrap();
        assert_eq!(cut.closing, Closing::Cut, "{cut:?}");
        assert!(jump(&frames, cut.start, cut.end) < 3.0 && cut.end - cut.start > 7_000, "{cut:?}");
    }

    #[test]
    fn a_thumbnail_is_the_mean_of_its_pixels() {
        let grey: Vec<u8> = (0..32 * 48).map(|at| if at % 32 < 16 { 10 } else { 200 }).collect();
        let signature = Signature::of_grey(&grey, 32, 48, Vec::new());
        assert!(signature.thumbnail.chunks(16).all(|row| row[..8] == [10; 8] && row[8..] == [200; 8]));
        assert_eq!(Signature::of_grey(&[], 0, 0, Vec::new()).thumbnail, [0; THUMBNAIL]);
        assert_eq!(Signature::of_grey(&[7; 9], 3, 3, Vec::new()).thumbnail, [7; THUMBNAIL]);
    }
}
