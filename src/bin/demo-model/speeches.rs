//! The corpus as training listens to it: every clip with the mouth that its phones make, and most of them again with
//! another voice.
//!
//! Not in here: how phones become mouths (`visemes`), and the files (`corpus`).

use std::path::Path;
use std::sync::Arc;

use mouthpiece::timeline::LIPSYNC_SAMPLES_PER_FRAME;
use mouthpiece::training::augment::resample;
use mouthpiece::training::speeches::{Corpus, HeldOut, Moment, Speech};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::character::MouthShape;
use crate::corpus::{self, Clip, Split};
use crate::visemes::{MouthTrack, PARAMETERS, Phone, parameters};

/// Clips of each engine that training is judged by.
const HELD_OUT_CLIPS: usize = 8;

/// A folder's clips for training and, if they are wanted, those that training is judged by.
pub fn training_corpus(folder: &Path, seed: u64, heldout: bool) -> anyhow::Result<Corpus> {
    let clips = corpus::load(folder, |entry| entry.split == Split::Train)?;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let speeches = with_other_voices(&clips, &mut rng);
    let heldout = if heldout { held_out(folder)? } else { Vec::new() };
    Ok(Corpus { hash: corpus::hash(&clips), clips: clips.len(), speeches, heldout })
}

fn with_other_voices(clips: &[Clip], rng: &mut ChaCha8Rng) -> Vec<Speech> {
    let mut all = Vec::new();
    for clip in clips {
        let phones = &clip.entry.phones;
        all.push(speech(Arc::clone(&clip.samples), phones));
        if rng.random_bool(0.75) {
            let factor = rng.random_range(0.82..1.22_f64);
            let samples = resample(&clip.samples, factor);
            let moved = |phone: &Phone| Phone { start: phone.start / factor, end: phone.end / factor, ..phone.clone() };
            let phones: Vec<Phone> = phones.iter().map(moved).collect();
            all.push(speech(samples.into(), &phones));
        }
    }
    all
}

/// The first clips of each engine that training does not learn from.
fn held_out(folder: &Path) -> anyhow::Result<Vec<HeldOut>> {
    let clips = corpus::load(folder, |entry| entry.split != Split::Train)?;
    let mut engines: Vec<&str> = clips.iter().map(|clip| clip.entry.engine.as_str()).collect();
    engines.sort_unstable();
    engines.dedup();
    let of = |engine: &str| {
        let own = clips.iter().filter(|clip| clip.entry.engine == engine).take(HELD_OUT_CLIPS);
        own.map(|clip| speech(Arc::clone(&clip.samples), &clip.entry.phones)).collect()
    };
    Ok(engines.into_iter().map(|engine| HeldOut { name: engine.to_owned(), speeches: of(engine) }).collect())
}

fn speech(samples: Arc<[f32]>, phones: &[Phone]) -> Speech {
    let track = MouthTrack::new(phones, &samples);
    let frames = samples.len().div_ceil(LIPSYNC_SAMPLES_PER_FRAME);
    let shapes: Vec<MouthShape> = (0..frames).map(|frame| track.frame(frame)).collect();
    let before = [MouthShape::default()].into_iter().chain(shapes.iter().copied());
    let moments: Vec<Moment<PARAMETERS>> = shapes
        .iter()
        .zip(before)
        .map(|(now, before)| Moment { mouth: parameters(now), value: value(now, &before) })
        .collect();
    Speech::new(samples, &moments)
}

/// How much a frame teaches: closures, rounded lips, wide openings and fast changes are rare and matter.
fn value(now: &MouthShape, before: &MouthShape) -> f32 {
    if *now == MouthShape::default() {
        return 0.5;
    }
    let rare = now.press.max(now.bite).max(((now.round - 0.4) * 2.5).max(0.0));
    1.0 + 2.5 * rare + 1.5 * (now.open - 0.4).max(0.0) + 4.0 * (now.open - before.open).abs()
}
