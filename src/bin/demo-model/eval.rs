//! Judges the demo model: what it draws for clips that it was not trained on against what the character's drawer
//! draws from the clips' own phone times.
//!
//! Every figure is over the frames that the network draws: speech and two frames around it. Silent frames are the
//! avatar's own and would only flatter. Not in here: the figures themselves (`judge`), the way from sound to
//! pixels (`perform`).

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use mouthpiece::lipsync::{LipSync, MouthRun};
use mouthpiece::timeline::LIPSYNC_SAMPLES_PER_FRAME;

use crate::character::{CROP_SIZE, draw_crop, idle_pose, mouth_opening};
use crate::corpus::{self, Clip, Split};
use crate::judge::{self, Pair, Range};
use crate::perform::{Performer, Shown, rest_crops};
use crate::visemes::MouthTrack;
use crate::{Trial, file_error};

/// The part of the crop that holds the mouth in every pose, where sharpness is judged: columns, rows.
const MOUTH: ([usize; 2], [usize; 2]) = ([20, 108], [16, 80]);
/// A mouth that measures this much more open than the same pose at rest still counts as shut: 20 pixels' worth.
const SHUT: f32 = 20.0 / (CROP_SIZE * CROP_SIZE) as f32;
/// Each clip starts in another part of the idle loop.
const POSE_STEP: usize = 37;
/// Timed runs of each batch size; their median is reported.
const TIMED_RUNS: usize = 15;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub trial: Trial,
    /// Judge only every n-th clip.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub every: u16,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// How a set of clips went.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Figures {
    pub clips: usize,
    /// Frames that the network drew.
    pub frames: usize,
    /// Correlation of the mouth's opening, generated against drawn.
    pub open_correlation: f64,
    /// How late the generated mouth is.
    pub lag_frames: isize,
    /// Range of openings, generated over drawn.
    pub opening_range: Range,
    /// Of the frames within p, b or m in which the drawn mouth is shut: the share with the generated mouth shut.
    pub closed_on_pbm: f64,
    pub pbm_frames: usize,
    /// Of all other frames, the share with the generated mouth shut; that of the drawn one. They should be close.
    pub closed_elsewhere: [f64; 2],
    pub mouth_psnr_db: f64,
    /// Mean difference from the drawing, in 8-bit levels, where the mask fades out.
    pub seam_levels: f64,
    pub ms_per_frame: Speed,
}

/// Whole inference through `LipSync::draw` on one thread, median of several runs.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Speed {
    pub batch1: f64,
    pub batch4: f64,
    /// The same runs in time on the processor, which other programs do not lengthen; where the system tells.
    pub cpu_batch1: Option<f64>,
    pub cpu_batch4: Option<f64>,
}

#[derive(Debug, serde::Serialize)]
pub struct Report {
    pub heldout: Option<Figures>,
    pub unknown: Option<Figures>,
    pub per_engine: BTreeMap<String, Figures>,
    /// Opening above rest, as a fraction of the crop's area, up to which a mouth counts as shut.
    pub shut_below: f32,
}

/// What one clip adds to the figures.
struct Judged {
    engine: String,
    split: Split,
    pairs: Vec<Pair>,
    /// Whether the generated mouth is shut in the frames in which the drawn one is for a p, b or m.
    pbm: Vec<bool>,
    elsewhere: Vec<[bool; 2]>,
    /// Sums of squared error in the mouth and of absolute error at the seam, one entry for each drawn frame.
    mouth_error: Vec<f64>,
    seam_error: Vec<f64>,
}

/// Judges, and prints to stdout.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let report = evaluate(args)?;
    let text = if args.json { serde_json::to_string(&report) } else { serde_json::to_string_pretty(&report) };
    let text = text.map_err(|error| file_error(Path::new("report"), error))?;
    writeln!(std::io::stdout(), "{text}").map_err(|error| file_error(Path::new("stdout"), error))
}

pub fn evaluate(args: &Args) -> anyhow::Result<Report> {
    let clips = corpus::load(&args.trial.corpus, |entry| entry.split != Split::Train)?;
    let mut performer = Performer::open(&args.trial.model, &args.trial.avatar)?;
    let rests = rest_crops(performer.avatar.frames().len());
    let mut judged = Vec::new();
    for (index, clip) in clips.iter().enumerate().step_by(usize::from(args.every)) {
        let found = judge_clip(&mut performer, &rests, clip, index * POSE_STEP)?;
        let so_far = judge::correlation(std::slice::from_ref(&found.pairs));
        tracing::info!(clip = clip.entry.id, open_correlation = so_far, "judged");
        judged.push(found);
    }
    let speed = measure_speed(&mut performer, &clips[0].samples)?;
    let of = |wanted: &dyn Fn(&Judged) -> bool| {
        let chosen: Vec<&Judged> = judged.iter().filter(|clip| wanted(clip)).collect();
        (!chosen.is_empty()).then(|| figures(&chosen, speed))
    };
    let mut per_engine = BTreeMap::new();
    for engine in judged.iter().map(|clip| clip.engine.clone()) {
        if let Some(figures) = of(&|clip| clip.engine == engine) {
            per_engine.insert(engine, figures);
        }
    }
    let heldout = of(&|clip| clip.split == Split::Heldout);
    Ok(Report { heldout, unknown: of(&|clip| clip.split == Split::Unknown), per_engine, shut_below: SHUT })
}

