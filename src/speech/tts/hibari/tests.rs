//! The voice's own files, which `scripts/setup.sh` brings, against what the Python package makes of the same sentences
//! (`scripts/make_voice_fixtures.py`).

use std::path::PathBuf;

use futures_util::{FutureExt, StreamExt};
use tokio::task::unconstrained;

use super::dsp::{BINS, Spectrum};
use super::*;

#[derive(serde::Deserialize)]
struct Sentence {
    text: String,
    phonemes: String,
    ids: Vec<i32>,
}

/// Symbols in a phrase, with its edges.
const MOST: usize = 202;
/// Root of the mean square of the original's noise in `spectrum.wav`.
const NOISE: f32 = 0.012_49;

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn voice_folder() -> PathBuf {
    folder(&project("models"))
}

fn sentences() -> Vec<Sentence> {
    let text = std::fs::read_to_string(project("tests/fixtures/hibari/sentences.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn voice() -> Voice {
    Voice { engine: ENGINE.into(), language: "en-us".into(), name: String::new(), rate: OWN_RATE, pitch: 50 }
}

#[test]
fn sentences_have_the_phonemes_of_the_original() {
    let g2p = G2p::load(&voice_folder(), &Network::one_core()).unwrap();
    let mut other = Vec::new();
    for sentence in sentences() {
        let phonemes = g2p.phonemes(&sentence.text).unwrap().phonemes;
        if phonemes != sentence.phonemes {
            other.push(format!("{}\n  has  {phonemes}\n  want {}", sentence.text, sentence.phonemes));
        } else {
            let phrases = symbols(&g2p, &sentence.text);
            let joined: Vec<i32> = phrases.iter().flat_map(|phrase| &phrase[1..phrase.len() - 1]).copied().collect();
            let space = g2p.phrases("a a").unwrap()[0].symbols[2];
            // Only the spaces where it is cut are not said.
            let said = |ids: &[i32]| ids.iter().copied().filter(|id| *id != space).collect::<Vec<_>>();
            assert_eq!(said(&joined), said(&sentence.ids[1..sentence.ids.len() - 1]), "{}", sentence.text);
            assert!(phrases.len() > 1 || phrases[0] == sentence.ids, "{}", sentence.text);
        }
    }
    assert!(other.is_empty(), "{} differ:\n{}", other.len(), other.join("\n"));
}

fn read_wav(name: &str) -> Vec<f32> {
    let (samples, _) = crate::speech::sound::read(&project("tests/fixtures/hibari").join(name)).unwrap();
    // Who wrote them took 32767 for one.
    samples.into_iter().map(|sample| sample * 32_768.0 / 32_767.0).collect()
}

/// The whole sound, in phrases of an odd number of frames.
fn sound(transforms: &Transforms, spectrum: Spectrum, noise: Noise) -> Vec<f32> {
    let mut synthesis = Synthesis::new(transforms, spectrum, noise);
    std::iter::from_fn(|| Some(synthesis.next(7)).filter(|sound| !sound.is_empty())).flatten().collect()
}

fn level(samples: impl Iterator<Item = f32>) -> f32 {
    samples.map(|sample| sample * sample).sum::<f32>().sqrt()
}

/// How much of the second signal the two are apart.
fn apart(one: &[f32], other: &[f32]) -> f32 {
    assert_eq!(one.len(), other.len());
    level(one.iter().zip(other).map(|(one, other)| one - other)) / level(other.iter().copied())
}

/// That of `scripts/make_voice_fixtures.py`.
fn formula() -> Spectrum {
    const FRAMES: usize = 40;
    let part = |value: fn(f32, f32) -> f32| -> Vec<f32> {
        (0..BINS * FRAMES).map(|at| value((at / FRAMES) as f32, (at % FRAMES) as f32)).collect()
    };
    let pitch = |frame: usize| match frame {
        6..=34 => 150.0 + 30.0 * (frame as f32 / 4.0).sin(),
        _ => 0.0,
    };
    Spectrum {
        harmonic: part(|bin, frame| 1.0 - bin / 200.0 + (frame / 3.0).sin()),
        theta: part(|bin, frame| (bin / 40.0 + frame / 5.0).sin()),
        noise: part(|_, _| -1.0),
        free: part(|bin, _| -1.0 + (bin / 30.0).cos()),
        phase: part(|bin, frame| bin * 0.7 + frame * 1.3),
        pitch: (0..FRAMES).map(pitch).collect(),
    }
}

#[test]
fn a_spectrum_sounds_as_in_the_original() {
    let transforms = Transforms::new();
    let clean = sound(&transforms, formula(), Noise::none());
    let share = apart(&clean, &read_wav("spectrum.wav"));
    assert!(share < 0.002, "{share} of the sound differs");
    // The original's noise is random too, and this loud on average.
    let noisy = sound(&transforms, formula(), Noise::new());
    let noise = level(noisy.iter().zip(&clean).map(|(noisy, clean)| noisy - clean)) / (clean.len() as f32).sqrt();
    assert!((noise / NOISE - 1.0).abs() < 0.03, "the noise is {noise}");
    assert_eq!(noisy, sound(&transforms, formula(), Noise::new()), "one text has one sound");
}

/// Magnitudes of each frequency in windows of 50 ms.
fn magnitudes(sound: &[f32]) -> Vec<f32> {
    let transform = realfft::RealFftPlanner::<f32>::new().plan_fft_forward(1200);
    let mut bins = transform.make_output_vec();
    let mut all = Vec::new();
    for start in (0..sound.len().saturating_sub(1200)).step_by(300) {
        let hann = |at: usize| 0.5 - 0.5 * (std::f32::consts::TAU * at as f32 / 1200.0).cos();
        let mut window: Vec<f32> = (0..1200).map(|at| sound[start + at] * hann(at)).collect();
        transform.process(&mut window, &mut bins).unwrap();
        all.extend(bins.iter().map(|bin| bin.norm()));
    }
    all
}

/// The network rounds to 8 bits, and what rounds elsewhere by one step shifts the pitch by a little, and after a while the
/// phases by a lot. So not samples are compared but magnitudes. The original differs by 0.02 to 0.07 from itself with
/// another order of its operations.
#[test]
fn a_sentence_sounds_as_in_the_original() {
    let voice = Synthesiser::load(&voice_folder()).unwrap();
    let (spectrum, _) = voice.network.spectrum(&sentences()[0].ids, 1.0).unwrap();
    let spoken = sound(&voice.transforms, spectrum, Noise::none());
    let original = read_wav("spoken.wav");
    assert_eq!(spoken.len(), original.len());
    let share = apart(&magnitudes(&spoken), &magnitudes(&original));
    assert!(share < 0.15, "{share} of the magnitudes differ");
}

fn symbols(g2p: &G2p, text: &str) -> Vec<Vec<i32>> {
    g2p.phrases(text).unwrap().into_iter().map(|phrase| phrase.symbols).collect()
}

#[test]
fn long_sentences_are_cut_where_they_pause() {
    let g2p = G2p::load(&voice_folder(), &Network::one_core()).unwrap();
    let text = "one two three four five six seven eight nine ten, ".repeat(20);
    let phrases = g2p.phrases(&text).unwrap();
    assert!(phrases.len() > 1 && phrases.iter().all(|phrase| phrase.symbols.len() <= MOST), "{phrases:?}");
    let comma = symbols(&g2p, ",")[0][1];
    assert!(
        phrases.iter().all(|phrase| phrase.pauses && phrase.symbols[phrase.symbols.len() - 2] == comma),
        "{phrases:?}"
    );
    assert_eq!(phrases.iter().map(|phrase| phrase.words.len()).sum::<usize>(), 200, "each word has its beginning");
    // Without a pause too, and whatever the text.
    for text in ["words ".repeat(300), "x".repeat(195), "aB1".repeat(65), "9".repeat(195), "\u{105}".repeat(195)] {
        let phrases = symbols(&g2p, &text);
        assert!(phrases.iter().all(|phrase| phrase.len() <= MOST), "{text}: {phrases:?}");
        let sounds: usize = phrases.iter().map(Vec::len).sum();
        assert!(sounds > 100, "{text} is said in {sounds} sounds");
    }
}

#[test]
fn capitals_are_read_and_what_stands_for_others_is_spelled() {
    let g2p = G2p::load(&voice_folder(), &Network::one_core()).unwrap();
    let said = |text: &str| g2p.phonemes(text).unwrap().phonemes.replace(['ˈ', 'ˌ'], "");
    for (loud, plain) in [
        ("It is WOW and VERY big.", "It is wow and very big."),
        ("Mind the DOORS and your BELONGINGS.", "Mind the doors and your belongings."),
        ("ATTENTION, MINUTES, CLOSING, ITEMS, CATS", "Attention, minutes, closing, items, cats"),
        ("STOP! NO!", "Stop! No!"),
    ] {
        assert_eq!(said(loud), said(plain), "{loud}");
    }
    for (letters, spelled) in [("USA", "U.S.A."), ("UK", "U.K."), ("TCP", "T.C.P."), ("IP", "I.P."), ("FBI", "F.B.I.")]
    {
        assert_eq!(said(letters), said(spelled), "{letters}");
    }
    assert_eq!(said("NASA"), "næsə");
}

async fn listen(mut stream: PcmStream) -> Result<f64, SpeechError> {
    let mut seconds = 0.0;
    while let Some(chunk) = stream.next().await {
        let chunk = chunk?;
        assert_eq!(chunk.sample_rate, SAMPLE_RATE);
        assert!(chunk.samples.iter().all(|sample| sample.abs() < 1.5));
        seconds += chunk.samples.len() as f64 / f64::from(SAMPLE_RATE);
    }
    Ok(seconds)
}

#[tokio::test]
async fn it_speaks_at_the_pace_that_it_is_asked_for() {
    let hibari = Hibari::start(&voice_folder()).unwrap();
    let said = async |rate| {
        let voice = Voice { rate, ..voice() };
        listen(hibari.speak("People believe what they can see with their own eyes.", &voice).unwrap()).await.unwrap()
    };
    let (slow, own, quick) = (said(110).await, said(OWN_RATE).await, said(240).await);
    assert!((2.0..4.5).contains(&own), "{own} s");
    assert!(slow / own > 1.3 && own / quick > 1.25, "{slow} s, {own} s, {quick} s");
    assert_eq!(listen(hibari.speak("...", &voice()).unwrap()).await.unwrap(), 0.0);
}

#[tokio::test]
async fn one_that_nobody_hears_is_given_up_and_the_thread_ends_with_the_voice() {
    let hibari = Hibari::start(&voice_folder()).unwrap();
    let long = "She sells sea shells by the sea shore, and he buys them all. ".repeat(40);
    let (dropped, kept) = (hibari.speak(&long, &voice()).unwrap(), hibari.speak("Hello.", &voice()).unwrap());
    drop(dropped);
    assert!(listen(kept).await.unwrap() > 0.3);
    let last = hibari.speak(&long, &voice()).unwrap();
    let worker = Arc::downgrade(&hibari.worker);
    tokio::task::spawn_blocking(move || drop(hibari)).await.unwrap();
    // The drop has joined the thread, after the sentence that somebody heard to its end.
    assert!(worker.upgrade().is_none());
    assert!(listen(last).await.unwrap() > 30.0);
}

#[tokio::test]
async fn what_it_cannot_say_is_an_error_and_the_next_sentence_is_said() {
    let hibari = Hibari::start(&voice_folder()).unwrap();
    let error = listen(hibari.speak("\u{4f60}\u{597d}", &voice()).unwrap()).await.unwrap_err();
    assert!(error.to_string().contains("no sounds for this text"), "{error}");
    assert!(listen(hibari.speak("Hello.", &voice()).unwrap()).await.unwrap() > 0.3);
}

#[tokio::test]
async fn files_that_are_missing_or_broken_are_named() {
    let error = Hibari::start(Path::new("nowhere")).err().unwrap().to_string();
    assert_eq!(error, "nowhere has no hibari.onnx");
    let folder = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(voice_folder()).unwrap() {
        let file = file.unwrap();
        std::os::unix::fs::symlink(file.path(), folder.path().join(file.file_name())).unwrap();
    }
    std::fs::remove_file(folder.path().join(files::TAGGER)).unwrap();
    std::fs::write(folder.path().join(files::TAGGER), "not packed").unwrap();
    let hibari = Hibari::start(folder.path()).unwrap();
    let error = listen(hibari.speak("Hello.", &voice()).unwrap()).await.unwrap_err().to_string();
    assert!(error.contains("tagger.json.gz"), "{error}");
}

#[test]
fn a_voice_that_it_has_not_is_refused_by_field() {
    let refused = |voice: &Voice| match check(voice) {
        Err(SpeechError::BadVoice { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    assert!(check(&voice()).is_ok() && check(&Voice { name: NAME.into(), language: "EN".into(), ..voice() }).is_ok());
    assert_eq!(refused(&Voice { language: "de".into(), ..voice() }), "language");
    assert_eq!(refused(&Voice { name: "f5".into(), ..voice() }), "name");
    assert_eq!(refused(&Voice { rate: 400, ..voice() }), "rate");
    assert_eq!(refused(&Voice { pitch: 55, ..voice() }), "pitch");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(60))]
    #[test]
    fn no_text_makes_it_panic(text in "[-0-9a-zA-Z$#%.,:;'\u{e9}\u{660}\u{966}\u{2019}/ ]{0,40}|\\PC{0,40}") {
        use std::sync::OnceLock;
        static G2P: OnceLock<G2p> = OnceLock::new();
        let g2p = G2P.get_or_init(|| G2p::load(&voice_folder(), &Network::one_core()).unwrap());
        g2p.phrases(&text).unwrap();
    }
}

#[tokio::test]
async fn a_session_that_begins_waits_for_one_phrase_of_one_that_says_much() {
    let hibari = Hibari::start(&voice_folder()).unwrap();
    let long = "She sells sea shells by the sea shore, and he buys them all. ".repeat(40);
    let mut flood: Vec<PcmStream> = (0..6).map(|_| hibari.speak(&long, &voice()).unwrap()).collect();
    // The thread is at work.
    flood[0].next().await.unwrap().unwrap();
    let other = hibari.for_session();
    let asked = Instant::now();
    let mut hello = other.speak("Hello.", &voice()).unwrap();
    hello.next().await.unwrap().unwrap();
    eprintln!("first words beside a flood after {:?}", asked.elapsed());
    assert!(listen(hello).await.unwrap() > 0.2);
    // Of two minutes of speech in each of six sentences a few phrases of twelve seconds were made meanwhile.
    let mut seconds = 0.0;
    for stream in &mut flood {
        while let Some(chunk) = unconstrained(stream.next()).now_or_never().flatten() {
            seconds += chunk.unwrap().samples.len() as f64 / f64::from(SAMPLE_RATE);
        }
    }
    assert!(seconds < 50.0, "{seconds} s were made first");
}

/// Each of these words begins with a burst after a moment of quiet.
#[tokio::test]
async fn words_begin_when_it_says() {
    let hibari = Hibari::start(&voice_folder()).unwrap();
    let mut stream = hibari.speak("Stop, go; take, pick.", &voice()).unwrap();
    let (mut words, mut sound) = (Vec::new(), Vec::new());
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.unwrap();
        assert!(chunk.words.is_empty() || sound.is_empty(), "told late");
        words.extend(chunk.words);
        sound.extend(chunk.samples);
    }
    assert_eq!(words.len(), 4, "{words:?}");
    // 20 ms each.
    let levels: Vec<f32> = sound.chunks(SAMPLE_RATE as usize / 50).map(|part| level(part.iter().copied())).collect();
    for word in words {
        let at = word as usize / 20;
        let quietest = levels[at.saturating_sub(6)..at].iter().copied().fold(f32::MAX, f32::min);
        let loudest = levels[at..at + 5].iter().copied().fold(0.0, f32::max);
        assert!(loudest > 4.0 * quietest, "at {word} ms: {quietest}, then {loudest}");
    }
}

#[tokio::test]
async fn words_are_not_told_of_a_text_that_is_read_as_others() {
    let hibari = Hibari::start(&voice_folder()).unwrap();
    let mut stream = hibari.speak("It was on 4/5/1999, they say.", &voice()).unwrap();
    let first = stream.next().await.unwrap().unwrap();
    assert!(first.words.is_empty(), "a date is several words: {:?}", first.words);
}

#[tokio::test]
async fn several_threads_say_what_many_sessions_have_to_say_and_end_with_the_voice() {
    let hibari = Hibari::start_on(&voice_folder(), 2).unwrap();
    let sessions: Vec<Hibari> = (0..4).map(|_| hibari.for_session()).collect();
    let speak =
        |session: &Hibari| ["Hello, and good morning.", "Hello."].map(|text| session.speak(text, &voice()).unwrap());
    let streams: Vec<[PcmStream; 2]> = sessions.iter().map(speak).collect();
    let mut said = Vec::new();
    for [first, second] in streams {
        said.push((listen(first).await.unwrap(), listen(second).await.unwrap()));
    }
    assert!(said.iter().all(|(first, second)| first > second && *second > 0.2), "{said:?}");
    assert!(said.iter().all(|lengths| *lengths == said[0]), "one session's phrases went to another: {said:?}");
    let worker = Arc::downgrade(&hibari.worker);
    tokio::task::spawn_blocking(move || drop((hibari, sessions))).await.unwrap();
    assert!(worker.upgrade().is_none());
}
