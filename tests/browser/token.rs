//! The page where the server asks for a token.

use std::process::Command;

use super::chromium::Chromium;
use super::server::Server;

#[tokio::test(flavor = "multi_thread")]
async fn a_link_with_a_token_lets_its_holder_in_and_leaves_nothing_of_it_in_the_address() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "a-secret-of-the-tests,-thirty-two+\n").unwrap();
    let path = secret.path().to_str().unwrap();
    let may = "view,speak,converse,avatars";
    let made = Command::new(env!("CARGO_BIN_EXE_mouthpiece"))
        .args(["token", "--secret-file", path, "--may", may, "--session", "room"])
        .output()
        .unwrap();
    let token = String::from_utf8(made.stdout).unwrap().trim_end().to_owned();
    assert_eq!(token.split('.').count(), 3, "{token}");
    let server = Server::start_with_settings(&format!("[access]\nsecret_file = {path:?}\n")).await;
    let chromium = Chromium::launch().await;

    let stranger = chromium.page(&server.url("")).await;
    stranger.wait_for("mouthpiece.state === 'failed'").await;
    stranger.wait_for("document.body.innerText.includes('a link with a token')").await;
    let refused = stranger.evaluate("fetch('api/avatars').then(({ status }) => status)").await;
    assert_eq!(refused, 401);

    let page = chromium.page(&server.url(&format!("?stats#token={token}"))).await;
    page.wait_for("mouthpiece.state === 'connected'").await;
    assert_eq!(page.evaluate("location.pathname + location.search + location.hash").await, "/?stats");
    page.evaluate("mouthpiece.speak('Hello.')").await;
    page.wait_for("mouthpiece.speaking").await;
    // What the tab keeps is enough for another visit, and for the page of avatars, pictures and all.
    page.navigate(&server.url("")).await;
    page.wait_for("mouthpiece.state === 'connected'").await;
    page.navigate(&server.url("avatars")).await;
    page.wait_for("document.querySelector('#list li[data-id=demo] img')?.naturalWidth > 0").await;
    assert_eq!(page.console_errors(), Vec::<String>::new());
    server.stop().await;
}
