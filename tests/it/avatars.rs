//! Other avatars than the one that the server was started with: loaded when somebody asks for one, or not.

use std::path::Path;

use serde_json::{Value, json};
use tokio_tungstenite::connect_async;

use crate::cli::next;
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
