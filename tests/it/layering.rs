//! Modules use only those below them, as the table in `src/lib.rs` says, and each foreign library has one home: whoever looks
//! for GStreamer, libtorch or sockets finds all of it in one folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A crate and the folders or files of `src/` that may name it.
const HOMES: &[(&str, &[&str])] = &[
    ("gstreamer", &["media"]),
    ("gstreamer_app", &["media"]),
    ("gstreamer_sdp", &["media"]),
    ("gstreamer_utils", &["media"]),
    ("gstreamer_video", &["media"]),
    ("gstreamer_webrtc", &["media"]),
    ("if_addrs", &["media"]),
    ("quinn_udp", &["media/one_port"]),
    ("socket2", &["media/one_port"]),
    ("tch", &["musetalk", "portrait", "lipsync.rs", "training", "training.rs", "bin/demo-model"]),
    ("image", &["media"]),
    ("moxcms", &["media"]),
    ("libloading", &["musetalk"]),
    ("cudarc", &["musetalk/gpu"]),
    ("libc", &["main.rs"]),
    ("jsonwebtoken", &["access"]),
    ("tokio_rustls", &["signalling/tls.rs"]),
    ("tokio_tungstenite", &["signalling", "commands/bench", "speech/tts/service/websocket.rs"]),
    ("axum", &["signalling"]),
    ("reqwest", &["access/key_set.rs", "models/fetch", "endpoint", "dialogue/llm", "speech/tts/service/openai.rs"]),
    ("rubato", &["speech"]),
    ("symphonia", &["speech/sound"]),
    ("opus_decoder", &["speech/sound"]),
    ("earshot", &["hearing"]),
    ("ebur128", &["speech/leveller.rs"]),
    ("realfft", &["hearing", "speech/tts/hibari"]),
    ("rten", &["speech/tts/hibari", "face"]),
    ("rten_tensor", &["speech/tts/hibari", "face"]),
    ("unicode_script", &["speech"]),
    ("fancy_regex", &["speech/tts/hibari"]),
    ("jpeg_encoder", &["picture"]),
    ("zune_core", &["picture"]),
    ("zune_jpeg", &["picture"]),
    ("tar", &["avatar"]),
    ("tiny_skia", &["bin/demo-model/character", "bin/demo-model/character.rs"]),
    ("wide", &["still"]),
    ("anyhow", &["server", "commands", "bin"]),
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
        for &(library, homes) in HOMES {
            let at_home = homes
                .iter()
                .any(|home| file == *home || file == format!("{home}.rs") || file.starts_with(&format!("{home}/")));
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
        // The last two for switches that only whoever measures has a use for.
        let may =
            ["main.rs", "cli.rs", "config.rs", "commands.rs", "musetalk/gpu/graphs.rs", "musetalk/gpu/kernels.rs"]
                .contains(&file.as_str());
        let is_for_tests = file.contains("/testing/");
        let reads = text.contains("env::var") || text.contains("env::current_dir");
        assert!(may || is_for_tests || !reads, "{file} reads the environment");
    }
}

/// A file without its comments.
fn code_of(text: &str) -> String {
    text.lines().filter(|line| !line.trim_start().starts_with("//")).flat_map(|line| [line, "\n"]).collect()
}

/// The floor of each module, from the table at the top of a file that declares them.
fn floors(file: &str) -> BTreeMap<String, usize> {
    let root = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(file)).unwrap();
    let rows =
        root.lines().skip_while(|line| !line.starts_with("//! | 0 |")).take_while(|line| line.starts_with("//! |"));
    let mut floors = BTreeMap::new();
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        for module in cells[2].split(", ").map(|name| name.trim_matches('`')) {
            let known = floors.insert(module.to_owned(), cells[1].parse().unwrap());
            assert!(known.is_none(), "{module} stands on two floors");
        }
    }
    let declared: Vec<&str> =
        root.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    assert_eq!(floors.keys().collect::<Vec<_>>(), declared, "the table has each module, and no other");
    floors
}

/// The modules below `root` that a line of code names: for `crate::` those of `crate::name` and `use crate::{name, name::..}`.
fn named_modules(code: &str, root: &str) -> Vec<String> {
    let mut named = Vec::new();
    for (at, path) in code.match_indices(root) {
        let rest = &code[at + path.len()..];
        let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        let Some(list) = rest.strip_prefix('{') else {
            named.push(word(rest));
            continue;
        };
        let mut depth = 0;
        let mut starts = true;
        for (at, character) in list.char_indices() {
            match character {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => starts = true,
                _ if starts && character.is_alphabetic() => {
                    named.push(word(&list[at..]));
                    starts = false;
                }
                _ => {}
            }
        }
    }
    named
}

#[test]
fn modules_use_only_what_is_on_a_floor_below_them() {
    let floors = floors("lib.rs");
    let mut upward = Vec::new();
    for (file, text) in project_sources() {
        let module = file.split('/').next().unwrap().trim_end_matches(".rs").to_owned();
        let Some(floor) = floors.get(&module) else { continue };
        let code = code_of(&text);
        // So many `super` lead from this file to the root of the crate.
        let to_the_root = "super::".repeat(file.matches('/').count() + 1);
        assert!(!code.contains(&format!("{to_the_root}super::")), "{file} reaches beyond the root");
        let code = code.replace(&to_the_root, "crate::");
        for used in named_modules(&code, "crate::").into_iter().filter(|used| *used != module) {
            if floors.get(&used).is_some_and(|below| below >= floor) {
                upward.push(format!("{file} uses {used}"));
            }
        }
    }
    assert!(upward.is_empty(), "on the same floor or above: {upward:#?}");
}

#[test]
fn rooms_of_musetalk_use_only_those_on_a_floor_below_them() {
    let rooms = floors("musetalk.rs");
    let mut upward = Vec::new();
    for (file, text) in project_sources() {
        let Some(inside) = file.strip_prefix("musetalk/") else { continue };
        let room = inside.split('/').next().unwrap().trim_end_matches(".rs").to_owned();
        let code = code_of(&text);
        assert!(!code.contains(&"super::".repeat(file.matches('/').count())), "{file} reaches over its room");
        for used in named_modules(&code, "crate::musetalk::").into_iter().filter(|used| *used != room) {
            // What `musetalk.rs` exports again is for others; inside, a room is named by which it is known what is used.
            if used != "Result" && rooms.get(&used).is_none_or(|below| *below >= rooms[&room]) {
                upward.push(format!("{file} uses {used}"));
            }
        }
    }
    assert!(upward.is_empty(), "on the same floor or above: {upward:#?}");
}

#[test]
fn the_names_of_modules_are_found_in_every_form_of_use() {
    let code = "use crate::{ids::{A, B}, latency, session::Notice};\nlet x = crate::metrics::y(crate::worker::Z);";
    assert_eq!(named_modules(code, "crate::"), ["ids", "latency", "session", "metrics", "worker"]);
}
