//! A text is spoken by a voice that can: the neural voice and espeak-ng, run by run, and what nobody can say is told once.

use std::path::Path;
use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use mouthpiece::speech::tts::hibari;
use mouthpiece::speech::tts::{Voices, espeak};
use mouthpiece::speech::{PcmStream, SpeechError, Tts, Voice, normalise};
use serde_json::json;

use crate::llm::Served;

fn voice(engine: &str, language: &str) -> Voice {
    Voice { engine: engine.into(), ..Voice::plain(language) }
}

fn neural() -> Voice {
    voice(hibari::ENGINE, "en-us")
}

fn voices() -> Voices {
    Voices::new(None, &Path::new(env!("CARGO_MANIFEST_DIR")).join("models")).unwrap()
}

struct Heard {
    samples: Vec<f32>,
    levelled: Vec<f32>,
    rate: u32,
    words: Vec<u32>,
}

impl Heard {
    fn seconds(&self) -> f64 {
        self.samples.len() as f64 / f64::from(self.rate)
    }

    /// Loudness, as a meter shows it, of what is heard between two times.
    fn loudness(&self, from: f64, to: f64) -> f64 {
        let at = |seconds: f64| (seconds * f64::from(self.rate)) as usize;
        let mut meter = ebur128::EbuR128::new(1, self.rate, ebur128::Mode::I).unwrap();
        meter.add_frames_f32(&self.levelled[at(from)..at(to).min(self.levelled.len())]).unwrap();
        meter.loudness_global().unwrap()
    }
}

async fn listen(mut stream: PcmStream) -> Result<Heard, SpeechError> {
    let mut heard = Heard { samples: Vec::new(), levelled: Vec::new(), rate: 0, words: Vec::new() };
    while let Some(chunk) = stream.next().await {
        let chunk = chunk?;
        assert!(heard.rate == 0 || heard.rate == chunk.sample_rate, "a sentence has one rate");
        heard.rate = chunk.sample_rate;
        heard.levelled.extend_from_slice(chunk.heard());
        heard.samples.extend(chunk.samples);
        heard.words.extend(chunk.words);
    }
    Ok(heard)
}

async fn say(tts: &dyn Tts, text: &str, voice: &Voice) -> Heard {
    let said = normalise::spoken_form(text, &voice.language).unwrap().text;
    listen(tts.speak(&said, voice).unwrap()).await.unwrap()
}

/// What espeak-ng needs for a text in its own language, so that another voice that is given it would be noticed.
async fn alone(language: &str, text: &str) -> f64 {
    let of = Voice { name: "f5".into(), ..voice(espeak::ENGINE, language) };
    listen(espeak::Espeak::new().speak(text, &of).unwrap()).await.unwrap().seconds()
}

#[tokio::test]
async fn an_english_avatar_speaks_every_script_with_the_voice_of_its_language() {
    let voices = voices();
    let tts = voices.of(&neural()).unwrap();
    for (language, text) in [
        ("cmn", "你好，世界。谢谢你。"),
        ("ko", "안녕하세요, 반갑습니다."),
        ("ru", "Привет, как дела?"),
        ("uk", "Привіт, як справи, їжак?"),
        ("el", "Καλημέρα σας, τι κάνετε;"),
        ("ar", "مرحبا بالعالم الجميل"),
        ("fa", "سلام، چطوری؟"),
        ("he", "שלום עולם, מה שלומך"),
        ("th", "สวัสดีชาวโลก"),
        ("hi", "नमस्ते दुनिया, आप कैसे हैं?"),
        ("ja", "こんにちは、ありがとう。"),
        ("ka", "გამარჯობა მსოფლიო"),
        ("ta", "வணக்கம் உலகம்"),
        ("am", "ሰላም ለዓለም"),
    ] {
        let heard = say(&*tts, text, &neural()).await;
        let expected = alone(language, text).await;
        assert!((heard.seconds() - expected).abs() < 0.05, "{text}: {} s, alone {expected} s", heard.seconds());
        assert_eq!(heard.rate, 22_050, "{text}");
    }
    drop(tts);
    voices.stop().await;
}

#[tokio::test]
async fn a_run_of_another_script_is_said_within_its_sentence_as_loud_and_its_words_have_times() {
    let voices = voices();
    let tts = voices.of(&neural()).unwrap();
    // Both voices are known by now.
    for text in ["This is the voice of the avatar, as it is heard.", "Это голос на другом языке, и он звучит так."]
    {
        say(&*tts, text, &neural()).await;
    }
    let text = "We went to see Красная площадь в Москве, and then we came home again.";
    let heard = say(&*tts, text, &neural()).await;
    assert_eq!(heard.rate, 24_000, "the rate of its first voice");
    assert_eq!(heard.words.len(), text.split_whitespace().count(), "{:?}", heard.words);
    assert!(heard.words.is_sorted(), "{:?}", heard.words);
    let at = |word: usize| f64::from(heard.words[word]) / 1000.0;
    let russian = alone("ru", "Красная площадь в Москве,").await;
    assert!((at(8) - at(4) - russian).abs() < 0.3, "{:?}, alone {russian} s", heard.words);
    let (english, other) = (heard.loudness(at(8), heard.seconds()), heard.loudness(at(4), at(8)));
    assert!((english - other).abs() < 3.0, "{english} and {other} LUFS");
    drop(tts);
    voices.stop().await;
}

