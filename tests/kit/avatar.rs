//! A small avatar: four 64x64 frames, each of its own colour, with a 32x32 mouth box.

use std::path::Path;
use std::sync::Arc;

use mouthpiece::avatar::Avatar;
use mouthpiece::lipsync::AvatarAssets;
use mouthpiece::picture::{CropBox, png};

/// Width and height of a frame.
pub const SIZE: u32 = 64;

/// Writes its folder, named "tiny", with latents that no network could use.
pub fn write(folder: &Path) {
    std::fs::create_dir_all(folder.join("frames")).unwrap();
    std::fs::write(
        folder.join("avatar.toml"),
        "id = \"tiny\"\nname = \"Tiny\"\nmodel = \"demo\"\nwidth = 64\nheight = 64\nfps = 25\ncycle = \"loop\"\n\
         [voice]\nengine = \"espeak-ng\"\nlanguage = \"en-us\"\n",
    )
    .unwrap();
    let boxes: Vec<CropBox> = (0..4).map(|at| CropBox { x: 16 + 2 * (at % 2), y: 20, width: 32, height: 32 }).collect();
    std::fs::write(folder.join("boxes.json"), serde_json::to_vec(&boxes).unwrap()).unwrap();
    for index in 0..4u8 {
        let pixels = (0..SIZE * SIZE).map(|at| (at % SIZE, at / SIZE));
        let rgb: Vec<u8> = pixels.flat_map(|(x, y)| [index * 40, (x * 4) as u8, (y * 4) as u8]).collect();
        png::write_rgb(&folder.join(format!("frames/{index:04}.png")), SIZE, SIZE, &rgb).unwrap();
    }
    let pixels = (0..32 * 32).map(|at| (at % 32, at / 32));
    let opaque = pixels.map(|(x, y)| if (5..25).contains(&x) && (9..24).contains(&y) { 255 } else { 0 });
    png::write_grey(&folder.join("mask.png"), 32, 32, &opaque.collect::<Vec<u8>>()).unwrap();
    std::fs::write(folder.join("latents.safetensors"), b"").unwrap();
}

/// What a network is given of that avatar.
pub fn assets() -> AvatarAssets {
    AvatarAssets { avatar: Arc::new(tiny()), decoder: None }
}

/// The avatar of that folder, in memory.
pub fn tiny() -> Avatar {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    Avatar::load(folder.path()).unwrap()
}
