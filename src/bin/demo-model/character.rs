//! The demo avatar's character: a drawn person with an idle loop and an articulated mouth.
//!
//! Everything is computed from numbers in these files, with no picture as a source, and the same call always gives the
//! same bytes. Training draws crops, avatar preparation draws frames; neither the server nor the network needs any of
//! it at run time. Not here: what moves the mouth (phonemes), and the network that learns it.

mod body;
mod canvas;
mod eyes;
mod hair;
mod head;
mod measure;
mod mouth;
mod palette;
mod pose;
#[cfg(test)]
mod tests;

use canvas::Canvas;
pub use measure::{REGION, mouth_opening};
pub use pose::{Pose, crop_origin, idle_pose};

/// Side of a frame in pixels.
pub const FRAME_SIZE: u32 = 512;
/// Side of the mouth crop in pixels; a crop pixel is a frame pixel.
pub const CROP_SIZE: u32 = 128;
/// Length of the idle loop: 5 s at 25 fps. Frame 0 follows the last one without a jump.
pub const IDLE_FRAMES: usize = 125;

/// Articulation of the mouth; every field 0..=1. All zero is the friendly resting face: lips closed, slight smile.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MouthShape {
    /// Jaw drop.
    pub open: f32,
    /// Lip corners spread, as in "ee".
    pub wide: f32,
    /// Lips puckered, as in "oo".
    pub round: f32,
    /// Lips pressed, as in p, b, m; 1 overrides `open`: fully shut.
    pub press: f32,
    /// Lower lip under the upper teeth, as in f, v.
    pub bite: f32,
    /// Tongue tip raised and visible, as in th, l, d, n.
    pub tongue: f32,
    /// Teeth together, as in s, z, sh, ch.
    pub teeth: f32,
}

/// The whole frame in RGB.
pub fn draw_frame(pose: &Pose, mouth: &MouthShape) -> Vec<u8> {
    let (frame, crop) = (FRAME_SIZE as usize * 3, CROP_SIZE as usize * 3);
    let mut rgb = draw(FRAME_SIZE, (0, 0), pose, mouth);
    // A curve clipped by the edge of a smaller window may round differently by one step in a pixel. The crop is the
    // contract with the network, so the frame takes its pixels from there.
    let (x, y) = crop_origin(pose);
    let start = y as usize * frame + x as usize * 3;
    for (i, row) in draw_crop(pose, mouth).chunks_exact(crop).enumerate() {
        rgb[start + i * frame..][..crop].copy_from_slice(row);
    }
    rgb
}

/// The mouth crop in RGB: the pixels of `draw_frame` from `crop_origin` on.
pub fn draw_crop(pose: &Pose, mouth: &MouthShape) -> Vec<u8> {
    draw(CROP_SIZE, crop_origin(pose), pose, mouth)
}

fn draw(size: u32, origin: (u32, u32), pose: &Pose, mouth: &MouthShape) -> Vec<u8> {
    let Some(mut canvas) = Canvas::new(size, origin) else {
        return vec![0; size as usize * size as usize * 3];
    };
    let mouth = mouth::Geometry::new(mouth);
    body::draw_background(&mut canvas);
    hair::draw_back(&mut canvas, pose);
    body::draw(&mut canvas, pose, mouth.jaw);
    head::draw_ears(&mut canvas, pose);
    head::draw_face(&mut canvas, pose, mouth.jaw);
    eyes::draw(&mut canvas, pose);
    canvas.set_layer(pose.features());
    mouth.draw(&mut canvas);
    hair::draw_front(&mut canvas, pose, mouth.jaw);
    canvas.into_rgb()
}

/// How much of a generated crop to paste into an idle frame, 0..=255: all of what speech moves, fading out over
/// pixels that stay still.
pub fn paste_mask() -> Vec<u8> {
    // A rounded box |x|^6 + |y|^6 about the middle of what moves. It must reach 0 four pixels before the border.
    let (centre_x, centre_y, radius_x, radius_y) = (63.5, 64.5, 60.0, 53.5);
    let mut mask = Vec::with_capacity(CROP_SIZE as usize * CROP_SIZE as usize);
    for y in (0_u8..).take(CROP_SIZE as usize) {
        for x in (0_u8..).take(CROP_SIZE as usize) {
            let (dx, dy) = ((f32::from(x) - centre_x) / radius_x, (f32::from(y) - centre_y) / radius_y);
            let distance = (dx.powi(6) + dy.powi(6)).powf(1.0 / 6.0);
            mask.push(canvas::to_u8(255.0 * canvas::smoothstep(1.0, 0.86, distance)));
        }
    }
    mask
}
