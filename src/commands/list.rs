//! Commands that only look: pipelines, doctor.

use std::process::ExitCode;

use serde_json::json;

use super::{BadInput, print, print_json};
use crate::cli::{Doctor, Home, Pipelines, Serve};
use crate::config::{DEFAULT_LISTEN, Folders, ServeConfig};
use crate::doctor::{self, DoctorInput};
use crate::media::{self, CheckStatus};

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

pub(super) async fn doctor(home: &Home, arguments: Doctor) -> anyhow::Result<ExitCode> {
    let folders = Folders::find(home)?;
    let network = if arguments.network {
        let serve = Serve { config: arguments.config, listen: arguments.listen, ..Serve::default() };
        doctor::network::checks(&ServeConfig::resolve(home, serve)?).await
    } else {
        Vec::new()
    };
    let listen = arguments.listen.unwrap_or(DEFAULT_LISTEN);
    let input = DoctorInput { folders, avatar: arguments.avatar.parse()?, listen, network };
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
