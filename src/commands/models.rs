//! `mouthpiece models`: what the commands about networks and their weights do and print.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;

use super::{BadInput, fetch, print, print_json, tune};
use crate::cli::{Convert, Home, Install, Models, RunNetwork};
use crate::config::Folders;
use crate::models::catalog::{self, FACE_PARSER, LISTS, PARTS, WHOLE};
use crate::models::folder::{CONFIGS, WEIGHTS, first_of};
use crate::models::verify::{FileReport, verify};
use crate::models::{DType, ListError, TensorList, convert};
use crate::musetalk::tools::{run_network, throughput};
use crate::musetalk::weights::published::{self, Published};
use crate::musetalk::{DeviceChoice, FaceParser, ModelConfig, MuseTalk, find_device};
use crate::timeline::FRAME_DURATION;

pub(super) async fn run(home: &Home, command: Models) -> anyhow::Result<ExitCode> {
    match command {
        Models::List { speed, device, json } => list(home, speed.then_some(device), json),
        Models::Fetch(arguments) => fetch::run(home, &arguments).await,
        Models::Convert(arguments) => convert_model(home, &arguments),
        Models::Verify { name, json } => verify_model(home, &name, json),
        Models::Run(arguments) => run_network(&arguments),
        Models::TuneDecoder(arguments) => tune::run(home, arguments).await,
    }
}

/// What is known of a model's folder without loading it.
struct Row {
    name: String,
    bytes: u64,
    fault: Option<String>,
    /// For one frame, if it was measured, and on which device.
    frame: Option<(Duration, String)>,
}

impl Row {
    /// Loads the model and draws with it; one that does not load is not usable.
    fn measure(&mut self, folder: &Path, device: DeviceChoice) {
        let measured = find_device(device).and_then(|device| {
            let took = throughput::time_of_frame(&mut MuseTalk::load(folder, device, 1)?)?;
            Ok((took, format!("{device:?}").to_lowercase()))
        });
        match measured {
            Ok(frame) => self.frame = Some(frame),
            Err(error) => self.fault = Some(error.to_string()),
        }
    }

    fn state(&self) -> String {
        match (&self.fault, &self.frame) {
            (Some(fault), _) => fault.clone(),
            (None, None) => "usable".to_owned(),
            (None, Some((took, device))) => {
                let pace = if *took <= FRAME_DURATION { "real time" } else { "for films only" };
                format!("usable, {:.0} ms a frame on {device}: {pace}", took.as_secs_f64() * 1000.0)
            }
        }
    }

    fn json(&self) -> serde_json::Value {
        let frame_ms = self.frame.as_ref().map(|(took, _)| (took.as_secs_f64() * 1e5).round() / 100.0);
        let device = self.frame.as_ref().map(|(_, device)| device);
        json!({"name": self.name, "bytes": self.bytes, "usable": self.fault.is_none(), "fault": self.fault,
            "frame_ms": frame_ms, "device": device})
    }
}

fn look_at(folder: &Path) -> Row {
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let size = |file: &str| folder.join(file).metadata().map(|about| about.len()).unwrap_or(0);
    let config = folder.join("config.json");
    if let (Ok(Published::Kl(_) | Published::Tiny(_) | Published::Unet(_) | Published::Whisper(_)), Ok(weights)) =
        (Published::load(&config), first_of(folder, &WEIGHTS))
    {
        let bytes = weights.metadata().map_or(0, |about| about.len());
        let fault = Some("one network, for `mouthpiece models run` only".to_owned());
        return Row { name, bytes, fault, frame: None };
    }
    let parts = PARTS.map(|part| format!("{part}.safetensors"));
    let in_parts = parts.iter().any(|file| size(file) > 0);
    let files: Vec<&str> = if in_parts { parts.iter().map(String::as_str).collect() } else { vec![WHOLE] };
    let missing: Vec<&str> = files.iter().copied().filter(|file| size(file) == 0).collect();
    let fault = match ModelConfig::load(&config) {
        Err(error) => Some(error.to_string()),
        Ok(_) if missing.is_empty() => None,
        Ok(_) => Some(format!("{} is missing", missing.join(", "))),
    };
    Row { name, bytes: files.into_iter().map(size).sum(), fault, frame: None }
}

