//! Ears: what a microphone hears becomes turns, and the avatar's own voice never does. Real speech detection over real
//! synthesisers' voices; the recogniser and the conversation are fakes behind their traits. Time is that of the samples.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use mouthpiece::hearing::asr::{AsrError, Transcribe};
use mouthpiece::hearing::{Listener, Listeners, MicrophoneChunk, ReferenceFrame, TurnTaking};
use mouthpiece::session::{Notice, Refusal};
use tokio::sync::broadcast;

pub(crate) const RATE: usize = 16_000;
/// Samples of 20 ms, as they come from a browser.
pub(crate) const PIECE: usize = RATE / 50;
pub(crate) const SENTENCES: &str = include_str!("../../scripts/corpus_sentences.txt");

/// One voice's speech at 16 kHz, without the silence around it. Many tests say the same, so it is made once for all of them.
pub(crate) fn speech(voice: &str, rate: u32, text: &str) -> Vec<f32> {
    static MADE: Mutex<BTreeMap<(String, u32, String), Vec<f32>>> = Mutex::new(BTreeMap::new());
    let key = (voice.to_owned(), rate, text.to_owned());
    if let Some(samples) = MADE.lock().unwrap().get(&key) {
        return samples.clone();
    }
    let samples = synthesised(voice, rate, text);
    MADE.lock().unwrap().insert(key, samples.clone());
    samples
}

fn synthesised(voice: &str, rate: u32, text: &str) -> Vec<f32> {
    let file = tempfile::NamedTempFile::new().unwrap();
    let spoken = Command::new("espeak-ng")
        .args(["-v", voice, "-s", &rate.to_string(), "-w"])
        .arg(file.path())
        .arg(text)
        .status()
        .unwrap();
    assert!(spoken.success());
    let (samples, rate) = mouthpiece::speech::sound::read(file.path()).unwrap();
    let rate = f64::from(rate);
    let resampled: Vec<f32> = (0..(samples.len() as f64 * RATE as f64 / rate) as usize)
        .map(|at| {
            let place = at as f64 * rate / RATE as f64;
            let (left, part) = (place as usize, place.fract() as f32);
            samples[left] * (1.0 - part) + samples.get(left + 1).unwrap_or(&0.0) * part
        })
        .collect();
    let loud = |sample: &f32| sample.abs() > 0.02;
    let (first, last) = (resampled.iter().position(loud).unwrap(), resampled.iter().rposition(loud).unwrap());
    resampled[first..=last].to_vec()
}

/// Of where there is sound.
pub(crate) fn power(samples: &[f32]) -> f32 {
    let loudest = samples.iter().fold(0.0f32, |loudest, sample| loudest.max(sample.abs()));
    let sounding: Vec<f32> = samples.iter().copied().filter(|sample| sample.abs() > 0.05 * loudest).collect();
    sounding.iter().map(|sample| sample * sample).sum::<f32>() / sounding.len() as f32
}

pub(crate) fn at_power(mut samples: Vec<f32>, wanted: f32) -> Vec<f32> {
    let gain = (wanted / power(&samples)).sqrt();
    samples.iter_mut().for_each(|sample| *sample *= gain);
    samples
}

/// What was done to the conversation, and at which sample.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Act {
    Lower,
    GoOn,
    Interrupt,
    Turn(String),
    Transcript(String, bool),
    Error(String),
}

#[derive(Default)]
pub(crate) struct Room {
    now: AtomicU64,
    /// Whether somebody speaks, each time that it changed.
    heard: Mutex<Vec<bool>>,
    /// Each with the sample at which it came.
    pub(crate) acts: Mutex<Vec<(usize, Act)>>,
}

impl Room {
    fn act(&self, act: Act) {
        self.acts.lock().unwrap().push((self.now.load(Ordering::Relaxed) as usize, act));
    }

    pub(crate) fn acts(&self) -> Vec<Act> {
        self.acts.lock().unwrap().iter().map(|(_, act)| act.clone()).collect()
    }
}

impl TurnTaking for Room {
    fn hears(&self, speech: bool) {
        self.heard.lock().unwrap().push(speech);
    }

    fn speak_lower(&self) {
        self.act(Act::Lower);
    }

    fn go_on(&self) {
        self.act(Act::GoOn);
    }

    fn interrupt(&self) {
        self.act(Act::Interrupt);
    }

    fn take_turn(&self, content: String, _ended: Instant) -> Result<(), Refusal> {
        self.act(Act::Turn(content));
        Ok(())
    }

    fn tell(&self, notice: Notice) {
        self.act(match notice {
            Notice::Transcript { content, is_final } => Act::Transcript(content, is_final),
            Notice::Error { message, .. } => Act::Error(message),
            notice => panic!("{notice:?}"),
        });
    }
}

/// Understands everything as the same words; "nothing" fails.
pub(crate) struct Understands {
    words: &'static str,
    /// Samples of each request.
    asked: Mutex<Vec<usize>>,
}

impl Understands {
    pub(crate) fn new(words: &'static str) -> Arc<Self> {
        Arc::new(Self { words, asked: Mutex::default() })
    }
}

