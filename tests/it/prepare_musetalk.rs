//! Avatars for MuseTalk: prepared here from a drawn clip and a drawn photo, and taken over from upstream's own script. The
//! model is the small one of the parity tests, with every network of the large one.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mouthpiece::avatar::{Avatar, AvatarStore, CycleKind};
use mouthpiece::media::{self, ClipOptions, FileWriter, PipelineDir, VideoFormat};
use mouthpiece::musetalk::{FaceEncoder, MuseTalk};
use mouthpiece::picture::resize::{lanczos4, smaller};
use mouthpiece::picture::{I420Frame, MouthFrame, RgbPicture, blend, color, png};
use mouthpiece::playout::Pair;
use mouthpiece::preparation::{self, MaskSource, ParsingMode, PreparationError, Progress, Request, Stage};
use mouthpiece::speech::Voice;
use mouthpiece::timeline::FrameIndex;
use tch::{Device, Kind, Tensor};
use tokio_util::sync::CancellationToken;

use crate::cli::program;
use crate::face_parser::install_one_that_sees_skin_only;
use crate::kit::drawn_face::{Bearing, Person, draw};
use crate::parity::whole_model;

const PROJECT: &str = env!("CARGO_MANIFEST_DIR");
const SIDE: u32 = 256;

/// A home with the small model, the finder of faces, and no avatar.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let (models, (tiny, _)) = (home.path().join("models"), whole_model());
        std::fs::create_dir_all(models.join("avatars")).unwrap();
        symlink(Path::new(PROJECT).join("models/face"), models.join("face")).unwrap();
        symlink(Path::new(PROJECT).join("pipelines"), home.path().join("pipelines")).unwrap();
        for name in ["musetalk-v1.5", "musetalk-v1.0"] {
            std::fs::create_dir(models.join(name)).unwrap();
            for file in ["config.json", "model.safetensors"] {
                std::fs::copy(tiny.path().join(file), models.join(name).join(file)).unwrap();
            }
        }
        Self(home)
    }

    fn models(&self) -> PathBuf {
        self.0.path().join("models")
    }

    fn store(&self) -> AvatarStore {
        AvatarStore::new(self.models().join("avatars"))
    }

    /// Names in the folder of all avatars, hidden ones too.
    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.models().join("avatars")).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn create(&self, request: &Request) -> Result<PathBuf, PreparationError> {
        preparation::create(&self.store(), &self.models(), request, &mut |_| (), &CancellationToken::new())
    }

    fn import(&self, request: &Request) -> Result<PathBuf, PreparationError> {
        preparation::import_upstream(&self.store(), &self.models(), request, &mut |_| (), &CancellationToken::new())
    }
}

fn request(id: &str, source: &Path) -> Request {
    Request {
        source: source.to_owned(),
        file_name: source.file_name().unwrap().to_str().unwrap().to_owned(),
        id: id.parse().unwrap(),
        name: "Anna".to_owned(),
        model: "musetalk-v1.5".to_owned(),
        voice: Voice { engine: "espeak-ng".to_owned(), ..Voice::plain("en-us") },
        licence: "CC0-1.0".to_owned(),
        consent: "Drawn by a program.".to_owned(),
        face: None,
        still: false,
        closed: false,
        alpha: None,
        whole: true,
        side: None,
        clip: ClipOptions::default(),
        bbox_shift: 0,
        mask: None,
        parsing_mode: None,
        replace: false,
    }
}

/// Two seconds and a half of somebody who moves, one period of it.
fn drawn_clip(path: &Path) {
    media::init().unwrap();
    let format = VideoFormat { width: SIDE, height: SIDE };
    let mut writer = FileWriter::create(path, format, &PipelineDir::Embedded).unwrap();
    for at in 0..62 {
        let turn = std::f32::consts::TAU * at as f32 / 62.0;
        let bearing =
            Bearing { yaw: 6.0 * turn.sin(), shift: [5.0 * turn.cos(), 3.0 * turn.sin()], ..Bearing::default() };
        let picture = draw(&Person::number(3), &bearing, SIDE, 130.0).picture;
        let frame = Arc::new(color::rgb_to_i420(&picture.rgb, SIDE, SIDE));
        let audio = Some(Box::new([0; mouthpiece::timeline::PLAYOUT_SAMPLES_PER_FRAME]));
        writer.write(&Pair { index: FrameIndex(at), frame, audio, utterance: None }).unwrap();
    }
    writer.finish().unwrap();
}

fn drawn_photo(path: &Path) -> RgbPicture {
    let picture = draw(&Person::number(3), &Bearing::default(), SIDE, 130.0).picture;
    png::write_rgb(path, SIDE, SIDE, &picture.rgb).unwrap();
    picture
}

