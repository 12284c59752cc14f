//! Clips as they come from phones, browsers and attackers: written by ffmpeg's libraries, read by the library under test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use mouthpiece::media::{Clip, ClipOptions, SourceError, SourceFault, SourceKind, Treatment, read_photo, sniff};
use mouthpiece::picture::RgbPicture;

const PROJECT: &str = env!("CARGO_MANIFEST_DIR");
const WIDTH: u32 = 64;
const HEIGHT: u32 = 48;

/// Files that `clips.py` writes, and what is made of them.
struct Files(tempfile::TempDir);

impl Files {
    fn written(names: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let output = Command::new("python3")
            .arg(format!("{PROJECT}/tests/it/clips.py"))
            .arg(folder.path())
            .args(names)
            .env("PYTHONPATH", format!("{PROJECT}/.deps/av"))
            .output()
            .unwrap();
        assert!(output.status.success(), "scripts/setup.sh --test? {}", String::from_utf8_lossy(&output.stderr));
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn read(&self, name: &str) -> Read {
        read(&self.path(name), &ClipOptions::default()).unwrap_or_else(|error| panic!("{error}"))
    }

    fn refused(&self, name: &str) -> SourceFault {
        match read(&self.path(name), &ClipOptions::default()) {
            Ok(read) => panic!("{name} has {} frames", read.frames.len()),
            Err(error) => {
                assert!(error.to_string().starts_with(&self.path(name).display().to_string()), "{error}");
                error.fault
            }
        }
    }
}

struct Read {
    clip: Clip,
    frames: Vec<RgbPicture>,
}

fn read(path: &Path, options: &ClipOptions) -> Result<Read, SourceError> {
    let mut clip = Clip::open(path, options)?;
    let mut frames = Vec::new();
    while let Some(frame) = clip.next_frame()? {
        assert_eq!((frame.width, frame.height), (clip.info().width, clip.info().height));
        frames.push(frame);
    }
    Ok(Read { clip, frames })
}

fn level(picture: &RgbPicture, x: u32, y: u32) -> u8 {
    picture.rgb[(y * picture.width + x) as usize * 3 + 1]
}

/// Which of the written pictures each frame is: picture n is of the luma 40 + 5 n, in the limited range or in the full one.
fn numbers(read: &Read, is_full_range: bool) -> Vec<u32> {
    numbered(read, is_full_range, 5.0)
}

/// The same of pictures that differ by so much luma.
fn numbered(read: &Read, is_full_range: bool, step: f64) -> Vec<u32> {
    let number = |frame: &RgbPicture| {
        let level = f64::from(level(frame, frame.width / 2, frame.height - 8));
        let luma = if is_full_range { level } else { level * 219.0 / 255.0 + 16.0 };
        ((luma - 40.0) / step).round() as u32
    };
    read.frames.iter().map(number).collect()
}

fn counted(frames: u32) -> Vec<u32> {
    (0..frames).collect()
}

#[test]
fn what_phones_browsers_and_cameras_write_is_read_frame_by_frame() {
    let formats = [
        ("plain.mp4", "H.264", 25),
        ("hevc.mp4", "HEVC", 25),
        ("vp8.webm", "VP8", 25),
        ("vp9.webm", "VP9", 25),
        ("live.webm", "VP8", 25),
        ("av1.mp4", "AV1", 10),
        ("mpeg4.avi", "MPEG-4", 25),
        ("prores.mov", "ProRes", 5),
        ("flash.flv", "Flash", 25),
        ("transport.ts", "H.264", 25),
        ("program.mpg", "MPEG-2", 25),
        ("wmv.wmv", "WMV 8", 25),
    ];
    let files = Files::written(&formats.map(|(name, ..)| name));
    for (name, codec, frames) in formats {
        assert_eq!(sniff(&files.path(name)).unwrap(), SourceKind::Clip, "{name}");
        let read = files.read(name);
        let info = read.clip.info();
        assert_eq!((info.codec, info.width), (codec, WIDTH), "{name}");
        assert_eq!(info.has_sound, ["plain.mp4", "vp8.webm"].contains(&name), "{name}");
        assert!(info.done.is_empty() && read.clip.broke_off().is_none(), "{name}: {info:?}");
        let numbers = numbers(&read, false);
        // Coarse codecs are a level off here and there.
        let near = |(got, expected): (&u32, u32)| got.abs_diff(expected) <= 1;
        assert!(numbers.len() == frames && numbers.iter().zip(0..).all(near), "{name}: {numbers:?}");
        assert!((read.clip.progress() - 1.0).abs() < 0.1, "{name}: {}", read.clip.progress());
    }
}

#[test]
fn frames_are_chosen_by_their_times() {
    let files = Files::written(&["thirty.mp4", "uneven.mkv", "uneven.mp4"]);
    let thirty: Vec<u32> = (0..25).map(|frame| (frame * 40 + 1) * 30 / 1000).collect();
    assert_eq!(numbers(&files.read("thirty.mp4"), false), thirty);
    let times = [0, 10, 20, 90, 100, 300, 310, 320, 500, 520, 900];
    let uneven: Vec<u32> =
        (0..24_u32).map(|frame| times.iter().rposition(|at| *at <= frame * 40 + 1).unwrap() as u32).collect();
    for name in ["uneven.mkv", "uneven.mp4"] {
        assert_eq!(numbers(&files.read(name), false), uneven, "{name}");
    }
}

#[test]
fn a_part_is_found_with_and_without_an_index() {
    let files = Files::written(&["index_first.mp4", "indexed.mkv", "stream.ts", "live.webm"]);
    let part = |name: &str, trim: &str| {
        let options = ClipOptions { trim: trim.parse().unwrap(), ..ClipOptions::default() };
        read(&files.path(name), &options)
    };
    for name in ["index_first.mp4", "indexed.mkv", "stream.ts"] {
        for (trim, frames) in [("0.5..1", 12..25), ("2.41..2.6", 60..65), ("3.8..3.9", 95..98)] {
            let read = part(name, trim).unwrap();
            assert_eq!(numbered(&read, false, 2.0), frames.collect::<Vec<_>>(), "{name} {trim}");
            assert!(read.clip.broke_off().is_none(), "{name} {trim}: {:?}", read.clip.broke_off());
        }
        let gone = part(name, "9..").map(|read| read.frames.len()).unwrap_err();
        assert!(matches!(gone.fault, SourceFault::TrimmedAway { .. }), "{gone}");
    }
    assert_eq!(numbers(&part("live.webm", "0.8..").unwrap(), false), [20, 21, 22, 23, 24]);
}

#[test]
fn a_clip_is_turned_as_the_camera_was_held_and_mirrored_if_asked() {
    let files = Files::written(&["turned90.mp4", "turned180.mp4", "turned270.mp4", "mirrored.mp4", "plain.mp4"]);
    let lit = |name: &str, mirror: bool| {
        let read = read(&files.path(name), &ClipOptions { mirror, ..ClipOptions::default() }).unwrap();
        let frame = &read.frames[0];
        let (right, bottom) = (frame.width - 4, frame.height - 4);
        let corners = [(3, 3), (right, 3), (3, bottom), (right, bottom)];
        let lit: Vec<usize> = (0..4).filter(|at| level(frame, corners[*at].0, corners[*at].1) > 200).collect();
        (lit, frame.width, read.clip.info().done.clone())
    };
    let turned = vec![Treatment::Turned];
    // The square stands in the stored pictures' upper left corner.
    assert_eq!(lit("plain.mp4", false), (vec![0], WIDTH, vec![]));
    assert_eq!(lit("turned90.mp4", false), (vec![1], HEIGHT, turned.clone()));
    assert_eq!(lit("turned180.mp4", false), (vec![3], WIDTH, turned.clone()));
    assert_eq!(lit("turned270.mp4", false), (vec![2], HEIGHT, turned.clone()));
    assert_eq!(lit("mirrored.mp4", false), (vec![1], WIDTH, turned));
    assert_eq!(lit("plain.mp4", true), (vec![1], WIDTH, vec![Treatment::Mirrored]));
    assert_eq!(lit("turned90.mp4", true), (vec![0], HEIGHT, vec![Treatment::Turned, Treatment::Mirrored]));
}

#[test]
fn sizes_become_even_square_and_no_larger_than_asked() {
    let files = Files::written(&["odd.webm", "wide.mp4", "large.mp4"]);
    let size = |name: &str| {
        let read = files.read(name);
        (read.frames[0].width, read.frames[0].height, read.clip.info().done.clone())
    };
    assert_eq!(size("odd.webm"), (64, 48, vec![]));
    assert_eq!(size("wide.mp4"), (128, 48, vec![Treatment::Squared]));
    assert_eq!(size("large.mp4"), (1920, 240, vec![Treatment::Scaled]));
}

#[test]
fn ranges_and_light_of_every_kind_become_srgb() {
    let files = Files::written(&["full.mp4", "mjpeg.avi", "pq.mp4", "hlg.mp4"]);
    assert_eq!(numbers(&files.read("full.mp4"), true), counted(25));
    assert_eq!(numbers(&files.read("mjpeg.avi"), true), counted(10));
    for name in ["pq.mp4", "hlg.mp4"] {
        let read = files.read(name);
        assert_eq!(read.clip.info().done, [Treatment::ToneMapped], "{name}");
        let greys: Vec<u8> = read.frames.iter().map(|frame| level(frame, 32, 40)).collect();
        assert!(greys.is_sorted() && greys[0] < 40 && greys[9] > 50, "{name}: {greys:?}");
        // The square is of the code 1: the brightest light there is.
        assert!(level(&read.frames[0], 3, 3) > 245, "{name}: {}", level(&read.frames[0], 3, 3));
        let grey = &read.frames[5].rgb[(40 * WIDTH as usize + 32) * 3..][..3];
        assert!(grey.iter().all(|level| level.abs_diff(grey[1]) <= 2), "{name}: {grey:?}");
    }
}

#[test]
fn fields_of_interlaced_pictures_do_not_comb() {
    let files = Files::written(&["interlaced.mp4"]);
    let read = files.read("interlaced.mp4");
    assert_eq!(read.clip.info().done, [Treatment::Deinterlaced]);
    assert_eq!(read.frames.len(), 6);
    // A bar moves by eight pixels from picture to picture: within one its edge is the same in all rows.
    for frame in &read.frames[1..5] {
        let edge = |y: u32| (0..WIDTH).find(|x| level(frame, *x, y) > 128);
        let edges: Vec<_> = (8..40).map(edge).collect();
        assert!(edges.iter().all(|edge| edge.is_some() && *edge == edges[0]), "{edges:?}");
    }
}

#[test]
fn pictures_that_move_are_clips_and_their_first_is_a_photo() {
    let names = ["moving.gif", "moving.png", "moving.webp"];
    let files = Files::written(&names);
    for name in names {
        assert_eq!(sniff(&files.path(name)).unwrap(), SourceKind::Clip, "{name}");
        let read = files.read(name);
        let levels: Vec<u8> = read.frames.iter().map(|frame| level(frame, 32, 40)).collect();
        let changes: Vec<usize> = (1..levels.len()).filter(|at| levels[*at] != levels[*at - 1]).collect();
        assert_eq!(changes, [3, 5, 10, 13], "{name}: at 100, 200, 400 and 500 ms: {levels:?}");
        let photo = read_photo(&files.path(name), 1920).unwrap();
        assert_eq!(photo, read.frames[0], "{name}");
    }
}

#[test]
fn what_breaks_off_is_used_up_to_there_if_there_is_a_second_of_it() {
    let files = Files::written(&[
        "index_first.mp4",
        "broken_off.mp4",
        "index_last.mp4",
        "no_index.mp4",
        "vp8.webm",
        "broken_off.webm",
    ]);
    let read = files.read("broken_off.mp4");
    assert!((30..99).contains(&read.frames.len()), "{}", read.frames.len());
    assert!(matches!(read.clip.broke_off(), Some(SourceFault::Damaged { at, .. }) if *at > Duration::from_secs(1)));
    for name in ["no_index.mp4", "broken_off.webm"] {
        let fault = files.refused(name);
        assert!(matches!(fault, SourceFault::Damaged { .. }), "{name}: {fault}");
    }
}

#[test]
fn hostile_files_get_one_clear_error_each() {
    let files = Files::written(&["sound.mp4", "still.mkv", "one_time.mp4", "hours.mkv", "bomb.webm", "bomb.avi"]);
    assert!(matches!(files.refused("sound.mp4"), SourceFault::NoVideo));
    assert!(matches!(files.refused("still.mkv"), SourceFault::OnePicture));
    assert!(matches!(files.refused("one_time.mp4"), SourceFault::OnePicture));
    let hours = files.refused("hours.mkv");
    assert!(matches!(hours, SourceFault::TooLong { lasts } if lasts.as_secs() == 8 * 3600), "{hours}");
    let vp8 = files.refused("bomb.webm");
    assert!(matches!(vp8, SourceFault::TooManyPixels { width: 16_383, height: 16_383, .. }), "{vp8}");
    let jpeg = files.refused("bomb.avi");
    assert!(matches!(jpeg, SourceFault::TooManyPixels { width: 16_384, height: 16_384, .. }), "{jpeg}");
    std::fs::write(files.path("empty.mp4"), b"").unwrap();
    assert!(matches!(files.refused("empty.mp4"), SourceFault::Empty));
    std::fs::write(files.path("text.mp4"), b"not a film at all").unwrap();
    assert!(matches!(files.refused("text.mp4"), SourceFault::NeitherPhotoNorClip { seems: "text" }));
    std::fs::write(files.path("list.mp4"), b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n").unwrap();
    assert!(matches!(files.refused("list.mp4"), SourceFault::NeitherPhotoNorClip { seems: "a playlist" }));
    assert!(matches!(files.refused("."), SourceFault::NotAFile));
    assert!(matches!(files.refused("none.mp4"), SourceFault::Read(_)));
}

/// Bytes of a file that decodes are overwritten in many ways: whatever comes of it, it is an answer.
#[test]
fn damage_anywhere_in_a_file_is_an_answer_and_no_panic() {
    let names = ["plain.mp4", "vp9.webm", "moving.gif", "mjpeg.avi"];
    let files = Files::written(&names);
    for name in names {
        let whole = std::fs::read(files.path(name)).unwrap();
        for round in 0..12_usize {
            let mut bytes = whole.clone();
            for hit in 0..=round {
                let at = (round * 7919 + hit * 104_729) % bytes.len();
                bytes[at] ^= 1 << (hit % 8);
            }
            if round % 3 == 2 {
                bytes.truncate(bytes.len() * (round + 1) / 13);
            }
            let damaged = files.path("damaged");
            std::fs::write(&damaged, bytes).unwrap();
            if let Ok(read) = read(&damaged, &ClipOptions::default()) {
                assert!(!read.frames.is_empty() && read.frames.len() < 4_000, "{name}, {round}");
            }
        }
    }
}
