//! A browser of another kind: Firefox on the page, and whatever it offers besides.
//!
//! In here: a server for `firefox.py`, which has the cases and says what it needs.

use tokio::process::Command;

use super::server::Server;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs firefox-esr (80 MB) and websockets from PyPI for the python3 on the PATH"]
async fn firefox_sees_and_hears_the_page_and_is_served_whatever_it_offers() {
    let server = Server::start().await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/browser/firefox.py");
    let ran = Command::new("python3").arg(script).arg(server.url("")).kill_on_drop(true).output().await.unwrap();
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(ran.status.success(), "{said}{}", String::from_utf8_lossy(&ran.stderr));
    eprintln!("{said}");
    server.stop().await;
}
