//! The documents name what there is: every setting and its default, commands that are understood, files that exist.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::{CommandFactory, Parser};
use mouthpiece::avatar::Manifest;
use mouthpiece::cli::{Cli, Home, Serve};
use mouthpiece::config::{ConfigError, ServeConfig};

const PROJECT: &str = env!("CARGO_MANIFEST_DIR");
const DOCUMENTS: [&str; 5] = ["README.md", "FIGURES.md", "CHANGELOG.md", "pipelines/README.md", "models/README.md"];

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(PROJECT).join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A line of `settings.toml` that sets something, or shows how.
struct Setting {
    /// Of its table, empty outside of all.
    table: String,
    key: String,
    /// `key = value`, without what is behind it.
    line: String,
    has_default: bool,
    /// What stands behind it: the option and the variable that say the same.
    option: Option<String>,
    variable: Option<String>,
}

fn settings() -> Vec<Setting> {
    let text = read("settings.toml");
    let mut table = String::new();
    let mut settings = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with("# ") && *line != "#") {
        if let Some(name) = line.strip_prefix('[') {
            table = name.trim_end_matches(']').to_owned();
            continue;
        }
        let (line, behind) = line.split_once("  # ").unwrap_or((line, ""));
        let word = |starts: &str| behind.split([' ', ',']).find(|word| word.starts_with(starts)).map(str::to_owned);
        let (option, variable) = (word("--"), word("MOUTHPIECE_"));
        let has_default = !line.starts_with('#');
        let line = line.trim_start_matches('#').trim().to_owned();
        let (key, _) = line.split_once(" = ").unwrap_or_else(|| panic!("this is no setting: {line:?}"));
        settings.push(Setting { table: table.clone(), key: key.to_owned(), line, has_default, option, variable });
    }
    settings
}

/// A settings file of those that are chosen.
fn file_of(chosen: impl Fn(&Setting) -> bool) -> String {
    let mut text = String::new();
    let mut table = String::new();
    for setting in settings().into_iter().filter(chosen) {
        if setting.table != table {
            table = setting.table;
            text += &format!("[{table}]\n");
        }
        text += &format!("{}\n", setting.line);
    }
    text
}

fn resolve(file: Option<PathBuf>) -> Result<ServeConfig, ConfigError> {
    let home = Home { home: Some(PROJECT.into()) };
    ServeConfig::resolve(&home, Serve { config: file, ..Serve::default() })
}

fn resolve_text(text: &str) -> Result<ServeConfig, ConfigError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    resolve(Some(file.path().to_owned()))
}

/// The names that a table of the settings file may have, as its error lists them.
fn known_keys(table: &str) -> BTreeSet<String> {
    let header = if table.is_empty() { String::new() } else { format!("[{table}]\n") };
    let error = resolve_text(&format!("{header}nobody = 1\n")).unwrap_err().to_string();
    let (_, listed) = error.split_once(", expected ").unwrap_or_else(|| panic!("no names in {error:?}"));
    listed.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_sample_of_settings_has_every_setting_that_there_is_and_no_other() {
    let mut tables: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for Setting { table, key, .. } in settings() {
        if !table.is_empty() && !tables.contains_key(&table) {
            tables.entry(String::new()).or_default().push(table.clone());
        }
        tables.entry(table).or_default().push(key);
    }
    for (table, keys) in tables {
        let names: BTreeSet<String> = keys.iter().cloned().collect();
        assert_eq!(names.len(), keys.len(), "[{table}] says something twice: {keys:?}");
        assert_eq!(names, known_keys(&table), "[{table}]");
    }
}

#[test]
fn the_sample_of_settings_as_it_stands_says_what_holds_without_it() {
    let without = resolve(None).unwrap();
    assert_eq!(resolve(Some(Path::new(PROJECT).join("settings.toml"))).unwrap(), without);
    // Services have defaults of their own, which hold once they are named.
    let names = |setting: &Setting| !setting.table.is_empty() && ["url", "model"].contains(&setting.key.as_str());
    let named = resolve_text(&file_of(names)).unwrap();
    assert!(named.llm.is_some() && named.tts.is_some() && named.asr.is_some());
    assert_eq!(resolve_text(&file_of(|setting| setting.has_default || names(setting))).unwrap(), named);
}

#[test]
fn the_examples_among_the_settings_are_taken() {
    // The files are not on this machine.
    let taken = file_of(|setting| !setting.key.ends_with("_file"));
    assert_ne!(resolve_text(&taken).unwrap(), resolve(None).unwrap());
}

#[test]
fn the_sample_of_settings_has_every_option_of_serve_and_every_variable_beside_its_setting() {
    let program = Cli::command();
    let serve = program.find_subcommand("serve").unwrap();
    let arguments = program.get_arguments().chain(serve.get_arguments()).filter(|argument| !argument.is_hide_set());
    let mut missing = BTreeSet::new();
    let (settings, text) = (settings(), read("settings.toml"));
    for argument in arguments {
        let long = argument.get_long().unwrap();
        let option = format!("--{long}");
        let variable = argument.get_env().map(|variable| variable.to_str().unwrap().to_owned());
        if ["home", "config"].contains(&long) {
            let named = text.contains(&option) && variable.is_none_or(|variable| text.contains(&variable));
            assert!(named, "{option} is not named");
            continue;
        }
        let name = long.replace('-', "_");
        let is_its = |setting: &Setting| {
            let full = if setting.table.is_empty() { String::new() } else { format!("{}_", setting.table) };
            format!("{full}{}", setting.key).trim_end_matches('s') == name.trim_end_matches('s')
        };
        let beside = settings.iter().find(|setting| is_its(setting));
        if beside.is_none_or(|setting| setting.option.as_ref() != Some(&option) || setting.variable != variable) {
            missing.insert(option);
        }
    }
    assert!(missing.is_empty(), "these stand not beside their settings: {missing:?}");
    let options = settings.iter().filter_map(|setting| setting.option.as_deref());
    for option in options {
        let is_there = serve.get_arguments().any(|argument| argument.get_long() == option.strip_prefix("--"));
        assert!(is_there, "there is no {option}");
    }
}

/// What begins with `prefix` and goes on with letters of a name.
fn names_in<'a>(text: &'a str, prefix: &str) -> BTreeSet<&'a str> {
    let is_end = |character: char| !(character.is_ascii_uppercase() || character == '_');
    let name = |(at, _): (usize, &str)| text[at..].split(is_end).next().unwrap();
    text.match_indices(prefix).map(name).filter(|name| name.len() > prefix.len()).collect()
}

