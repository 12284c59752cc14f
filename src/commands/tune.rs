//! `mouthpiece models tune-decoder`: teaches a small decoder one avatar's mouth, and puts it into the avatar's folder.
//!
//! In here: what it learns from is brought together, what came of it is printed. Not in here: learning
//! (`musetalk::tools::tune`). Runs on: tokio for the voice, a blocking thread that is joined for libtorch.

use std::path::Path;
use std::process::ExitCode;

use futures_util::StreamExt;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::{BadInput, print, print_json};
use crate::avatar::manifest::{TUNED, TUNED_FOLDER};
use crate::avatar::{Avatar, AvatarStore};
use crate::cli::{Home, TuneDecoder};
use crate::config::Folders;
use crate::musetalk::serving::SmallDecoder;
use crate::musetalk::tools::tune::{Lesson, Tuned, tune};
use crate::musetalk::{MuseTalk, find_device};
use crate::speech::resample::Resampler;
use crate::speech::{Voice, tts};
use crate::timeline::LIPSYNC_RATE;

/// Every sound of English, and lips that shut and open wide.
const SPOKEN: [&str; 6] = [
    "People believe that my brown boots were made by a very patient shoemaker.",
    "The quick fox jumps over a lazy dog, while five wizards box with jugs of vodka.",
    "Maybe we should measure the usual pleasure of a vision, shouldn't we?",
    "Oh, you! Who would have thought it? How about a loud round of applause now?",
    "Thirty-three thin thieves thought that they thrilled the throne throughout Thursday.",
    "Good evening. Join us on the beach for a cheap but joyous lunch with chewing gum.",
];

pub(super) async fn run(home: &Home, arguments: TuneDecoder) -> anyhow::Result<ExitCode> {
    let folders = Folders::find(home)?;
    let store = AvatarStore::new(&folders.avatars);
    let id = arguments.avatar.parse()?;
    let (avatar, folder) = (store.load(&id)?, store.folder(&id)?);
    let target = folder.join(TUNED_FOLDER);
    if target.exists() && !arguments.replace {
        let message = format!("{} is there already: --replace makes it anew", target.display());
        return Err(BadInput(message).into());
    }
    let speech = speech(&avatar.manifest.voice, &folders.models).await?;
    let as_json = arguments.json;
    let place = target.clone();
    let lists_files = !avatar.manifest.files.is_empty();
    let tuned = tokio::task::spawn_blocking(move || learn(&folders, &avatar, &speech, &arguments, &place)).await??;
    if lists_files {
        // Or the decoder would not be carried along, and an old one's length and hash would be missed.
        store.record(&id, &mut |_| ())?;
    }
    if as_json {
        print_json(&json!({"avatar": id, "folder": target, "mouth": tuned}))?;
    } else {
        let Tuned { before, after, held_out } = tuned;
        print(&format!(
            "the mouth, on {held_out} frames that it was not taught: {:.2} levels ({:.1} dB) from the model's own decoder \
             before, {:.2} levels ({:.1} dB) after\n\
             {} is there; `decoder = \"{TUNED}\"` in the avatar's avatar.toml uses it\n",
            before.levels,
            before.psnr_db,
            after.levels,
            after.psnr_db,
            target.display()
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// The sentences in the avatar's voice, at 16 kHz.
async fn speech(voice: &Voice, models: &Path) -> anyhow::Result<Vec<f32>> {
    let voices = tts::Voices::new(None, models)?;
    let tts = voices.of(voice)?;
    let mut speech = Vec::new();
    for sentence in SPOKEN {
        let mut pieces = tts.speak(sentence, voice)?;
        let mut resampler = None;
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            let resampler = match &mut resampler {
                Some(resampler) => resampler,
                none => none.insert(Resampler::new(piece.sample_rate, LIPSYNC_RATE)?),
            };
            speech.extend(resampler.push(&piece.samples)?);
        }
        if let Some(mut resampler) = resampler {
            speech.extend(resampler.finish()?);
        }
    }
    drop(tts);
    voices.stop().await;
    Ok(speech)
}

fn learn(
    folders: &Folders,
    avatar: &Avatar,
    speech: &[f32],
    arguments: &TuneDecoder,
    target: &Path,
) -> anyhow::Result<Tuned> {
    let device = find_device(arguments.device)?;
    // Nothing else runs, so all cores may.
    let threads = std::thread::available_parallelism().map_or(1, |cores| i32::try_from(cores.get()).unwrap_or(1));
    let mut model = MuseTalk::load(&folders.models.join(&avatar.manifest.model), device, threads)?;
    let handle = model.add_latents(&avatar.latents, avatar.manifest.decode_rows)?;
    let student = SmallDecoder::load(&folders.models.join(&arguments.from), &model.config().autoencoder, device)?;
    let TuneDecoder { steps, frames, learning_rate, seed, .. } = *arguments;
    let lesson = Lesson { steps: steps as usize, frames: frames as usize, learning_rate, seed };
    let bar = ProgressBar::new(lesson.steps as u64)
        .with_style(ProgressStyle::with_template("{elapsed_precise} [{bar:40}] {pos} of {len} steps, {eta} left")?);
    let tuned =
        tune(&mut model, (avatar, handle), &student, speech, lesson, &mut |step| bar.set_position(step as u64))?;
    bar.finish_and_clear();
    if tuned.after.levels >= tuned.before.levels {
        anyhow::bail!(
            "{:.2} levels of error before and {:.2} after: nothing was learnt, so nothing is written; try more --steps",
            tuned.before.levels,
            tuned.after.levels
        );
    }
    // In place at once, so that a server never finds half of it.
    let parent = target.parent().unwrap_or(target);
    let made = parent.join(format!(".{TUNED_FOLDER}.new"));
    if made.exists() {
        // Of a run that was cut off.
        std::fs::remove_dir_all(&made)?;
    }
    std::fs::create_dir(&made)?;
    student.save(&made)?;
    if target.exists() {
        std::fs::remove_dir_all(target)?;
    }
    std::fs::rename(made, target)?;
    Ok(tuned)
}
