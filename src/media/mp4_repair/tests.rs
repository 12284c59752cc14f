//! Films by the real pipeline, and what is told of their sound before and after.

use std::path::PathBuf;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::media::{FileWriter, PipelineDir, VideoFormat};
use crate::picture::I420Frame;
use crate::playout::Pair;
use crate::timeline::{FrameIndex, PLAYOUT_SAMPLES_PER_FRAME};

const SHIPPED: &str = include_str!("../../../pipelines/render-mp4.launch");

/// A film of so many frames, by a description in which `from` stands for `to`.
fn film(frames: u64, from: &str, to: &str) -> (tempfile::TempDir, PathBuf) {
    crate::media::init().unwrap();
    let folder = tempfile::tempdir().unwrap();
    assert!(SHIPPED.contains(from));
    std::fs::write(folder.path().join("render-mp4.launch"), SHIPPED.replace(from, to)).unwrap();
    let path = folder.path().join("film.mp4");
    let (width, height) = (64, 64);
    let directory = PipelineDir::find(folder.path());
    let mut writer = FileWriter::create(&path, VideoFormat { width, height }, &directory).unwrap();
    let frame = Arc::new(I420Frame { width, height, data: vec![90; 64 * 64 * 3 / 2] });
    for index in 0..frames {
        let audio = Some(Box::new([1_000; PLAYOUT_SAMPLES_PER_FRAME]));
        writer.write(&Pair { index: FrameIndex(index), frame: Arc::clone(&frame), audio, utterance: None }).unwrap();
    }
    writer.finish().unwrap();
    (folder, path)
}

/// Pre-skip, then of the sound: samples that are skipped, that are shown, that are there.
fn told(path: &Path) -> (u16, [u64; 3]) {
    let mut file = File::open(path).unwrap();
    let (moov, _) = Boxes::of(&mut file).unwrap().unwrap();
    let track = moov.all(moov.whole(), *b"trak").into_iter().find(|track| opus_of(&moov, track).is_some()).unwrap();
    let opus = opus_of(&moov, &track).unwrap();
    assert_eq!(moov.number(opus.start + 4), Some(48_000));
    let times = Times::of(&moov, &track).unwrap();
    assert_eq!(times.rate, 48_000);
    let edit = |at| u64::from(moov.number(times.edits.start + at).unwrap());
    let entries = moov.number(times.lengths.start + 4).unwrap() as usize;
    let there = total(&runs_of(&moov, &times.lengths, entries).unwrap());
    assert_eq!(u64::from(moov.number(times.media.start + 16).unwrap()), there);
    assert_eq!(u64::from(moov.number(times.header.start + 20).unwrap()), edit(8));
    assert!(u64::from(moov.number(times.movie.start + 16).unwrap()) >= edit(8), "the film is shorter than its sound");
    let skip = u16::from_be_bytes([moov.0[opus.start + 2], moov.0[opus.start + 3]]);
    (skip, [edit(12), edit(8) * 48_000 / u64::from(times.movie_rate), there])
}

#[test]
fn the_encoders_own_samples_are_cut_off_both_ends_of_a_film_of_any_length() {
    for frames in [1, 2, 3, 8, 75, 251] {
        let (_folder, path) = film(frames, "faststart=true", "faststart=true");
        assert_eq!(told(&path), (312, [312, frames * 1920, 312 + frames * 1920]), "{frames} frames");
    }
}

#[test]
fn whatever_the_description_makes_of_opus_comes_out_right() {
    for (from, to, skip) in [
        ("faststart=true", "", 312),
        ("audio-type=voice", "frame-size=60", 312),
        ("audio-type=voice", "frame-size=2.5", 312),
        ("audio-type=voice", "frame-size=10 audio-type=restricted-lowdelay", 120),
        ("! opusenc", "! audioconvert ! audio/x-raw,channels=2 ! opusenc", 312),
        ("! opusparse ! mux.", "! mux.", 312),
    ] {
        let (_folder, path) = film(10, from, to);
        let (said, [skipped, shown, there]) = told(&path);
        assert_eq!((said, skipped), (skip, u64::from(skip)), "{to}");
        // With packets of 2.5 ms opusenc leaves out the last 4 ms.
        assert!((19_008..=19_200).contains(&shown) && there >= u64::from(skip) + shown, "{to}: {shown} of {there}");
    }
}

#[test]
fn a_film_in_fragments_tells_the_right_pre_skip() {
    let (_folder, path) = film(50, "faststart=true", "fragment-duration=1000");
    let bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(4).position(|kind| kind == b"dOps").unwrap();
    assert_eq!(bytes[at + 6..at + 12], [1, 56, 0, 0, 0xBB, 0x80]);
}

#[test]
fn what_needs_no_mending_stays_as_it_is() {
    let (folder, path) = film(10, "faststart=true", "faststart=true");
    let once = std::fs::read(&path).unwrap();
    repair(&path, 10).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), once);
    let other = folder.path().join("other.mkv");
    for bytes in
        [&b""[..], b"\x1A\x45\xDF\xA3 matroska", b"\0\0\0\x08free\0\0\0\x01moov", b"\0\0\0\x08ftyp\0\0\0\x04moov"]
    {
        std::fs::write(&other, bytes).unwrap();
        repair(&other, 10).unwrap();
        assert_eq!(std::fs::read(&other).unwrap(), bytes);
    }
    repair(Path::new("/dev/null"), 10).unwrap();
}

#[test]
fn packets_are_as_long_as_they_say() {
    assert_eq!(samples_of([0b0000_0000, 0]), 480);
    assert_eq!(samples_of([0b0101_1001, 0]), 2 * 2880);
    assert_eq!(samples_of([0b0110_1000, 0]), 960);
    assert_eq!(samples_of([0b1000_0011, 0b1100_0011]), 3 * 120);
    assert_eq!(samples_of([0b1111_1100, 0]), 960);
}

#[test]
fn lengths_fit_a_table_of_any_size_that_holds_them() {
    assert_eq!(fitted(vec![(1, 9), (3, 9), (1, 2)], 2), Some(vec![(4, 9), (1, 2)]));
    assert_eq!(fitted(vec![(5, 9)], 3), Some(vec![(1, 9), (1, 9), (3, 9)]));
    assert_eq!(fitted(vec![(1, 9)], 2), None);
    assert_eq!(fitted(vec![(1, 9), (0, 3), (1, 2), (1, 4)], 2), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// What an operator's muxer writes is no more ours than what a stranger sends.
    #[test]
    fn no_file_makes_it_panic(changes in prop::collection::vec((0usize..4_000, any::<u8>()), 1..12), kept in 0usize..6_000) {
        static FILM: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
        let bytes = FILM.get_or_init(|| std::fs::read(film(3, "faststart=true", "faststart=true").1).unwrap());
        let mut bytes = bytes[..kept.min(bytes.len())].to_vec();
        for (at, value) in changes {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &bytes).unwrap();
        let _ = repair(file.path(), 3);
        prop_assert_eq!(std::fs::metadata(file.path()).unwrap().len(), bytes.len() as u64);
    }
}
