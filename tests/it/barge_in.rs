//! Who speaks over the avatar is heard, and the avatar does not hear itself, at the ear: real voices, synthetic ones and
//! recorded people's, over an echo as it comes back. Time is that of the samples.

use std::path::Path;

use crate::hearing::{Act, PIECE, RATE, SENTENCES, Scene, Understands, at_power, noise, speech};

/// Of what the avatar says, -20 dB, and of its echo, 12 dB below.
const POWER: f32 = 0.01;
const ECHO: f32 = 0.063_095_7;

/// The avatar's voice for so many seconds, at -20 dB.
fn monologue(seconds: usize) -> Vec<f32> {
    let mut said = Vec::new();
    for sentence in SENTENCES.lines().filter(|line| !line.is_empty()).cycle() {
        said.extend(speech("en-us", 168, sentence));
        said.extend(vec![0.0; RATE / 3]);
        if said.len() >= seconds * RATE {
            break;
        }
    }
    said.truncate(seconds * RATE);
    at_power(said, POWER)
}

/// What comes back of it.
fn echo(said: &[f32], delay_ms: usize) -> Vec<f32> {
    let delay = delay_ms * RATE / 1000;
    let mut heard = noise(said.len());
    heard.iter_mut().skip(delay).zip(said).for_each(|(heard, sample)| *heard += ECHO.sqrt() * sample);
    heard
}

#[tokio::test]
async fn the_avatars_own_voice_never_interrupts_it_in_ten_minutes() {
    let said = monologue(600);
    for (delay, seconds) in [(120, 100), (350, 600), (800, 100)] {
        let said = &said[..seconds * RATE];
        let mut scene = Scene::new(Understands::new("Stop."));
        scene.play(said, &echo(said, delay)).await;
        assert_eq!(scene.room.acts(), [], "of an echo after {delay} ms");
    }
}

/// A sound between two samples.
fn between(samples: &[f32], at: f64) -> f32 {
    const HALF: usize = 16;
    let (whole, part) = (at as usize, at.fract() as f32);
    let Some(around) = (whole + 1).checked_sub(HALF).and_then(|from| samples.get(from..from + 2 * HALF)) else {
        return 0.0;
    };
    let weigh = |(tap, sample): (usize, &f32)| {
        let x = std::f32::consts::PI * (tap as f32 - (HALF - 1) as f32 - part);
        let sinc = if x.abs() < 1e-4 { 1.0 } else { x.sin() / x };
        sample * sinc * (0.5 + 0.5 * (x / (HALF as f32 + 0.5)).cos())
    };
    around.iter().enumerate().map(weigh).sum()
}

/// As jitter buffers have it that change their mind: every 9.1 s at another time all of a sudden, and two seconds later half
/// of the way back, by playing 6 % slower or quicker.
fn moving_echo(said: &[f32], jumps_ms: &[f64]) -> Vec<f32> {
    const SLOWER: f64 = 0.06;
    let (gain, every) = (ECHO.sqrt(), 91 * RATE / 10);
    let mut heard = noise(said.len());
    let mut delay = 0.35 * RATE as f64;
    for (at, heard) in heard.iter_mut().enumerate() {
        let jump = jumps_ms[at / every % jumps_ms.len()] * RATE as f64 / 1000.0;
        let since = (at % every) as f64 - (2 * RATE) as f64;
        if at > every && at.is_multiple_of(every) {
            delay += jump;
        } else if at > every && (0.0..jump.abs() / 2.0 / SLOWER).contains(&since) {
            delay -= SLOWER * jump.signum();
        }
        *heard += gain * between(said, (at as f64 - delay).max(0.0));
    }
    heard
}

#[tokio::test]
async fn an_echo_that_comes_at_another_time_all_of_a_sudden_interrupts_nothing() {
    let said = monologue(150);
    for jumps in [[20.0, -20.0, 40.0, -40.0], [80.0, -80.0, 120.0, -120.0], [200.0, -200.0, 300.0, -300.0]] {
        let mut scene = Scene::new(Understands::new("Stop."));
        scene.play(&said, &moving_echo(&said, &jumps)).await;
        assert_eq!(scene.room.acts(), [], "of jumps by {jumps:?} ms");
    }
}

#[tokio::test]
async fn a_loudspeaker_that_is_turned_up_and_down_interrupts_nothing() {
    let said = monologue(150);
    for decibels in [3.0, 6.0] {
        let mut microphone = echo(&said, 350);
        for turned_up in microphone.chunks_mut(11 * RATE).skip(1).step_by(2) {
            turned_up.iter_mut().for_each(|sample| *sample *= 10f32.powf(decibels / 20.0));
        }
        let mut scene = Scene::new(Understands::new("Stop."));
        scene.play(&said, &microphone).await;
        assert_eq!(scene.room.acts(), [], "of {decibels} dB");
    }
}

/// Synthetic voices, twice as loud as the echo they speak over.
fn voices() -> Vec<Vec<f32>> {
    let voices = [("en-gb+f3", 150), ("en-us+m3", 170), ("en-gb-scotland+f5", 160), ("en-029+m7", 180)];
    let sentences = SENTENCES.lines().filter(|line| line.len() > 40).skip(60);
    let spoken = sentences.zip(voices.iter().cycle()).take(40);
    spoken.map(|(sentence, (voice, rate))| at_power(speech(voice, *rate, sentence), 4.0 * POWER * ECHO)).collect()
}

