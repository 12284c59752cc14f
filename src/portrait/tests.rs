//! The whole way from parameters, and from sound, to pixels: on a small drawn mouth, and on the demo's character.

use std::path::Path;
use std::sync::Arc;

use tch::Device;

use super::model::{Frames, Sitter};
use super::plate::tests::plate;
use super::plate::{Complexion, MouthPlate};
use super::shape::{Articulation, Deformation};
use super::{Analysis, Portrait, analyse, draw_once, place, steady};
use crate::face::{Face, FaceFinder, Mesh, fit};
use crate::kit::drawn_face::{Bearing, Glasses, Person, draw};
use crate::lipsync::{AvatarHandle, LipSync, LipSyncError, MouthRun};
use crate::picture::{CropBox, MouthFrame, Region, RgbPicture, png};

const WIDTH: u32 = 200;
const HEIGHT: u32 = 160;
const LIP: [u8; 3] = [205, 110, 105];

/// Skin with some texture, and lips with a dark seam, where `plate` says.
fn picture(plate: &MouthPlate) -> RgbPicture {
    let pixels = (0..WIDTH * HEIGHT).map(|at| (at % WIDTH, at / WIDTH));
    let rgb = pixels.flat_map(|(x, y)| {
        let [u, v] = plate.to_units([x as f32 + 0.5, y as f32 + 0.5]);
        let arch = 1.0 - (u / plate.half).powi(2);
        let grain = ((x * 7 + y * 13) % 11) as u8;
        match () {
            () if v.abs() < 0.7 && arch > 0.0 => [96, 40, 38],
            () if v > -plate.lips[0] * arch && v < plate.lips[1] * arch => LIP.map(|level| level + grain / 2),
            () => [222 + grain, 182 + grain, 160 + grain],
        }
    });
    RgbPicture { width: WIDTH, height: HEIGHT, rgb: rgb.collect() }
}

fn cut(picture: &RgbPicture, crop: &CropBox) -> Region {
    let (x, y) = (crop.x as usize, crop.y as usize);
    let rows = (y..y + crop.height as usize).map(|row| (row * picture.width as usize + x) * 3);
    let rgb = rows.flat_map(|start| picture.rgb[start..start + crop.width as usize * 3].to_vec()).collect();
    Region { x: crop.x as u32, y: crop.y as u32, width: crop.width, height: crop.height, rgb }
}

/// Pictures in memory.
struct Album {
    plates: Vec<MouthPlate>,
    crops: Vec<CropBox>,
    regions: Vec<Region>,
}

impl Frames for Album {
    fn count(&self) -> usize {
        self.plates.len()
    }

    fn plate(&self, frame: usize) -> Result<MouthPlate, String> {
        self.plates.get(frame).cloned().ok_or_else(|| format!("no frame {frame}"))
    }

    fn crop(&self, frame: usize) -> Result<CropBox, String> {
        self.crops.get(frame).copied().ok_or_else(|| format!("no frame {frame}"))
    }

    fn region(&self, frame: usize) -> Result<Region, String> {
        self.regions.get(frame).cloned().ok_or_else(|| format!("no frame {frame}"))
    }
}

/// An avatar of these pictures.
fn sitter(pictures: Vec<(RgbPicture, MouthPlate)>, complexion: Complexion) -> (Sitter, Vec<Region>) {
    let plates: Vec<MouthPlate> = pictures.iter().map(|(_, plate)| plate.clone()).collect();
    let (width, height) = (pictures[0].0.width, pictures[0].0.height);
    let crops = place::crops(&plates, width, height).unwrap();
    let regions: Vec<Region> = pictures.iter().zip(&crops).map(|((picture, _), crop)| cut(picture, crop)).collect();
    let frames = Box::new(Album { plates, crops, regions: regions.clone() });
    (Sitter::new(Path::new("drawn"), frames, &complexion, Device::Cpu).unwrap(), regions)
}

fn drawn(plates: &[MouthPlate]) -> (Sitter, Vec<Region>) {
    let complexion =
        Complexion { lip: LIP.map(f32::from), teeth: [225.0, 215.0, 200.0], slope: 0.0, softness: 0.5, own_teeth: 0.0 };
    sitter(plates.iter().map(|plate| (picture(plate), plate.clone())).collect(), complexion)
}

