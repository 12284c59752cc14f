//! Other avatars than the one that the server was started with: loaded when somebody asks for one, or not; and the commands
//! that list, check, carry and remove them.

use std::io::Write;
use std::path::Path;
use std::process::{Child, Output, Stdio};

use serde_json::{Value, json};
use tokio_tungstenite::connect_async;

use crate::cli::{next, program};
use crate::llm::Served;
use crate::watchdog;

const PROJECT: &str = env!("CARGO_MANIFEST_DIR");

/// A home with copies of the demo avatar under these names; what is large is linked.
pub(crate) fn home(names: &[&str]) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let demo = Path::new(PROJECT).join("models/avatars/demo");
    let link = |from: &Path, to: &Path| std::os::unix::fs::symlink(from, to).unwrap();
    for name in ["pipelines", "models/demo", "models/voices"] {
        std::fs::create_dir_all(home.path().join("models/avatars")).unwrap();
        link(&Path::new(PROJECT).join(name), &home.path().join(name));
    }
    link(&demo, &home.path().join("models/avatars/demo"));
    for name in names {
        let folder = home.path().join("models/avatars").join(name);
        std::fs::create_dir(&folder).unwrap();
        for entry in std::fs::read_dir(&demo).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name() != "avatar.toml" {
                link(&entry.path(), &folder.join(entry.file_name()));
            }
        }
        let manifest = std::fs::read_to_string(demo.join("avatar.toml")).unwrap();
        let manifest = manifest.replacen("id = \"demo\"", &format!("id = \"{name}\""), 1);
        std::fs::write(folder.join("avatar.toml"), manifest).unwrap();
    }
    home
}

/// The first message to whoever asks for this avatar.
async fn asks_for(served: &Served, avatar: &str) -> Value {
    let url = format!("ws://{}/ws?avatar={avatar}", served.address);
    next(&mut connect_async(url).await.unwrap().0).await.unwrap()
}

#[tokio::test]
async fn an_avatar_that_cannot_be_loaded_is_unavailable_until_it_can_be() {
    let home = home(&["other", "broken"]);
    let mask = home.path().join("models/avatars/broken/mask.png");
    let target = std::fs::read_link(&mask).unwrap();
    std::fs::remove_file(&mask).unwrap();
    let folder = home.path().to_str().unwrap();
    let served = Served::start_with(&["--home", folder], tempfile::NamedTempFile::new().unwrap());
    let other = asks_for(&served, "other").await;
    assert_eq!((&other["type"], &other["avatar"]["id"]), (&json!("session"), &json!("other")), "{other}");
    let unknown = asks_for(&served, "nobody").await;
    assert_eq!(unknown["code"], "unknown_avatar", "{unknown}");
    let unavailable = asks_for(&served, "broken").await;
    let expected = (&json!("avatar_unavailable"), &json!(true), &json!(5));
    assert_eq!((&unavailable["code"], &unavailable["fatal"], &unavailable["retry_after_s"]), expected, "{unavailable}");
    let message = unavailable["message"].as_str().unwrap();
    assert!(message.contains("broken") && !message.contains("mask.png"), "{message}");
    std::os::unix::fs::symlink(target, &mask).unwrap();
    watchdog::until("it is tried again", async || asks_for(&served, "broken").await["type"] == "session").await;
}

fn run(home: &Path, arguments: &[&str]) -> Output {
    program().args(["--home", home.to_str().unwrap(), "avatars"]).args(arguments).output().unwrap()
}

/// What a command that succeeds prints as JSON.
fn prints(home: &Path, arguments: &[&str]) -> Value {
    let output = run(home, arguments);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The one line that a command fails with, as wrong use.
fn refuses(home: &Path, arguments: &[&str]) -> String {
    let output = run(home, arguments);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let lines = String::from_utf8(output.stderr).unwrap();
    assert_eq!(lines.lines().count(), 1, "{lines}");
    lines
}

/// Names in the folder of all avatars.
fn names(home: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(home.join("models/avatars")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn the_drawn_avatar_is_carried_to_another_home_checked_and_deleted() {
    let (here, there) = (home(&[]), home(&[]));
    let (here, there) = (here.path(), there.path());
    let file = here.join("mika.mouthpiece");
    let out = file.to_str().unwrap();
    assert!(run(here, &["export", "demo", "--out", out]).status.success());
    assert!(refuses(here, &["export", "demo", "--out", out]).contains("exists"));
    assert_eq!(prints(there, &["import", out, "--as", "mika", "--json"])["id"], "mika");
    assert!(refuses(there, &["import", out, "--as", "mika"]).contains("is there already"));
    let listed = prints(there, &["list", "--json"]);
    let [demo, mika] = &listed["avatars"].as_array().unwrap()[..] else { panic!("{listed}") };
    for field in ["name", "kind", "model", "width", "height", "frames", "licence"] {
        assert!(demo[field] == mika[field] && !demo[field].is_null(), "{field}: {listed}");
    }
    assert_eq!((&demo["format"], &mika["format"]), (&json!(1), &json!(2)));
    assert_eq!(prints(there, &["check", "--json"])["avatars"][1]["problems"], json!([]));
    std::fs::write(there.join("models/avatars/mika/frames/0077.png"), b"").unwrap();
    assert!(refuses(there, &["check", "mika"]).contains("mika"));
    let checked: Value = serde_json::from_slice(&run(there, &["check", "mika", "--json"]).stdout).unwrap();
    assert!(checked["avatars"][0]["problems"][0].as_str().unwrap().contains("0077.png"), "{checked}");
    assert!(refuses(there, &["delete", "mika"]).contains("--yes"));
    assert!(run(there, &["delete", "mika", "--yes"]).status.success());
    assert_eq!(names(there), ["demo"]);
}

/// Begins to import an archive of which only so much comes.
fn begins_to_import(home: &Path, archive: &[u8]) -> Child {
    let mut command = program();
    command.args(["--home", home.to_str().unwrap(), "avatars", "import", "/dev/stdin", "--as", "mika"]);
    let mut importing = command.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    importing.stdin.as_mut().unwrap().write_all(archive).unwrap();
    importing
}

#[tokio::test]
async fn an_import_that_is_killed_midway_is_forgotten_and_meanwhile_nobody_else_may_write_there() {
    let home = home(&[]);
    let home = home.path();
    let file = home.join("mika.mouthpiece");
    assert!(run(home, &["export", "demo", "--out", file.to_str().unwrap()]).status.success());
    let archive = std::fs::read(&file).unwrap();
    let mut importing = begins_to_import(home, &archive[..archive.len() / 2]);
    let draft = || names(home).into_iter().find(|name| name.starts_with(".mika.draft-"));
    watchdog::until("the draft is there", async || draft().is_some()).await;
    assert!(refuses(home, &["import", file.to_str().unwrap(), "--as", "mika"]).contains("by somebody else"));
    assert_eq!(prints(home, &["list", "--json"])["avatars"].as_array().unwrap().len(), 1);
    assert!(draft().is_some(), "a draft was removed that somebody writes");
    importing.kill().unwrap();
    importing.wait().unwrap();
    assert!(draft().is_some(), "nothing was left, so this tests nothing");
    assert_eq!(prints(home, &["list", "--json"])["avatars"].as_array().unwrap().len(), 1);
    assert_eq!(names(home), ["demo"]);
    // One whose archive ends early cleans up by itself.
    let mut importing = begins_to_import(home, &archive[..archive.len() / 2]);
    drop(importing.stdin.take());
    assert_eq!(importing.wait().unwrap().code(), Some(2));
    assert_eq!(names(home), ["demo"]);
}
