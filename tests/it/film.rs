//! Films as others play them: written by the real pipeline, decoded by ffmpeg's libraries in a process of its own.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use mouthpiece::media::{self, FileWriter, PipelineDir, VideoFormat};
use mouthpiece::picture::I420Frame;
use mouthpiece::playout::Pair;
use mouthpiece::speech::resample::Resampler;
use mouthpiece::speech::sound;
use mouthpiece::timeline::{FrameIndex, PLAYOUT_SAMPLES_PER_FRAME};
use rand::{Rng, SeedableRng};
use serde_json::Value;

const PROJECT: &str = env!("CARGO_MANIFEST_DIR");
const RATE: usize = 48_000;
const FRAME: f64 = 0.04;
/// Of a second: what a film may be off by at all.
const EARLY_OR_LATE: f64 = 0.02;

struct Played {
    told: Value,
    sound: Vec<f32>,
}

/// As a player shows it that is not GStreamer's.
fn play(film: &Path) -> Played {
    let sound = tempfile::NamedTempFile::new().unwrap();
    let output = Command::new("python3")
        .args([&format!("{PROJECT}/tests/it/film.py"), film.to_str().unwrap(), sound.path().to_str().unwrap()])
        .env("PYTHONPATH", format!("{PROJECT}/.deps/av"))
        .output()
        .unwrap();
    assert!(output.status.success(), "scripts/setup.sh --test? {}", String::from_utf8_lossy(&output.stderr));
    let bytes = std::fs::read(sound.path()).unwrap();
    let sound = bytes.as_chunks::<2>().0.iter().map(|pair| f32::from(i16::from_le_bytes(*pair)) / 32_768.0).collect();
    Played { told: serde_json::from_slice(&output.stdout).unwrap(), sound }
}

impl Played {
    fn pictures(&self) -> Vec<(f64, u64)> {
        let pictures = self.told["pictures"].as_array().unwrap();
        pictures.iter().map(|picture| (picture[0].as_f64().unwrap(), picture[1].as_u64().unwrap())).collect()
    }

    fn number(&self, name: &str) -> f64 {
        self.told.pointer(name).and_then(Value::as_f64).unwrap_or_else(|| panic!("no {name} in {}", self.told))
    }

    /// Picture and sound begin at once and are equally long, to a frame; every frame is there.
    fn assert_whole(&self, frames: usize) {
        let (seconds, pictures) = (frames as f64 * FRAME, self.pictures());
        assert_eq!(pictures.len(), frames);
        for (at, (shown, _)) in pictures.iter().enumerate() {
            assert!((shown - at as f64 * FRAME).abs() < 0.001, "picture {at} is shown at {shown}");
        }
        let begins = self.number("/first_sound");
        assert!(begins.abs() < 0.001, "the sound begins at {begins}");
        for name in ["/sound_ends", "/seconds/audio", "/seconds/video"] {
            let told = self.number(name);
            assert!((told - seconds).abs() < FRAME, "{name} is {told}, the film {seconds} s long");
        }
    }

    /// The source is heard when it is, at its beginning, in its middle and at its end.
    fn assert_in_time(&self, source: &[f32]) {
        let window = (RATE / 4).min(source.len());
        for from in [0, (source.len() - window) / 2, source.len() - window] {
            let piece = &source[from..from + window];
            let (late, likeness) = best_place(&self.sound, piece, from);
            // Opus leaves much out of noise; elsewhere it is no more than 0.05 alike.
            assert!(likeness > 0.4, "what is said at {from} is not heard around it: {likeness}");
            assert!(late.abs() <= EARLY_OR_LATE, "what is said at {from} is heard {late} s late");
        }
    }
}

/// How many seconds after `expected` a piece is heard, and how alike it is (1 is the same); looked for within 0.4 s.
fn best_place(sound: &[f32], piece: &[f32], expected: usize) -> (f64, f64) {
    let norm = |samples: &[f32]| samples.iter().map(|sample| sample * sample).sum::<f32>().sqrt();
    let of_piece = norm(piece);
    assert!(of_piece > 0.1, "the piece at {expected} is silent");
    let reach = RATE * 2 / 5;
    let mut best = (0, 0.0);
    for at in expected.saturating_sub(reach)..expected + reach {
        let Some(heard) = sound.get(at..at + piece.len()) else { break };
        let alike: f32 = heard.iter().zip(piece).map(|(one, other)| one * other).sum();
        let likeness = alike / (norm(heard) * of_piece).max(1e-6);
        if likeness > best.1 {
            best = (at, likeness);
        }
    }
    ((best.0 as f64 - expected as f64) / RATE as f64, f64::from(best.1))
}

/// Noise without its highest parts, which no codec keeps as they are. No piece of it is like another.
fn noise(samples: usize) -> Vec<f32> {
    let mut dice = rand_chacha::ChaCha8Rng::seed_from_u64(14);
    let mut last = 0.0;
    (0..samples)
        .map(|_| {
            last = 0.8 * last + 0.1 * dice.random_range(-1.0..1.0f32);
            last
        })
        .collect()
}

