//! One sound in every form, files of the field, and what is none.

use super::*;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// When it begins to be loud, how long it is, and how loud it is near its end.
fn heard(samples: &[f32], rate: u32) -> (f64, f64, f32) {
    let seconds = |samples: usize| samples as f64 / f64::from(rate);
    let begins = samples.iter().position(|sample| sample.abs() > 0.1).unwrap_or(samples.len());
    let part = samples.len() / 4;
    let end = &samples[samples.len() - part..];
    let loudness = (end.iter().map(|sample| sample * sample).sum::<f32>() / part as f32).sqrt();
    (seconds(begins), seconds(samples.len()), loudness)
}

#[test]
fn every_form_is_the_same_sound_at_the_same_time() {
    for (name, rate) in [
        ("hum.mp3", 24_000),
        ("stereo.mp3", 44_100),
        ("hum.flac", 24_000),
        ("hum96k.flac", 48_000),
        ("hum.m4a", 24_000),
        ("alac.m4a", 24_000),
        ("hum.ogg", 24_000),
        ("hum.opus", 48_000),
        ("hum.webm", 48_000),
        ("hum.aiff", 24_000),
        ("hum.caf", 24_000),
        ("adpcm.wav", 24_000),
    ] {
        let (samples, told) = read(&fixture("sound").join(name)).unwrap();
        assert_eq!(told, rate, "{name}");
        let (begins, lasts, loudness) = heard(&samples, rate);
        assert!((begins - 0.5).abs() < 0.005, "{name} begins at {begins}");
        assert!((lasts - 1.0).abs() < 0.025, "{name} lasts {lasts}");
        // An encoder that makes two channels of one lowers both.
        assert!((0.17..0.31).contains(&loudness), "{name} is {loudness} loud");
    }
    // Nothing in such a file says how much of it the encoder has put in front: 43 ms.
    let (samples, rate) = read(&fixture("sound/hum.aac")).unwrap();
    assert!((heard(&samples, rate).0 - 0.543).abs() < 0.01);
}

/// The beginnings of files as people have sent them to others, and as they were cut here.
#[test]
fn wav_files_of_the_field_are_read() {
    for (name, rate, samples) in [
        ("ext24.wav", 48_000, (4096 - 68) / 6),
        ("extfloat.wav", 16_000, (4096 - 68) / 4),
        ("oddchunk_pad.wav", 16_000, (4096 - 56) / 2),
        ("oddlist_pad.wav", 16_000, (4096 - 70) / 2),
        ("rf64.wav", 16_000, (4096 - 80) / 2),
        ("stream_7fff.wav", 16_000, (4096 - 44) / 2),
        ("stream_zero.wav", 16_000, (4096 - 44) / 2),
    ] {
        let (heard, told) = read(&fixture("wav").join(name)).unwrap();
        assert_eq!((told, heard.len()), (rate, samples), "{name}");
        assert!(heard.iter().all(|sample| sample.abs() < 0.3), "{name} is noise");
    }
}

#[test]
fn what_is_cut_short_is_read_as_far_as_it_goes() {
    // The sound of a whole Ogg or WebM file is in one piece here; an MP4 or CAF file has its tables at its end.
    for name in ["hum.mp3", "hum.flac", "hum.aiff", "hum.aac"] {
        let bytes = std::fs::read(fixture("sound").join(name)).unwrap();
        let mut reader = Reader::of_bytes(bytes[..bytes.len() * 4 / 5].to_vec());
        let mut samples = 0;
        while let Ok(Some(piece)) = reader.as_mut().map_or(Ok(None), Reader::next_samples) {
            samples += piece.len();
        }
        assert!(samples > 10_000, "{name}: {samples}");
    }
}

#[test]
fn what_is_no_sound_is_told_with_its_name_and_what_would_be() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("speech.bin");
    for (bytes, words) in [
        (&b"{\"error\": \"no such voice\"}"[..], "is no sound that is known here (it is text): WAV, FLAC, MP3"),
        (b"RIFF but not really, whatever its name", "does not start like a WAV file"),
        (&[7; 100], "its first bytes are those of nothing known"),
        (b"#!AMR\n\x3C\x91\x17\x16\xBE\x66\x78\x00\x00", "(AMR)"),
        (b"", "holds no sound"),
        (b"fLaC and no more of it", "is FLAC that cannot be read"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let told = read(&path).unwrap_err().to_string();
        assert!(told.starts_with(&path.display().to_string()) && told.contains(words), "{told}");
    }
    let told = read(&folder.path().join("none.wav")).unwrap_err().to_string();
    assert!(told.contains("none.wav: cannot be read: No such file"), "{told}");
}

#[test]
fn a_pipe_is_read_like_a_file() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["sound/hum.m4a", "sound/hum.mp3", "wav/rf64.wav"] {
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        let bytes = std::fs::read(fixture(name)).unwrap();
        let writing = std::thread::spawn({
            let pipe = pipe.clone();
            move || std::fs::write(pipe, bytes)
        });
        assert_eq!(read(&pipe).unwrap(), read(&fixture(name)).unwrap(), "{name}");
        writing.join().unwrap().unwrap();
        std::fs::remove_file(&pipe).unwrap();
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(40))]

    #[test]
    fn no_damage_makes_it_panic(
        which in 0usize..8,
        changes in proptest::collection::vec((0usize..3_000, proptest::num::u8::ANY), 0..10),
    ) {
        let names = ["hum.mp3", "hum.flac", "hum.m4a", "hum.ogg", "hum.opus", "hum.webm", "hum.caf", "adpcm.wav"];
        let mut bytes = std::fs::read(fixture("sound").join(names[which])).unwrap();
        for (at, value) in changes {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        if let Ok(mut reader) = Reader::of_bytes(bytes) {
            let mut seconds = 0.0;
            while let Ok(Some(piece)) = reader.next_samples() {
                seconds += piece.len() as f64 / f64::from(reader.sample_rate());
            }
            proptest::prop_assert!(seconds < 120.0, "{seconds} s out of one");
        }
    }
}

#[test]
fn what_is_wrong_with_a_file_is_told_once() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "Not a sound.").unwrap();
    let error = Reader::open(file.path()).err().unwrap();
    assert!(error.to_string().contains("is no sound"), "{error}");
    // A report adds what an error has for its source.
    assert!(std::error::Error::source(&error).is_none());
}
