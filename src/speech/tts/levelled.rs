//! A voice whose sound is as loud as that of every other one.
//!
//! In here: passing its sentences through the leveller. The sound as it came goes along: the network that draws the mouth
//! hears what it was trained with, whatever is heard by people. Not in here: the gain (`leveller`), a client's own sound,
//! which stays as it is. Runs on: the task that polls the stream.

use std::sync::Arc;

use futures_util::TryStreamExt;

use crate::speech::leveller::{KnownLoudness, Leveller};
use crate::speech::{PcmStream, SpeechError, Tts, Voice};

/// A voice and what is known of its loudness.
#[derive(Clone)]
pub struct Levelled {
    voice: Arc<dyn Tts>,
    known: KnownLoudness,
}

impl Levelled {
    /// One of whose loudness nothing is known.
    pub fn new(voice: Arc<dyn Tts>) -> Self {
        Self::with(voice, KnownLoudness::default())
    }

    /// What is learnt of its loudness is shared.
    pub(super) fn with(voice: Arc<dyn Tts>, known: KnownLoudness) -> Self {
        Self { voice, known }
    }
}

impl Tts for Levelled {
    fn speak(&self, text: &str, voice: &Voice) -> Result<PcmStream, SpeechError> {
        let (known, mut leveller) = (self.known.clone(), None);
        Ok(Box::pin(self.voice.speak(text, voice)?.map_ok(move |mut chunk| {
            let leveller = leveller.get_or_insert_with(|| Leveller::new(known.clone(), chunk.sample_rate));
            chunk.levelled = leveller.as_mut().map(|leveller| leveller.push(&chunk.samples));
            chunk
        })))
    }
}