impl Transcribe for Understands {
    fn transcribe(&self, samples: Vec<i16>) -> BoxFuture<'_, Result<String, AsrError>> {
        self.asked.lock().unwrap().push(samples.len());
        let is_understood = self.words != "nothing";
        Box::pin(async move { is_understood.then(|| self.words.to_owned()).ok_or(AsrError::Late { seconds: 1.0 }) })
    }
}

pub(crate) struct Scene {
    pub(crate) room: Arc<Room>,
    ear: Listener,
    voice: broadcast::Sender<ReferenceFrame>,
    epoch: Instant,
    /// Samples and pairs so far.
    heard: usize,
    pairs: u64,
}

impl Scene {
    pub(crate) fn new(recogniser: Arc<Understands>) -> Self {
        let (voice, _) = broadcast::channel(25);
        let room = Arc::new(Room::default());
        let (ear, listening) = Listeners::new(recogniser).listen(voice.clone(), Arc::clone(&room) as _);
        tokio::spawn(listening);
        Self { room, ear, voice, epoch: Instant::now(), heard: 0, pairs: 0 }
    }

    /// Plays what the avatar says and what the microphone hears meanwhile, both at 16 kHz and equally long.
    pub(crate) async fn play(&mut self, avatar: &[f32], microphone: &[f32]) {
        for (index, piece) in microphone.chunks_exact(PIECE).enumerate() {
            let at = self.epoch + Duration::from_secs_f64(self.heard as f64 / RATE as f64);
            if self.heard.is_multiple_of(2 * PIECE) {
                let said = &avatar[index * PIECE..(index * PIECE + 2 * PIECE).min(avatar.len())];
                let is_silent = said.iter().all(|sample| sample.abs() < 1e-4);
                let mut audio = Box::new([0i16; 1920]);
                for (to, at) in audio.iter_mut().zip(0..) {
                    *to = (said.get(at / 3).copied().unwrap_or(0.0) * 32767.0) as i16;
                }
                let audio = (!is_silent).then(|| Arc::new(audio));
                let _ = self.voice.send(ReferenceFrame { index: self.pairs, at, audio });
                self.pairs += 1;
            }
            self.room.now.store(self.heard as u64, Ordering::Relaxed);
            let samples = piece.iter().map(|sample| (sample.clamp(-1.0, 1.0) * 32767.0) as i16).collect();
            self.ear.microphone.send(MicrophoneChunk { at, samples }).await.unwrap();
            // Until the ear has taken all of it; nothing here takes real time.
            while self.ear.microphone.capacity() < self.ear.microphone.max_capacity() {
                tokio::task::yield_now().await;
            }
            self.heard += PIECE;
        }
        tokio::task::yield_now().await;
    }

    async fn silence(&mut self, ms: usize) {
        let silence = noise(ms * RATE / 1000);
        self.play(&vec![0.0; silence.len()], &silence).await;
    }

    async fn says(&mut self, samples: &[f32]) {
        let mut heard = noise(samples.len().next_multiple_of(2 * PIECE));
        heard.iter_mut().zip(samples).for_each(|(heard, sample)| *heard += sample);
        self.play(&vec![0.0; heard.len()], &heard).await;
    }
}

/// A quiet room: -66 dB.
pub(crate) fn noise(length: usize) -> Vec<f32> {
    let mut state = 1u32;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1u32 << 24) as f32 * 0.002 - 0.001
    })
    .take(length)
    .collect()
}

const QUESTION: &str = "Excuse me, what time is it?";

#[tokio::test]
async fn a_spoken_sentence_becomes_a_turn_once_it_is_over() {
    let recogniser = Understands::new(" What time is it? ");
    let mut scene = Scene::new(Arc::clone(&recogniser));
    scene.silence(600).await;
    let question = at_power(speech("en-gb+f3", 150, QUESTION), 0.01);
    let begun = scene.heard;
    scene.says(&question).await;
    assert!(!scene.room.acts().iter().any(|act| matches!(act, Act::Turn(_))), "{:?}", scene.room.acts());
    scene.silence(700).await;
    let words = "What time is it?".to_owned();
    let acts = scene.room.acts();
    let expected = [Act::Transcript(words.clone(), true), Act::Turn(words.clone())];
    assert_eq!(acts[acts.len() - 2..], expected);
    assert!(acts[..acts.len() - 2].iter().all(|act| *act == Act::Transcript(words.clone(), false)), "{acts:?}");
    let (at, _) = scene.room.acts.lock().unwrap().last().unwrap().clone();
    let waited = (at - begun - question.len()) * 1000 / RATE;
    assert!((400..=560).contains(&waited), "the turn was taken {waited} ms after the last sound");
    let asked = recogniser.asked.lock().unwrap().clone();
    let (least, most) = (question.len(), question.len() + RATE);
    assert!((least..most).contains(asked.last().unwrap()), "{asked:?} of {} samples", question.len());
}