#[test]
fn the_sample_of_settings_has_every_variable_that_the_program_reads() {
    let sources = ["src/cli.rs", "src/config.rs"].map(PathBuf::from).into_iter();
    let folders = ["src/cli", "src/config"].into_iter().flat_map(|folder| {
        let entries = std::fs::read_dir(Path::new(PROJECT).join(folder)).unwrap();
        entries.map(|entry| entry.unwrap().path())
    });
    let read_by_the_program: String = sources.chain(folders).map(|path| read(path.to_str().unwrap())).collect();
    let text = read("settings.toml");
    assert_eq!(names_in(&text, "MOUTHPIECE_"), names_in(&read_by_the_program, "MOUTHPIECE_"));
}

/// The lines of code blocks, those that go on behind a backslash joined.
fn code_lines(document: &str) -> Vec<String> {
    let mut is_fenced = false;
    let mut lines: Vec<String> = Vec::new();
    let mut goes_on = false;
    for line in document.lines() {
        if line.starts_with("```") {
            is_fenced = !is_fenced;
            continue;
        }
        if !is_fenced && !line.starts_with("    ") {
            continue;
        }
        let (line, continued) = line.trim().strip_suffix('\\').map_or((line.trim(), false), |line| (line, true));
        match lines.last_mut().filter(|_| goes_on) {
            Some(last) => last.push_str(line),
            None => lines.push(line.to_owned()),
        }
        goes_on = continued;
    }
    lines
}

/// The arguments of a line of shell: words, and strings between double quotes, up to a comment.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut is_quoted) = (Vec::new(), None::<String>, false);
    for character in line.chars() {
        match character {
            '"' => {
                is_quoted = !is_quoted;
                word.get_or_insert_default();
            }
            '#' if !is_quoted && word.is_none() => break,
            ' ' if !is_quoted => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    words
}

#[test]
fn every_command_in_the_documents_is_understood() {
    let mut understood = 0;
    for document in DOCUMENTS {
        for line in code_lines(&read(document)).iter().filter(|line| line.starts_with("mouthpiece ")) {
            let parsed = Cli::try_parse_from(words(line));
            assert!(parsed.is_ok(), "{document}: {line}\n{}", parsed.unwrap_err());
            understood += 1;
        }
    }
    assert!(understood > 20, "only {understood} commands found");
}

#[test]
fn the_example_of_an_avatars_manifest_is_taken() {
    let document = read("models/README.md");
    let (_, rest) = document.split_once("```toml\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), example).unwrap();
    assert_eq!(Manifest::load(file.path()).unwrap().name, "Mika");
}

#[test]
fn readme_names_every_command() {
    let readme = read("README.md");
    let program = Cli::command();
    for command in program.get_subcommands().filter(|command| !command.is_hide_set()) {
        let name = command.get_name();
        assert!(readme.contains(&format!("mouthpiece {name}")), "{name} is not in README.md");
    }
}

/// Paths that a document links to, with the heading behind `#`, or names between backticks.
fn paths(document: &str) -> Vec<(&str, Option<&str>)> {
    let links = document.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let links = links.filter(|link| !link.contains("://") && !link.starts_with('/'));
    let links = links.map(|link| link.split_once('#').map_or((link, None), |(path, heading)| (path, Some(heading))));
    let code = document.split('`').skip(1).step_by(2).filter(|code| {
        let is_ours = ["src/", "tests/", "scripts/", "web/"].iter().any(|top| code.starts_with(top));
        is_ours && !code.contains(['*', '<', '{', ' '])
    });
    links.chain(code.map(|path| (path, None))).collect()
}

/// What a link to a heading calls it.
fn anchors(document: &str) -> Vec<String> {
    let headings =
        document.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let kept = |letter: &char| letter.is_alphanumeric() || [' ', '-', '_'].contains(letter);
    headings.map(|heading| heading.to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")).collect()
}

#[test]
fn every_file_and_heading_that_the_documents_name_is_there() {
    for document in DOCUMENTS {
        let (file, text) = (Path::new(PROJECT).join(document), read(document));
        for (path, heading) in paths(&text) {
            let beside = if path.is_empty() { file.clone() } else { file.parent().unwrap().join(path) };
            let is_there = beside.exists() || Path::new(PROJECT).join(path).exists();
            assert!(is_there, "{document} names {path}");
            if let Some(heading) = heading {
                let anchors = anchors(&read(beside.to_str().unwrap()));
                assert!(
                    anchors.iter().any(|anchor| anchor == heading),
                    "{document} names {path}#{heading}: {anchors:?}"
                );
            }
        }
    }
}
