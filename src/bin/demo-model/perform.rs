//! Speaks clips with a model and an avatar in exactly the server's steps: quiet frames stay the avatar's own, the
//! others are drawn by `MuseTalk` in the server's batches and pasted through the avatar's mask.
//!
//! Not in here: the clock, the queues and the resampling around these steps (`animation`). Runs on the caller's
//! thread, with one thread for libtorch.

use std::path::Path;
use std::sync::Arc;

use mouthpiece::avatar::Avatar;
use mouthpiece::lipsync::batch::batch_size;
use mouthpiece::lipsync::window::{Loudness, frames_of};
use mouthpiece::lipsync::{AvatarHandle, MouthRun, draw_crops};
use mouthpiece::musetalk::MuseTalk;
use mouthpiece::picture::{MouthFrame, blend};
use mouthpiece::timeline::LIPSYNC_SAMPLES_PER_FRAME;
use tch::Device;

use crate::character::{CROP_SIZE, FRAME_SIZE, MouthShape, draw_crop, draw_frame, idle_pose};
use crate::file_error;

/// A model and the avatar that it speaks for.
#[derive(Debug)]
pub struct Performer {
    pub model: MuseTalk,
    pub avatar: Avatar,
    pub handle: AvatarHandle,
}

/// One frame of a performance.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Which frame of the idle loop is behind the mouth.
    pub pose: usize,
    /// What the network drew; `None` where the avatar's own frame is shown.
    pub mouth: Option<MouthFrame>,
}

impl Performer {
    /// Loads a model's and an avatar's folder.
    pub fn open(model: &Path, avatar: &Path) -> anyhow::Result<Self> {
        let mut model = MuseTalk::load(model, Device::Cpu, 1)?;
        let folder = avatar;
        let avatar = Avatar::load(folder)?;
        for (index, frame) in avatar.frames().iter().enumerate() {
            if (frame.crop.width, frame.crop.height) != (CROP_SIZE, CROP_SIZE) {
                let problem = format!("frame {index} has the crop {:?}, must be {CROP_SIZE}x{CROP_SIZE}", frame.crop);
                return Err(file_error(&folder.join("boxes.json"), problem));
            }
        }
        let handle = model.add_latents(&avatar.latents, avatar.manifest.decode_rows)?;
        Ok(Self { model, avatar, handle })
    }

    /// All frames of a clip of 16 kHz speech, as a segment that begins at `pose` of the avatar's cycle.
    pub fn speak(&mut self, samples: &Arc<[f32]>, pose: u64) -> anyhow::Result<Vec<Shown>> {
        let mut loudness = Loudness::default();
        loudness.push(samples);
        loudness.finish();
        let frames = frames_of(samples.len());
        let (mut shown, mut mouths): (Vec<Shown>, usize) = (Vec::with_capacity(frames), 0);
        while shown.len() < frames {
            let first = shown.len();
            let own = |at: usize| self.avatar.cycle.frame(pose + at as u64);
            if loudness.is_quiet(first) {
                shown.push(Shown { pose: own(first), mouth: None });
                continue;
            }
            let loud = (first..frames).take_while(|frame| !loudness.is_quiet(*frame)).count();
            let size = batch_size(mouths, mouths + loud);
            let batch = MouthRun {
                avatar: self.handle,
                poses: (first..first + size).map(own).collect(),
                audio: Arc::clone(samples),
                first_frame_at: first * LIPSYNC_SAMPLES_PER_FRAME,
            };
            let drawn = draw_crops(&mut self.model, &batch)?;
            mouths += size;
            shown.extend(batch.poses.iter().zip(drawn).map(|(&pose, mouth)| Shown { pose, mouth: Some(mouth) }));
        }
        Ok(shown)
    }

    /// The crop's pixels as they appear on screen, in RGB; `rest` is the crop of the avatar's own frame.
    pub fn pasted_crop(&self, shown: &Shown, rest: &[u8]) -> Vec<u8> {
        let mut crop = rest.to_vec();
        let own = &self.avatar.frames()[shown.pose].crop;
        self.paste_into(&mut crop, (own.x, own.y), CROP_SIZE, shown);
        crop
    }

    /// The whole frame in RGB.
    pub fn pasted_frame(&self, shown: &Shown) -> Vec<u8> {
        let mut frame = draw_frame(&idle_pose(shown.pose), &MouthShape::default());
        self.paste_into(&mut frame, (0, 0), FRAME_SIZE, shown);
        frame
    }

