//! The contact sheet: what the model shows beside what the drawer draws, at full size, for the eye to judge.
//!
//! One block of rows for each engine that is judged, one column for each viseme: above the pasted frame, below the
//! drawn one, both cut out of the whole frame around the mouth.

use std::path::PathBuf;

use mouthpiece::picture::png;

use crate::Trial;
use crate::character::{FRAME_SIZE, draw_frame, idle_pose};
use crate::corpus::{self, Clip, Split};
use crate::file_error;
use crate::perform::{Performer, Shown};
use crate::visemes::{MouthTrack, Viseme};

/// The columns. Neighbours that look alike are left out.
const VISEMES: [Viseme; 9] =
    [Viseme::PP, Viseme::FF, Viseme::TH, Viseme::DD, Viseme::SS, Viseme::CH, Viseme::ih, Viseme::aa, Viseme::ou];
/// Size of a cell: cheek to cheek, eyes to below the chin.
const CELL: (usize, usize) = (168, 208);
/// Where a cell begins, from the crop's corner.
const CELL_ORIGIN: (usize, usize) = (20, 72);
const GAP: usize = 4;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub trial: Trial,
    #[arg(long, default_value = "models/demo/sheet.png")]
    pub out: PathBuf,
    /// Enlarge by this whole factor.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=8))]
    pub zoom: u8,
}

/// A frame of the sheet: the generated one and the drawn one.
type Cell = [Vec<u8>; 2];

pub fn run(args: &Args) -> anyhow::Result<()> {
    let clips = corpus::load(&args.trial.corpus, |entry| entry.split != Split::Train)?;
    let mut performer = Performer::open(&args.trial.model, &args.trial.avatar)?;
    let mut engines: Vec<&str> = clips.iter().map(|clip| clip.entry.engine.as_str()).collect();
    engines.dedup();
    let mut rows = Vec::with_capacity(engines.len());
    for engine in engines {
        let own: Vec<&Clip> = clips.iter().filter(|clip| clip.entry.engine == engine).collect();
        rows.push(row(&mut performer, &own)?);
    }
    let sheet = arrange(&rows).enlarge(usize::from(args.zoom));
    let side = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
    png::write_rgb(&args.out, side(sheet.width), side(sheet.height), &sheet.rgb)
        .map_err(|error| file_error(&args.out, error))
}

/// A cell for each viseme, taken from clip after clip.
fn row(performer: &mut Performer, clips: &[&Clip]) -> anyhow::Result<Vec<Option<Cell>>> {
    let mut cells: Vec<Option<Cell>> = vec![None; VISEMES.len()];
    for (number, clip) in clips.iter().enumerate() {
        // Every clip has a turn, so that the row is not all of one voice; the last may fill whatever is missing.
        let share = VISEMES.len().div_ceil(clips.len().max(1));
        let room = if number + 1 == clips.len() { VISEMES.len() } else { share };
        let wanted: Vec<(usize, usize)> = (0..VISEMES.len())
            .filter(|&at| cells[at].is_none())
            .filter_map(|at| Some((at, middle_of(clip, VISEMES[at])?)))
            .take(room)
            .collect();
        if wanted.is_empty() {
            continue;
        }
        let shown = performer.speak(&clip.samples, (number * 29) as u64)?;
        let track = MouthTrack::new(&clip.entry.phones, &clip.samples);
        for (at, frame) in wanted {
            cells[at] = shown.get(frame).map(|shown| cell(performer, &track, frame, shown));
        }
    }
    Ok(cells)
}

/// The frame in the middle of the longest phone of a viseme.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clips last seconds")]
fn middle_of(clip: &Clip, viseme: Viseme) -> Option<usize> {
    let phones = clip.entry.phones.iter().filter(|phone| phone.viseme == viseme);
    let longest = phones.max_by(|a, b| (a.end - a.start).total_cmp(&(b.end - b.start)))?;
    Some(((longest.start + longest.end) / 2.0 * 25.0) as usize)
}

fn cell(performer: &Performer, track: &MouthTrack, frame: usize, shown: &Shown) -> Cell {
    let crop = performer.avatar.frames()[shown.pose].crop;
    let origin = |at: i32, up: usize, length: usize| {
        usize::try_from(at).unwrap_or(0).saturating_sub(up).min(FRAME_SIZE as usize - length)
    };
    let (left, top) = (origin(crop.x, CELL_ORIGIN.0, CELL.0), origin(crop.y, CELL_ORIGIN.1, CELL.1));
    let truth = draw_frame(&idle_pose(shown.pose), &track.frame(frame));
    [performer.pasted_frame(shown), truth].map(|picture| {
        let lines = picture.chunks_exact(FRAME_SIZE as usize * 3).skip(top).take(CELL.1);
        lines.flat_map(|line| line[left * 3..(left + CELL.0) * 3].iter().copied()).collect()
    })
}

struct Sheet {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

impl Sheet {
    fn put(&mut self, x: usize, y: usize, cell: &[u8]) {
        for (row, line) in cell.chunks_exact(CELL.0 * 3).enumerate() {
            let at = ((y + row) * self.width + x) * 3;
            self.rgb[at..at + line.len()].copy_from_slice(line);
        }
    }

    fn enlarge(self, factor: usize) -> Self {
        let mut rgb = Vec::with_capacity(self.rgb.len() * factor * factor);
        for line in self.rgb.chunks_exact(self.width * 3) {
            let wide: Vec<u8> =
                line.chunks_exact(3).flat_map(|pixel| std::iter::repeat_n(pixel, factor)).flatten().copied().collect();
            (0..factor).for_each(|_| rgb.extend_from_slice(&wide));
        }
        Self { width: self.width * factor, height: self.height * factor, rgb }
    }
}

fn arrange(rows: &[Vec<Option<Cell>>]) -> Sheet {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let (step_x, step_y) = (CELL.0 + GAP, 2 * CELL.1 + 2 * GAP);
    let (width, height) = (columns * step_x, rows.len() * step_y);
    let mut sheet = Sheet { width, height, rgb: vec![255; width * height * 3] };
    for (row, cells) in rows.iter().enumerate() {
        for (column, cell) in cells.iter().enumerate() {
            let Some([generated, truth]) = cell else { continue };
            sheet.put(column * step_x, row * step_y, generated);
            sheet.put(column * step_x, row * step_y + CELL.1, truth);
        }
    }
    sheet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sheet_has_the_generated_frame_right_above_the_drawn_one() {
        let plain = |value: u8| vec![value; CELL.0 * CELL.1 * 3];
        let sheet = arrange(&[vec![None, Some([plain(10), plain(20)])]]);
        let at = |x: usize, y: usize| sheet.rgb[(y * sheet.width + x) * 3];
        assert_eq!(at(CELL.0 + GAP, CELL.1 - 1), 10);
        assert_eq!(at(CELL.0 + GAP, CELL.1), 20);
        assert_eq!(at(0, 0), 255);
        let double = arrange(&[vec![Some([plain(10), plain(20)])]]).enlarge(2);
        assert_eq!(double.rgb.len(), double.width * double.height * 3);
    }
}