/// The pixels of a frame's box.
fn own_crop(avatar: &Avatar, frame: usize) -> RgbPicture {
    let (crop, region) = (avatar.crop(frame).unwrap(), avatar.region(frame).unwrap());
    let (left, top) = (crop.x as u32 - region.x, crop.y as u32 - region.y);
    let rows = region.rgb.chunks_exact(region.width as usize * 3).skip(top as usize).take(crop.height as usize);
    let rgb = rows.flat_map(|row| &row[left as usize * 3..(left + crop.width) as usize * 3]).copied().collect();
    RgbPicture::new(crop.width, crop.height, rgb).unwrap()
}

fn paste(avatar: &Avatar, frame: usize, mouth: RgbPicture) -> I420Frame {
    let mouth = MouthFrame { width: mouth.width, height: mouth.height, rgb: mouth.rgb };
    blend::paste(&avatar.canvas(frame).unwrap(), &avatar.mask, &mouth)
}

fn latents(avatar: &Avatar) -> Tensor {
    let tensors = Tensor::read_safetensors(&avatar.latents).unwrap();
    let [(name, latents)] = &tensors[..] else { panic!("{tensors:?}") };
    assert_eq!((name.as_str(), latents.kind()), ("latents", Kind::Half));
    latents.to_kind(Kind::Float)
}