    /// Replaces what speech moves in a square picture whose corner is at `origin` of the frame.
    fn paste_into(&self, picture: &mut [u8], origin: (i32, i32), side: u32, shown: &Shown) {
        let Some(mouth) = &shown.mouth else { return };
        let own = &self.avatar.frames()[shown.pose];
        let region = &own.region;
        let rgb = blend::paste_rgb(own, &self.avatar.mask, mouth);
        let inside = |at: u32, origin: i32| {
            u32::try_from(i64::from(at) - i64::from(origin)).ok().filter(|at| *at < side).map(|at| at as usize)
        };
        for (row, line) in (0_u32..).zip(rgb.chunks_exact(region.width as usize * 3)) {
            let Some(y) = inside(region.y + row, origin.1) else { continue };
            for (column, pixel) in (0_u32..).zip(line.chunks_exact(3)) {
                let Some(x) = inside(region.x + column, origin.0) else { continue };
                let at = (y * side as usize + x) * 3;
                picture[at..at + 3].copy_from_slice(pixel);
            }
        }
    }
}

/// The crops of the idle loop at rest, in order.
pub fn rest_crops(frames: usize) -> Vec<Vec<u8>> {
    (0..frames).map(|frame| draw_crop(&idle_pose(frame), &MouthShape::default())).collect()
}

#[cfg(test)]
mod tests {
    use mouthpiece::picture::png;

    use super::*;
    use crate::character::paste_mask;
    use crate::prepare::crop_box;
    use crate::{corpus, judge};

    fn folder(name: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(name)
    }

    fn performer() -> Performer {
        Performer::open(&folder("demo"), &folder("avatars/demo")).unwrap()
    }

    #[test]
    fn the_committed_avatar_is_what_the_drawer_draws() {
        let avatar = Avatar::load(&folder("avatars/demo")).unwrap();
        assert_eq!(avatar.mask.alpha, paste_mask());
        for (index, frame) in avatar.frames().iter().enumerate() {
            assert_eq!(frame.crop, crop_box(index), "frame {index}");
        }
        for index in (0..avatar.frames().len()).step_by(11) {
            let path = folder("avatars/demo").join(format!("frames/{index:04}.png"));
            let committed = png::read_rgb(&path).unwrap().rgb;
            assert!(committed == draw_frame(&idle_pose(index), &MouthShape::default()), "frame {index}");
        }
    }

    #[test]
    fn silence_is_the_avatars_own_frames() {
        let shown = performer().speak(&vec![0.0; 16_000].into(), 7).unwrap();
        assert_eq!(shown.len(), 25);
        assert!(shown.iter().all(|shown| shown.mouth.is_none()));
        assert_eq!(shown[3].pose, 10);
    }

    #[test]
    fn a_speaking_mouth_leaves_the_rest_of_the_frame_alone_and_shows_no_seam() {
        let mut performer = performer();
        let clips = corpus::load(&folder("demo/eval"), |entry| entry.engine == "hibari").unwrap();
        let shown = performer.speak(&clips[0].samples[..24_000].into(), 0).unwrap();
        let (mask, side) = (paste_mask(), CROP_SIZE as usize);
        let mut ring = Vec::new();
        for shown in shown.iter().filter(|shown| shown.mouth.is_some()) {
            let own = draw_frame(&idle_pose(shown.pose), &MouthShape::default());
            let pasted = performer.pasted_frame(shown);
            let crop = performer.avatar.frames()[shown.pose].crop;
            let corner = (usize::try_from(crop.x).unwrap(), usize::try_from(crop.y).unwrap());
            for (at, (was, is)) in own.chunks_exact(3).zip(pasted.chunks_exact(3)).enumerate() {
                let (x, y) = (at % FRAME_SIZE as usize, at / FRAME_SIZE as usize);
                let alpha = match (x.checked_sub(corner.0), y.checked_sub(corner.1)) {
                    (Some(x), Some(y)) if x < side && y < side => mask[y * side + x],
                    _ => 0,
                };
                match alpha {
                    0 => assert_eq!(was, is, "at {x},{y}"),
                    // Where the mask fades, speech moves nothing, so the mouth must agree with the frame.
                    1..=254 => ring.extend(was.iter().zip(is).map(|(was, is)| f64::from(was.abs_diff(*is)))),
                    255 => {}
                }
            }
        }
        assert!(!ring.is_empty());
        assert!(judge::mean(&ring) < 1.5, "the seam differs by {} levels", judge::mean(&ring));
        assert!(judge::percentile(&mut ring, 99) <= 12.0, "the seam differs by {}", judge::percentile(&mut ring, 99));
    }
}