fn open(open: f32) -> Articulation {
    Articulation { open, ..Articulation::default() }
}

/// Pixels in the middle column that are as dark as only the inside of a mouth is, or as bright and pale as its teeth.
fn opening(mouth: &MouthFrame) -> usize {
    let column = mouth.width as usize / 2;
    let rows = mouth.rgb.chunks_exact(mouth.width as usize * 3);
    let pixels = rows.filter_map(|row| row[column * 3..].first_chunk::<3>());
    pixels.filter(|[red, green, blue]| *red < 90 || (red.abs_diff(*green) < 24 && red.abs_diff(*blue) < 40)).count()
}

#[test]
fn a_mouth_at_rest_is_the_picture_itself_to_the_bit() {
    let shut = plate(30.0);
    let parted = MouthPlate { open: 1.0, upper: [-3.0; 65], lower: [4.0; 65], ..plate(30.0) };
    for plate in [shut, parted] {
        let (sitter, regions) = drawn(&[plate]);
        let rest = Articulation { rest: 1.0, open: 0.8, round: 0.3, ..Articulation::default() };
        assert!(sitter.draw(&[0], &[rest]).unwrap()[0].rgb == regions[0].rgb);
    }
}

#[test]
fn nothing_moves_where_the_mask_is_clear() {
    let (sitter, regions) = drawn(&[plate(30.0)]);
    let crop = CropBox { x: 0, y: 0, width: regions[0].width, height: regions[0].height };
    let mask = place::mask(&crop);
    let held = [open(1.0), Articulation { round: 1.0, ..open(0.3) }, Articulation { wide: 1.0, ..open(0.5) }];
    for mouth in sitter.draw(&[0; 3], &held).unwrap() {
        let pairs = mouth.rgb.chunks_exact(3).zip(regions[0].rgb.chunks_exact(3)).zip(&mask.alpha);
        let clear: Vec<_> = pairs.filter(|(_, alpha)| **alpha == 0).collect();
        assert!(clear.len() > 500);
        assert!(clear.iter().all(|((drawn, own), _)| drawn == own));
        assert!(mouth.rgb != regions[0].rgb);
    }
}

#[test]
fn the_opening_grows_with_what_is_asked_and_pressed_lips_have_none() {
    let (sitter, _) = drawn(&[plate(30.0)]);
    let steps = [0.0, 0.15, 0.3, 0.5, 0.75, 1.0];
    let mouths = sitter.draw(&[0; 6], &steps.map(open)).unwrap();
    let openings: Vec<usize> = mouths.iter().map(opening).collect();
    assert!(openings.windows(2).all(|pair| pair[0] < pair[1]), "{openings:?}");
    // The lips are apart by 26 units, less what is as red as lips are: the tongue.
    assert!((14..=27).contains(&openings[5]), "{openings:?}");
    let pressed = Articulation { press: 1.0, ..open(1.0) };
    let shut = opening(&sitter.draw(&[0], &[pressed]).unwrap()[0]);
    assert!(shut <= openings[0], "{shut} {openings:?}");
}

#[test]
fn frames_are_drawn_the_same_alone_together_and_as_those_of_a_clip() {
    let plates = [plate(30.0), MouthPlate { origin: [104.0, 68.0], along: [0.995, 0.0998], ..plate(31.0) }];
    let (clip, _) = drawn(&plates);
    let held = [open(0.7), Articulation { wide: 0.8, ..open(0.2) }];
    let together = clip.draw(&[0, 1], &held).unwrap();
    assert!(together[0] == clip.draw(&[0], &held[..1]).unwrap()[0]);
    assert!(together[1] == clip.draw(&[1], &held[1..]).unwrap()[0]);
    let (still, _) = drawn(&plates[..1]);
    let batch = still.draw(&[0, 0], &[held[0], held[0]]).unwrap();
    assert!(batch[0] == batch[1]);
}

#[test]
fn a_frame_that_is_not_there_is_named() {
    let (sitter, _) = drawn(&[plate(30.0), plate(30.0)]);
    let error = sitter.draw(&[2], &[open(0.5)]).unwrap_err();
    assert!(error.to_string().contains("no frame 2"), "{error}");
}

/// The demo's character, and the face that is found in it.
fn character() -> (RgbPicture, Face, FaceFinder) {
    let mut finder = FaceFinder::load(Path::new("models/face")).unwrap();
    let picture = png::read_rgb(Path::new("models/avatars/demo/frames/0000.png")).unwrap();
    let face = finder.find(&picture).unwrap().remove(0);
    (picture, face, finder)
}

