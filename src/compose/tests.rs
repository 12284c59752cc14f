//! Mouths pasted into the frames of a whole avatar.

use crate::avatar::Avatar;
use crate::kit;
use crate::picture::{CropBox, MouthFrame, blend};

#[test]
fn everything_outside_the_mask_stays_the_avatars_own() {
    let avatar = kit::avatar::tiny();
    let own = &avatar.frames()[1];
    let mouth = MouthFrame { width: 32, height: 32, rgb: vec![255; 32 * 32 * 3] };
    let pasted = blend::paste(own, &avatar.mask, &mouth);
    let mut changed = 0;
    for y in 0..64usize {
        for x in 0..64usize {
            let at = y * 64 + x;
            let under = (23..43).contains(&x) && (29..44).contains(&y);
            assert_eq!(pasted.data[at] != own.picture.data[at], under, "at {x},{y}");
            changed += usize::from(under);
        }
    }
    assert_eq!(changed, 20 * 15);
}

#[test]
fn pasting_the_frames_own_crop_changes_nothing() {
    let avatar = kit::avatar::tiny();
    let own = &avatar.frames()[2];
    let rgb: Vec<u8> = (0..32u32)
        .flat_map(|y| (0..32u32).flat_map(move |x| [80, ((x + 16) * 4) as u8, ((y + 20) * 4) as u8]))
        .collect();
    assert_eq!(&blend::paste(own, &avatar.mask, &MouthFrame { width: 32, height: 32, rgb }), own.picture.as_ref());
}

#[test]
fn a_crop_of_another_size_is_scaled_to_the_box() {
    let avatar = kit::avatar::tiny();
    let own = &avatar.frames()[0];
    let mouth = |size: u32| MouthFrame { width: size, height: size, rgb: vec![200; (size * size * 3) as usize] };
    assert_eq!(blend::paste(own, &avatar.mask, &mouth(80)), blend::paste(own, &avatar.mask, &mouth(32)));
}

#[test]
fn a_box_that_reaches_out_of_the_frame_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    kit::avatar::write(folder.path());
    let boxes = vec![CropBox { x: -16, y: 48, width: 32, height: 32 }; 4];
    std::fs::write(folder.path().join("boxes.json"), serde_json::to_vec(&boxes).unwrap()).unwrap();
    let avatar = Avatar::load(folder.path()).unwrap();
    let mouth = MouthFrame { width: 32, height: 32, rgb: vec![255; 32 * 32 * 3] };
    let pasted = blend::paste(&avatar.frames()[0], &avatar.mask, &mouth);
    assert_ne!(pasted, *avatar.frames()[0].picture);
}