/// Grey pictures under noise; those of a few frames are white. Returns the sound.
fn write(path: &Path, frames: usize, directory: &PipelineDir) -> Vec<f32> {
    media::init().unwrap();
    let (width, height) = (64, 64);
    let picture = |light: u8| {
        Arc::new(I420Frame { width, height, data: [[light; 64 * 64].as_slice(), &[128; 64 * 32]].concat() })
    };
    let (grey, white) = (picture(60), picture(230));
    let sound = noise(frames * PLAYOUT_SAMPLES_PER_FRAME);
    let mut writer = FileWriter::create(path, VideoFormat { width, height }, directory).unwrap();
    for (at, piece) in sound.chunks_exact(PLAYOUT_SAMPLES_PER_FRAME).enumerate() {
        let audio = Box::new(std::array::from_fn(|sample| (piece[sample] * 32_767.0) as i16));
        let frame = Arc::clone(if is_white(at) { &white } else { &grey });
        writer.write(&Pair { index: FrameIndex(at as u64), frame, audio: Some(audio), utterance: None }).unwrap();
    }
    writer.finish().unwrap();
    sound
}

fn is_white(frame: usize) -> bool {
    frame % 10 == 7
}

#[test]
fn a_film_of_any_length_is_played_from_its_first_sample_on_and_its_pictures_with_their_sound() {
    let folder = tempfile::tempdir().unwrap();
    for frames in [1, 8, 75, 1525] {
        let path = folder.path().join(format!("{frames}.mp4"));
        let sound = write(&path, frames, &PipelineDir::Embedded);
        let played = play(&path);
        played.assert_whole(frames);
        played.assert_in_time(&sound);
        // The lips are where they belong: each picture is the one that was written with this sound.
        for (at, (_, light)) in played.pictures().into_iter().enumerate() {
            assert_eq!(light > 145, is_white(at), "picture {at} of {frames} is {light}");
        }
    }
}

#[test]
fn a_film_by_a_description_of_ones_own_is_played_right_too() {
    let shipped = std::fs::read_to_string(format!("{PROJECT}/pipelines/render-mp4.launch")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (from, to) in [
        // The index at the end, other packets, two channels, another muxer.
        ("faststart=true", ""),
        ("audio-type=voice", "frame-size=10"),
        ("! opusenc", "! audioconvert ! audio/x-raw,channels=2 ! opusenc"),
        ("mp4mux name=mux faststart=true", "matroskamux name=mux"),
    ] {
        assert!(shipped.contains(from));
        std::fs::write(folder.path().join("render-mp4.launch"), shipped.replace(from, to)).unwrap();
        let path = folder.path().join("film.mp4");
        let sound = write(&path, 30, &PipelineDir::find(folder.path()));
        let played = play(&path);
        assert_eq!(played.pictures().len(), 30, "{to}");
        assert!((played.number("/sound_ends") - 1.2).abs() < FRAME, "{to}: {}", played.number("/sound_ends"));
        played.assert_in_time(&sound);
    }
}

fn mouthpiece(arguments: &[&str]) -> Value {
    let program = Command::new(env!("CARGO_BIN_EXE_mouthpiece")).current_dir(PROJECT).args(arguments).output().unwrap();
    assert!(program.status.success(), "{}", String::from_utf8_lossy(&program.stderr));
    serde_json::from_slice(&program.stdout).unwrap()
}

/// What the program makes of a text and of a sound file, from the word to the player.
#[test]
fn speech_in_a_film_begins_where_it_begins_in_its_source() {
    const TEXT: &str = "Pop, bop, map, mob.";
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name).display().to_string();
    let (wav, film) = (place("speech.wav"), place("film.mp4"));
    mouthpiece(&["say", "--text", TEXT, "--out", &wav, "--json"]);
    let (samples, rate) = sound::read(Path::new(&wav)).unwrap();
    let mut resampler = Resampler::new(rate, 48_000).unwrap();
    let mut source = resampler.push(&samples).unwrap();
    source.extend(resampler.finish().unwrap());
    for from in [["--text", TEXT], ["--audio", &wav]] {
        let report = mouthpiece(&[&["render", "--out", &film, "--json"], &from[..]].concat());
        let played = play(Path::new(&film));
        played.assert_whole(usize::try_from(report["frames"].as_u64().unwrap()).unwrap());
        // Where it is loud; the silence around it is like anything.
        let loud: Vec<usize> = (0..source.len()).filter(|at| source[*at].abs() > 0.05).collect();
        let (first, last) = (loud[0], loud[loud.len() - 1] - RATE / 10);
        for from in [first, usize::midpoint(first, last), last] {
            let (late, likeness) = best_place(&played.sound, &source[from..from + RATE / 10], from);
            assert!(likeness > 0.8 && late.abs() <= EARLY_OR_LATE, "at {from}: {late} s late, {likeness}");
        }
    }
}

/// Half a second of silence, then a hum.
#[test]
fn a_sound_file_of_any_form_is_spoken_with_in_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let film = folder.path().join("film.mp4");
    for name in ["stereo.mp3", "hum.opus"] {
        let sound = format!("{PROJECT}/tests/fixtures/sound/{name}");
        mouthpiece(&["render", "--audio", &sound, "--out", film.to_str().unwrap(), "--json"]);
        let played = play(&film);
        let begins = played.sound.iter().position(|sample| sample.abs() > 0.1).unwrap() as f64 / RATE as f64;
        assert!((begins - 0.5).abs() <= EARLY_OR_LATE, "{name} is heard from {begins} on");
    }
}
