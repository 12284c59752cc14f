//! Commands that only look: avatars, pipelines, doctor.

use std::process::ExitCode;

use serde_json::json;

use super::{BadInput, print, print_json};
use crate::avatar::AvatarStore;
use crate::cli::{Avatars, Doctor, Home, Pipelines};
use crate::config::Folders;
use crate::doctor::{self, DoctorInput};
use crate::ids::AvatarId;
use crate::media::{self, CheckStatus};

pub(super) fn avatars(home: &Home, command: Avatars) -> anyhow::Result<ExitCode> {
    let store = AvatarStore::new(Folders::find(home)?.avatars);
    match command {
        Avatars::List { json } => {
            let mut rows = Vec::new();
            for id in store.list() {
                // A folder whose manifest is broken is listed with its fault, not hidden.
                match store.manifest(&id) {
                    Ok(manifest) => rows.push(json!({"id": id, "name": manifest.name, "model": manifest.model,
                        "width": manifest.width, "height": manifest.height})),
                    Err(error) => rows.push(json!({"id": id, "error": error.to_string()})),
                }
            }
            if json {
                print_json(&json!({ "avatars": rows }))?;
            } else {
                for row in rows {
                    let text = |field: &str| row[field].as_str().unwrap_or_default().to_owned();
                    print(&match row["error"].as_str() {
                        Some(error) => format!("{:16} unusable: {error}\n", text("id")),
                        None => format!("{:16} {} (model {})\n", text("id"), text("name"), text("model")),
                    });
                }
            }
        }
        Avatars::Show { id, json } => {
            let manifest = store.manifest(&id.parse::<AvatarId>()?)?;
            if json {
                print_json(&manifest)?;
            } else {
                print(&toml::to_string_pretty(&manifest)?);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn pipelines(home: &Home, command: Pipelines) -> anyhow::Result<ExitCode> {
    media::init()?;
    let folder = Folders::find(home)?.pipelines;
    let directory = media::PipelineDir::find(&folder);
    let (reports, json, strict) = match command {
        Pipelines::List { json } => (media::list(&directory)?, json, false),
        Pipelines::Check { files, json } if files.is_empty() => (media::list(&directory)?, json, true),
        Pipelines::Check { files, json } => (media::check(&files), json, true),
    };
    if json {
        print_json(&json!({ "pipelines": reports }))?;
    } else {
        for report in &reports {
            let fault = report.fault.as_ref().map_or("", |fault| fault.message.as_str());
            print(&match report.status {
                CheckStatus::Ok => format!("{:30} ok\n", report.file),
                CheckStatus::Unavailable => format!("{:30} not on this machine: {fault}\n", report.file),
                CheckStatus::Faulty => format!("{:30} FAULTY: {fault}\n", report.file),
            });
        }
    }
    let faulty: Vec<&str> = reports
        .iter()
        .filter(|report| report.status == CheckStatus::Faulty)
        .map(|report| report.file.as_str())
        .collect();
    if strict && !faulty.is_empty() {
        let problem = format!("{} does not fit the contract of pipelines/README.md", faulty.join(", "));
        return Err(BadInput(problem).into());
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn doctor(home: &Home, arguments: Doctor) -> anyhow::Result<ExitCode> {
    let folders = Folders::find(home)?;
    let input = DoctorInput { folders, avatar: arguments.avatar.parse()?, listen: arguments.listen };
    let report = doctor::run(&input);
    if arguments.json {
        print_json(&report)?;
    } else {
        let mut text = Vec::new();
        report.write_to(&mut text)?;
        print(&String::from_utf8_lossy(&text));
    }
    Ok(if report.is_healthy() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
