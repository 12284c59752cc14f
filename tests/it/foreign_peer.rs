//! A WebRTC stack that is neither ours nor a browser's: aiortc, which reads answers more closely than either.

use std::process::Command;

use crate::llm::Served;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs aiortc and websockets from PyPI for the python3 on the PATH"]
async fn aiortc_is_served_whatever_it_offers() {
    let settings = tempfile::NamedTempFile::new().unwrap();
    let path = settings.path().display().to_string();
    let served = Served::start_with(&["--config", &path], settings);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/aiortc_viewer.py");
    let url = format!("ws://{}/ws", served.address);
    let ran = tokio::task::spawn_blocking(move || Command::new("python3").arg(script).arg(url).output().unwrap());
    let ran = ran.await.unwrap();
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(ran.status.success(), "{said}{}", String::from_utf8_lossy(&ran.stderr));
    eprintln!("{said}");
}