#[test]
fn the_drawn_mouth_is_found_where_it_is_drawn_and_a_hidden_one_is_refused() {
    let (picture, face, _) = character();
    let Analysis { plate, complexion } = analyse(&picture, &face.mesh).unwrap();
    // As `bin/demo-model/character/mouth.rs` draws it.
    let [_, seam] = plate.to_pixels([0.0, plate.upper[32]]);
    assert!((plate.origin[0] - 256.0).abs() < 4.0 && (seam - 314.6).abs() < 1.5, "{:?} {seam}", plate.origin);
    assert!((plate.half * plate.scale - 33.5).abs() < 2.0, "{}", plate.half * plate.scale);
    assert_eq!((plate.open, complexion.own_teeth), (0.0, 0.0));
    assert!(complexion.lip[0] > 1.4 * complexion.lip[1] && complexion.teeth[2] > 170.0, "{complexion:?}");

    let moved = |x: f32, y: f32, scale: f32| {
        let points = face.mesh.points.iter().map(|[px, py, pz]| [px * scale + x, py * scale + y, pz * scale]);
        Mesh { points: points.collect(), presence: 1.0 }
    };
    let refused = |mesh: &Mesh| analyse(&picture, mesh).unwrap_err().to_string();
    assert!(refused(&moved(0.0, 180.0, 1.0)).contains("cut off"));
    assert!(refused(&moved(0.0, 0.0, 0.2)).contains("too small"));
    assert!(refused(&Mesh { points: Vec::new(), presence: 1.0 }).contains("point 33"));
    assert!(refused(&Mesh { points: vec![[f32::NAN; 3]; 468], presence: 1.0 }).contains("missing"));
    assert!(refused(&Mesh { points: vec![[9.0; 3]; 468], presence: 1.0 }).contains("too small"));
}

#[test]
fn an_open_mouth_is_drawn_shut_without_a_model() {
    let plate = MouthPlate { open: 1.0, upper: [-4.0; 65], lower: [5.0; 65], ..plate(30.0) };
    let mut open = picture(&plate);
    for y in 68..74 {
        for x in 80..120 {
            open.rgb[(y * WIDTH as usize + x) * 3..][..3].copy_from_slice(&[40, 12, 12]);
        }
    }
    let crop = place::crops(std::slice::from_ref(&plate), WIDTH, HEIGHT).unwrap()[0];
    let (_, regions) = drawn(std::slice::from_ref(&plate));
    let complexion =
        Complexion { lip: LIP.map(f32::from), teeth: [220.0; 3], slope: 0.0, softness: 0.5, own_teeth: 0.0 };
    let region = cut(&open, &crop);
    let shut = Articulation { press: 1.0, ..Articulation::default() };
    let found = Analysis { plate, complexion };
    let mouths = draw_once(&found, crop, region.clone(), &[Articulation { rest: 1.0, ..shut }, shut]).unwrap();
    assert!(mouths[0].rgb == region.rgb && region.rgb != regions[0].rgb);
    let dark = |mouth: &MouthFrame| mouth.rgb.chunks_exact(3).filter(|pixel| pixel[0] < 60).count();
    assert!(dark(&mouths[0]) > 200 && dark(&mouths[1]) < 20, "{} {}", dark(&mouths[0]), dark(&mouths[1]));
}

#[test]
fn a_clips_lines_are_steadied_and_its_light_is_that_of_most_frames() {
    let (picture, face, _) = character();
    let frame = analyse(&picture, &face.mesh).unwrap();
    let mut frames = vec![frame.clone(); 5];
    frames[2].plate.upper[32] += 4.0;
    frames[2].complexion.lip = [0.0; 3];
    let (plates, complexion) = steady(&frames).unwrap();
    let jump: Vec<f32> = plates.iter().map(|plate| plate.upper[32] - frame.plate.upper[32]).collect();
    assert!(jump.iter().zip([0.0, 1.0, 2.0, 1.0, 0.0]).all(|(is, wanted)| (is - wanted).abs() < 1e-3), "{jump:?}");
    assert_eq!(complexion, frame.complexion);
    assert!(steady(&[]).is_none());
}

