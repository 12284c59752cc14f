//! A voice, and another one that takes over where it fails: before a sentence or in the middle of one.
//!
//! In here: noticing that a listener would soon hear nothing, and where in the text the other voice goes on. Not in here:
//! the voices. Runs on: the task that polls the stream, which is the listener: a voice is too slow for it only while it asks.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::time::{Instant, sleep_until};

use super::at_rate::at_rate;
use crate::speech::{PcmChunk, PcmStream, SpeechError, Tts, Voice, pcm};

/// How long after the last known sound was heard the other voice takes over. With its own start, well below the half second
/// that a listener takes for a pause.
const PAUSE: Duration = Duration::from_millis(200);
/// Letters that a voice says in a second, to tell from how long it spoke how far it came.
const LETTERS_A_SECOND: f64 = 15.0;

/// When a voice may be tried again; shared by all who speak with it.
#[derive(Clone, Debug)]
pub struct Rest {
    until: Arc<Mutex<Option<Instant>>>,
    lasts: Duration,
}

impl Rest {
    /// A voice that failed is not tried again before: every sentence would begin with waiting for it.
    pub fn lasting(time: Duration) -> Self {
        Self { until: Arc::default(), lasts: time }
    }

    fn is_over(&self) -> bool {
        let until = *self.until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_none_or(|until| until <= Instant::now())
    }

    fn begin(&self) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + self.lasts);
    }
}

/// Speaks with the first voice while it can, else with the second.
#[derive(Clone)]
pub struct Fallback {
    first: Arc<dyn Tts>,
    second: Arc<dyn Tts>,
    rest: Rest,
}

impl Fallback {
    pub fn new(first: Arc<dyn Tts>, second: Arc<dyn Tts>, rest: Rest) -> Self {
        Self { first, second, rest }
    }

    fn failed(&self, error: &SpeechError, heard: Duration) {
        let after_ms = heard.as_millis();
        tracing::warn!(%error, after_ms, "the voice failed, so another speaks for {:?}", self.rest.lasts);
        crate::metrics::tts_fell_back(if heard.is_zero() { "before" } else { "within" });
        self.rest.begin();
    }
}

impl Tts for Fallback {
    /// Must be polled within a tokio runtime.
    fn speak(&self, text: &str, voice: &Voice) -> Result<PcmStream, SpeechError> {
        if !self.rest.is_over() {
            return self.second.speak(text, voice);
        }
        match self.first.speak(text, voice) {
            Ok(chunks) => {
                let (voices, text, voice) = (self.clone(), text.to_owned(), voice.clone());
                let sentence =
                    Sentence { voices, text, voice, chunks, by_second: false, progress: Progress::default() };
                Ok(Box::pin(stream::try_unfold(sentence, |mut sentence| async {
                    Ok(sentence.next().await?.map(|chunk| (chunk, sentence)))
                })))
            }
            Err(error) => {
                self.failed(&error, Duration::ZERO);
                self.second.speak(text, voice)
            }
        }
    }
}

/// One that is being spoken.
struct Sentence {
    voices: Fallback,
    text: String,
    voice: Voice,
    /// Of the voice that speaks.
    chunks: PcmStream,
    by_second: bool,
    progress: Progress,
}

/// What the listener has taken of the first voice.
#[derive(Default)]
struct Progress {
    /// When it took the first chunk.
    began: Option<Instant>,
    lasts: Duration,
    rate: Option<u32>,
    /// When it will have heard nothing for a pause; never before there is a chunk.
    dry: Option<Instant>,
}

impl Sentence {
    async fn next(&mut self) -> Result<Option<PcmChunk>, SpeechError> {
        if !self.by_second {
            let chunk = tokio::select! {
                biased;
                chunk = self.chunks.next() => chunk.transpose(),
                // Before the first sound the voice's own patience counts; then, when its listener would run dry.
                () = until(self.progress.dry) => {
                    Err(SpeechError::Service("does not speak as fast as it is heard".to_owned()))
                }
            };
            match chunk {
                Ok(chunk) => return Ok(chunk.inspect(|chunk| self.progress.takes(chunk))),
                Err(error) => self.fall_back(&error)?,
            }
        }
        self.chunks.try_next().await
    }