#[test]
fn a_clip_becomes_an_avatar_that_goes_on_after_a_cut_and_says_a_sentence() {
    let home = Home::new();
    let clip = home.0.path().join("anna.mp4");
    drawn_clip(&clip);
    let request = request("anna", &clip);

    // Stopped in the middle of encoding: no avatar, but what was encoded is kept.
    let (stop, mut told) = (CancellationToken::new(), 0);
    let mut halfway = |progress: Progress| {
        told += usize::from(progress.stage == Stage::Encoding);
        if told == 30 {
            stop.cancel();
        }
    };
    let stopped = preparation::create(&home.store(), &home.models(), &request, &mut halfway, &stop);
    assert!(matches!(stopped, Err(PreparationError::Stopped)), "{stopped:?}");
    assert_eq!(home.names(), [".anna.latents-part"]);
    let kept = home.models().join("avatars/.anna.latents-part");
    // A head, then 30 faces of 8 x 8 x 8 numbers with a hash and a check.
    assert_eq!(kept.metadata().unwrap().len(), 40 + 30 * (32 + 1024 + 8));
    // What is kept is used: this is found in the avatar again.
    let mut bytes = std::fs::read(&kept).unwrap();
    let first = bytes[72..72 + 1024].to_vec();
    bytes.truncate(bytes.len() - 7);
    std::fs::write(&kept, bytes).unwrap();

    home.create(&request).unwrap();
    assert_eq!(home.names(), ["anna"]);
    let avatar = home.store().load(&"anna".parse().unwrap()).unwrap();
    let checked = home.store().check(&"anna".parse().unwrap(), &mut |_| ()).unwrap();
    assert!(checked.problems.is_empty(), "{:?}", checked.problems);
    let manifest = &avatar.manifest;
    assert_eq!((manifest.model.as_str(), manifest.width), ("musetalk-v1.5", SIDE));
    let frames = avatar.frame_count();
    assert!((50..=62).contains(&frames), "{frames}");
    // All but the rows above the middle of the face, and the feather's.
    let [first_row, end] = manifest.decode_rows.unwrap();
    assert!((2..=4).contains(&first_row) && end == 8, "{:?}", manifest.decode_rows);
    let alpha = |row: usize| &avatar.mask.alpha[row * 64..(row + 1) * 64];
    assert!(alpha(0).iter().chain(alpha(20)).all(|alpha| *alpha == 0) && alpha(45)[32] == 255);

    let made = latents(&avatar);
    assert_eq!(made.size(), [frames as i64, 8, 8, 8]);
    let kept = Tensor::from_data_size(&first, &[8, 8, 8], Kind::Half).to_kind(Kind::Float);
    assert_eq!(made.get(0), kept);
    // The film's own pixels were JPEGs meanwhile, so that these are near only.
    let encoder = FaceEncoder::load(&home.models().join("musetalk-v1.5"), Device::Cpu).unwrap();
    for frame in [0, frames / 2] {
        let again = &encoder.latents(&[lanczos4(&own_crop(&avatar, frame), 64, 64)]).unwrap()[0];
        let again = Tensor::from_data_size(again, &[8, 8, 8], Kind::Half).to_kind(Kind::Float);
        let apart = ((&again - made.get(frame as i64)).norm() / again.norm()).double_value(&[]);
        assert!(apart < 0.1, "frame {frame}: {apart}");
        assert!(made.get(frame as i64).narrow(0, 0, 4) != made.get(frame as i64).narrow(0, 4, 4));
    }
    MuseTalk::load(&home.models().join("musetalk-v1.5"), Device::Cpu, 1)
        .unwrap()
        .add_latents(&avatar.latents, manifest.decode_rows)
        .unwrap();

    let film = home.0.path().join("film.mp4");
    let said = program()
        .args(["--home", home.0.path().to_str().unwrap(), "render", "--avatar", "anna", "--device", "cpu", "--json"])
        .args(["--text", "Bob made a big map.", "--out", film.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(said.status.success(), "{said:?}");
    let report: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
    assert!(report["mouths"].as_u64().unwrap() >= 15, "{report}");
}

#[test]
fn pasting_a_frames_own_face_changes_nothing_but_what_scaling_loses() {
    let home = Home::new();
    let photo = home.0.path().join("anna.png");
    drawn_photo(&photo);
    home.create(&Request { still: true, ..request("anna", &photo) }).unwrap();
    let avatar = home.store().load(&"anna".parse().unwrap()).unwrap();
    let (own, canvas, face) = (avatar.base.as_ref(), avatar.canvas(0).unwrap(), own_crop(&avatar, 0));
    assert!(paste(&avatar, 0, face.clone()) == *own, "the face as it is changes its frame");
    // To the networks' side and back; this model's is smaller than the face, MuseTalk's is larger.
    let there = lanczos4(&face, 256, 256);
    let back = blend::paste_rgb(&canvas, &avatar.mask, &MouthFrame { width: 256, height: 256, rgb: there.rgb.clone() });
    let apart: Vec<u8> = back.iter().zip(&canvas.region.rgb).map(|(back, own)| back.abs_diff(*own)).collect();
    let mean = apart.iter().map(|levels| f64::from(*levels)).sum::<f64>() / apart.len() as f64;
    println!(
        "a face of {}x{} to 256 and back: {mean:.3} levels on average, {:?} at most",
        face.width,
        face.height,
        apart.iter().max()
    );
    assert!(mean < 1.0, "{mean} levels on average");
    // Where the mask is transparent, not one bit differs.
    let pasted = paste(&avatar, 0, RgbPicture { rgb: vec![0; there.rgb.len()], ..there });
    let top = (canvas.crop.y as u32 + canvas.crop.height / 4) as usize;
    let below = (canvas.crop.y as u32 + canvas.crop.height) as usize;
    let row = |frame: &I420Frame, y: usize| frame.data[y * SIDE as usize..(y + 1) * SIDE as usize].to_vec();
    for y in (0..top).chain(below..SIDE as usize) {
        assert_eq!(row(&pasted, y), row(own, y), "row {y}");
    }
    for y in top..below {
        let (left, right) = (canvas.crop.x as usize, canvas.crop.x as usize + canvas.crop.width as usize);
        assert_eq!(
            (&row(&pasted, y)[..left], &row(&pasted, y)[right..]),
            (&row(own, y)[..left], &row(own, y)[right..])
        );
    }
    assert!(pasted != *own, "black was not pasted, so this tests nothing");
}

#[test]
fn a_photo_becomes_a_loop_of_nine_seconds_that_begins_with_itself() {
    let home = Home::new();
    let photo = home.0.path().join("anna.png");
    let picture = drawn_photo(&photo);
    let request = Request { model: "musetalk-v1.0".to_owned(), bbox_shift: 4, ..request("anna", &photo) };
    home.create(&request).unwrap();
    let avatar = home.store().load(&"anna".parse().unwrap()).unwrap();
    assert_eq!((avatar.frame_count(), avatar.manifest.cycle, avatar.cycle.frame(225)), (225, CycleKind::Loop, 0));
    assert_eq!(avatar.manifest.prepared.as_ref().unwrap().options["bbox_shift"].as_integer(), Some(4));
    let grey = |picture: &RgbPicture| smaller(picture, 32, 32).rgb;
    let frame = |at: usize| color::i420_to_rgb(&avatar.canvas(at).unwrap().picture);
    let apart = |one: &[u8], other: &[u8]| {
        one.iter().zip(other).map(|(one, other)| f64::from(one.abs_diff(*other))).sum::<f64>() / one.len() as f64
    };
    let (first, middle, last) = (grey(&frame(0)), grey(&frame(110)), grey(&frame(224)));
    // It moves, and goes round without a jump.
    let (step, jump) = (apart(&grey(&frame(1)), &first), apart(&last, &first));
    assert!(apart(&grey(&picture), &first) < 12.0, "{}", apart(&grey(&picture), &first));
    assert!(apart(&middle, &first) > 0.3 && jump < 2.0 * step + 0.3, "{} {jump} {step}", apart(&middle, &first));
    let shown = request;
    let refused = home.create(&Request { id: "bo".parse().unwrap(), model: "musetalk-v1.5".to_owned(), ..shown });
    assert!(refused.unwrap_err().to_string().contains("bbox-shift"));
    assert_eq!(home.names(), ["anna"]);
}

#[test]
fn the_mask_comes_from_face_parsing_where_its_weights_are_and_the_manifest_says_so() {
    let home = Home::new();
    let photo = home.0.path().join("anna.png");
    drawn_photo(&photo);
    let still = |id: &str| Request { still: true, ..request(id, &photo) };
    let made = |request: &Request| {
        home.create(request).unwrap();
        let avatar = home.store().load(&request.id).unwrap();
        let options = avatar.manifest.prepared.as_ref().unwrap().options.clone();
        let option = |name: &str| options[name].as_str().unwrap().to_owned();
        ([option("mask"), option("parsing_mode")], avatar)
    };
    let asked = Request { mask: Some(MaskSource::Parsing), ..still("nobody") };
    let refused = home.create(&asked).unwrap_err();
    let weights = home.models().join("face-parse-bisent/79999_iter.pth");
    assert!(refused.is_bad_input() && refused.to_string().contains(weights.to_str().unwrap()), "{refused}");

    let (options, by_mesh) = made(&still("mesh"));
    assert_eq!(options, ["mesh", "jaw"]);
    install_one_that_sees_skin_only(&home.models());
    let (options, by_parsing) = made(&Request { parsing_mode: Some(ParsingMode::Raw), ..still("parsing") });
    assert_eq!(options, ["parsing", "raw"]);
    // Who sees skin alone pastes the lower half of the box whole, but for the feather; the mesh spares what is no face.
    let alpha = |avatar: &Avatar, x: usize, y: usize| avatar.mask.alpha[y * 64 + x];
    for (x, y) in [(8, 50), (55, 50), (32, 50)] {
        assert_eq!(alpha(&by_parsing, x, y), 255, "{x}, {y}");
    }
    assert_eq!((alpha(&by_parsing, 32, 20), alpha(&by_mesh, 32, 20)), (0, 0));
    assert!(alpha(&by_mesh, 2, 60) < 10 && alpha(&by_parsing, 2, 60) > 60, "{}", alpha(&by_mesh, 2, 60));

    let (options, again) = made(&Request { mask: Some(MaskSource::Mesh), ..still("again") });
    assert_eq!(options, ["mesh", "jaw"]);
    assert!(again.mask == by_mesh.mask);
    // Weights that are there and damaged are told of, not passed over.
    std::fs::write(&weights, b"no weights").unwrap();
    let refused = home.create(&still("nobody")).unwrap_err().to_string();
    assert!(refused.contains("79999_iter.pth") && refused.contains("--mask mesh"), "{refused}");
    let portrait = Request { model: "portrait".to_owned(), mask: Some(MaskSource::Mesh), ..still("nobody") };
    assert!(home.create(&portrait).unwrap_err().to_string().contains("--mask"));
    assert_eq!(home.names(), ["again", "mesh", "parsing"]);
}

fn upstream() -> PathBuf {
    Path::new(PROJECT).join("tests/fixtures/musetalk/avatar")
}

#[test]
fn what_upstream_prepared_is_taken_over_frame_by_frame() {
    let home = Home::new();
    let output = program()
        .args(["--home", home.0.path().to_str().unwrap(), "avatars", "create", "bo", "--json", "--licence", "CC0-1.0"])
        .args(["--consent", "Drawn by a program.", "--from-musetalk", upstream().to_str().unwrap()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((told["model"].as_str(), told["frames"].as_u64()), (Some("musetalk-v1.5"), Some(3)), "{told}");
    let avatar = home.store().load(&"bo".parse().unwrap()).unwrap();
    assert_eq!((avatar.manifest.cycle, avatar.manifest.width, avatar.manifest.height), (CycleKind::PingPong, 96, 80));
    let theirs = Tensor::read_safetensors(&avatar.latents).unwrap().remove(0).1;
    assert_eq!(theirs.size(), [3, 8, 8, 8]);
    for frame in 0..3 {
        let crop = avatar.crop(frame).unwrap();
        let at = frame as i32;
        assert_eq!((crop.x, crop.y, crop.width, crop.height), (20 + at, 14 + at, 50 - frame as u32, 61));
        let source = png::read_rgb(&upstream().join(format!("full_imgs/{frame:08}.png"))).unwrap();
        let own = own_crop(&avatar, frame);
        for (y, row) in own.rgb.chunks_exact(own.width as usize * 3).enumerate() {
            let start = ((crop.y as usize + y) * source.width as usize + crop.x as usize) * 3;
            let wanted = &source.rgb[start..start + row.len()];
            assert!(row.iter().zip(wanted).all(|(own, wanted)| own.abs_diff(*wanted) <= 4), "frame {frame}, row {y}");
        }
    }
    let [first, end] = avatar.manifest.decode_rows.unwrap();
    assert!(first >= 2 && end <= 8, "{first} to {end}");
    let network = MuseTalk::load(&home.models().join("musetalk-v1.5"), Device::Cpu, 1);
    network.unwrap().add_latents(&avatar.latents, avatar.manifest.decode_rows).unwrap();
}

/// A copy of the folder, changed.
fn changed(change: impl FnOnce(&Path)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for part in ["", "full_imgs", "mask"] {
        std::fs::create_dir_all(folder.path().join(part)).unwrap();
        for entry in std::fs::read_dir(upstream().join(part)).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                std::fs::copy(entry.path(), folder.path().join(part).join(entry.file_name())).unwrap();
            }
        }
    }
    change(folder.path());
    folder
}

#[test]
fn a_folder_of_upstreams_that_is_not_whole_or_not_harmless_is_refused_and_leaves_nothing() {
    let home = Home::new();
    let write = |name: &'static str, bytes: &'static [u8]| {
        move |folder: &Path| std::fs::write(folder.join(name), bytes).unwrap()
    };
    let remove = |name: &'static str| move |folder: &Path| std::fs::remove_file(folder.join(name)).unwrap();
    let proof = home.0.path().join("it-was-run");
    let attack = format!("\u{80}\u{4}cposix\nsystem\n(X\u{40}\0\0\0{:64}tR.", format!("touch {}", proof.display()));
    let attack: Vec<u8> = attack.chars().map(|sign| sign as u8).collect();
    let cases: Vec<(&str, tempfile::TempDir)> = vec![
        ("posix.system", changed(|folder| std::fs::write(folder.join("coords.pkl"), &attack).unwrap())),
        ("posix.system", changed(|folder| std::fs::write(folder.join("latents.pt"), &attack).unwrap())),
        ("coords.pkl", changed(remove("coords.pkl"))),
        ("ends too early", changed(write("mask_coords.pkl", b"\x80\x04]"))),
        ("0 masks", changed(write("mask_coords.pkl", b"\x80\x04]."))),
        ("latents.pt", changed(write("latents.pt", b"PK\x03\x04 but no more"))),
        ("00000002.png", changed(remove("full_imgs/00000002.png"))),
        ("00000001.png", changed(write("full_imgs/00000001.png", b"no picture"))),
        ("mask/00000000.png", changed(remove("mask/00000000.png"))),
        (
            "mask_coords.pkl has",
            changed(|folder| png::write_grey(&folder.join("mask/00000000.png"), 8, 8, &[255; 64]).unwrap()),
        ),
    ];
    for (named, folder) in cases {
        let error = home.import(&request("bo", folder.path())).unwrap_err();
        assert!(error.is_bad_input() && error.to_string().contains(named), "{named}: {error}");
        assert_eq!(home.names(), [""; 0], "{named}");
    }
    assert!(!proof.exists());
    // Upstream's sizes are those of the large model.
    std::fs::remove_dir_all(home.models().join("musetalk-v1.5")).unwrap();
    let error = home.import(&request("bo", &upstream())).unwrap_err().to_string();
    assert!(error.contains("latents.pt") && error.contains("[1, 8, 32, 32]"), "{error}");
}

#[test]
fn frames_that_do_not_go_back_are_all_taken() {
    let home = Home::new();
    // The fourth differs from the third, whose mirror image it would be.
    let folder = changed(|folder| {
        let path = folder.join("full_imgs/00000003.png");
        let mut picture = png::read_rgb(&path).unwrap();
        picture.rgb.iter_mut().for_each(|level| *level /= 2);
        png::write_rgb(&path, picture.width, picture.height, &picture.rgb).unwrap();
    });
    home.import(&request("bo", folder.path())).unwrap();
    assert_eq!(home.store().load(&"bo".parse().unwrap()).unwrap().frame_count(), 6);
}