/// The model of this repository.
fn network() -> Portrait {
    Portrait::load(Path::new("models/portrait"), Device::Cpu, 1).unwrap()
}

fn run(audio: &Arc<[f32]>, first: usize, frames: usize) -> MouthRun {
    MouthRun { avatar: AvatarHandle(0), poses: vec![0; frames], audio: Arc::clone(audio), first_frame_at: first * 640 }
}

#[test]
fn a_mouth_comes_to_rest_in_silence_however_frames_are_batched() {
    let mut network = network();
    let tone =
        (0..640 * 20_u16).map(|at| if (3200..6400).contains(&at) { f32::from(at % 80) / 80.0 - 0.5 } else { 0.0 });
    let audio: Arc<[f32]> = tone.collect();
    let whole: Vec<f32> = network.hear(&[run(&audio, 0, 20)]).unwrap().iter().map(|held| held.rest).collect();
    assert_eq!(whole[..3], [1.0; 3]);
    assert_eq!(whole[5..10], [0.0; 5]);
    assert_eq!(whole[12..], [1.0; 8]);
    assert!(whole[3] > whole[4] && whole[10] < whole[11], "{whole:?}");
    let runs: Vec<MouthRun> = (0..20).map(|frame| run(&audio, frame, 1)).collect();
    let single: Vec<f32> = network.hear(&runs).unwrap().iter().map(|held| held.rest).collect();
    assert_eq!(single, whole);
}

#[test]
fn an_avatar_that_is_gone_is_an_error() {
    let mut network = network();
    let audio: Arc<[f32]> = Arc::from(vec![0.1; 6400]);
    let error = network.draw(&[run(&audio, 2, 1)]).unwrap_err();
    assert!(matches!(&error, LipSyncError::Latents { problem, .. } if problem.contains("avatar 0 is gone")), "{error}");
    assert!(network.draw(&[]).unwrap().is_empty());
    let far = MouthRun { first_frame_at: usize::MAX, ..run(&Arc::from(vec![f32::NAN; 640]), 0, 2) };
    assert_eq!(network.hear(&[far]).unwrap().iter().map(|held| held.rest).collect::<Vec<_>>(), [1.0, 1.0]);
}

/// A sentence of `models/demo/eval` with the times of its closures, in seconds.
struct Sentence {
    audio: Arc<[f32]>,
    closures: Vec<[f64; 2]>,
}

fn sentences(every: usize) -> Vec<Sentence> {
    let folder = Path::new("models/demo/eval");
    let list = std::fs::read_to_string(folder.join("clips.jsonl")).unwrap();
    let sentence = |line: &str| {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap();
        let mut file = hound::WavReader::open(folder.join(entry["wav"].as_str().unwrap())).unwrap();
        let audio = file.samples::<i16>().map(|sample| f32::from(sample.unwrap()) / 32768.0).collect();
        let phones = entry["phones"].as_array().unwrap().iter().filter(|phone| phone["viseme"] == "PP");
        let closures = phones.map(|phone| [phone["start"].as_f64().unwrap(), phone["end"].as_f64().unwrap()]);
        Sentence { audio, closures: closures.collect() }
    };
    list.lines().step_by(every).map(sentence).collect()
}

/// Hears a sentence in batches of four, as a stream does.
fn hear(network: &mut Portrait, audio: &Arc<[f32]>) -> Vec<Articulation> {
    let frames = audio.len() / 640;
    let runs: Vec<MouthRun> = (0..frames).step_by(4).map(|first| run(audio, first, 4.min(frames - first))).collect();
    network.hear(&runs).unwrap()
}

#[test]
fn lips_meet_for_nine_of_ten_of_p_b_and_m_and_in_nine_of_ten_of_their_frames() {
    let mut network = network();
    let (mut closures, mut met, mut frames, mut shut) = (0, 0, 0, 0);
    for Sentence { audio, closures: times } in sentences(4) {
        let held = hear(&mut network, &audio);
        let last = held.len() - 1;
        let is_shut = |frame: usize| Deformation::new(&held[frame.min(last)], &plate(33.5), false).gap < 0.6;
        for [start, end] in times {
            // Of a short closure the frame in which its middle lies.
            let middle = ((start + end) / 2.0 / 0.04) as usize;
            let mut around = ((start / 0.04) as usize).min(middle)..=((end / 0.04) as usize).max(middle);
            closures += 1;
            met += usize::from(around.any(is_shut));
            // Those of which the middle lies in the closure.
            let first = (start / 0.04 - 0.5).ceil().max(0.0) as usize;
            let within = first..((end / 0.04 - 0.5).ceil().max(0.0) as usize).max(first);
            let within = if within.is_empty() { middle..middle + 1 } else { within };
            frames += within.len();
            shut += within.filter(|frame| is_shut(*frame)).count();
        }
    }
    assert!(closures > 60, "{closures}");
    assert!(met * 10 >= closures * 9, "{met} of {closures}");
    assert!(shut * 10 >= frames * 9, "{shut} of {frames}");
}