fn judge_clip(performer: &mut Performer, rests: &[Vec<u8>], clip: &Clip, pose: usize) -> anyhow::Result<Judged> {
    let shown = performer.speak(&clip.samples, pose as u64)?;
    let track = MouthTrack::new(&clip.entry.phones, &clip.samples);
    let truths = draw_truths(&track, &shown);
    let mut judged = Judged {
        engine: clip.entry.engine.clone(),
        split: clip.entry.split,
        pairs: Vec::with_capacity(shown.len()),
        pbm: Vec::new(),
        elsewhere: Vec::new(),
        mouth_error: Vec::new(),
        seam_error: Vec::new(),
    };
    for (frame, (shown, truth)) in shown.iter().zip(&truths).enumerate() {
        let rest = &rests[shown.pose];
        let at_rest = mouth_opening(rest);
        let Some(truth) = truth else {
            judged.pairs.push(Pair { generated: at_rest, truth: at_rest, counts: false });
            continue;
        };
        let pasted = performer.pasted_crop(shown, rest);
        let pair = Pair { generated: mouth_opening(&pasted), truth: mouth_opening(truth), counts: true };
        judged.pairs.push(pair);
        let [generated_shut, truth_shut] = [pair.generated, pair.truth].map(|opening| opening - at_rest <= SHUT);
        if track.is_pressed(frame) && truth_shut {
            judged.pbm.push(generated_shut);
        } else {
            judged.elsewhere.push([generated_shut, truth_shut]);
        }
        judged.mouth_error.push(mouth_error(&pasted, truth));
        judged.seam_error.push(seam_error(&pasted, truth, &performer.avatar.mask.alpha));
    }
    Ok(judged)
}

/// The drawn crop of each frame that the network drew too, on all cores.
fn draw_truths(track: &MouthTrack, shown: &[Shown]) -> Vec<Option<Vec<u8>>> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut truths = vec![None; shown.len()];
    let share = shown.len().div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        for (part, (truths, shown)) in truths.chunks_mut(share).zip(shown.chunks(share)).enumerate() {
            scope.spawn(move || {
                for (at, (truth, shown)) in truths.iter_mut().zip(shown).enumerate() {
                    let mouth = track.frame(part * share + at);
                    *truth = shown.mouth.as_ref().map(|_| draw_crop(&idle_pose(shown.pose), &mouth));
                }
            });
        }
    });
    truths
}

/// Mean squared error over the mouth's part of the crop.
fn mouth_error(generated: &[u8], truth: &[u8]) -> f64 {
    let ([left, right], [top, bottom]) = MOUTH;
    let side = CROP_SIZE as usize;
    let mut squares = Vec::with_capacity((right - left) * (bottom - top) * 3);
    for row in top..bottom {
        let range = (row * side + left) * 3..(row * side + right) * 3;
        for (a, b) in generated[range.clone()].iter().zip(&truth[range]) {
            squares.push(f64::from(a.abs_diff(*b)).powi(2));
        }
    }
    judge::mean(&squares)
}

/// Mean absolute error where the mask is neither empty nor full.
fn seam_error(generated: &[u8], truth: &[u8], mask: &[u8]) -> f64 {
    let ring = mask.iter().enumerate().filter(|(_, alpha)| (1..255).contains(*alpha)).flat_map(|(at, _)| {
        [0, 1, 2].map(|channel| f64::from(generated[at * 3 + channel].abs_diff(truth[at * 3 + channel])))
    });
    judge::mean(&ring.collect::<Vec<f64>>())
}