#[tokio::test]
async fn a_break_is_a_pause_of_its_length() {
    let voices = voices();
    let tts = voices.of(&neural()).unwrap();
    let [sentence] = &normalise::sentences("<speak>Hello <break time=\"1500ms\"/> <b>world</b></speak>", "en-us")[..]
    else {
        panic!("more than one sentence")
    };
    let heard = listen(tts.speak(sentence, &neural()).unwrap()).await.unwrap();
    let quiet = heard.samples.chunk_by(|one, other| (*one == 0.0) == (*other == 0.0));
    let longest = quiet.filter(|run| run[0] == 0.0).map(<[f32]>::len).max().unwrap();
    let seconds = longest as f64 / f64::from(heard.rate);
    assert!((1.49..1.6).contains(&seconds), "{seconds} s");
    assert_eq!(heard.words.len(), 2);
    assert!(heard.words[1] > 1_700, "{:?}", heard.words);
    drop(tts);
    voices.stop().await;
}

#[tokio::test]
async fn what_no_voice_has_is_told_once_and_the_rest_is_said() {
    let voices = voices();
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard_of = Arc::clone(&told);
    let on_missing = Arc::new(move |what: String| heard_of.lock().unwrap().push(what));
    let tts = voices.telling(&neural(), on_missing).unwrap();
    let spoken = say(&*tts, "The word ខ្មែរ is Khmer.", &neural()).await;
    assert!(spoken.seconds() > 0.8, "{} s", spoken.seconds());
    let nothing = say(&*tts, "ភាសាខ្មែរ", &neural()).await;
    assert_eq!(nothing.samples.len(), 0);
    say(&*tts, "Runes: ᚠᚢᚦᚨᚱᚲ", &neural()).await;
    let told = told.lock().unwrap().clone();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("Khmer") && told[1].contains("Runic"), "{told:?}");
    drop(tts);
    voices.stop().await;
}

/// espeak-ng knows no kanji and names each of them in English, which takes far longer.
#[tokio::test]
async fn japanese_is_read_with_its_kanji() {
    let voices = voices();
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard_of = Arc::clone(&told);
    let tts = voices.telling(&neural(), Arc::new(move |what| heard_of.lock().unwrap().push(what))).unwrap();
    let kanji = say(&*tts, "今日は日本語を話します。", &neural()).await.seconds();
    let kana = say(&*tts, "きょーわにほんごをはなします。", &neural()).await.seconds();
    assert!((kanji - kana).abs() < 0.15, "{kanji} s and {kana} s");
    let of = voice(espeak::ENGINE, "ja");
    let own = say(&*voices.of(&of).unwrap(), "今日は日本語を話します。", &of).await.seconds();
    assert!((own - kana).abs() < 0.5, "{own} s and {kana} s");
    assert_eq!(*told.lock().unwrap(), [""; 0], "MeCab is here");
    drop(tts);
    voices.stop().await;
}

#[tokio::test]
async fn an_avatar_of_another_language_has_english_said_in_english() {
    let voices = voices();
    let of = voice(espeak::ENGINE, "cmn");
    let tts = voices.of(&of).unwrap();
    let heard = say(&*tts, "她说 hello my dear friend 然后走了。", &of).await;
    let english = Voice { language: "en-us".into(), ..of.clone() };
    let english =
        listen(espeak::Espeak::new().speak("hello my dear friend", &english).unwrap()).await.unwrap().seconds();
    let chinese = listen(espeak::Espeak::new().speak("然后走了。", &of).unwrap()).await.unwrap().seconds();
    let first = listen(espeak::Espeak::new().speak("她说", &of).unwrap()).await.unwrap().seconds();
    assert!((heard.seconds() - english - chinese - first).abs() < 0.1, "{} s", heard.seconds());
}

/// Of a session's clients each is told once, by an error that ends nothing.
#[tokio::test]
async fn a_client_is_told_once_what_is_left_out() {
    let served = Served::start_with(&[], tempfile::NamedTempFile::new().unwrap());
    let mut client = served.client().await;
    for _ in 0..2 {
        client.send(json!({"type": "speak", "content": "The word ខ្មែរ is left out."})).await;
    }
    let mut seen = client.until_type("speech_ended").await;
    seen.extend(client.until_type("speech_ended").await);
    let errors: Vec<_> = seen.iter().filter(|message| message["type"] == "error").collect();
    assert_eq!(errors.len(), 1, "{seen:#?}");
    assert_eq!((&errors[0]["code"], &errors[0]["fatal"]), (&json!("no_voice"), &json!(false)));
    assert!(errors[0]["message"].as_str().unwrap().contains("Khmer"), "{}", errors[0]);
    assert!(served.log().contains("Khmer"), "{}", served.log());
}
