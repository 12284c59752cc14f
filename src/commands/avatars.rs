//! `mouthpiece avatars`: what is there, whether it is whole, and carrying it from one machine to another.
//!
//! In here: words, tables and exit codes; `create` makes one. Not in here: the work (`avatar::store`, `preparation`).

mod create;

use std::fs::File;
use std::io::{BufRead, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::{BadInput, print, print_json, write_stderr};
use crate::avatar::archive::{EXTENSION, Import, Limits};
use crate::avatar::manifest::FORMAT;
use crate::avatar::store::Summary;
use crate::avatar::{AvatarError, AvatarStore};
use crate::cli::{Avatars, Home};
use crate::config::Folders;
use crate::ids::AvatarId;

pub(super) async fn run(home: &Home, command: Avatars) -> anyhow::Result<ExitCode> {
    let folders = Folders::find(home)?;
    let store = AvatarStore::new(&folders.avatars);
    match command {
        Avatars::Create(arguments) => create::run(store, folders, *arguments).await?,
        Avatars::List { json } => list(&store, json)?,
        Avatars::Show { id, json } => {
            let manifest = store.manifest(&id.parse::<AvatarId>()?)?;
            if json {
                print_json(&manifest)?;
            } else {
                print(&toml::to_string_pretty(&manifest)?);
            }
        }
        Avatars::Check { id, migrate, json } => check(&store, id.as_deref(), migrate, json)?,
        Avatars::Delete { id, yes } => delete(&store, &id.parse()?, yes)?,
        Avatars::Export { id, out } => export(&store, &id.parse()?, out)?,
        Avatars::Import { file, id, replace, json } => import(&store, &file, id.as_deref(), replace, json)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn list(store: &AvatarStore, json: bool) -> anyhow::Result<()> {
    // A folder whose manifest is broken is listed with its fault, not hidden.
    let found: Vec<(AvatarId, Result<Summary, AvatarError>)> =
        store.list().into_iter().map(|id| (id.clone(), store.summary(&id))).collect();
    if json {
        let row = |(id, summary): &(AvatarId, Result<Summary, AvatarError>)| match summary {
            Ok(Summary { manifest, frames, bytes }) => json!({"id": id, "name": manifest.name, "model": manifest.model,
                "kind": manifest.kind, "width": manifest.width, "height": manifest.height, "frames": frames,
                "licence": manifest.licence, "bytes": bytes, "format": manifest.format}),
            Err(error) => json!({"id": id, "error": error.to_string()}),
        };
        return print_json(&json!({"avatars": found.iter().map(row).collect::<Vec<_>>()}));
    }
    for (id, summary) in found {
        print(&match summary {
            Ok(Summary { manifest, frames, bytes }) => format!(
                "{:16} {:16} {:5} {:14} {:>9} {frames:>6} frames {:>7.1} MB  {}\n",
                id.as_str(),
                manifest.name,
                manifest.kind.name(),
                manifest.model,
                format!("{}x{}", manifest.width, manifest.height),
                megabytes(bytes),
                manifest.licence.as_deref().unwrap_or("no licence given").lines().next().unwrap_or_default(),
            ),
            Err(error) => format!("{:16} unusable: {error}\n", id.as_str()),
        });
    }
    Ok(())
}

#[allow(clippy::cast_precision_loss, reason = "a tenth of a megabyte is shown")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn check(store: &AvatarStore, id: Option<&str>, migrate: bool, json: bool) -> anyhow::Result<()> {
    let ids = match id {
        Some(id) => vec![id.parse()?],
        None => store.list(),
    };
    let (mut rows, mut damaged) = (Vec::new(), Vec::new());
    for id in ids {
        let bar = bar(id.as_str(), store.summary(&id).map_or(0, |summary| summary.bytes));
        let checked = store.check(&id, &mut |bytes| bar.inc(bytes))?;
        let is_good = checked.problems.is_empty();
        let migrated = migrate && is_good && checked.format < FORMAT;
        if migrated {
            store.record(&id, &mut |_| ())?;
        }
        bar.finish_and_clear();
        if !json {
            let format = checked.format;
            print(&match (is_good, migrated) {
                (false, _) => format!("{id:16} DAMAGED\n"),
                (true, true) => format!("{id:16} ok, format {format} is now {FORMAT}\n"),
                (true, false) if format < FORMAT => format!("{id:16} ok, format {format} has no hashes to compare\n"),
                (true, false) => format!("{id:16} ok\n"),
            });
            checked.problems.iter().for_each(|problem| print(&format!("    {problem}\n")));
            let unlisted = checked.unlisted.iter();
            unlisted.for_each(|name| print(&format!("    {name} is not in its manifest\n")));
        }
        if !is_good {
            damaged.push(id.to_string());
        }
        rows.push(json!({"id": id, "ok": is_good, "format": if migrated { FORMAT } else { checked.format },
            "problems": checked.problems, "unlisted": checked.unlisted}));
    }
    if json {
        print_json(&json!({ "avatars": rows }))?;
    }
    if damaged.is_empty() {
        return Ok(());
    }
    Err(BadInput(format!("damaged: {}; make it again, or import it again", damaged.join(", "))).into())
}

fn delete(store: &AvatarStore, id: &AvatarId, yes: bool) -> anyhow::Result<()> {
    let folder = store.folder(id)?;
    if !yes {
        if !std::io::stdin().is_terminal() {
            return Err(BadInput(format!("nobody is there to say that {} may go: give --yes", folder.display())).into());
        }
        write_stderr(&format!("Delete {} for good? [y/N] ", folder.display()));
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer)?;
        if !matches!(answer.trim(), "y" | "Y" | "yes") {
            return Err(BadInput("nothing was deleted".to_owned()).into());
        }
    }
    store.delete(id)?;
    print(&format!("{id} is deleted\n"));
    Ok(())
}

fn export(store: &AvatarStore, id: &AvatarId, out: Option<PathBuf>) -> anyhow::Result<()> {
    let out = out.unwrap_or_else(|| PathBuf::from(format!("{id}.{EXTENSION}")));
    let bar = bar(id.as_str(), store.summary(id)?.bytes);
    store.export_to(id, &out, &mut |bytes| bar.inc(bytes))?;
    bar.finish_and_clear();
    print(&format!("{} holds {id}, {:.1} MB\n", out.display(), megabytes(out.metadata()?.len())));
    Ok(())
}

fn import(store: &AvatarStore, file: &Path, id: Option<&str>, overwrite: bool, json: bool) -> anyhow::Result<()> {
    let name = file.display().to_string();
    let failed = |error: std::io::Error| BadInput(format!("{name}: {error}"));
    let id = id.map(str::parse::<AvatarId>).transpose()?;
    let mut archive = File::open(file).map_err(failed)?;
    let bar = bar(&name, archive.metadata().map_err(failed)?.len());
    let from = Import { archive: &mut archive, name: &name, id: id.as_ref(), overwrite, limits: Limits::default() };
    let id = store.import(from, &mut |bytes| bar.inc(bytes))?;
    bar.finish_and_clear();
    if json {
        return print_json(&json!({"id": id, "folder": store.folder(&id)?}));
    }
    print(&format!("{id} is there: {}\n", store.folder(&id)?.display()));
    Ok(())
}

/// Bytes done, on a terminal.
fn bar(what: &str, bytes: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{msg:30} [{bar:30}] {bytes} of {total_bytes}, {eta} left");
    ProgressBar::new(bytes)
        .with_message(what.to_owned())
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
