//! A person makes an avatar of a photo on the page, hears and sees it speak, changes it, and deletes it.

use std::path::Path;

use tempfile::TempDir;

use super::chromium::{Chromium, Page};
use super::page::SILENT;
use super::server::Server;

const PROJECT: &str = env!("CARGO_MANIFEST_DIR");

/// A home with the demo avatar, in which others can be made.
pub fn home() -> TempDir {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(home.path().join("models/avatars")).unwrap();
    for name in ["pipelines", "models/demo", "models/voices", "models/portrait", "models/face", "models/avatars/demo"] {
        std::os::unix::fs::symlink(Path::new(PROJECT).join(name), home.path().join(name)).unwrap();
    }
    home
}

pub fn folders(home: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(home.join("models/avatars")).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

pub async fn fill(page: &Page, selector: &str, text: &str) {
    page.click(selector).await;
    page.write(text).await;
}

/// Nothing of the page sticks out of it to a side.
pub async fn fits(page: &Page) {
    let wide = page.evaluate("[document.documentElement.scrollWidth, innerWidth].map(Math.round)").await;
    assert!(wide[0].as_f64() <= wide[1].as_f64(), "{wide}");
}

/// A picture for whoever wants to look at it: `MOUTHPIECE_SCREENSHOTS=DIR`.
pub async fn screenshot(page: &Page, name: &str) {
    if let Some(folder) = std::env::var_os("MOUTHPIECE_SCREENSHOTS") {
        page.screenshot(&Path::new(&folder).join(name)).await;
    }
}

pub const LAST_WORD: &str = "document.getElementById('work-title').textContent";

#[tokio::test(flavor = "multi_thread")]
async fn a_photo_on_the_page_becomes_an_avatar_that_speaks_is_changed_and_deleted() {
    let chromium = Chromium::launch().await;
    let home = home();
    let server = Server::start_at(home.path(), &[]).await;
    let page = chromium.page(&server.url("avatars")).await;
    page.resize(1280, 900, false).await;
    page.wait_for("document.querySelector('#list li[data-id=demo] img')?.complete").await;
    assert_eq!(
        page.evaluate("document.querySelectorAll('#list .buttons button').length").await,
        0,
        "the own one stays"
    );
    assert_eq!(page.evaluate("document.getElementById('go').disabled").await, true);
    page.resize(320, 2300, true).await;
    fits(&page).await;
    screenshot(&page, "avatars-320-empty.png").await;
    page.resize(1280, 900, false).await;

    page.choose_file("#file", &Path::new(PROJECT).join("models/avatars/demo/frames/0000.png")).await;
    page.wait_for("!document.getElementById('photo').hidden").await;
    fill(&page, "#name", "Änna Drawn").await;
    assert_eq!(page.evaluate("document.getElementById('id').value").await, "anna-drawn");
    fill(&page, "#licence", "CC0-1.0").await;
    fill(&page, "#consent", "Drawn by a program").await;
    screenshot(&page, "avatars-1280-form.png").await;
    page.click("#go").await;
    page.wait_for("!document.getElementById('work').hidden").await;
    page.wait_for(&format!("{LAST_WORD} === 'Änna Drawn is there'")).await;
    page.wait_for("document.getElementById('found').naturalWidth > 100").await;
    page.wait_until_connected().await;
    page.wait_for("mouthpiece.speaking").await;
    page.evaluate("scrollTo(0, 0)").await;
    screenshot(&page, "avatars-1280-done.png").await;
    page.resize(320, 2700, true).await;
    fits(&page).await;
    screenshot(&page, "avatars-320-done.png").await;
    page.resize(1280, 900, false).await;
    page.wait_until_silent().await;
    assert_eq!(folders(home.path()), ["anna-drawn", "demo"]);

    page.expect_speech().await;
    page.click("#say button").await;
    let spoken = page.hear_to_the_end().await;
    assert!(spoken.power > 100.0 * SILENT && spoken.decoded > 10.0, "{spoken}");

    // Changed afterwards, it is made once more of the same file and comes back live.
    let found = page.evaluate("document.getElementById('found').src").await;
    page.evaluate("void (window.before = mouthpiece)").await;
    page.click("#mirror").await;
    page.wait_for(&format!("document.getElementById('found').src !== {found}")).await;
    page.wait_for("window.mouthpiece !== before").await;
    page.wait_until_connected().await;

    page.click("#list li[data-id=anna-drawn] button").await;
    page.wait_for("document.getElementById('sure').open").await;
    screenshot(&page, "avatars-1280-sure.png").await;
    page.click("#sure button[value=yes]").await;
    page.wait_for("!document.querySelector('#list li[data-id=anna-drawn]')").await;
    assert_eq!(page.evaluate("document.getElementById('gallery-state').textContent").await, "Änna Drawn is deleted.");
    assert_eq!(page.evaluate("document.getElementById('work').hidden").await, true);
    assert_eq!(folders(home.path()), ["demo"]);
    assert_eq!(page.console_errors(), Vec::<String>::new());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_without_a_face_is_told_with_what_was_found_and_the_form_is_kept() {
    let chromium = Chromium::launch().await;
    let home = home();
    let server = Server::start_at(home.path(), &[]).await;
    let page = chromium.page(&server.url("avatars")).await;
    page.wait_for("document.querySelector('#list li')").await;
    page.choose_file("#file", &Path::new(PROJECT).join("web/screenshot.png")).await;
    // What is below the picture moves when it is shown.
    page.wait_for("!document.getElementById('photo').hidden").await;
    fill(&page, "#name", "Nobody").await;
    fill(&page, "#licence", "MIT").await;
    fill(&page, "#consent", "No face").await;
    fill(&page, "#face", "7").await;
    page.click("#go").await;
    page.wait_for("!document.getElementById('fault').hidden").await;
    let told = page.evaluate("document.getElementById('fault').textContent").await;
    assert!(told.as_str().unwrap().contains("face"), "{told}");
    page.wait_for("document.getElementById('found').naturalWidth > 100").await;
    page.resize(320, 2500, true).await;
    fits(&page).await;
    screenshot(&page, "avatars-320-fault.png").await;
    assert_eq!(page.evaluate("document.getElementById('name').value").await, "Nobody");
    assert_eq!(folders(home.path()), ["demo"]);
    server.stop().await;
}