fn correlation(pairs: &[(f32, f32)]) -> f32 {
    let count = pairs.len() as f32;
    let mean = |pick: fn(&(f32, f32)) -> f32| pairs.iter().map(pick).sum::<f32>() / count;
    let (left, right) = (mean(|pair| pair.0), mean(|pair| pair.1));
    let sum = |of: &dyn Fn(f32, f32) -> f32| pairs.iter().map(|pair| of(pair.0 - left, pair.1 - right)).sum::<f32>();
    sum(&|a, b| a * b) / (sum(&|a, _| a * a) * sum(&|_, b| b * b)).sqrt()
}

/// How what is asked for goes with what is found in the film of a face, a frame before, in the same frame, and a frame after.
/// The mesh network, which takes most of the time, is asked for every third frame only.
fn found_again(picture: &RgbPicture, face: &Mesh, finder: &mut FaceFinder, drawing: bool) -> [f32; 3] {
    let found = analyse(picture, face).unwrap();
    let (scale, plate) = (found.plate.scale, found.plate.clone());
    let (sitter, regions) = sitter(vec![(picture.clone(), found.plate)], found.complexion);
    let region = &regions[0];
    let held = hear(&mut network(), &sentences(1000)[0].audio);
    let asked: Vec<f32> =
        held.iter().map(|held| Deformation::new(held, &plate, false).gap * (1.0 - held.rest)).collect();
    let frames: Vec<usize> = (2..held.len() - 2).step_by(3).collect();
    let seen: Vec<f32> = frames
        .iter()
        .map(|frame| {
            let mouth = &sitter.draw(&[0], &held[*frame..=*frame]).unwrap()[0];
            let mut film = picture.clone();
            for (row, pixels) in mouth.rgb.chunks_exact(mouth.width as usize * 3).enumerate() {
                let start = ((region.y as usize + row) * film.width as usize + region.x as usize) * 3;
                film.rgb[start..start + pixels.len()].copy_from_slice(pixels);
            }
            let mesh = finder.follow(&film, face).unwrap().unwrap();
            let mesh = if drawing { fit(&film, &mesh).mesh } else { mesh };
            let (upper, lower) = (mesh.points[13], mesh.points[14]);
            (lower[1] - upper[1]).hypot(lower[0] - upper[0]) / scale
        })
        .collect();
    [-1, 0, 1].map(|lag| {
        let pairs = frames.iter().zip(&seen).map(|(frame, seen)| (asked[frame.saturating_add_signed(lag)], *seen));
        correlation(&pairs.collect::<Vec<_>>())
    })
}

#[test]
fn the_opening_that_is_found_again_in_the_film_is_the_one_that_was_asked_for() {
    let (picture, face, mut finder) = character();
    let [before, same, after] = found_again(&picture, &face.mesh, &mut finder, false);
    assert!(same > 0.9 && same > before + 0.1 && same > after + 0.1, "{before} {same} {after}");
}

#[test]
fn a_beard_and_glasses_leave_the_opening_to_be_found_again() {
    let (_, _, mut finder) = character();
    let bearded = Person { beard: 0.9, ..Person::number(3) };
    let glasses = Person { glasses: Some(Glasses::Thick), ..Person::number(1) };
    for person in [bearded, glasses] {
        let picture = draw(&person, &Bearing::default(), 384, 170.0).picture;
        let mesh = fit(&picture, &finder.find(&picture).unwrap()[0].mesh).mesh;
        let [before, same, after] = found_again(&picture, &mesh, &mut finder, true);
        assert!(same > 0.9 && same > before + 0.1 && same > after + 0.1, "{before} {same} {after}: {person:?}");
    }
}
