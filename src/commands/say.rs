//! `mouthpiece say`: a text in an avatar's own voice, and in others what that cannot say, into a WAV file, and how long that
//! took.
//!
//! In here: the sentences one after another, without a network or a picture. Runs on: the caller's task.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use serde_json::json;

use super::{BadInput, print, print_json, rounded};
use crate::avatar::AvatarStore;
use crate::cli::{Home, Say};
use crate::config::Folders;
use crate::ids::AvatarId;
use crate::speech::resample::Resampler;
use crate::speech::sound::write_wav;
use crate::speech::{PcmChunk, Tts, Voice, normalise, tts};

/// Said and forgotten: a voice reads its files when it first speaks.
const WARM_UP: &str = "Ready.";

#[derive(Default)]
struct Sound {
    samples: Vec<f32>,
    rate: Option<u32>,
    /// From the first sentence to its first sound.
    first: Option<Duration>,
}

pub(super) async fn run(home: &Home, arguments: Say) -> anyhow::Result<ExitCode> {
    let folders = Folders::find(home)?;
    let id: AvatarId = arguments.avatar.parse()?;
    let mut voice = AvatarStore::new(&folders.avatars).manifest(&id)?.voice;
    if let Some(engine) = arguments.engine.filter(|engine| *engine != voice.engine) {
        // What the manifest says of name and pitch is the other engine's.
        voice = Voice { engine, ..Voice::plain(&voice.language) };
    }
    let sentences = normalise::sentences(&arguments.text, &voice.language);
    if sentences.is_empty() {
        return Err(BadInput("--text holds nothing that can be spoken".into()).into());
    }
    let voices = tts::Voices::new(None, &folders.models)?;
    voices.check(&voice)?;
    let tts = voices.of(&voice)?;
    let started = Instant::now();
    listen(tts.as_ref(), WARM_UP, &voice, &mut Sound::default()).await?;
    let loading = started.elapsed();
    let mut sound = Sound::default();
    let started = Instant::now();
    for sentence in &sentences {
        listen(tts.as_ref(), sentence, &voice, &mut sound).await?;
    }
    let wall = started.elapsed();
    drop(tts);
    voices.stop().await;
    write(&arguments.out, &sound)?;
    let seconds = sound.samples.len() as f64 / f64::from(sound.rate.unwrap_or(1));
    let report = json!({
        "engine": voice.engine,
        "sentences": sentences.len(),
        "audio_ms": (seconds * 1000.0).round(),
        "load_ms": loading.as_millis(),
        "first_sound_ms": sound.first.map(|first| rounded(first.as_secs_f64() * 1000.0)),
        "wall_ms": rounded(wall.as_secs_f64() * 1000.0),
        "realtime_factor": (wall.as_secs_f64() / seconds * 10_000.0).round() / 10_000.0,
    });
    if arguments.json {
        print_json(&report)?;
    } else {
        let (file, wall) = (arguments.out.display(), wall.as_secs_f64());
        print(&format!("{file}: {seconds:.1} s of speech, made in {wall:.2} s by {}\n", voice.engine));
    }
    Ok(ExitCode::SUCCESS)
}

async fn listen(tts: &dyn Tts, sentence: &str, voice: &Voice, sound: &mut Sound) -> anyhow::Result<()> {
    let asked = Instant::now();
    let mut pieces = tts.speak(sentence, voice)?;
    let mut resampler: Option<Resampler> = None;
    while let Some(piece) = pieces.next().await {
        let PcmChunk { samples, sample_rate, .. } = piece?;
        sound.first.get_or_insert_with(|| asked.elapsed());
        // Sentences of another voice come at its rate; the file has that of the first.
        let to = *sound.rate.get_or_insert(sample_rate);
        if sample_rate == to {
            sound.samples.extend(samples);
            continue;
        }
        let resampler = match &mut resampler {
            Some(resampler) => resampler,
            none => none.insert(Resampler::new(sample_rate, to)?),
        };
        sound.samples.extend(resampler.push(&samples)?);
    }
    if let Some(mut resampler) = resampler {
        sound.samples.extend(resampler.finish()?);
    }
    Ok(())
}

fn write(path: &Path, sound: &Sound) -> anyhow::Result<()> {
    #[allow(clippy::cast_possible_truncation, reason = "within 16 bits")]
    let samples = sound.samples.iter().map(|sample| (sample.clamp(-1.0, 1.0) * 32_767.0).round() as i16);
    let bad = |error: &dyn std::fmt::Display| BadInput(format!("{}: {error}", path.display()));
    let file = BufWriter::new(File::create(path).map_err(|error| bad(&error))?);
    Ok(write_wav(file, sound.rate.unwrap_or(1), samples).map_err(|error| bad(&error))?)
}
