//! The speech corpus on disk: `clips.jsonl` and 16 kHz wav files.
//!
//! In here: reading and checking it. Not in here: making it (`scripts/make_corpus.py`) and what training
//! makes of it (`speeches`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mouthpiece::speech::sound;
use mouthpiece::timeline::LIPSYNC_RATE;

use crate::file_error;
use crate::visemes::Phone;

/// What a clip is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    Train,
    /// Sentences that no training clip speaks, by voices that training knows.
    Heldout,
    /// Sentences and an engine that training does not know.
    Unknown,
}

/// A line of `clips.jsonl`.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Entry {
    pub id: String,
    pub engine: String,
    pub voice: String,
    pub split: Split,
    /// Relative to the corpus.
    pub wav: PathBuf,
    pub text: String,
    pub phones: Vec<Phone>,
}

#[derive(Clone, Debug)]
pub struct Clip {
    pub entry: Entry,
    /// 16 kHz mono, -1 to 1.
    pub samples: Arc<[f32]>,
}

/// The clips of a folder that `wanted` takes, in the file's order.
pub fn load(folder: &Path, wanted: impl Fn(&Entry) -> bool) -> anyhow::Result<Vec<Clip>> {
    let list = folder.join("clips.jsonl");
    let text = std::fs::read_to_string(&list).map_err(|error| file_error(&list, error))?;
    let mut clips = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let bad = |problem: String| file_error(&list, format!("line {}: {problem}", number + 1));
        let entry: Entry = serde_json::from_str(line).map_err(|error| bad(error.to_string()))?;
        if !wanted(&entry) {
            continue;
        }
        if let Some(phone) = entry.phones.iter().find(|phone| !(0.0 <= phone.start && phone.start <= phone.end)) {
            return Err(bad(format!("phone {:?} ends before it starts", phone.phone)));
        }
        let samples = read_wav(&folder.join(&entry.wav))?;
        clips.push(Clip { entry, samples });
    }
    if clips.is_empty() {
        return Err(file_error(&list, "holds no clip that is wanted here"));
    }
    Ok(clips)
}

fn read_wav(path: &Path) -> anyhow::Result<Arc<[f32]>> {
    let bad = |problem: String| file_error(path, problem);
    let (samples, rate) = sound::read(path).map_err(|error| bad(error.problem.to_string()))?;
    match rate {
        LIPSYNC_RATE => Ok(samples.into()),
        other => Err(bad(format!("is at {other} Hz, must be at {LIPSYNC_RATE}"))),
    }
}

/// FNV-1a over the list and every wav's samples: names the corpus that a model was trained on.
pub fn hash(clips: &[Clip]) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut eat = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    for clip in clips {
        eat(serde_json::to_string(&clip.entry).unwrap_or_default().as_bytes());
        clip.samples.iter().for_each(|sample| eat(&sample.to_le_bytes()));
    }
    format!("{hash:016x}")
}
