//! Each foreign library has one home: whoever looks for GStreamer, libtorch or sockets finds all of it in one folder.

use std::path::{Path, PathBuf};

/// A crate and the folders or files of `src/` that may name it.
const HOMES: [(&str, &[&str]); 24] = [
    ("gstreamer", &["media"]),
    ("gstreamer_app", &["media"]),
    ("gstreamer_sdp", &["media"]),
    ("gstreamer_utils", &["media"]),
    ("gstreamer_video", &["media"]),
    ("gstreamer_webrtc", &["media"]),
    ("if_addrs", &["media"]),
    ("tch", &["lipsync/musetalk", "lipsync/mod.rs", "demo"]),
    ("libloading", &["lipsync/musetalk"]),
    ("tokio_tungstenite", &["signalling", "commands/bench", "speech/tts/websocket.rs"]),
    ("axum", &["signalling"]),
    ("reqwest", &["models/fetch", "endpoint", "dialogue/llm", "speech/tts/remote.rs"]),
    ("rubato", &["speech"]),
    ("symphonia", &["speech/sound"]),
    ("opus_decoder", &["speech/sound"]),
    ("earshot", &["hearing"]),
    ("ebur128", &["speech/leveller.rs"]),
    ("realfft", &["hearing", "speech/tts/hibari"]),
    ("rten", &["speech/tts/hibari"]),
    ("rten_tensor", &["speech/tts/hibari"]),
    ("unicode_script", &["speech"]),
    ("fancy_regex", &["speech/tts/hibari"]),
    ("tiny_skia", &["demo"]),
    ("anyhow", &["server", "server.rs", "commands", "commands.rs", "demo", "bin"]),
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn project_sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    sources(&root, &mut found);
    assert!(found.len() > 50, "only {} files found", found.len());
    found
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            (path.strip_prefix(&root).unwrap().to_string_lossy().into_owned(), text)
        })
        .collect()
}

#[test]
fn every_foreign_library_has_one_home() {
    for (file, text) in project_sources() {
        for (library, homes) in HOMES {
            let at_home = homes.iter().any(|home| file == *home || file.starts_with(&format!("{home}/")));
            let named = text.lines().filter(|line| !line.trim_start().starts_with("//")).find(|line| {
                line.split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':')
                    .any(|word| word == library || word.starts_with(&format!("{library}::")))
                    && (line.trim_start().starts_with("use ") || line.contains(&format!("{library}::")))
            });
            assert!(at_home || named.is_none(), "{file} uses {library}, whose home is {homes:?}: {}", named.unwrap());
        }
    }
}

#[test]
fn every_file_says_what_is_in_it() {
    for (file, text) in project_sources() {
        assert!(text.starts_with("//! "), "{file} has no header");
    }
}

#[test]
fn only_the_command_line_and_the_settings_read_the_environment() {
    for (file, text) in project_sources() {
        let may = ["main.rs", "cli.rs", "config.rs", "commands.rs"].contains(&file.as_str());
        let reads = text.contains("env::var") || text.contains("env::current_dir");
        assert!(may || !reads, "{file} reads the environment");
    }
}
