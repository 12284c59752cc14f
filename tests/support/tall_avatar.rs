//! A home with two avatars: the demo one, and "tall", which is it with a red band below: 512x640 pixels.

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::Path;

const PROJECT: &str = env!("CARGO_MANIFEST_DIR");
/// Of its frames; the last four of them are its gesture "wave".
const FRAMES: usize = 12;
const SIZE: usize = 512;
/// Of the band.
const RED: [u8; 3] = [220, 20, 30];
const BAND: usize = 128;

/// Dropped, it is gone.
pub(crate) fn home() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let link = |name: &str| {
        std::os::unix::fs::symlink(Path::new(PROJECT).join(name), home.path().join(name)).unwrap();
    };
    std::fs::create_dir_all(home.path().join("models/avatars")).unwrap();
    for name in ["pipelines", "models/demo", "models/voices", "models/avatars/demo"] {
        link(name);
    }
    let demo = Path::new(PROJECT).join("models/avatars/demo");
    let tall = home.path().join("models/avatars/tall");
    std::fs::create_dir_all(tall.join("frames")).unwrap();
    for name in ["latents.safetensors", "mask.png"] {
        std::os::unix::fs::symlink(demo.join(name), tall.join(name)).unwrap();
    }
    let boxes: Vec<serde_json::Value> =
        serde_json::from_slice(&std::fs::read(demo.join("boxes.json")).unwrap()).unwrap();
    std::fs::write(tall.join("boxes.json"), serde_json::to_vec(&boxes[..FRAMES]).unwrap()).unwrap();
    for index in 0..FRAMES {
        let name = format!("frames/{index:04}.png");
        grow(&demo.join(&name), &tall.join(&name));
    }
    let manifest = format!(
        "id = \"tall\"\nname = \"Tall\"\nmodel = \"demo\"\nwidth = {SIZE}\nheight = {}\nfps = 25\ncycle = \"ping_pong\"\n\
         decode_rows = [1, 15]\nlicence = \"MIT OR Apache-2.0\"\n[voice]\nengine = \"espeak-ng\"\nlanguage = \"en-us\"\n\
         [clips.wave]\nfirst = {}\nframes = 4\n",
        SIZE + BAND,
        FRAMES - 4
    );
    std::fs::write(tall.join("avatar.toml"), manifest).unwrap();
    home
}

fn grow(from: &Path, to: &Path) {
    let mut decoder = png::Decoder::new(BufReader::new(File::open(from).unwrap()));
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().unwrap();
    let mut rgb = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut rgb).unwrap();
    assert_eq!((info.color_type, info.width as usize), (png::ColorType::Rgb, SIZE));
    rgb.extend(RED.repeat(SIZE * BAND));
    let file = BufWriter::new(File::create(to).unwrap());
    let mut encoder = png::Encoder::new(file, SIZE as u32, (SIZE + BAND) as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_compression(png::Compression::Fast);
    encoder.write_header().unwrap().write_image_data(&rgb).unwrap();
}
