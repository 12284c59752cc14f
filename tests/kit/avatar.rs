//! Small avatars: drawn ones of four frames, each of its own colour, with a 32x32 mouth box, of which "tiny" has 64x64 pixels
//! and "tall" 80x96; one from a clip and one from a photo.

use std::path::Path;
use std::sync::Arc;

use mouthpiece::avatar::film::{Film, FilmWriter};
use mouthpiece::avatar::manifest::Kind;
use mouthpiece::avatar::{Avatar, AvatarStore, Manifest, Material, files, mesh_file};
use mouthpiece::face::{Mesh, POINTS};
use mouthpiece::lipsync::AvatarAssets;
use mouthpiece::models::checkpoint::write_safetensors;
use mouthpiece::models::{CheckpointError, DType};
use mouthpiece::picture::{CropBox, Cutout, Mask, RgbPicture, png};

/// Width and height of a frame.
pub const SIZE: u32 = 64;

/// Writes its folder, named "tiny", with latents that no network could use.
pub fn write(folder: &Path) {
    write_sized(folder, "tiny", (SIZE, SIZE));
}

/// The same of another name and size.
fn write_sized(folder: &Path, id: &str, (width, height): (u32, u32)) {
    std::fs::create_dir_all(folder.join("frames")).unwrap();
    let manifest = format!(
        "id = \"{id}\"\nname = \"Tiny\"\nmodel = \"demo\"\nwidth = {width}\nheight = {height}\nfps = 25\n\
         cycle = \"loop\"\n[voice]\nengine = \"espeak-ng\"\nlanguage = \"en-us\"\n"
    );
    std::fs::write(folder.join("avatar.toml"), manifest).unwrap();
    let left = i32::try_from(width / 4).unwrap() & !1;
    let crop = |at| CropBox { x: left + 2 * (at % 2), y: 20, width: 32, height: 32 };
    let boxes: Vec<CropBox> = (0..4).map(crop).collect();
    std::fs::write(folder.join("boxes.json"), serde_json::to_vec(&boxes).unwrap()).unwrap();
    for index in 0..4u8 {
        let pixels = (0..width * height).map(|at| (at % width, at / width));
        let rgb: Vec<u8> = pixels.flat_map(|(x, y)| [index * 40, (x * 4) as u8, (y * 4) as u8]).collect();
        png::write_rgb(&folder.join(format!("frames/{index:04}.png")), width, height, &rgb).unwrap();
    }
    let pixels = (0..32 * 32).map(|at| (at % 32, at / 32));
    let opaque = pixels.map(|(x, y)| if (5..25).contains(&x) && (9..24).contains(&y) { 255 } else { 0 });
    png::write_grey(&folder.join("mask.png"), 32, 32, &opaque.collect::<Vec<u8>>()).unwrap();
    std::fs::write(folder.join("latents.safetensors"), b"").unwrap();
}

/// Makes its frames transparent but for a square in the middle, a matte that the manifest tells of.
pub fn give_matte(folder: &Path) {
    for index in 0..4 {
        let path = folder.join(files::picture(index));
        let picture = png::read_rgb(&path).unwrap();
        let matte = Some(square(picture.width, picture.height));
        png::write_cutout(&path, &Cutout { picture, matte }).unwrap();
    }
    let path = folder.join(files::MANIFEST);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("fps =", "matte = \"own\"\nfps =")).unwrap();
}

