//! Speech with the real espeak-ng and the neural voice, from text to pieces of sound.

use std::path::Path;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt};
use mouthpiece::speech::leveller::TARGET;
use mouthpiece::speech::resample::Resampler;
use mouthpiece::speech::tts::levelled::Levelled;
use mouthpiece::speech::tts::{Voices, espeak, from_voice, hibari};
use mouthpiece::speech::{PcmChunk, PcmStream, SpeechError, Tts, Voice};

use crate::watchdog;

fn voice(language: &str, name: &str) -> Voice {
    Voice { engine: espeak::ENGINE.into(), language: language.into(), name: name.into(), rate: 170, pitch: 50 }
}

async fn listen(mut stream: PcmStream) -> Result<(Vec<f32>, u32), SpeechError> {
    let (mut samples, mut rate) = (Vec::new(), 0);
    while let Some(chunk) = stream.next().await {
        let chunk = chunk?;
        rate = chunk.sample_rate;
        samples.extend(chunk.samples);
    }
    Ok((samples, rate))
}

fn seconds(samples: &[f32], rate: u32) -> f64 {
    samples.len() as f64 / f64::from(rate)
}

fn first_voice(samples: &[f32]) -> usize {
    samples.iter().position(|sample| sample.abs() > 0.01).unwrap()
}

/// Processes that this one started and that run the program of this name, from `/proc`.
fn children(program: &str) -> Vec<u32> {
    let own = std::process::id();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|id| {
        // `pid (name) state parent ...`
        let stat = std::fs::read_to_string(Path::new("/proc").join(id.to_string()).join("stat")).unwrap_or_default();
        let Some((name, rest)) = stat.split_once(") ") else { return false };
        name.ends_with(&format!("({program}")) && rest.split(' ').nth(1) == Some(&own.to_string())
    })
    .collect()
}

/// A script that runs espeak-ng under a name of its own, so that tests beside this one do not count.
fn espeak_called(name: &str) -> (tempfile::TempDir, espeak::Espeak) {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join(name);
    let path = std::env::var_os("PATH").unwrap();
    let real = std::env::split_paths(&path).map(|folder| folder.join(espeak::ENGINE)).find(|file| file.exists());
    std::os::unix::fs::symlink(real.expect("espeak-ng is installed"), &program).unwrap();
    (folder, espeak::Espeak::with_program(program))
}

#[tokio::test]
async fn a_sentence_is_spoken_in_pieces_with_short_silence_around_it() {
    let voice = voice("en-us", "f3");
    let mut stream =
        from_voice(&voice, Path::new("")).unwrap().speak("Hello, I am your talking avatar.", &voice).unwrap();
    let (mut pieces, mut samples, mut rate) = (0, Vec::new(), 0);
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.unwrap();
        assert!(!chunk.samples.is_empty() && chunk.samples.len() * 25 <= chunk.sample_rate as usize, "at most 40 ms");
        (pieces, rate) = (pieces + 1, chunk.sample_rate);
        samples.extend(chunk.samples);
    }
    assert!(pieces > 20, "{pieces} pieces");
    let length = seconds(&samples, rate);
    assert!((1.2..4.0).contains(&length), "{length} s");
    let lead = first_voice(&samples);
    let tail = first_voice(&samples.iter().rev().copied().collect::<Vec<_>>());
    assert!(
        seconds(&samples[..lead], rate) < 0.1 && seconds(&samples[..tail], rate) < 0.25,
        "{lead} and {tail} samples"
    );
}

#[tokio::test]
async fn speech_arrives_before_the_program_has_ended() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("espeak-slow");
    // Half a second of espeak-ng's sound, and the rest when somebody opens the gate.
    let script = "#!/bin/sh\nespeak-ng \"$@\" >$0.wav\nhead -c 22000 $0.wav\nread go <$0.gate\ntail -c +22001 $0.wav\n";
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let gate = folder.path().join("espeak-slow.gate");
    assert!(std::process::Command::new("mkfifo").arg(&gate).status().unwrap().success());
    let espeak = espeak::Espeak::with_program(program);
    let mut stream =
        espeak.speak("This sentence comes in two parts, and here it ends.", &voice("en-us", "f3")).unwrap();
    let first = stream.next().await.unwrap().unwrap();
    tokio::task::spawn_blocking(move || std::fs::write(gate, "go\n").unwrap()).await.unwrap();
    let (rest, rate) = listen(stream).await.unwrap();
    assert_eq!(rate, first.sample_rate);
    assert!(seconds(&rest, rate) > 2.0, "{} s", seconds(&rest, rate));
}

/// Eight programs at most, however many sentences wait, and each session in its turn.
#[tokio::test]
async fn programs_are_few_and_each_session_has_its_turn() {
    let (_folder, espeak) = espeak_called("espeak-many");
    let long = "This sentence goes on and on, and nobody wants to hear it. ".repeat(600);
    let mut streams: Vec<PcmStream> = Vec::new();
    // More than their streams hold, so the programs wait for their readers.
    for _ in 0..12 {
        streams.push(espeak.for_session().speak(&long, &voice("en-us", "f3")).unwrap());
    }
    for stream in &mut streams[..8] {
        stream.next().await.unwrap().unwrap();
    }
    assert_eq!(children("espeak-many").len(), 8);
    let late = espeak.for_session().speak("Hello.", &voice("en-us", "f3")).unwrap();
    // Whoever has gone takes no turn.
    drop(streams);
    let (samples, rate) = listen(late).await.unwrap();
    assert!(seconds(&samples, rate) > 0.3);
}

