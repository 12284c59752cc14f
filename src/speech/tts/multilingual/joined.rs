//! The runs of a sentence one after another, as one stream at one rate.
//!
//! In here: the next run begun while one is heard, pauses between them, and the times of words. Not in here: who says a run
//! (`multilingual`). Runs on: the task that polls the stream, and for a moment on one of its own where a run is begun.

use std::sync::Arc;
use std::vec::IntoIter;

use futures_util::{TryStreamExt, stream};
use tokio_util::task::AbortOnDropHandle;

use super::{Part, Speakers};
use crate::speech::tts::at_rate::at_rate;
use crate::speech::tts::espeak;
use crate::speech::{PcmChunk, PcmStream, SpeechError, Voice};

/// A rate for what begins with a pause.
const RATE: u32 = 22_050;
/// Chunks of a second of pause.
const CHUNKS_A_SECOND: u32 = 25;

/// Says the parts one after the other. The first of them is begun at once, a later one when the one before it is heard.
/// Must be called within a tokio runtime.
pub(super) fn joined(speakers: Arc<Speakers>, parts: Vec<Part>, voice: Voice) -> PcmStream {
    let parts = parts.into_iter();
    let mut sentence = Sentence { speakers, voice, parts, next: None, now: None, joint: Joint::default() };
    sentence.begin_next();
    Box::pin(stream::try_unfold(sentence, |mut sentence| async {
        Ok(sentence.next().await?.map(|chunk| (chunk, sentence)))
    }))
}

/// A part and its stream; none comes of a pause, nor where nobody can say it.
type Begun = Result<(Part, Option<PcmStream>), SpeechError>;

struct Sentence {
    speakers: Arc<Speakers>,
    voice: Voice,
    parts: IntoIter<Part>,
    /// Being begun: whether there is a voice of its language may have to be asked first, which other sessions wait for too.
    next: Option<AbortOnDropHandle<Begun>>,
    /// Being said.
    now: Option<(Part, PcmStream)>,
    joint: Joint,
}

impl Sentence {
    fn begin_next(&mut self) {
        let (speakers, voice) = (Arc::clone(&self.speakers), self.voice.clone());
        let begin = |part| async move {
            let stream = speakers.begin(&part, &voice).await?;
            Ok((part, stream))
        };
        self.next = self.parts.next().map(|part| AbortOnDropHandle::new(tokio::spawn(begin(part))));
    }

    async fn next(&mut self) -> Result<Option<PcmChunk>, SpeechError> {
        loop {
            if let Some((part, stream)) = &mut self.now {
                while let Some(chunk) = stream.try_next().await? {
                    if let Some(chunk) = self.joint.take(chunk) {
                        return Ok(Some(chunk));
                    }
                }
                self.joint.end(part.text());
                self.now = None;
            }
            let Some(begun) = self.next.take() else { return Ok(None) };
            let (part, stream) = begun.await.map_err(|_| panicked())??;
            self.begin_next();
            self.joint.begin(part.text());
            let stream = match part {
                Part::Pause(ms) => Some(pause(ms, self.joint.rate.unwrap_or(RATE))),
                _ => stream.map(|stream| at_rate(stream, self.joint.rate)),
            };
            self.now = stream.map(|stream| (part, stream));
        }
    }
}

fn panicked() -> SpeechError {
    SpeechError::Voice { engine: espeak::ENGINE, problem: "panicked over this text".to_owned() }
}

fn pause(ms: u32, rate: u32) -> PcmStream {
    let chunk = (rate / CHUNKS_A_SECOND) as usize;
    let silence = vec![0.0; rate as usize * ms as usize / 1_000];
    let chunks: Vec<_> = silence.chunks(chunk).map(|silence| Ok(PcmChunk::new(silence.to_vec(), rate))).collect();
    Box::pin(stream::iter(chunks))
}

/// Where the sentence is in its sound and its words, from part to part.
#[derive(Default)]
struct Joint {
    /// Of the first chunk, and so of all.
    rate: Option<u32>,
    /// Samples that went out.
    given: u64,
    /// Times of words that are known and have not been told: of parts whose voice does not tell, as far as they can be
    /// guessed.
    words: Vec<u32>,
    /// Whether the last part ended within what stands between white space, so that the next one's first word is known.
    in_word: bool,
    /// When the part began that is being said, how many words its voice told, and of how many at its beginning the times
    /// are known.
    began: u32,
    told: usize,
    skip: usize,
}

impl Joint {
    fn now_ms(&self) -> u32 {
        u32::try_from(self.given * 1_000 / u64::from(self.rate.unwrap_or(RATE))).unwrap_or(u32::MAX)
    }

    fn begin(&mut self, text: Option<&str>) {
        let Some(text) = text else { return };
        (self.began, self.told) = (self.now_ms(), 0);
        self.skip = usize::from(self.in_word && !text.starts_with(char::is_whitespace));
        self.in_word = !text.ends_with(char::is_whitespace);
    }

    /// A chunk with the times of the words that are told with it; `None` if it has no samples.
    fn take(&mut self, chunk: PcmChunk) -> Option<PcmChunk> {
        let began = self.began;
        let known = chunk.words.iter().skip(self.skip.saturating_sub(self.told));
        self.words.extend(known.map(|word| began + word));
        self.told += chunk.words.len();
        self.rate.get_or_insert(chunk.sample_rate);
        self.given += chunk.samples.len() as u64;
        (!chunk.samples.is_empty()).then(|| PcmChunk { words: std::mem::take(&mut self.words), ..chunk })
    }

    /// The words of a part whose voice told none are spread over its time by their letters.
    fn end(&mut self, text: Option<&str>) {
        let Some(text) = text.filter(|_| self.told == 0) else { return };
        let lasts = f64::from(self.now_ms().saturating_sub(self.began));
        let letters =
            |text: &str| u32::try_from(text.chars().filter(|c| c.is_alphanumeric()).count()).unwrap_or(u32::MAX);
        let all = f64::from(letters(text).max(1));
        let mut before = 0;
        for (number, word) in text.split_whitespace().enumerate() {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the part's time")]
            let at = self.began + (lasts * f64::from(before) / all) as u32;
            self.words.extend((number >= self.skip).then_some(at));
            before += letters(word);
        }
    }
}
