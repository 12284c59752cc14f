//! Commands that only look: pipelines, doctor.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use serde_json::json;

use super::{BadInput, print, print_json};
use crate::cli::{Doctor, Home, Pipelines, Serve};
use crate::config::{DEFAULT_LISTEN, Folders, ServeConfig};
use crate::doctor::{self, DoctorInput};
use crate::media::{self, CheckStatus, Description};

pub(super) fn pipelines(home: &Home, command: Pipelines) -> anyhow::Result<ExitCode> {
    media::init()?;
    let folder = Folders::find(home)?.pipelines;
    let directory = media::PipelineDir::find(&folder);
    let (reports, json, strict, dot) = match command {
        Pipelines::List { json } => (media::list(&directory)?, json, false, None),
        Pipelines::Check { files, json, .. } if files.is_empty() => (media::list(&directory)?, json, true, None),
        Pipelines::Check { files, dot, json } => {
            let graph = dot.map(|dot| Graph::new(&files, dot)).transpose()?;
            let reports = media::check(&files);
            let is_whole = reports.iter().all(|report| report.status == CheckStatus::Ok);
            let drawn = graph.filter(|_| is_whole).map(Graph::draw).transpose()?;
            (reports, json, true, drawn)
        }
    };
    if json {
        let mut printed = json!({ "pipelines": reports });
        if let Some(dot) = &dot {
            printed["dot"] = dot.display().to_string().into();
        }
        print_json(&printed)?;
    } else {
        for report in &reports {
            let fault = report.fault.as_ref().map_or("", |fault| fault.message.as_str());
            print(&match report.status {
                CheckStatus::Ok => format!("{:30} ok\n", report.file),
                CheckStatus::Unavailable => format!("{:30} not on this machine: {fault}\n", report.file),
                CheckStatus::Faulty => format!("{:30} FAULTY: {fault}\n", report.file),
            });
        }
        if let Some(dot) = &dot {
            print(&format!("drawn in {}; Graphviz shows it: dot -Tsvg -O {}\n", dot.display(), dot.display()));
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

/// One description that is to be drawn, and where.
struct Graph {
    description: PathBuf,
    dot: PathBuf,
}

impl Graph {
    /// The file is written over, so one of another kind is refused.
    fn new(files: &[PathBuf], dot: PathBuf) -> Result<Self, BadInput> {
        let [description] = files else {
            return Err(BadInput("--dot draws one file: name one".to_owned()));
        };
        let beside = || PathBuf::from(description.file_name().unwrap_or_default()).with_extension("dot");
        let dot = if dot.as_os_str().is_empty() { beside() } else { dot };
        if dot.extension().is_none_or(|extension| extension != "dot") {
            let given = dot.display();
            return Err(BadInput(format!("--dot {given}: the name of the file to write must end with .dot")));
        }
        Ok(Self { description: description.clone(), dot })
    }

    fn draw(self) -> anyhow::Result<PathBuf> {
        let graphs = Description::read(&self.description)?.graphs()?;
        std::fs::write(&self.dot, graphs).with_context(|| format!("cannot write {}", self.dot.display()))?;
        Ok(self.dot)
    }
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