#[tokio::test]
async fn dropping_the_stream_leaves_no_process() {
    let (_folder, espeak) = espeak_called("espeak-cut");
    // More than a stream holds, so no program can have ended before.
    let text = "This sentence goes on and on, and nobody wants to hear it. ".repeat(600);
    let mut streams = Vec::new();
    for _ in 0..4 {
        let mut stream = espeak.for_session().speak(&text, &voice("en-us", "f3")).unwrap();
        stream.next().await.unwrap().unwrap();
        streams.push(stream);
    }
    assert_eq!(children("espeak-cut").len(), 4);
    drop(streams);
    // A zombie still is an entry in /proc, so this also waits for the reaping.
    watchdog::until("the processes ended", async || children("espeak-cut").is_empty()).await;
}

#[tokio::test]
async fn chinese_is_spoken_in_mandarin() {
    let text = "你好，我是你的数字人。";
    let (mandarin, rate) = listen(espeak::Espeak::new().speak(text, &voice("cmn", "")).unwrap()).await.unwrap();
    assert!((1.0..6.0).contains(&seconds(&mandarin, rate)), "{} s", seconds(&mandarin, rate));
    // Read with English letters and tones as numbers it takes far longer.
    let (spelled, _) = listen(espeak::Espeak::new().speak(text, &voice("en-us", "")).unwrap()).await.unwrap();
    assert!(spelled.len() > mandarin.len() * 3 / 2, "{} and {}", spelled.len(), mandarin.len());
}

#[tokio::test]
async fn an_unknown_language_is_the_programs_own_error() {
    let stream = espeak::Espeak::new().speak("Hello.", &voice("xx-nope", "")).unwrap();
    let error = listen(stream).await.unwrap_err();
    assert!(matches!(&error, SpeechError::ProgramFailed { .. }), "{error}");
    assert!(error.to_string().contains("does not exist"), "{error}");
}

#[tokio::test]
async fn a_missing_program_says_how_to_get_it() {
    let espeak = espeak::Espeak::with_program("espeak-ng-that-is-not-there");
    let error = espeak.speak("Hello.", &voice("en-us", "f3")).err().unwrap();
    assert!(matches!(&error, SpeechError::ProgramMissing { .. }), "{error}");
    assert!(error.to_string().contains("apt-get install espeak-ng"), "{error}");
}

#[test]
fn an_unknown_engine_is_named() {
    let error = from_voice(&Voice { engine: "siri".into(), ..voice("en-us", "") }, Path::new("")).err().unwrap();
    assert!(error.to_string().contains("\"siri\"") && error.to_string().contains("espeak-ng"), "{error}");
}

#[test]
fn the_installed_program_tells_its_voices() {
    let installed = espeak::Installed::probe(espeak::ENGINE).unwrap();
    assert!(installed.version.starts_with("1."), "{}", installed.version);
    for known in [voice("en-us", "f3"), voice("cmn", ""), voice("zh-CN", ""), voice("de-DE", "Annie")] {
        assert_eq!(installed.supports(&known), Ok(()), "{known:?}");
    }
    assert!(installed.supports(&voice("en-us", "f99")).is_err());
}

#[tokio::test]
async fn both_rates_made_from_one_sentence_are_equally_long() {
    let voice = voice("en-us", "f3");
    let mut stream = espeak::Espeak::new().speak("Both rates are made from the same voice.", &voice).unwrap();
    let mut low = Resampler::new(22_050, 16_000).unwrap();
    let mut high = Resampler::new(22_050, 48_000).unwrap();
    let (mut low_samples, mut high_samples) = (Vec::new(), Vec::new());
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.unwrap();
        assert_eq!(chunk.sample_rate, 22_050);
        low_samples.extend(low.push(&chunk.samples).unwrap());
        high_samples.extend(high.push(&chunk.samples).unwrap());
    }
    low_samples.extend(low.finish().unwrap());
    high_samples.extend(high.finish().unwrap());
    assert!(high_samples.len().abs_diff(low_samples.len() * 3) <= 3, "{} {}", low_samples.len(), high_samples.len());
    // The same sound at the same time: where one is loud, so is the other.
    let third: Vec<f32> = high_samples.chunks_exact(3).map(|three| three[0]).collect();
    let (mut product, mut low_power, mut high_power) = (0.0, 0.0, 0.0);
    for (a, b) in low_samples.iter().zip(&third) {
        product += f64::from(a * b);
        low_power += f64::from(a * a);
        high_power += f64::from(b * b);
    }
    let correlation = product / (low_power * high_power).sqrt();
    assert!(correlation > 0.95, "{correlation}");
}