/// Phrases of recorded people, as loud: what Debian's `pocketsphinx-testdata` has at 16 kHz, cut at pauses of 80 ms.
fn people() -> Vec<Vec<f32>> {
    const PAUSE: usize = 8;
    let piece = RATE / 100;
    let mut phrases = Vec::new();
    for folder in ["", "cards", "librivox"] {
        let folder = Path::new("/usr/share/pocketsphinx/test/data").join(folder);
        let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| {
            panic!("{}: {error}: `scripts/setup.sh --test` installs pocketsphinx-testdata", folder.display())
        });
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        for file in files.iter().filter(|file| file.extension().is_some_and(|kind| kind == "raw" || kind == "wav")) {
            let bytes = std::fs::read(file).unwrap();
            let header = if bytes.starts_with(b"RIFF") { 44 } else { 0 };
            let samples = bytes[header..].chunks_exact(2).map(|two| f32::from(i16::from_le_bytes([two[0], two[1]])));
            let samples: Vec<f32> = samples.collect();
            let loudest = samples.iter().fold(0.0f32, |loudest, sample| loudest.max(sample.abs()));
            let is_quiet = |part: &[f32]| part.iter().all(|sample| sample.abs() < 0.06 * loudest);
            let mut phrase = Vec::new();
            let mut quiet = 0;
            for part in samples.chunks(piece).chain(std::iter::repeat_n(&[0.0][..], PAUSE)) {
                quiet = if is_quiet(part) { quiet + 1 } else { 0 };
                if quiet == 0 || !phrase.is_empty() {
                    phrase.extend_from_slice(part);
                }
                if quiet == PAUSE {
                    let phrase = std::mem::take(&mut phrase);
                    if phrase.len() > (60 + PAUSE) * piece {
                        phrases.push(at_power(phrase, 4.0 * POWER * ECHO));
                    }
                }
            }
        }
    }
    phrases
}

/// Adds them to what a microphone hears, and tells how many milliseconds after each began something came.
async fn speak_over(said: &[f32], mut microphone: Vec<f32>, voices: &[Vec<f32>]) -> [Vec<usize>; 2] {
    let mut begins = Vec::new();
    for (number, voice) in voices.iter().enumerate() {
        let at = (6 * RATE + number * 27 * RATE / 4).next_multiple_of(PIECE) + number * 37 % PIECE;
        let heard = &mut microphone[at..(at + 2 * RATE).min(said.len())];
        heard.iter_mut().zip(voice).for_each(|(heard, sample)| *heard += sample);
        begins.push(at);
    }
    let mut scene = Scene::new(Understands::new("Stop."));
    scene.play(said, &microphone).await;
    let acts = scene.room.acts.lock().unwrap().clone();
    let after = |at: usize, wanted: Act| {
        let first = acts.iter().find(|(when, act)| *when + PIECE > at && *act == wanted);
        first.map_or(usize::MAX, |(when, _)| (when + PIECE - at) * 1000 / RATE)
    };
    [Act::Lower, Act::Interrupt].map(|act| begins.iter().map(|at| after(*at, act.clone())).collect())
}

/// A line of figures.
fn noticed(what: &str, [noticed, stopped]: [Vec<usize>; 2]) -> String {
    let within = |times: &[usize], limit: usize| times.iter().filter(|ms| **ms <= limit).count();
    assert!(within(&noticed, 300) * 100 >= 95 * noticed.len(), "{what}: {noticed:?}");
    assert!(within(&stopped, 1_500) * 100 >= 90 * stopped.len(), "{what}: {stopped:?}");
    format!("{what}: {} of {} within 300 ms, {noticed:?}, stopped {stopped:?}", within(&noticed, 300), noticed.len())
}

#[tokio::test]
async fn who_speaks_over_the_avatar_is_noticed_within_300_ms() {
    let said = monologue(280);
    for delay in [120, 350] {
        let told = speak_over(&said, echo(&said, delay), &voices()).await;
        eprintln!("{}", noticed(&format!("voices, echo after {delay} ms"), told));
        let told =
            speak_over(&said, echo(&said, delay), &people().into_iter().cycle().take(40).collect::<Vec<_>>()).await;
        eprintln!("{}", noticed(&format!("people, echo after {delay} ms"), told));
    }
    let told = speak_over(&said, moving_echo(&said, &[80.0, -80.0, 120.0, -120.0]), &voices()).await;
    eprintln!("{}", noticed("voices, a moving echo", told));
}

/// Headphones: no echo at all, so nothing is ever learnt of one.
#[tokio::test]
async fn who_wears_headphones_is_noticed_too() {
    let said = monologue(40);
    let mut microphone = noise(said.len());
    let voice = &voices()[0];
    let at = 20 * RATE;
    microphone[at..].iter_mut().zip(voice).for_each(|(heard, sample)| *heard += sample);
    let mut scene = Scene::new(Understands::new("Stop."));
    scene.play(&said, &microphone).await;
    let acts = scene.room.acts.lock().unwrap().clone();
    let (first, act) = &acts[0];
    assert_eq!(*act, Act::Lower);
    assert!((at..at + 3 * RATE / 10).contains(first), "at {} ms", (*first as f64 - at as f64) / 16.0);
}

#[tokio::test]
async fn who_says_mm_hm_lets_the_avatar_go_on() {
    let said = monologue(20);
    let mut microphone = noise(said.len());
    let short = at_power(speech("en-gb+f3", 240, "Mm-hm."), 0.01);
    microphone[10 * RATE..].iter_mut().zip(&short).for_each(|(heard, sample)| *heard += sample);
    let mut scene = Scene::new(Understands::new("Mm-hm."));
    scene.play(&said, &microphone).await;
    let acts = scene.room.acts();
    assert_eq!((acts.first(), acts.last()), (Some(&Act::Lower), Some(&Act::GoOn)), "{acts:?}");
    assert!(!acts.contains(&Act::Interrupt) && !acts.contains(&Act::Turn("Mm-hm.".into())), "{acts:?}");
}
