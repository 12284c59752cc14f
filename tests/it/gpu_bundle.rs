//! What `scripts/gpu_bundle.sh` packs is there, and what `scripts/gpu` runs in it is understood: nobody else runs either
//! before somebody has a GPU.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

use clap::Parser;
use gstreamer as gst;
use gstreamer::prelude::*;
use mouthpiece::cli::Cli;
use serde_json::Value;

const PROJECT: &str = env!("CARGO_MANIFEST_DIR");
/// Elements that webrtcbin and the description of nobody make for themselves.
const MADE_INSIDE: [&str; 10] = [
    "nicesrc",
    "nicesink",
    "rtpbin",
    "rtpfunnel",
    "dtlssrtpenc",
    "dtlssrtpdec",
    "srtpenc",
    "srtpdec",
    "sctpenc",
    "queue",
];

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(PROJECT).join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The words of an array of the script.
fn listed(name: &str) -> Vec<String> {
    let script = read("scripts/gpu_bundle.sh");
    let (_, rest) = script.split_once(&format!("\n{name}=(")).unwrap_or_else(|| panic!("no {name}"));
    let (words, _) = rest.split_once(')').unwrap();
    words.split_whitespace().map(str::to_owned).collect()
}

#[track_caller]
fn succeeds(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn every_file_that_the_bundle_takes_of_this_project_is_there_and_every_script_is_taken() {
    let (scripts, home) = (listed("scripts"), listed("home"));
    for file in scripts.iter().chain(&home) {
        assert!(Path::new(PROJECT).join(file).exists(), "{file}");
    }
    let taken: BTreeSet<&str> = scripts.iter().map(String::as_str).collect();
    // Used here, when it is packed.
    let packing = ["scripts/gpu/loose_png.py", "scripts/gpu/requirements.txt"];
    for entry in std::fs::read_dir(Path::new(PROJECT).join("scripts/gpu")).unwrap() {
        let entry = entry.unwrap();
        let file = format!("scripts/gpu/{}", entry.file_name().to_str().unwrap());
        let is_source = entry.file_type().unwrap().is_file();
        assert!(!is_source || taken.contains(file.as_str()) || packing.contains(&file.as_str()), "{file} is not taken");
    }
}

#[test]
fn the_bundle_has_the_plugin_of_every_element_that_a_session_uses() {
    gst::init().unwrap();
    let plugins = listed("plugins");
    let mut elements: BTreeSet<String> = MADE_INSIDE.map(str::to_owned).into();
    for entry in std::fs::read_dir(Path::new(PROJECT).join("pipelines")).unwrap() {
        let path = entry.unwrap().path();
        // What measures there starts no outputs.
        let is_output = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("output-"));
        if path.extension().is_some_and(|extension| extension == "launch") && !is_output {
            let text = std::fs::read_to_string(&path).unwrap();
            let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
            elements.extend(lines.flat_map(str::split_whitespace).map(str::to_owned));
        }
    }
    // What is no element is a property, caps or an arrow; an encoder of other hardware may lack its element here.
    let used: Vec<gst::ElementFactory> = elements.iter().filter_map(|word| gst::ElementFactory::find(word)).collect();
    assert!(used.len() > MADE_INSIDE.len() + 10, "{used:?}");
    for factory in used {
        let file = factory.plugin().and_then(|plugin| plugin.filename()).unwrap();
        let file = file.file_name().unwrap().to_str().unwrap();
        let name = file.strip_prefix("libgst").and_then(|file| file.strip_suffix(".so")).unwrap();
        assert!(plugins.iter().any(|plugin| plugin == name), "{} is in {file}, which is not packed", factory.name());
    }
}

#[test]
fn shell_and_python_of_the_bundle_can_be_read() {
    let folder = Path::new(PROJECT).join("scripts");
    for script in ["gpu_bundle.sh", "gpu/run.sh"] {
        succeeds(&Command::new("bash").arg("-n").arg(folder.join(script)).output().unwrap());
    }
    let sources = std::fs::read_dir(folder.join("gpu")).unwrap().map(|entry| entry.unwrap().path());
    let sources = sources.filter(|path| path.extension().is_some_and(|extension| extension == "py"));
    let parse = "import ast, sys\nfor name in sys.argv[1:]: ast.parse(open(name).read(), name)";
    succeeds(&Command::new("python3").args(["-c", parse]).args(sources).output().unwrap());
}

/// With a program that writes down how it is called in the place of ours, and a PyTorch that is a folder.
#[test]
fn what_the_parts_ask_of_the_program_is_understood_and_what_it_tells_is_written_down() {
    let bundle = tempfile::tempdir().unwrap();
    let at = |path: &str| bundle.path().join(path);
    for folder in ["bin", "gpu", "python/torch/lib"] {
        std::fs::create_dir_all(at(folder)).unwrap();
    }
    for script in listed("scripts").iter().filter(|script| script.ends_with(".py")) {
        std::fs::copy(Path::new(PROJECT).join(script), at("gpu").join(Path::new(script).file_name().unwrap())).unwrap();
    }
    std::fs::copy(Path::new(PROJECT).join("scripts/gpu/run.sh"), at("run.sh")).unwrap();
    std::fs::write(at("python/torch/__init__.py"), "").unwrap();
    let (program, calls) = (at("bin/mouthpiece"), at("calls"));
    let text = format!("#!/bin/sh\necho \"mouthpiece $*\" >> {}\necho '{{\"told\": 1}}'\n", calls.display());
    std::fs::write(&program, text).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();

    let mut command = Command::new("bash");
    command.arg(at("run.sh")).args(["engine", "server", "--device", "cpu", "--at-vae", "4,8", "--out"]).arg(at("out"));
    // Where `run.sh` would look for a Python that has PyTorch.
    succeeds(&command.env("PYTHON", "python3").output().unwrap());

    let calls = std::fs::read_to_string(calls).unwrap();
    for call in calls.lines() {
        let parsed = Cli::try_parse_from(call.split_whitespace());
        assert!(parsed.is_ok(), "{call}\n{}", parsed.unwrap_err());
    }
    for part in ["bench throughput", "bench sessions", "bench latency", "doctor"] {
        assert!(calls.contains(part), "{part} is not among\n{calls}");
    }
    assert!(calls.contains("--at 4,8"), "{calls}");
    let results: Value = serde_json::from_str(&std::fs::read_to_string(at("out/results.json")).unwrap()).unwrap();
    for (part, figure) in [("engine", "vae as served"), ("server", "taesd latency")] {
        let part = &results["parts"][part];
        assert_eq!(part["state"], "done", "{part}");
        assert_eq!(part["figures"][figure]["printed"]["told"], 1, "{part}");
    }
}
