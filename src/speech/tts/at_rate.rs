//! A stream of speech at the rate of what was heard before it, so that a sentence has one rate whoever speaks it.
//!
//! In here: the combinator. Not in here: the filter (`resample`). Runs on: the task that polls the stream.

use std::future::ready;

use futures_util::{StreamExt, TryStreamExt, stream};

use crate::speech::resample::Resampler;
use crate::speech::{PcmChunk, PcmStream, SpeechError};

/// The stream at a rate of so many samples a second, or as it comes if there is none or it has that already. Words come with
/// the samples that they came with; a chunk of them may have none, as the filter is some milliseconds behind.
pub(super) fn at_rate(stream: PcmStream, rate: Option<u32>) -> PcmStream {
    let Some(rate) = rate else { return stream };
    let mut converter = None;
    let with_end = stream.map_ok(Some).chain(stream::once(ready(Ok(None))));
    Box::pin(with_end.try_filter_map(move |chunk| {
        ready(match chunk {
            Some(chunk) if chunk.sample_rate == rate => Ok(Some(chunk)),
            Some(chunk) => converted(&mut converter, chunk, rate).map(Some),
            None => converter.take().map(|converter| end_of(converter, rate)).transpose(),
        })
    }))
}

/// For the sound as it came and for the levelled.
type Converter = [Resampler; 2];

fn converted(converter: &mut Option<Converter>, chunk: PcmChunk, rate: u32) -> Result<PcmChunk, SpeechError> {
    let [came, levelled] = match converter {
        Some(converter) => converter,
        none => none.insert([Resampler::new(chunk.sample_rate, rate)?, Resampler::new(chunk.sample_rate, rate)?]),
    };
    let levelled = Some(levelled.push(chunk.heard())?);
    Ok(PcmChunk { samples: came.push(&chunk.samples)?, sample_rate: rate, levelled, words: chunk.words })
}

fn end_of([mut came, mut levelled]: Converter, rate: u32) -> Result<PcmChunk, SpeechError> {
    let levelled = Some(levelled.finish()?);
    Ok(PcmChunk { levelled, ..PcmChunk::new(came.finish()?, rate) })
}