#[allow(clippy::cast_precision_loss, reason = "counts of frames")]
fn figures(clips: &[&Judged], speed: Speed) -> Figures {
    let pairs: Vec<Vec<Pair>> = clips.iter().map(|clip| clip.pairs.clone()).collect();
    let pbm: Vec<bool> = clips.iter().flat_map(|clip| clip.pbm.iter().copied()).collect();
    let elsewhere: Vec<[bool; 2]> = clips.iter().flat_map(|clip| clip.elsewhere.iter().copied()).collect();
    let share = |shut: usize, of: usize| judge::ratio(shut as f64, of as f64);
    let open_share = |which: usize| share(elsewhere.iter().filter(|shut| shut[which]).count(), elsewhere.len());
    let all = |of: fn(&Judged) -> &Vec<f64>| -> Vec<f64> { clips.iter().flat_map(|clip| of(clip).clone()).collect() };
    Figures {
        clips: clips.len(),
        frames: pairs.iter().flatten().filter(|pair| pair.counts).count(),
        open_correlation: judge::correlation(&pairs),
        lag_frames: judge::best_lag(&pairs),
        opening_range: judge::range(&pairs),
        closed_on_pbm: share(pbm.iter().filter(|shut| **shut).count(), pbm.len()),
        pbm_frames: pbm.len(),
        closed_elsewhere: [open_share(0), open_share(1)],
        mouth_psnr_db: judge::psnr_db(judge::mean(&all(|clip| &clip.mouth_error))),
        seam_levels: judge::mean(&all(|clip| &clip.seam_error)),
        ms_per_frame: speed,
    }
}

fn measure_speed(performer: &mut Performer, samples: &Arc<[f32]>) -> anyhow::Result<Speed> {
    let [batch1, cpu_batch1] = measure_batch(performer, samples, 1)?;
    let [batch4, cpu_batch4] = measure_batch(performer, samples, 4)?;
    let known = |value: f64| (value > 0.0).then_some(value);
    Ok(Speed { batch1, batch4, cpu_batch1: known(cpu_batch1), cpu_batch4: known(cpu_batch4) })
}

/// Milliseconds a frame by the clock and by the processor, medians.
#[allow(clippy::cast_precision_loss, reason = "a batch of four")]
fn measure_batch(performer: &mut Performer, samples: &Arc<[f32]>, size: usize) -> anyhow::Result<[f64; 2]> {
    let (mut wall, mut cpu) = (Vec::new(), Vec::new());
    for run in 0..TIMED_RUNS + 3 {
        let batch = MouthRun {
            avatar: performer.handle,
            poses: (0..size).map(|at| (run * size + at) % performer.avatar.frames().len()).collect(),
            audio: Arc::clone(samples),
            first_frame_at: (10 + run) * LIPSYNC_SAMPLES_PER_FRAME,
        };
        let (started, cpu_started) = (Instant::now(), cpu_ms());
        performer.model.draw(std::slice::from_ref(&batch))?;
        // The first runs choose kernels and grow buffers.
        if run >= 3 {
            wall.push(started.elapsed().as_secs_f64() * 1e3 / size as f64);
            cpu.push(cpu_ms().zip(cpu_started).map_or(0.0, |(now, then)| (now - then) / size as f64));
        }
    }
    Ok([judge::percentile(&mut wall, 50), judge::percentile(&mut cpu, 50)])
}

/// Time that this thread has spent on a processor. Linux alone tells it.
fn cpu_ms() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(text.split_whitespace().next()?.parse::<f64>().ok()? / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::character::{MouthShape, paste_mask};

    #[test]
    fn a_shut_mouth_measures_shut_and_a_slightly_open_one_does_not() {
        for pose in [0, 40, 80] {
            let opening = |mouth| mouth_opening(&draw_crop(&idle_pose(pose), &mouth));
            let rest = opening(MouthShape::default());
            assert!(opening(MouthShape { press: 1.0, open: 0.6, ..MouthShape::default() }) - rest <= SHUT);
            assert!(opening(MouthShape { open: 0.12, ..MouthShape::default() }) - rest > SHUT, "pose {pose}");
        }
    }

    #[test]
    fn the_judged_part_of_the_crop_holds_the_whole_mouth() {
        let side = CROP_SIZE as usize;
        let ([left, right], [top, bottom]) = MOUTH;
        for pose in [0, 30, 60, 90] {
            for (open, wide) in [(1.0, 0.0), (0.8, 1.0)] {
                let mouth = MouthShape { open, wide, ..MouthShape::default() };
                let rest = draw_crop(&idle_pose(pose), &MouthShape::default());
                let whole = draw_crop(&idle_pose(pose), &mouth);
                let mut part = rest;
                for row in top..bottom {
                    let range = (row * side + left) * 3..(row * side + right) * 3;
                    part[range.clone()].copy_from_slice(&whole[range]);
                }
                assert_eq!(mouth_opening(&part), mouth_opening(&whole), "pose {pose}, {mouth:?}");
            }
        }
    }

    #[test]
    fn only_the_fading_part_of_the_mask_counts_as_seam() {
        let mask = paste_mask();
        let side = CROP_SIZE as usize;
        let (truth, mut generated) = (vec![100_u8; side * side * 3], vec![100_u8; side * side * 3]);
        generated[(64 * side + 64) * 3] = 200;
        assert_eq!(seam_error(&generated, &truth, &mask), 0.0);
        let fading = mask.iter().position(|alpha| (1..255).contains(alpha)).unwrap();
        generated[fading * 3] = 200;
        assert!(seam_error(&generated, &truth, &mask) > 0.0);
    }
}
