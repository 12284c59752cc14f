//! A person records a clip with the camera on the page and drops one there: both become avatars that speak.
//!
//! The camera is Chromium's own, which shows a film of a drawn face, round and round.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::avatars::{LAST_WORD, fill, fits, folders, home, screenshot};
use super::chromium::{Chromium, Page, base64};
use super::kit::drawn_face::{Bearing, Person, draw};
use super::page::SILENT;
use super::server::Server;

const WIDTH: usize = 640;
const HEIGHT: usize = 480;
/// Two seconds at 25 fps, after which the film begins anew without a jump.
const FRAMES: u8 = 50;

/// Somebody who sits quietly, as an uncompressed film, which Chromium reads as a camera.
fn film(folder: &Path) -> PathBuf {
    let person = Person { glasses: None, beard: 0.0, ..Person::number(2) };
    let mut film = format!("YUV4MPEG2 W{WIDTH} H{HEIGHT} F25:1 Ip A1:1 C420jpeg\n").into_bytes();
    for number in 0..FRAMES {
        let turn = std::f32::consts::TAU * f32::from(number) / f32::from(FRAMES);
        let bearing = Bearing {
            yaw: 5.0 * turn.sin(),
            pitch: 2.0 * (2.0 * turn).sin(),
            shift: [6.0 * turn.sin(), 3.0 * turn.cos()],
            blink: if (20..23).contains(&number) { 1.0 } else { 0.0 },
            ..Bearing::default()
        };
        let square = draw(&person, &bearing, WIDTH as u32, 200.0).picture;
        // The same at the top as at the bottom is cut off.
        let first = (WIDTH - HEIGHT) / 2 * WIDTH * 3;
        let rows = &square.rgb[first..first + WIDTH * HEIGHT * 3];
        film.extend_from_slice(b"FRAME\n");
        film.extend(mouthpiece::picture::color::rgb_to_i420(rows, WIDTH as u32, HEIGHT as u32).data);
    }
    let path = folder.join("camera.y4m");
    std::fs::write(&path, film).unwrap();
    path
}

async fn with_camera(film: &Path) -> Chromium {
    let film = format!("--use-file-for-fake-video-capture={}", film.display());
    let flags = ["--autoplay-policy=no-user-gesture-required", "--use-fake-ui-for-media-stream"];
    Chromium::launch_with(&[&flags[..], &["--use-fake-device-for-media-stream", &film]].concat()).await
}

/// Makes an avatar of the clip that is chosen; gives the stages that were told meanwhile.
async fn make(page: &Page, name: &str) -> Vec<String> {
    fill(page, "#name", name).await;
    fill(page, "#licence", "CC0-1.0").await;
    fill(page, "#consent", "Drawn by a program").await;
    let watch = "window.stages = []; new MutationObserver(() => {
        const stage = document.getElementById('stage').textContent;
        if (stages.at(-1) !== stage) stages.push(stage);
    }).observe(document.getElementById('stage'), { childList: true, characterData: true, subtree: true })";
    page.evaluate(&format!("void ({})", watch.replace("; new", ", new"))).await;
    page.click("#go").await;
    page.wait_for(&format!("{LAST_WORD} === '{name} is there' || !document.getElementById('fault').hidden")).await;
    assert_eq!(page.evaluate("document.getElementById('fault').textContent").await, "");
    page.wait_for("document.getElementById('found').naturalWidth > 100").await;
    let stages = page.evaluate("stages").await;
    stages.as_array().unwrap().iter().map(|stage| stage.as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clip_of_the_camera_and_one_that_is_dropped_become_avatars_that_speak() {
    let folder = tempfile::tempdir().unwrap();
    let chromium = with_camera(&film(folder.path())).await;
    let home = home();
    let server = Server::start_at(home.path(), &[]).await;
    let page = chromium.page(&server.url("avatars")).await;
    page.resize(1280, 900, false).await;
    page.wait_for("document.querySelector('#list li')").await;
    page.click("#camera-open").await;
    page.wait_for("document.getElementById('viewfinder').videoWidth > 0").await;
    screenshot(&page, "camera-1280-open.png").await;
    page.resize(390, 844, true).await;
    fits(&page).await;
    page.evaluate("document.getElementById('camera').scrollIntoView()").await;
    screenshot(&page, "camera-390-open.png").await;

    // What is recorded is kept, to be dropped afterwards.
    page.evaluate(
        "void (window.makeUrl = URL.createObjectURL,
            URL.createObjectURL = (file) => { window.recorded = file; return makeUrl.call(URL, file); })",
    )
    .await;
    page.click("#record").await;
    page.wait_for("document.getElementById('camera-state').textContent.startsWith('Recording, 3 of')").await;
    screenshot(&page, "camera-390-recording.png").await;
    // The pointer rests on it, and it is red all the same, as its words are white.
    let red = "(() => { const [r, g, b] = getComputedStyle(document.getElementById('record')).backgroundColor
        .match(/[0-9.]+/g).map(Number); return r > 1.5 * g && r > 1.5 * b; })()";
    page.evaluate("Promise.all(document.getElementById('record').getAnimations().map((one) => one.finished))").await;
    assert_eq!(page.evaluate(red).await, true);
    page.click("#record").await;
    page.wait_for("document.getElementById('camera').hidden && document.getElementById('clip').videoWidth > 0").await;
    assert_eq!(page.evaluate("document.getElementById('photo').hidden").await, true);
    assert_eq!(page.evaluate("document.getElementById('viewfinder').srcObject").await, json!(null), "it is let go of");
    screenshot(&page, "camera-390-chosen.png").await;
    page.resize(1280, 900, false).await;

    let stages = make(&page, "Recorded").await;
    assert!(stages.iter().any(|stage| stage.contains("face")) && stages.len() > 2, "{stages:?}");
    page.wait_until_connected().await;
    page.wait_for("mouthpiece.speaking").await;
    page.evaluate("scrollTo(0, 0)").await;
    screenshot(&page, "camera-1280-done.png").await;
    page.resize(390, 2400, true).await;
    fits(&page).await;
    screenshot(&page, "camera-390-done.png").await;
    page.resize(1280, 900, false).await;
    page.wait_until_silent().await;
    page.expect_speech().await;
    page.click("#say button").await;
    let spoken = page.hear_to_the_end().await;
    assert!(spoken.power > 100.0 * SILENT && spoken.decoded > 10.0, "{spoken}");
    let listed = page.evaluate("document.querySelector('#list li[data-id=recorded]').textContent").await;
    assert!(listed.as_str().unwrap().contains("clip, "), "{listed}");
    let recorded = page
        .evaluate(
            "new Promise((done) => {
                const reader = new FileReader();
                reader.onload = () => done(reader.result.split(',')[1]);
                reader.readAsDataURL(recorded);
            })",
        )
        .await;
    let clip = folder.path().join("dropped.webm");
    std::fs::write(&clip, base64(recorded.as_str().unwrap())).unwrap();

    page.click("#another").await;
    page.drop_file("#drop", &clip).await;
    page.wait_for("document.getElementById('clip').videoWidth > 0").await;
    let told = page.evaluate("document.getElementById('chosen').textContent").await;
    assert!(told.as_str().unwrap().starts_with("dropped.webm, "), "{told}");
    make(&page, "Dropped").await;
    page.wait_until_connected().await;
    page.wait_for("mouthpiece.speaking").await;
    assert_eq!(folders(home.path()), ["demo", "dropped", "recorded"]);
    assert_eq!(page.console_errors(), Vec::<String>::new());
    server.stop().await;
}
