//! A voice whose sound is as loud as that of every other one.
//!
//! In here: passing its sentences through the leveller. The sound as it came goes along: the network that draws the mouth
//! hears what it was trained with, whatever is heard by people. Not in here: the gain (`leveller`), a client's own sound,
//! which stays as it is. Runs on: one tokio task per sentence, which ends when nobody listens any more.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::speech::leveller::{Known, Leveller};
use crate::speech::{PcmChunk, PcmStream, SpeechError, Tts, Voice};

/// Pieces waiting for the reader; the voice itself has room for more.
const PIECES: usize = 4;

/// A voice and what is known of its loudness.
#[derive(Clone)]
pub struct Levelled {
    voice: Arc<dyn Tts>,
    known: Known,
}

impl Levelled {
    pub fn new(voice: Arc<dyn Tts>) -> Self {
        Self::with(voice, Known::default())
    }

    /// What is learnt of its loudness is shared.
    pub fn with(voice: Arc<dyn Tts>, known: Known) -> Self {
        Self { voice, known }
    }
}

impl Tts for Levelled {
    fn speak(&self, text: &str, voice: &Voice) -> Result<PcmStream, SpeechError> {
        let pieces = self.voice.speak(text, voice)?;
        // Where there is no runtime nothing comes either: the voice had nothing to say.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return Ok(pieces) };
        let (sender, stream) = mpsc::channel(PIECES);
        runtime.spawn(relay(pieces, self.known.clone(), sender));
        Ok(stream)
    }
}

async fn relay(mut pieces: PcmStream, known: Known, sender: mpsc::Sender<Result<PcmChunk, SpeechError>>) {
    let mut leveller = None;
    loop {
        let piece = tokio::select! {
            biased;
            () = sender.closed() => return,
            piece = pieces.recv() => piece,
        };
        let Some(mut piece) = piece else { return };
        if let Ok(chunk) = &mut piece {
            let leveller = leveller.get_or_insert_with(|| Leveller::new(known.clone(), chunk.sample_rate));
            chunk.levelled = leveller.as_mut().map(|leveller| leveller.push(&chunk.samples));
        }
        if sender.send(piece).await.is_err() {
            return;
        }
    }
}
