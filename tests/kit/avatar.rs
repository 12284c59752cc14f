//! A small avatar: four 64x64 frames, each of its own colour, with a 32x32 mouth box.

use std::path::Path;

use mouthpiece::avatar::Avatar;
use mouthpiece::picture::CropBox;

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
        let image = image::RgbImage::from_fn(SIZE, SIZE, |x, y| image::Rgb([index * 40, (x * 4) as u8, (y * 4) as u8]));
        image.save(folder.join(format!("frames/{index:04}.png"))).unwrap();
    }
    let mask = image::GrayImage::from_fn(32, 32, |x, y| {
        image::Luma([if (5..25).contains(&x) && (9..24).contains(&y) { 255 } else { 0 }])
    });
    mask.save(folder.join("mask.png")).unwrap();
    std::fs::write(folder.join("latents.safetensors"), b"").unwrap();
}

/// The avatar of that folder, in memory.
pub fn tiny() -> Avatar {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    Avatar::load(folder.path()).unwrap()
}