/// What masks of avatars may be made of besides the mesh; nobody needs it.
fn face_parsing(models: &Path) -> Row {
    let file = FaceParser::path(models);
    let bytes = file.metadata().map_or(0, |about| about.len());
    let fault = match find_device(DeviceChoice::Cpu).and_then(|device| FaceParser::load(&file, device)) {
        Ok(_) => "for masks of MuseTalk's avatars only".to_owned(),
        Err(_) if !file.exists() => format!("not installed, optional: its weights go to {}", file.display()),
        Err(error) => error.to_string(),
    };
    Row { name: FACE_PARSER.to_owned(), bytes, fault: Some(fault), frame: None }
}

fn list(home: &Home, speed: Option<DeviceChoice>, json: bool) -> anyhow::Result<ExitCode> {
    let folder = Folders::find(home)?.models;
    let mut entries: Vec<_> = std::fs::read_dir(&folder)?.flatten().map(|entry| entry.path()).collect();
    entries.sort();
    let mut rows: Vec<Row> =
        entries.iter().filter(|path| path.join("config.json").is_file()).map(|path| look_at(path)).collect();
    for known in catalog::KNOWN {
        if rows.iter().all(|row| row.name != known.name) {
            let fault = Some(format!("not installed: `mouthpiece models fetch {}`", known.name));
            rows.push(Row { name: known.name.to_owned(), bytes: 0, fault, frame: None });
        }
    }
    rows.push(face_parsing(&folder));
    if let Some(device) = speed {
        // One that is not there is the caller's mistake, not the models'.
        find_device(device)?;
        let usable = rows.iter_mut().filter(|row| row.fault.is_none());
        usable.for_each(|row| row.measure(&folder.join(&row.name), device));
    }
    if json {
        print_json(&json!({ "models": rows.iter().map(Row::json).collect::<Vec<_>>() }))?;
    } else {
        for row in rows {
            print(&format!("{:16} {:>8} kB  {}\n", row.name, row.bytes / 1000, row.state()));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn lists(models: &Path) -> Result<[TensorList; 3], ListError> {
    let [audio_encoder, unet, autoencoder] = PARTS;
    let load = |part: &str| TensorList::load(&models.join(LISTS).join(format!("{part}.tensors")));
    Ok([load(audio_encoder)?, load(unet)?, load(autoencoder)?])
}

fn convert_model(home: &Home, arguments: &Convert) -> anyhow::Result<ExitCode> {
    let models = Folders::find(home)?.models;
    let parsing = bring_face_parsing(&models, &arguments.from)?;
    let folder = install(&models, &arguments.name, &arguments.from, &arguments.install)?;
    if let Some(file) = parsing.filter(|_| !arguments.install.json) {
        print(&format!("face parsing, for masks of avatars, is in {}\n", file.display()));
    }
    installed(&folder, &arguments.install)
}

/// Takes upstream's face parsing along if it lies beside the networks and is not here yet; gives its file then.
fn bring_face_parsing(models: &Path, from: &Path) -> anyhow::Result<Option<PathBuf>> {
    let (theirs, ours) = (FaceParser::path(from), FaceParser::path(models));
    if !theirs.is_file() || ours.exists() {
        return Ok(None);
    }
    FaceParser::load(&theirs, find_device(DeviceChoice::Cpu)?).map_err(|error| BadInput(error.to_string()))?;
    if let Some(folder) = ours.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let unfinished = ours.with_extension("part");
    let outcome = std::fs::copy(&theirs, &unfinished).and_then(|_| std::fs::rename(&unfinished, &ours));
    if let Err(error) = outcome {
        // What failed is the news; a part that stays is overwritten next time.
        let _ = std::fs::remove_file(&unfinished);
        return Err(anyhow::Error::from(error).context(ours.display().to_string()));
    }
    Ok(Some(ours))
}

/// Converts upstream's folder `from` to the model `name`; gives its folder.
pub(super) fn install(models: &Path, name: &str, from: &Path, how: &Install) -> anyhow::Result<PathBuf> {
    let model = catalog::known(name)?;
    let folders = convert::find_folders(model, from)?;
    let [audio_encoder, unet, autoencoder] = &folders;
    let [audio_encoder, unet, autoencoder] =
        [first_of(audio_encoder, &CONFIGS)?, first_of(unet, &CONFIGS)?, first_of(autoencoder, &CONFIGS)?];
    let config = published::assemble(model.name, [&audio_encoder, &unet, &autoencoder])
        .map_err(|error| BadInput(error.to_string()))?;
    let target = convert::Target {
        models,
        lists: lists(models)?,
        config: &format!("{}\n", serde_json::to_string_pretty(&config)?),
        dtype: if how.dtype == "fp32" { DType::F32 } else { DType::F16 },
        replace: how.replace,
    };
    Ok(convert::convert(model.name, &folders, &target)?)
}

/// Says what is there now.
pub(super) fn installed(folder: &Path, how: &Install) -> anyhow::Result<ExitCode> {
    let row = look_at(folder);
    if how.json {
        print_json(&json!({"name": row.name, "folder": folder, "bytes": row.bytes}))?;
    } else {
        print(&format!("{} is in {}, {} MB\n", row.name, folder.display(), row.bytes >> 20));
    }
    Ok(ExitCode::SUCCESS)
}

fn verify_model(home: &Home, name: &str, json: bool) -> anyhow::Result<ExitCode> {
    let models = Folders::find(home)?.models;
    let folder = models.join(name);
    if Path::new(name).file_name() != Some(name.as_ref()) || !folder.join("config.json").is_file() {
        return Err(BadInput(format!(
            "no model {name:?} in {}: `mouthpiece models list` shows them",
            models.display()
        ))
        .into());
    }
    let reports = if catalog::known(name).is_ok() { verify(&folder, &lists(&models)?) } else { vec![load(&folder)] };
    let sound = reports.iter().all(|report| report.problems.is_empty());
    if json {
        print_json(&json!({"name": name, "sound": sound, "files": reports}))?;
    } else {
        for FileReport { file, bytes, tensors, problems } in &reports {
            let tensors = if *tensors > 0 { format!(", {tensors} tensors") } else { String::new() };
            let state = if problems.is_empty() { "ok".to_owned() } else { problems.join("; ") };
            print(&format!("{file:28} {:>9} kB{tensors}  {state}\n", bytes / 1000));
        }
    }
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A model without lists is what its configuration says, so loading it is the check.
fn load(folder: &Path) -> FileReport {
    let loaded = find_device(DeviceChoice::Cpu).and_then(|device| MuseTalk::load(folder, device, 1));
    let bytes = folder.join(WHOLE).metadata().map_or(0, |about| about.len());
    FileReport {
        file: WHOLE.to_owned(),
        bytes,
        tensors: 0,
        problems: loaded.err().iter().map(ToString::to_string).collect(),
    }
}

fn run_network(arguments: &RunNetwork) -> anyhow::Result<ExitCode> {
    let device = find_device(arguments.device)?;
    let files = (arguments.input.as_path(), arguments.output.as_path());
    let started = std::time::Instant::now();
    run_network::run(&arguments.folder, arguments.network, files, device, arguments.dtype)?;
    if arguments.json {
        print_json(&json!({
            "out": arguments.output, "device": format!("{device:?}"), "wall_ms": started.elapsed().as_millis(),
        }))?;
    }
    Ok(ExitCode::SUCCESS)
}