    /// The second voice says the rest, at the rate that was heard so far.
    fn fall_back(&mut self, error: &SpeechError) -> Result<(), SpeechError> {
        self.by_second = true;
        // Closes the service's connection before the other is asked.
        self.chunks = pcm::silent();
        self.voices.failed(error, self.progress.lasts);
        let left = rest_of(&self.text, self.progress.lasts);
        if !left.is_empty() {
            let chunks = at_rate(self.voices.second.speak(left, &self.voice)?, self.progress.rate);
            // Its words are the rest of the text's only.
            self.chunks = Box::pin(chunks.map_ok(|chunk| PcmChunk { words: Vec::new(), ..chunk }));
        }
        Ok(())
    }
}

impl Progress {
    /// The listener asks for the next chunk once it has nothing else to do, so it lacks nothing before it has heard this one,
    /// nor before it has heard all of them, from the first on.
    fn takes(&mut self, chunk: &PcmChunk) {
        let (now, lasts) = (Instant::now(), duration(chunk));
        self.lasts += lasts;
        self.rate = Some(chunk.sample_rate);
        let began = *self.began.get_or_insert(now);
        self.dry = Some((began + self.lasts).max(now + lasts) + PAUSE);
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

fn duration(chunk: &PcmChunk) -> Duration {
    let samples = u32::try_from(chunk.samples.len()).unwrap_or(u32::MAX);
    Duration::from_secs_f64(f64::from(samples) / f64::from(chunk.sample_rate.max(1)))
}

/// The text from the word on that was being said after so long.
fn rest_of(text: &str, heard: Duration) -> &str {
    if heard.is_zero() {
        return text;
    }
    let letters = heard.as_secs_f64() * LETTERS_A_SECOND;
    let mut said = 0.0;
    let mut begins = 0;
    for (at, character) in text.char_indices() {
        if character.is_whitespace() {
            begins = at + character.len_utf8();
        }
        said += 1.0;
        if said > letters {
            return text[begins..].trim();
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::{mpsc, oneshot};

    fn voice() -> Voice {
        Voice { engine: "test".into(), language: "en-us".into(), name: String::new(), rate: 165, pitch: 50 }
    }

    /// Gives chunks of 100 ms of one value, then ends, fails, or says nothing more.
    #[derive(Clone, Copy)]
    struct Fake {
        chunks: usize,
        value: f32,
        rate: u32,
        then: Then,
    }

    #[derive(Clone, Copy)]
    enum Then {
        Ends,
        Fails,
        Hangs,
        NeverStarts,
    }

    impl Tts for Fake {
        fn speak(&self, _: &str, _: &Voice) -> Result<PcmStream, SpeechError> {
            // Room for one chunk: the next is made when it is asked for, as behind a leveller.
            let (sender, stream) = mpsc::channel(1);
            if matches!(self.then, Then::NeverStarts) {
                return Err(SpeechError::Service("is not there".into()));
            }
            let Self { chunks, value, rate, then } = *self;
            tokio::spawn(async move {
                for _ in 0..chunks {
                    let samples = vec![value; rate as usize / 10];
                    let _ = sender.send(Ok(PcmChunk::new(samples, rate))).await;
                }
                match then {
                    Then::Fails => drop(sender.send(Err(SpeechError::Service("broke off".into()))).await),
                    Then::Hangs => sender.closed().await,
                    Then::Ends | Then::NeverStarts => {}
                }
            });
            Ok(pcm::received(stream))
        }
    }

    /// A voice whose stream holds something that is dropped with it.
    struct Holding(Fake, Mutex<Option<oneshot::Sender<()>>>);

    impl Tts for Holding {
        fn speak(&self, text: &str, voice: &Voice) -> Result<PcmStream, SpeechError> {
            let held = self.1.lock().unwrap().take();
            Ok(Box::pin(self.0.speak(text, voice)?.inspect(move |_| assert!(held.is_some()))))
        }
    }

    /// Seconds of the first voice's sound, then of the second's, in one rate, and how long the longest wait for a chunk was.
    async fn listen(voices: &Fallback, text: &str) -> Result<(f64, f64, Duration), SpeechError> {
        let mut stream = voices.speak(text, &voice())?;
        let (mut first, mut second, mut longest) = (0.0, 0.0, Duration::ZERO);
        let mut rate = None;
        let mut asked = Instant::now();
        while let Some(chunk) = stream.next().await {
            longest = longest.max(asked.elapsed());
            let chunk = chunk?;
            assert_eq!(*rate.get_or_insert(chunk.sample_rate), chunk.sample_rate, "the rate changes");
            let of_first = chunk.samples.iter().filter(|sample| (**sample - 0.5).abs() < 0.05).count();
            first += of_first as f64 / f64::from(chunk.sample_rate);
            second += (chunk.samples.len() - of_first) as f64 / f64::from(chunk.sample_rate);
            asked = Instant::now();
        }
        Ok((first, second, longest))
    }

    fn voices(chunks: usize, then: Then) -> Fallback {
        let first = Fake { chunks, value: 0.5, rate: 24_000, then };
        let second = Fake { chunks: 7, value: -0.5, rate: 22_050, then: Then::Ends };
        Fallback::new(Arc::new(first), Arc::new(second), Rest::lasting(RESTS))
    }

    const RESTS: Duration = Duration::from_secs(30);
    const TEXT: &str = "One two three four five six seven eight nine ten.";

    #[tokio::test(start_paused = true)]
    async fn a_voice_that_works_is_heard_alone() {
        let (first, second, _) = listen(&voices(30, Then::Ends), TEXT).await.unwrap();
        assert!((first - 3.0).abs() < 0.01 && second == 0.0, "{first} {second}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_voice_is_not_taken_for_slow_because_its_reader_is() {
        let mut stream = voices(60, Then::Ends).speak(TEXT, &voice()).unwrap();
        let mut chunks = 0;
        while let Some(chunk) = stream.next().await {
            assert!(chunk.unwrap().samples.iter().all(|sample| *sample == 0.5), "another voice after {chunks} chunks");
            chunks += 1;
            // It reads half a second at once, then is busy with the sentence before.
            if chunks % 5 == 0 {
                tokio::time::sleep(Duration::from_secs(4)).await;
            }
        }
        assert_eq!(chunks, 60);
    }

    #[tokio::test(start_paused = true)]
    async fn a_voice_that_nobody_listens_to_any_more_is_let_go_at_once() {
        for (chunks, then) in [(0, Then::Hangs), (5, Then::Hangs)] {
            let (held, let_go) = oneshot::channel();
            let first = Holding(Fake { chunks, value: 0.5, rate: 24_000, then }, Mutex::new(Some(held)));
            let second = Fake { chunks: 7, value: -0.5, rate: 22_050, then: Then::Ends };
            let voices = Fallback::new(Arc::new(first), Arc::new(second), Rest::lasting(RESTS));
            let mut stream = voices.speak(TEXT, &voice()).unwrap();
            for _ in 0..chunks {
                stream.next().await.unwrap().unwrap();
            }
            drop(stream);
            let dropped = Instant::now();
            assert!(let_go.await.is_err(), "it is dropped and never sent");
            assert_eq!(dropped.elapsed(), Duration::ZERO);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_fails_within_a_sentence_is_followed_at_once_by_the_other_at_the_same_rate() {
        for then in [Then::Fails, Then::Hangs] {
            let voices = voices(10, then);
            let (first, second, longest) = listen(&voices, TEXT).await.unwrap();
            assert!((first - 1.0).abs() < 0.05 && (second - 0.7).abs() < 0.05, "{first} {second}");
            // All of the first second is there at once, so half a second of silence begins after one and a half.
            assert!(longest < Duration::from_millis(1500), "{longest:?}");
            // It is not tried again for a while, and then it is.
            assert!(listen(&voices, TEXT).await.unwrap().0 < 0.01);
            tokio::time::advance(RESTS).await;
            assert!(listen(&voices, TEXT).await.unwrap().0 > 0.9);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_does_not_begin_leaves_the_whole_sentence_to_the_other() {
        for voices in [voices(0, Then::Fails), voices(0, Then::NeverStarts)] {
            let (first, second, _) = listen(&voices, TEXT).await.unwrap();
            assert!(first == 0.0 && (second - 0.7).abs() < 0.01, "{first} {second}");
        }
    }

    #[test]
    fn the_other_voice_goes_on_with_the_word_that_was_being_said() {
        assert_eq!(rest_of(TEXT, Duration::ZERO), TEXT);
        assert_eq!(rest_of(TEXT, Duration::from_secs(1)), "four five six seven eight nine ten.");
        assert_eq!(rest_of(TEXT, Duration::from_secs(9)), "");
    }
}