const RATE_OF_ESPEAK: u32 = 22_050;
const RATE_OF_HIBARI: u32 = 24_000;

fn neural() -> Voice {
    Voice { engine: hibari::ENGINE.into(), ..voice("en-us", "heart") }
}

#[tokio::test]
async fn the_neural_voice_speaks_and_what_it_cannot_espeak_does() {
    let voices = Voices::new(None, &Path::new(env!("CARGO_MANIFEST_DIR")).join("models")).unwrap();
    let tts = voices.of(&neural()).unwrap();
    let (samples, rate) = listen(tts.speak("Hello, I am your talking avatar.", &neural()).unwrap()).await.unwrap();
    assert_eq!(rate, RATE_OF_HIBARI);
    let length = seconds(&samples, rate);
    assert!((1.2..4.0).contains(&length), "{length} s");
    let loudest = samples.iter().fold(0.0f32, |loudest, sample| loudest.max(sample.abs()));
    assert!((0.1..1.0).contains(&loudest), "{loudest}");

    let (chinese, rate) = listen(tts.speak("\u{4f60}\u{597d}", &neural()).unwrap()).await.unwrap();
    assert_eq!(rate, RATE_OF_ESPEAK);
    assert!(seconds(&chinese, rate) > 0.3);
    let (_, rate) = listen(tts.speak("Hello again.", &neural()).unwrap()).await.unwrap();
    assert_eq!(rate, RATE_OF_HIBARI, "one text that it cannot say does not silence the voice");
    drop(tts);
    voices.stop().await;
}

#[tokio::test]
async fn espeak_speaks_where_the_neural_voice_is_not_installed() {
    let models = tempfile::tempdir().unwrap();
    let voices = Voices::new(None, models.path()).unwrap();
    let tts = voices.of(&neural()).unwrap();
    let (samples, rate) = listen(tts.speak("Hello, I am your talking avatar.", &neural()).unwrap()).await.unwrap();
    assert_eq!(rate, RATE_OF_ESPEAK);
    assert!(seconds(&samples, rate) > 1.0);
    let error = from_voice(&neural(), models.path()).err().unwrap().to_string();
    assert!(error.contains("voices/hibari has no hibari.onnx"), "{error}");
}

/// espeak-ng at another volume.
struct Quieter(espeak::Espeak, f32);

impl Tts for Quieter {
    fn speak(&self, text: &str, voice: &Voice) -> Result<PcmStream, SpeechError> {
        let volume = self.1;
        Ok(Box::pin(self.0.speak(text, voice)?.map_ok(move |chunk| {
            let samples = chunk.samples.iter().map(|sample| sample * volume).collect();
            PcmChunk::new(samples, chunk.sample_rate)
        })))
    }
}

/// Loudness, as a meter shows it, of a sentence as it came and as it is heard.
async fn loudness(voice: &dyn Tts, of: &Voice, text: &str) -> (f64, f64) {
    let mut stream = voice.speak(text, of).unwrap();
    let meter = |rate| ebur128::EbuR128::new(1, rate, ebur128::Mode::I).unwrap();
    let mut meters = None;
    while let Some(piece) = stream.next().await {
        let piece = piece.unwrap();
        let rate = piece.sample_rate;
        let (came, heard) = meters.get_or_insert_with(|| (meter(rate), meter(rate)));
        came.add_frames_f32(&piece.samples).unwrap();
        heard.add_frames_f32(piece.heard()).unwrap();
        assert_eq!(piece.samples.len(), piece.heard().len());
        assert!(piece.heard().iter().all(|sample| sample.abs() <= 1.0));
    }
    let (came, heard) = meters.unwrap();
    (came.loudness_global().unwrap(), heard.loudness_global().unwrap())
}

#[tokio::test]
async fn two_voices_12_db_apart_are_equally_loud_from_the_second_sentence_on() {
    let mut second = Vec::new();
    for (name, volume) in [("f3", 1.0), ("f3", 0.25), ("m3", 1.0), ("m3", 0.25)] {
        let of = voice("en-us", name);
        let levelled = Levelled::new(Arc::new(Quieter(espeak::Espeak::new(), volume)));
        let first = loudness(&levelled, &of, "This is the first sentence that anybody hears of this voice.").await;
        let then = loudness(&levelled, &of, "The second one is heard as loud as that of any other voice.").await;
        eprintln!(
            "{name} at {volume}: {:.1} then {:.1} LUFS, heard at {:.1} then {:.1}",
            first.0, then.0, first.1, then.1
        );
        second.push(then);
    }
    let apart = |all: &mut dyn Iterator<Item = f64>| {
        let (least, most) = all.fold((f64::MAX, f64::MIN), |(least, most), one| (least.min(one), most.max(one)));
        most - least
    };
    assert!(apart(&mut second.iter().map(|(came, _)| *came)) > 10.0);
    assert!(apart(&mut second.iter().map(|(_, heard)| *heard)) < 1.0, "{second:?}");
    assert!(second.iter().all(|(_, heard)| (heard - TARGET).abs() < 1.5), "{second:?}");
}
