//! Answers of services, cut anywhere, whatever their header says of them.

use futures_util::StreamExt;

use super::*;
use crate::speech::sound::read;

fn fixture(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/sound").join(name)
}

/// What comes of an answer that is sent in pieces of so many bytes: samples and their rate.
async fn heard(bytes: &[u8], piece: usize, promised: Option<&str>) -> Result<(Vec<f32>, u32), SpeechError> {
    let bytes = bytes.to_vec();
    let promised = promised.map(str::to_owned);
    let asked = super::super::ask("Somebody says this.", |_, mut sentence| async move {
        let mut answer = ResponseAudio::new(24_000, promised, None);
        for piece in bytes.chunks(piece) {
            if let Some((samples, rate)) = answer.push(piece)? {
                sentence.say(samples, rate).await?;
            }
        }
        answer.finish(&mut sentence).await
    });
    let (mut stream, mut samples, mut rate) = (asked?, Vec::new(), 0);
    while let Some(piece) = stream.next().await {
        let piece = piece?;
        rate = piece.sample_rate;
        samples.extend(piece.samples);
    }
    Ok((samples, rate))
}

fn raw_hum() -> Vec<u8> {
    (0..24_000).flat_map(|at| (((f64::from(at) * 0.05).sin() * 9_000.0) as i16).to_le_bytes()).collect()
}

#[tokio::test]
async fn raw_samples_are_passed_on_at_once_wherever_they_are_cut() {
    let mut answer = ResponseAudio::new(24_000, None, None);
    let (samples, rate) = answer.push(&raw_hum()[..65]).unwrap().unwrap();
    assert_eq!((samples.len(), rate), (32, 24_000));
    for piece in [1, 3, 999, 1 << 20] {
        assert_eq!(heard(&raw_hum(), piece, None).await.unwrap().0.len(), 24_000, "{piece}");
    }
    let told = heard(&raw_hum()[1..], 999, None).await.unwrap_err().to_string();
    assert!(told.contains("in the middle of a sample"), "{told}");
}

#[tokio::test]
async fn a_container_is_decoded_whatever_the_service_says_of_it() {
    for name in [
        "hum.mp3",
        "stereo.mp3",
        "hum.flac",
        "hum.ogg",
        "hum.opus",
        "hum.webm",
        "hum.m4a",
        "hum.aac",
        "hum.aiff",
        "adpcm.wav",
    ] {
        let bytes = std::fs::read(fixture(name)).unwrap();
        let (whole, whole_rate) = read(&fixture(name)).unwrap();
        for promised in [None, Some("audio/mpeg"), Some("text/html")] {
            let told = heard(&bytes, 1_000, promised).await;
            if name == "adpcm.wav" {
                // A WAV file is passed on as it comes, and this one cannot be.
                assert!(told.unwrap_err().to_string().contains("ADPCM"));
                continue;
            }
            let (samples, rate) = told.unwrap();
            assert_eq!(rate, whole_rate, "{name}");
            // The silence in front is left out.
            let lasts = samples.len() as f64 / f64::from(rate);
            assert!((0.45..0.62).contains(&lasts), "{name}: {lasts} s");
            assert_eq!(samples[samples.len() - 100..], whole[whole.len() - 100..], "{name}");
        }
    }
}

#[tokio::test]
async fn a_wav_file_is_passed_on_as_it_comes_whatever_its_lengths() {
    let head = |length: u32| {
        let head = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x22\x56\0\0\x44\xAC\0\0\x02\0\x10\0data";
        [&head[..], &length.to_le_bytes()].concat()
    };
    for length in [0, 0x7FFF_FFFF, u32::MAX, 48_000] {
        let file = [head(length), raw_hum()].concat();
        let mut answer = ResponseAudio::new(24_000, Some("audio/mpeg".to_owned()), None);
        let (samples, rate) = answer.push(&file[..1_001]).unwrap().unwrap();
        assert_eq!((samples.len(), rate), (478, 22_050), "{length}");
        assert_eq!(heard(&file, 777, None).await.unwrap().0.len(), 24_000);
    }
    for (bytes, words) in [(head(0), "answered without a sound"), (b"RIFF\0\0\0\0WAVELIST".to_vec(), "without a sound")]
    {
        let told = heard(&bytes, 10, None).await.unwrap_err().to_string();
        assert!(told.contains(words), "{told}");
    }
}

#[tokio::test]
async fn what_is_no_sound_is_told_and_never_played() {
    for (bytes, promised, words) in [
        (&b"{\"error\": {\"message\": \"all lines are busy\"}}"[..], None, "\"all lines are busy\""),
        (b"{\"detail\": \"no\"}", Some("application/json"), "answers in application/json"),
        (b"<!DOCTYPE html><html><body>502 Bad Gateway</body></html>", None, "answers in text"),
        (b"Error: no such voice", Some("audio/mpeg"), "answers in audio/mpeg"),
        (b"no", None, "answers in text"),
        (b"\x1F\x8B\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", None, "answers in gzip"),
        (&[1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2, 3, 4, 5, 6, 7, 8], Some("audio/ogg"), "answers in audio/ogg"),
        (b"", None, "answered without a sound"),
        (b"", Some("audio/mpeg"), "answered without a sound"),
        (b"fLaC\0\0\0\x22 and nothing else of it", None, "is FLAC that cannot be read"),
    ] {
        for piece in [1, 5, 1_000] {
            let told = heard(bytes, piece, promised).await.unwrap_err().to_string();
            assert!(told.contains(words), "{told}");
        }
    }
}
