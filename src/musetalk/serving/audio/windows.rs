//! Which windows of sound the frames of a batch take, each window once. Pure.

use std::sync::Arc;

use super::Stretch;
use crate::musetalk::network::audio_rows::{FRAME_ROWS, LOCAL_MARGIN, ROW_STEP, first_row};

/// Frames within which several stretches share a window: models learn with that many from a window's end (`training`), and
/// mouths of further ones fit worse.
const SHARED: i64 = 4;

/// A window of a recording.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window<'a> {
    pub audio: &'a Arc<[f32]>,
    /// The sample that its first row is centred on.
    pub start: i64,
}

/// The windows of a batch, and what of them each frame hears.
#[derive(Debug, Default)]
pub(super) struct Plan<'a> {
    pub windows: Vec<Window<'a>>,
    /// Of each frame, stretch after stretch: which window, and the first of its rows there.
    pub frames: Vec<(usize, i64)>,
}

/// A frame and its place among all.
struct Placed<'a> {
    order: usize,
    /// Which stretch it is of.
    stretch: usize,
    audio: &'a Arc<[f32]>,
    /// The sample at which it begins.
    at: i64,
}

impl<'a> Plan<'a> {
    /// Windows of `rows` rows of `row_samples` samples, each of which ends shortly after the last frame that it serves.
    pub fn local(stretches: &[Stretch<'a>], rows: i64, row_samples: i64) -> Self {
        let mut frames = Vec::new();
        for (number, stretch) in stretches.iter().enumerate() {
            for frame in 0..stretch.frames {
                let at = stretch.first_frame_at + frame * ROW_STEP * row_samples;
                frames.push(Placed { order: frames.len(), stretch: number, audio: stretch.audio, at });
            }
        }
        // Those of one recording together, in its order.
        frames.sort_by_key(|frame| (Arc::as_ptr(frame.audio).cast::<f32>(), frame.at));
        let mut plan = Self { windows: Vec::new(), frames: vec![(0, 0); frames.len()] };
        let span = (rows - FRAME_ROWS - LOCAL_MARGIN) * row_samples;
        let near = SHARED * ROW_STEP * row_samples;
        let mut rest = frames.as_slice();
        while let Some(first) = rest.first() {
            let shares = |frame: &Placed<'_>| {
                let after = frame.at - first.at;
                let together = frame.stretch == first.stretch || after < near;
                Arc::ptr_eq(frame.audio, first.audio) && together && after <= span && after % row_samples == 0
            };
            let (served, others) = rest.split_at(rest.iter().take_while(|frame| shares(frame)).count().max(1));
            rest = others;
            let last_row = served.last().map_or(0, |last| (last.at - first.at) / row_samples);
            let start = first_row(0) + last_row + FRAME_ROWS + LOCAL_MARGIN - rows;
            for frame in served {
                let row = (frame.at - first.at) / row_samples + first_row(0) - start;
                if let Some(place) = plan.frames.get_mut(frame.order) {
                    *place = (plan.windows.len(), row.max(0));
                }
            }
            plan.windows.push(Window { audio: first.audio, start: first.at + start * row_samples });
        }
        plan
    }
}

/// The rows that a stretch's frame hears, counted from the beginning of the recording.
pub(super) fn rows_of_frame(stretch: &Stretch<'_>, frame: i64, row_samples: i64) -> std::ops::Range<i64> {
    let first = stretch.first_frame_at / row_samples + first_row(frame);
    first..first + FRAME_ROWS
}

/// The windows of `positions` rows from the start of each recording that the frames hear.
pub(super) fn of_recordings<'a>(stretches: &[Stretch<'a>], positions: i64, row_samples: i64) -> Vec<Window<'a>> {
    let mut wanted: Vec<Window<'a>> = Vec::new();
    for stretch in stretches.iter().filter(|stretch| stretch.frames > 0) {
        let samples = i64::try_from(stretch.audio.len()).unwrap_or(i64::MAX);
        let rows = samples / row_samples;
        let first = rows_of_frame(stretch, 0, row_samples).start.clamp(0, rows);
        let end = rows_of_frame(stretch, stretch.frames - 1, row_samples).end.clamp(first, rows);
        for index in first / positions..(end + positions - 1) / positions {
            let window = Window { audio: stretch.audio, start: index * positions * row_samples };
            if first < end && !wanted.iter().any(|other| other.is(&window)) {
                wanted.push(window);
            }
        }
    }
    wanted
}

impl Window<'_> {
    pub fn is(&self, other: &Window<'_>) -> bool {
        Arc::ptr_eq(self.audio, other.audio) && self.start == other.start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stretch(audio: &Arc<[f32]>, first_frame: i64, frames: i64) -> Stretch<'_> {
        Stretch { audio, first_frame_at: first_frame * 640, frames }
    }

    #[test]
    fn frames_of_one_recording_share_a_window_whichever_runs_they_are_of() {
        let (one, other): (Arc<[f32]>, Arc<[f32]>) = (vec![0.0; 64_000].into(), vec![0.0; 64_000].into());
        // Frames of a thinned run, one that is further, and another session.
        let stretches = [stretch(&one, 20, 1), stretch(&other, 3, 1), stretch(&one, 22, 2), stretch(&one, 24, 1)];
        let plan = Plan::local(&stretches, 64, 320);
        let of = |window: usize| plan.frames.iter().filter(|(at, _)| *at == window).count();
        assert_eq!(plan.windows.len(), 3);
        let mut served = [of(0), of(1), of(2)];
        served.sort_unstable();
        assert_eq!(served, [1, 1, 3]);
        // It ends two rows after the ten of the last of its frames, 23, which begin four before it.
        let (window, row) = plan.frames[0];
        assert_eq!(plan.windows[window].start, 23 * 640 + (-4 + 10 + 2 - 64) * 320);
        assert_eq!(row, 64 - 12 - 6);
        assert_eq!(plan.frames[3], (window, 64 - 12));
    }

    #[test]
    fn a_window_serves_no_more_than_fit_into_it() {
        let audio: Arc<[f32]> = vec![0.0; 64_000].into();
        let plan = Plan::local(&[stretch(&audio, 0, 27), stretch(&audio, 27, 1)], 64, 320);
        assert_eq!(plan.windows.len(), 2);
        assert!(plan.frames.iter().all(|(_, row)| (0..=64 - 12).contains(row)));
        // A frame between two rows has none in common with the others.
        let odd = Stretch { audio: &audio, first_frame_at: 700, frames: 1 };
        assert_eq!(Plan::local(&[stretch(&audio, 0, 1), odd], 64, 320).windows.len(), 2);
    }

    #[test]
    fn of_whole_recordings_each_window_is_wanted_once_and_none_beyond_the_end() {
        let (one, other): (Arc<[f32]>, Arc<[f32]>) = (vec![0.0; 640 * 60].into(), vec![0.0; 640 * 60].into());
        // 120 rows in windows of 100; frame 50 begins at row 100 and hears four before it.
        let starts = |stretches: &[Stretch<'_>]| -> Vec<i64> {
            of_recordings(stretches, 100, 320).iter().map(|window| window.start).collect()
        };
        assert_eq!(starts(&[stretch(&one, 0, 4), stretch(&one, 4, 4)]), [0]);
        assert_eq!(starts(&[stretch(&one, 50, 1), stretch(&other, 55, 1)]), [0, 32_000, 32_000]);
        assert_eq!(starts(&[stretch(&one, 80, 2)]), [0; 0]);
    }
}
