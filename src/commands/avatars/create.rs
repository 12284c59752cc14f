//! `mouthpiece avatars create`: from a photo or a clip to an avatar, on a terminal.
//!
//! In here: what is asked and told. Not in here: the work (`preparation`). Runs on: a blocking thread, until it is told to
//! stop.

use std::io::{BufRead, IsTerminal};
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::super::{BadInput, asked_to_stop, print, print_json, write_stderr};
use crate::avatar::{AvatarStore, PORTRAIT_MODEL};
use crate::cli::Create;
use crate::config::Folders;
use crate::ids::AvatarId;
use crate::media::ClipOptions;
use crate::picture::{RgbPicture, png};
use crate::preparation::{self, PreparationError, Progress, Request};
use crate::speech::Voice;

/// The language of the neural voice.
const ENGLISH: &str = "en-us";

pub(super) async fn run(store: AvatarStore, folders: Folders, arguments: Create) -> anyhow::Result<()> {
    let started = std::time::Instant::now();
    let json = arguments.json;
    let (request, brought) = request(arguments)?;
    let stop = CancellationToken::new();
    let (asked, told) = (asked_to_stop()?, stop.clone());
    let telling = tokio::spawn(async move {
        asked.await;
        told.cancel();
    });
    let working = tokio::task::spawn_blocking(move || {
        let bar = bar();
        let mut progress = |progress: Progress| show(&bar, progress);
        let make = match brought {
            Brought::PhotoOrClip => preparation::create,
            Brought::Upstream => preparation::import_upstream,
        };
        let made = make(&store, &folders.models, &request, &mut progress, &stop);
        bar.finish_and_clear();
        made.map_err(|error| (error, request.id.clone())).and_then(|folder| {
            let manifest = store.manifest(&request.id).map_err(|error| (error.into(), request.id.clone()))?;
            Ok((folder, manifest))
        })
    });
    let made = working.await?;
    telling.abort();
    let (folder, manifest) = made.map_err(|(error, id)| explained(error, &id))?;
    let seconds = super::super::rounded(started.elapsed().as_secs_f64());
    if json {
        return print_json(&json!({
            "id": manifest.id, "folder": folder, "kind": manifest.kind, "model": manifest.model,
            "width": manifest.width, "height": manifest.height, "frames": manifest.frames, "seconds": seconds,
            "peak_memory_mb": super::super::measure::peak_memory_mb(),
        }));
    }
    let (id, width, height) = (&manifest.id, manifest.width, manifest.height);
    print(&format!("{id} is there, {width}x{height}, made in {seconds:.1} s: mouthpiece serve --avatar {id}\n"));
    Ok(())
}

/// What is brought.
enum Brought {
    PhotoOrClip,
    Upstream,
}

fn request(arguments: Create) -> anyhow::Result<(Request, Brought)> {
    let id: AvatarId = arguments.id.parse()?;
    let (source, brought) = match (arguments.from, arguments.from_musetalk) {
        (Some(file), _) => (file, Brought::PhotoOrClip),
        (None, Some(folder)) => (folder, Brought::Upstream),
        (None, None) => return Err(BadInput("--from is missing: which photo or clip?".to_owned()).into()),
    };
    let model = match (arguments.model, &brought) {
        (Some(model), _) => model,
        (None, Brought::PhotoOrClip) => PORTRAIT_MODEL.to_owned(),
        (None, Brought::Upstream) => {
            preparation::upstream_model(&source).map_err(|error| BadInput(error.to_string()))?.to_owned()
        }
    };
    let name = arguments.name.unwrap_or_else(|| capitalised(id.as_str()));
    let file_name = source.file_name().map(|name| name.to_string_lossy().into_owned());
    let language = arguments.language.to_lowercase();
    let engine =
        arguments.engine.unwrap_or_else(|| if language == ENGLISH { "hibari" } else { "espeak-ng" }.to_owned());
    let request = Request {
        file_name: file_name.unwrap_or_default(),
        source,
        model,
        voice: Voice { engine, ..Voice::plain(&language) },
        licence: given("licence", arguments.licence, "Under which licence may the pictures be used?")?,
        consent: given(
            "consent",
            arguments.consent,
            "Whose face is it, and have they agreed to it speaking here? Who, when, to what:",
        )?,
        face: arguments.face,
        still: arguments.still,
        closed: arguments.closed,
        alpha: arguments.alpha,
        whole: arguments.whole,
        side: arguments.size,
        clip: ClipOptions {
            trim: arguments.trim.unwrap_or_default(),
            mirror: arguments.mirror,
            ..ClipOptions::default()
        },
        bbox_shift: arguments.bbox_shift,
        mask: arguments.mask,
        parsing_mode: arguments.parsing_mode,
        replace: arguments.replace,
        id,
        name,
    };
    Ok((request, brought))
}

/// `anna` is called Anna.
fn capitalised(id: &str) -> String {
    let mut letters = id.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// What was typed, or is asked for where somebody can answer.
fn given(option: &str, typed: Option<String>, question: &str) -> anyhow::Result<String> {
    let text = match typed {
        Some(text) => text,
        None if std::io::stdin().is_terminal() => {
            write_stderr(&format!("{question} "));
            let mut answer = String::new();
            std::io::stdin().lock().read_line(&mut answer)?;
            answer
        }
        None => return Err(BadInput(format!("--{option} is missing: {question}")).into()),
    };
    let text = text.trim().to_owned();
    if text.is_empty() {
        return Err(BadInput(format!("--{option} is empty: {question}")).into());
    }
    Ok(text)
}

/// One error; a refused face is shown in a picture beside it.
fn explained(error: PreparationError, id: &AvatarId) -> anyhow::Error {
    if let PreparationError::Face { found, .. } = &error {
        let path = PathBuf::from(format!("{id}-refused.png"));
        let seen = match write(&path, found) {
            Ok(()) => format!("; what was found is in {}", path.display()),
            Err(problem) => {
                format!("; the picture of what was found cannot be written to {}: {problem}", path.display())
            }
        };
        return BadInput(format!("{error}{seen}")).into();
    }
    if error.is_bad_input() { BadInput(error.to_string()).into() } else { error.into() }
}

fn write(path: &Path, picture: &RgbPicture) -> Result<(), png::PngError> {
    png::write_rgb(path, picture.width, picture.height, &picture.rgb)
}

fn bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{msg:22} [{bar:40}] {percent:>3} %, {eta} left");
    ProgressBar::new(1000).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1000")]
fn show(bar: &ProgressBar, progress: Progress) {
    bar.set_message(progress.stage.as_str());
    bar.set_position((progress.share * 1000.0) as u64);
}