/// Opaque in the middle half, transparent around it.
pub fn square(width: u32, height: u32) -> Mask {
    let inside = |at: u32, side: u32| (side / 4..side - side / 4).contains(&at);
    let pixels = (0..width * height).map(|at| (at % width, at / width));
    let alpha = pixels.map(|(x, y)| if inside(x, width) && inside(y, height) { 255 } else { 0 }).collect();
    Mask { width, height, alpha }
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

/// Another avatar, of another shape.
pub fn tall() -> Avatar {
    let folder = tempfile::tempdir().unwrap();
    write_sized(folder.path(), "tall", (80, 96));
    Avatar::load(folder.path()).unwrap()
}

/// The same, whose frames are not in memory.
pub fn filmed() -> Avatar {
    let (folder, avatar) = (tempfile::tempdir().unwrap(), tall());
    let (width, height) = (avatar.manifest.width, avatar.manifest.height);
    let mut film = FilmWriter::create(folder.path(), width, height).unwrap();
    for frame in avatar.frames() {
        let picture = RgbPicture { width, height, rgb: vec![90; (width * height * 3) as usize] };
        film.push(&picture.into(), frame.crop).unwrap();
    }
    film.finish().unwrap();
    let film = Film::open(folder.path(), &avatar.manifest).unwrap();
    Avatar { material: Material::Film(Arc::new(film)), ..avatar }
}

/// A film's frame: slopes of all three colours, as a face has them, that move from frame to frame.
pub fn picture(width: u32, height: u32, frame: u32) -> RgbPicture {
    let pixels = (0..width * height).map(|at| (at % width, at / width));
    let rgb = pixels.flat_map(|(x, y)| {
        // There and back, as a jump would not survive a JPEG.
        let x = (x + 3 * frame) % (2 * width);
        let x = x.min(2 * width - 1 - x);
        [40 + x * 160 / width, 30 + y * 190 / height, 200 - (x + y) * 60 / (width + height)]
    });
    RgbPicture::new(width, height, rgb.map(|level| level as u8).collect()).unwrap()
}

/// A manifest of an avatar of this kind, without its files.
pub fn manifest(id: &str, kind: Kind, frames: u32) -> Manifest {
    let text = format!(
        "id = \"{id}\"\nname = \"Tiny\"\nmodel = \"portrait\"\nkind = \"{}\"\nwidth = 96\nheight = 64\nfps = 25\n\
         cycle = \"ping_pong\"\nlicence = \"CC0-1.0\"\nconsent = \"Drawn by a program.\"\n\
         [voice]\nengine = \"espeak-ng\"\nlanguage = \"en-us\"\n",
        kind.name()
    );
    Manifest { frames: Some(frames), ..Manifest::parse(&text).unwrap() }
}

/// Adds an avatar of so many frames from a clip, 96x64, to a store: its crop is 33x24 and moves.
pub fn film(store: &AvatarStore, id: &str, frames: u32) {
    let draft = store.begin(&id.parse().unwrap(), false).unwrap();
    let mut film = FilmWriter::create(draft.path(), 96, 64).unwrap();
    for frame in 0..frames {
        let crop = CropBox { x: 30 + (frame % 4) as i32, y: 25, width: 33, height: 24 };
        film.push(&picture(96, 64, frame).into(), crop).unwrap();
    }
    assert_eq!(film.finish().unwrap(), frames as usize);
    write_mask_and_mesh(draft.path(), frames);
    draft.finish(manifest(id, Kind::Clip, frames), &mut |_| ()).unwrap();
}

/// Adds an avatar from a photo, 96x64, to a store.
pub fn still(store: &AvatarStore, id: &str) {
    let draft = store.begin(&id.parse().unwrap(), false).unwrap();
    let photo = picture(96, 64, 0);
    png::write_rgb(&draft.path().join(files::SOURCE), 96, 64, &photo.rgb).unwrap();
    write_mask_and_mesh(draft.path(), 1);
    draft.finish(manifest(id, Kind::Photo, 1), &mut |_| ()).unwrap();
}

fn write_mask_and_mesh(folder: &Path, frames: u32) {
    png::write_grey(&folder.join(files::MASK), 33, 24, &[255; 33 * 24]).unwrap();
    let numbers = [("numbers".to_owned(), vec![u64::from(frames)], DType::U8)];
    for name in [files::MESH, files::PORTRAIT] {
        let zeros = |_| Ok::<_, CheckpointError>(vec![0; frames as usize]);
        write_safetensors(&folder.join(name), &numbers, zeros).unwrap();
    }
    if frames == 1 {
        // Points that lie apart, as those of a face do.
        let points = (0..POINTS).map(|at| [10.0 + (at % 26) as f32 * 2.5, 8.0 + (at / 26) as f32 * 2.5, 0.0]).collect();
        let crop = CropBox { x: 30, y: 25, width: 33, height: 24 };
        mesh_file::write(&folder.join(files::MESH), &Mesh { points, presence: 1.0 }, crop).unwrap();
    }
}
