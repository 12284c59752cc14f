//! The figures that compare generated mouths with drawn ones. Pure: numbers in, numbers out.
//!
//! Not in here: making the mouths (`perform`) and choosing what is compared (`eval`).

/// How open a generated and the true mouth are in one frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    pub generated: f32,
    pub truth: f32,
    /// Whether the frame counts: the network drew it. Others are the avatar's own, kept for their place in time.
    pub counts: bool,
}

/// Frames by which a generated mouth may be looked for before and after the true one.
pub const LAGS: std::ops::RangeInclusive<isize> = -5..=5;

/// Pearson's correlation of generated and true over the frames of all clips that count; 0 if either never changes.
pub fn correlation(clips: &[Vec<Pair>]) -> f64 {
    correlation_at(clips, 0)
}

/// By how many frames the generated mouths are late: where the correlation is best. Negative is early.
pub fn best_lag(clips: &[Vec<Pair>]) -> isize {
    let mut best = (0, f64::NEG_INFINITY);
    for lag in LAGS {
        let found = correlation_at(clips, lag);
        if found > best.1 {
            best = (lag, found);
        }
    }
    best.0
}

/// The correlation of the truth with what is generated `lag` frames later.
fn correlation_at(clips: &[Vec<Pair>], lag: isize) -> f64 {
    let pairs = clips.iter().flat_map(|clip| {
        clip.iter().enumerate().filter(|(_, pair)| pair.counts).filter_map(move |(at, pair)| {
            let generated = clip.get(at.checked_add_signed(lag)?)?.generated;
            Some((f64::from(generated), f64::from(pair.truth)))
        })
    });
    pearson(pairs)
}

fn pearson(pairs: impl Iterator<Item = (f64, f64)>) -> f64 {
    let (mut n, mut x, mut y, mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0);
    for (a, b) in pairs {
        n += 1.0;
        x += a;
        y += b;
        xx += a * a;
        yy += b * b;
        xy += a * b;
    }
    let spread = (n * xx - x * x).max(0.0) * (n * yy - y * y).max(0.0);
    if spread <= 0.0 { 0.0 } else { (n * xy - x * y) / spread.sqrt() }
}

/// How far the generated openings spread for each step that the true ones do; 1 is right.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Range {
    /// By standard deviation.
    pub std: f64,
    /// From the 5th to the 95th percentile.
    pub p95_p5: f64,
}

pub fn range(clips: &[Vec<Pair>]) -> Range {
    let counted = || clips.iter().flatten().filter(|pair| pair.counts);
    let mut generated: Vec<f64> = counted().map(|pair| f64::from(pair.generated)).collect();
    let mut truth: Vec<f64> = counted().map(|pair| f64::from(pair.truth)).collect();
    Range {
        std: ratio(deviation(&generated), deviation(&truth)),
        p95_p5: ratio(spread(&mut generated), spread(&mut truth)),
    }
}

#[allow(clippy::cast_precision_loss, reason = "a count of frames")]
pub fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
}

fn deviation(values: &[f64]) -> f64 {
    let middle = mean(values);
    let squares: Vec<f64> = values.iter().map(|value| (value - middle).powi(2)).collect();
    mean(&squares).sqrt()
}

fn spread(values: &mut [f64]) -> f64 {
    percentile(values, 95) - percentile(values, 5)
}

/// The value that `percent` of the values do not exceed; 0 of none. Sorts.
pub fn percentile(values: &mut [f64], percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    values.get(last * percent / 100).copied().unwrap_or(0.0)
}

pub fn ratio(part: f64, whole: f64) -> f64 {
    if whole == 0.0 { 0.0 } else { part / whole }
}

/// Peak signal to noise of 8-bit values with this mean squared error, in dB. Capped at 99 for equal pictures.
pub fn psnr_db(mean_squared_error: f64) -> f64 {
    (10.0 * (255.0_f64.powi(2) / mean_squared_error.max(1e-12)).log10()).min(99.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A clip whose generated mouth repeats the true one `late` frames later, `scale` times as far open.
    fn clip(late: usize, scale: f32) -> Vec<Pair> {
        let truth = |at: usize| {
            let at = f32::from(u16::try_from(at).unwrap());
            (at * 0.9).sin() * (at * 0.13).cos() + 1.0
        };
        (10..90).map(|at| Pair { generated: truth(at - late) * scale, truth: truth(at), counts: true }).collect()
    }

    #[test]
    fn a_faithful_mouth_correlates_fully_and_is_neither_late_nor_early() {
        let clips = [clip(0, 1.0), clip(0, 1.0)];
        assert!((correlation(&clips) - 1.0).abs() < 1e-6);
        assert_eq!(best_lag(&clips), 0);
    }

    #[test]
    fn a_mouth_that_follows_two_frames_late_has_lag_two() {
        let clips = [clip(2, 1.0)];
        assert!(correlation(&clips) < 0.6);
        assert_eq!(best_lag(&clips), 2);
    }

    #[test]
    fn damping_narrows_the_range_and_leaves_the_correlation() {
        let clips = [clip(0, 0.8)];
        let found = range(&clips);
        assert!((found.std - 0.8).abs() < 1e-6 && (found.p95_p5 - 0.8).abs() < 1e-6, "{found:?}");
        assert!((correlation(&clips) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn frames_that_the_network_did_not_draw_do_not_count() {
        let mut disturbed = clip(0, 1.0);
        let own = Pair { generated: 9.0, truth: -9.0, counts: false };
        disturbed.extend(std::iter::repeat_n(own, 30));
        assert!((correlation(&[disturbed]) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn a_mouth_that_never_moves_correlates_with_nothing() {
        let still = vec![Pair { generated: 0.5, truth: 0.1, counts: true }; 20];
        assert_eq!(correlation(&[still]), 0.0);
    }

    #[test]
    fn psnr_of_equal_pictures_is_capped_and_of_one_level_is_48_db() {
        assert_eq!(psnr_db(0.0), 99.0);
        assert!((psnr_db(1.0) - 48.13).abs() < 0.01);
    }
}