#[tokio::test]
async fn noises_are_no_turns_and_silence_asks_nobody() {
    let recogniser = Understands::new("Thank you for watching!");
    let mut scene = Scene::new(Arc::clone(&recogniser));
    scene.silence(2_000).await;
    for at in 0..5 {
        // A knock.
        let knock: Vec<f32> =
            (0..320).map(|at| (-(at as f32) / 60.0).exp() * if at % 7 < 3 { 0.4 } else { -0.4 }).collect();
        scene.says(&knock).await;
        scene.silence(300 + 200 * at).await;
    }
    assert_eq!(scene.room.acts().iter().filter(|act| matches!(act, Act::Turn(_))).count(), 0);
    assert!(recogniser.asked.lock().unwrap().is_empty());
}

/// A tune of decaying harmonics.
fn tune(seconds: usize) -> Vec<f32> {
    const MELODY: [f32; 12] = [262.0, 330.0, 392.0, 523.0, 392.0, 330.0, 294.0, 349.0, 440.0, 587.0, 440.0, 349.0];
    let note = RATE * 3 / 10;
    let sample = |at: usize| {
        let (time, frequency) = ((at % note) as f32 / RATE as f32, MELODY[at / note % MELODY.len()]);
        let tones = (1..9).map(|part| (std::f32::consts::TAU * frequency * part as f32 * time).sin() / part as f32);
        tones.sum::<f32>() * (-3.0 * time).exp()
    };
    (0..seconds * RATE).map(sample).collect()
}

#[tokio::test]
async fn what_a_recogniser_makes_up_of_music_is_no_turn_unless_somebody_says_it() {
    for words in
        ["Thank you for watching!", "Thank you.", "ご視聴ありがとうございました", "Untertitel der Amara.org-Community"]
    {
        let recogniser = Understands::new(words);
        let mut scene = Scene::new(Arc::clone(&recogniser));
        scene.silence(600).await;
        scene.says(&at_power(tune(8), 0.01)).await;
        scene.silence(800).await;
        assert!(!recogniser.asked.lock().unwrap().is_empty(), "the tune was taken for a voice");
        let acts = scene.room.acts();
        assert!(!acts.iter().any(|act| matches!(act, Act::Turn(_))), "{words}: {acts:?}");
        assert!(acts.contains(&Act::Transcript(String::new(), true)), "{words}: {acts:?}");
    }
    for words in ["Thank you for watching!", "Thank you."] {
        let mut scene = Scene::new(Understands::new(words));
        scene.silence(600).await;
        scene.says(&at_power(speech("en-us", 160, words), 0.01)).await;
        scene.silence(800).await;
        assert_eq!(scene.room.acts().last(), Some(&Act::Turn(words.into())));
    }
}

#[tokio::test]
async fn what_a_recogniser_notes_is_no_turn_and_is_taken_off_one() {
    for (transcript, words) in [
        ("<|nospeech|><|EMO_UNKNOWN|><|Event_UNK|>", None),
        ("[BLANK_AUDIO]", None),
        ("(music)", None),
        ("<|en|><|NEUTRAL|><|Speech|><|woitn|>What time is it? [door]", Some("What time is it?")),
    ] {
        let mut scene = Scene::new(Understands::new(transcript));
        scene.silence(600).await;
        scene.says(&at_power(speech("en-us", 160, QUESTION), 0.01)).await;
        scene.silence(800).await;
        let acts = scene.room.acts();
        let turn = acts.iter().find_map(|act| if let Act::Turn(said) = act { Some(said.as_str()) } else { None });
        assert_eq!(turn, words, "{transcript}: {acts:?}");
    }
}

#[tokio::test]
async fn a_turn_that_is_not_understood_is_told_and_the_next_one_works() {
    let mut scene = Scene::new(Understands::new("nothing"));
    scene.silence(600).await;
    let question = at_power(speech("en-us", 160, QUESTION), 0.01);
    for _ in 0..2 {
        scene.says(&question).await;
        scene.silence(800).await;
    }
    let errors =
        scene.room.acts().iter().filter(|act| matches!(act, Act::Error(words) if words.contains("1 s"))).count();
    assert_eq!(errors, 2, "{:?}", scene.room.acts());
}

#[tokio::test]
async fn the_button_interrupts_at_once_and_ends_the_turn_when_it_is_let_go() {
    let mut scene = Scene::new(Understands::new("Go on."));
    scene.silence(400).await;
    scene.ear.button.send_replace(true);
    scene.silence(100).await;
    assert_eq!(scene.room.acts(), [Act::Interrupt]);
    scene.says(&at_power(speech("en-us+m3", 160, "Tell me more about"), 0.01)).await;
    scene.silence(1_500).await;
    assert!(!scene.room.acts().contains(&Act::Turn("Go on.".into())), "{:?}", scene.room.acts());
    scene.says(&at_power(speech("en-us+m3", 160, "the weather in Oslo."), 0.01)).await;
    scene.ear.button.send_replace(false);
    scene.silence(400).await;
    assert_eq!(scene.room.acts().last(), Some(&Act::Turn("Go on.".into())));
}
