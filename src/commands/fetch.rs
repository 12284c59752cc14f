//! `mouthpiece models fetch`: what there is to get, consent to its licences, the progress, and the model made of it.

use std::collections::BTreeMap;
use std::io::{BufRead, IsTerminal};
use std::path::Path;
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::{BadInput, models, print, print_json, write_stderr};
use crate::cli::{Fetch, Home};
use crate::config::Folders;
use crate::models::catalog::{self, Download, TAESD, TAESD_DOWNLOADS, licence_note};
use crate::models::fetch::{Hub, Patience, Planned, Progress, Settings, fetch, plan};

/// Which licences were agreed to, so that they are asked for once.
const CONSENT: &str = "licences-accepted.json";

pub(super) async fn run(home: &Home, arguments: &Fetch) -> anyhow::Result<ExitCode> {
    let models = Folders::find(home)?.models;
    let converted = arguments.name != TAESD;
    let downloads: &[Download] = if converted { &catalog::known(&arguments.name)?.downloads } else { &TAESD_DOWNLOADS };
    let finished = models.join(&arguments.name);
    if finished.exists() && !arguments.install.replace && !arguments.dry_run && converted {
        return Err(BadInput(format!("{} is there already: give --replace to make it anew", finished.display())).into());
    }
    let settings = Settings {
        endpoint: arguments.endpoint.clone(),
        token: arguments.token.clone(),
        patience: Patience::default(),
    };
    let hub = Hub::new(settings).map_err(|error| BadInput(error.to_string()))?;
    let planned = plan(&hub, downloads).await?;
    if arguments.dry_run {
        describe(&planned, arguments.install.json)?;
        return Ok(ExitCode::SUCCESS);
    }
    consent(&models.join(CONSENT), &planned, arguments.accept_licences)?;
    let folder = if converted { models.join(format!(".{}.fetched", arguments.name)) } else { finished };
    // The model that is made of them is no larger.
    let reserve = if converted { planned.iter().map(|file| file.bytes).sum() } else { 0 };
    let mut bar = Bar::new();
    fetch(&hub, &planned, &folder, reserve, &mut |progress| bar.show(progress)).await?;
    bar.end();
    if !converted {
        return models::installed(&folder, &arguments.install);
    }
    let model = models::install(&models, &arguments.name, &folder, &arguments.install)?;
    if !arguments.keep {
        std::fs::remove_dir_all(&folder)?;
    }
    models::installed(&model, &arguments.install)
}

fn describe(planned: &[Planned], json: bool) -> anyhow::Result<()> {
    if json {
        let file = |file: &Planned| {
            json!({"repo": file.repo, "file": file.file, "bytes": file.bytes, "commit": file.commit,
                "hash": file.hash.text(), "licence": file.licence, "note": licence_note(file.repo)})
        };
        let total: u64 = planned.iter().map(|file| file.bytes).sum();
        return print_json(&json!({"bytes": total, "files": planned.iter().map(file).collect::<Vec<_>>()}));
    }
    for file in planned {
        print(&format!("{:>9} kB  {}/{}\n", file.bytes.div_ceil(1000), file.repo, file.file));
    }
    print(&licences(planned));
    Ok(())
}

fn licences(planned: &[Planned]) -> String {
    let by_repo: BTreeMap<&str, &str> = planned.iter().map(|file| (file.repo, file.licence.as_str())).collect();
    let line = |(repo, licence): (&&str, &&str)| format!("{repo}: licence {licence} ({})\n", licence_note(repo));
    by_repo.iter().map(line).collect()
}

/// Goes on if every licence was agreed to: earlier, on the command line, or now.
fn consent(record: &Path, planned: &[Planned], given: bool) -> anyhow::Result<()> {
    let mut agreed: BTreeMap<String, String> = match std::fs::read(record) {
        Ok(text) => serde_json::from_slice(&text).map_err(|error| {
            BadInput(format!("{} is not what consent was written as ({error}): remove it", record.display()))
        })?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
        Err(error) => return Err(BadInput(format!("{}: {error}", record.display())).into()),
    };
    if planned.iter().all(|file| agreed.get(file.repo) == Some(&file.licence)) {
        return Ok(());
    }
    if !given {
        write_stderr(&licences(planned));
        if !std::io::stdin().is_terminal() {
            return Err(
                BadInput("nobody is there to agree to these licences: give --accept-licences".to_owned()).into()
            );
        }
        write_stderr("Do you agree to these licences? [y/N] ");
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer)?;
        if !matches!(answer.trim(), "y" | "Y" | "yes") {
            return Err(BadInput("nothing was fetched".to_owned()).into());
        }
    }
    agreed.extend(planned.iter().map(|file| (file.repo.to_owned(), file.licence.clone())));
    std::fs::write(record, serde_json::to_vec_pretty(&agreed)?)?;
    Ok(())
}

/// A progress bar on a terminal; elsewhere a line for each file.
struct Bar {
    file: String,
    bar: ProgressBar,
}

impl Bar {
    fn new() -> Self {
        Self { file: String::new(), bar: ProgressBar::hidden() }
    }

    fn show(&mut self, progress: Progress<'_>) {
        let Progress { file, bytes, of } = progress;
        if file != self.file {
            self.end();
            file.clone_into(&mut self.file);
            if std::io::stderr().is_terminal() {
                // What is there already does not count for the rate.
                self.bar =
                    ProgressBar::new(of).with_position(bytes).with_message(self.file.clone()).with_style(style());
                self.bar.reset_eta();
            } else {
                write_stderr(&format!("{file}, {of} bytes\n"));
            }
        }
        self.bar.set_position(bytes);
    }

    fn end(&self) {
        self.bar.abandon();
    }
}

fn style() -> ProgressStyle {
    let template = "{msg:44} [{bar:30}] {bytes} of {total_bytes}, {binary_bytes_per_sec}, {eta} left";
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("##.")
}
