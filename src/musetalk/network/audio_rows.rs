//! Which rows of the audio encoder each video frame hears.
//!
//! A row is one step of the encoder, 20 ms; row r is centred on sample 320 r. A frame that begins at row r hears rows
//! `[r - 4, r + 6)`: 80 ms before it to 80 ms after it. Not in here: making the rows (`whisper`), keeping them between two
//! batches (`serving::audio`).

use tch::Tensor;

use crate::musetalk::Result;
use crate::timeline::FPS;

/// Rows that a frame hears.
pub const FRAME_ROWS: i64 = 10;
/// Of those, rows before the frame begins.
const ROWS_BEFORE: i64 = 4;
const ROWS_A_SECOND: i64 = 50;
/// Rows from one frame to the next at 25 fps.
pub const ROW_STEP: i64 = ROWS_A_SECOND / FPS as i64;
/// Rows a local window goes on after the last row that is heard, so that the encoder's convolutions see real sound.
pub const LOCAL_MARGIN: i64 = 2;

/// The first row that video frame `frame` hears, at 25 fps.
pub fn first_row(frame: i64) -> i64 {
    first_row_at(frame, i64::from(FPS))
}

/// The same at another whole number of frames a second. Upstream's rule agrees at 25 and 30 fps only: it pads by whole
/// rows a frame and so hears 40 ms early at 24 and below, 40 ms late at 50 and above.
pub fn first_row_at(frame: i64, fps: i64) -> i64 {
    (frame * ROWS_A_SECOND).div_euclid(fps) - ROWS_BEFORE
}

/// The rows of a local window for a run of `frames` frames, `[first, end)`, counted from the first frame's beginning.
pub fn local_window(frames: i64, rows: i64) -> [i64; 2] {
    let end = first_row(frames - 1) + FRAME_ROWS + LOCAL_MARGIN;
    [end - rows, end]
}

/// Cuts one window for each of `frames` frames out of `hidden`, `[rows, states, d]`, whose first row is row `start`
/// counted from the first frame's beginning: `[frames, 10 * states, d]`, time-major. Rows outside of `hidden` are zero.
pub fn frame_tokens(hidden: &Tensor, start: i64, frames: i64) -> Result<Tensor> {
    let (rows, states, size) = hidden.size3()?;
    let (first, end) = (first_row(0), first_row(frames - 1) + FRAME_ROWS);
    // What both have in common, which may be nothing.
    let from = first.max(start).min(end);
    let to = end.min(start + rows).max(from);
    let inside = hidden.f_narrow(0, (from - start).clamp(0, rows), to - from)?;
    // Innermost dimensions first: only rows are added.
    let padded = inside.f_constant_pad_nd([0, 0, 0, 0, from - first, end - to])?;
    let windows = padded.f_unfold(0, FRAME_ROWS, ROW_STEP)?.f_permute([0, 3, 1, 2])?;
    Ok(windows.f_reshape([frames, FRAME_ROWS * states, size])?)
}
