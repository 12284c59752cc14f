//! Shines on glasses, which lie before the eye and stay where they are while the lid behind them goes down.
//!
//! In here: which columns of a lid have one before them, and from where beside it skin is to be taken. Not in here: rims
//! (`finding`), which end the lid.

use super::Column;
use super::finding::{Pixels, rank, ranked, soften, strides};

/// The most of an eye's width that a shine takes.
const MOST_STREAK: f32 = 0.35;

/// How much of the lid lies behind a shine on glass, column by column, 0 or 1 but for soft ends.
pub(super) fn on_lid(pixels: &Pixels<'_>, left: f32, columns: &[Column], height: f32) -> Vec<f32> {
    let places = || columns.iter().enumerate().map(|(at, column)| (left + at as f32, column));
    // Of the whole eye, as a shine may go on below it.
    let below = rank(places().map(|(u, column)| pixels.skin_under(u, column.lower, height)).collect(), 0.5);
    let shines: Vec<f32> = places()
        .map(|(u, column)| {
            let lid: Vec<f32> =
                strides(column.top + 1.0, column.upper, 1.0).map(|v| pixels.brightness([u, v])).collect();
            let skin = rank(lid.clone(), 0.5).min(below);
            let bright = skin + 20.0_f32.max(0.35 * skin);
            f32::from(u8::from(lid.into_iter().filter(|level| *level > bright).count() > 1))
        })
        .collect();
    if !is_streak(&shines) {
        return vec![0.0; columns.len()];
    }
    let around = columns.len() / 14;
    soften(ranked(&shines, around, 1.0), around as f32)
}

/// How far beside each column the nearest one is whose skin below the eye shows no shine, which a lid would get twice.
pub(super) fn below_eye(pixels: &Pixels<'_>, left: f32, columns: &[Column]) -> Vec<f32> {
    let skins: Vec<Vec<f32>> = columns
        .iter()
        .enumerate()
        .map(|(at, column)| {
            let u = left + at as f32;
            strides(column.lower + 1.0, column.lowest(), 1.0).map(|v| pixels.brightness([u, v])).collect()
        })
        .collect();
    let skin = rank(skins.concat(), 0.5);
    let bright = skin + 20.0_f32.max(0.3 * skin);
    let shone: Vec<f32> = skins
        .iter()
        .map(|skin| f32::from(u8::from(skin.iter().filter(|level| **level > bright).count() > 1)))
        .collect();
    // A shine has an edge; where skin becomes bright little by little, light falls on it.
    let (levels, reach): (Vec<f32>, _) =
        (skins.iter().map(|skin| rank(skin.clone(), 0.9)).collect(), shone.len() / 30 + 1);
    let has_edge = |at: usize| {
        let beside = [at.saturating_sub(reach), (at + reach).min(levels.len() - 1)].map(|at| levels[at]);
        shone[at] != shone[at - 1] && (beside[1] - beside[0]).abs() > 12.0_f32.max(0.15 * skin)
    };
    if !is_streak(&shone) || !(1..shone.len()).any(has_edge) {
        return vec![0.0; columns.len()];
    }
    // With some pixels more, as shines have soft ends.
    let shone = ranked(&shone, reach, 1.0);
    let clean: Vec<usize> = shone.enumerate().filter(|(_, shone)| *shone == 0.0).map(|(at, _)| at).collect();
    let farthest = columns.len() / 5;
    (0..columns.len())
        .map(|at| {
            let nearest = clean.iter().min_by_key(|other| at.abs_diff(**other));
            // Skin from farther away is that of another part of the face.
            nearest.filter(|other| at.abs_diff(**other) <= farthest).map_or(0.0, |other| *other as f32 - at as f32)
        })
        .collect()
}

/// Whether so many columns shine as a streak on glass has: what is bright over more of an eye is lit skin.
fn is_streak(shines: &[f32]) -> bool {
    let shining = shines.iter().sum::<f32>();
    shining > 0.0 && shining < MOST_STREAK * shines.len() as f32
}
