//! Another avatar takes over while the page plays: another face, of another shape, in the same sentence.

use std::path::Path;

use super::chromium::Chromium;
use super::playing::LONG;
use super::server::Server;
use super::tall_avatar;

/// How much of the last rows of the picture is red, from 0 to 1, and the picture's size.
const LOOK: &str = "(() => {
  const video = document.getElementById('avatar-video');
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [64, 64];
  const context = canvas.getContext('2d');
  context.drawImage(video, 0, 0, 64, 64);
  const { data } = context.getImageData(0, 58, 64, 4);
  let red = 0;
  for (let at = 0; at < data.length; at += 4) red += data[at] > 170 && data[at + 1] < 80;
  return { red: red / (data.length / 4), width: video.videoWidth, height: video.videoHeight };
})()";

#[tokio::test(flavor = "multi_thread")]
async fn another_face_is_seen_in_the_middle_of_a_sentence_and_the_voice_goes_on() {
    let chromium = Chromium::launch().await;
    let home = tall_avatar::home();
    let server = Server::start_at(home.path(), &[]).await;
    let page = chromium.page(&server.url("")).await;
    page.wait_until_live().await;
    page.wait_for("!document.getElementById('avatars').hidden").await;
    let before = page.evaluate(LOOK).await;
    assert_eq!((&before["width"], &before["height"]), (&512.into(), &512.into()), "{before}");
    page.evaluate("window.peerBefore = mouthpiece.peerConnection, window.told = [], ['avatar', 'error'].forEach((type) => \
        mouthpiece.addEventListener(type, ({ detail }) => told.push(`${type} ${detail.id ?? detail.code} ${mouthpiece.speaking}`)))")
        .await;
    page.expect_speech().await;
    page.ask_to_say(LONG).await;
    page.wait_until_speaking().await;
    page.sees(25).await;
    // As a person does it.
    page.evaluate(
        "(() => { const choice = document.getElementById('avatars'); choice.value = 'tall'; \
        choice.dispatchEvent(new Event('change')); })()",
    )
    .await;
    page.wait_for(&format!("(() => {{ const look = {LOOK}; return look.red > 0.9 && look.height === 640; }})()")).await;
    page.wait_for("told.length").await;
    assert_eq!(page.evaluate("told.join()").await, "avatar tall true", "in the middle of the sentence");
    let spoken = page.hear_to_the_end().await;
    eprintln!("spoken {spoken}");
    // All pictures, but for where counting begins and ends, and all of the sentence: twelve seconds.
    assert!((24.0..=25.5).contains(&spoken.fps()) && spoken.power > 1e-3 && spoken.seconds >= 10.0, "{spoken}");
    assert_eq!(page.evaluate("peerBefore === mouthpiece.peerConnection && mouthpiece.state").await, "connected");
    assert_eq!(page.evaluate("document.title").await, "Tall");
    // The frame has taken the shape of the picture, on a desktop and on a phone.
    for (width, height, mobile) in [(1280, 800, false), (390, 844, true)] {
        page.resize(width, height, mobile).await;
        let shape = "(() => { const { width, height } = document.getElementById('frame').getBoundingClientRect(); \
            return Math.abs(width / height - 512 / 640) < 0.01 && height > 200; })()";
        page.wait_for(shape).await;
        if let Ok(folder) = std::env::var("SCREENSHOTS") {
            page.screenshot(&Path::new(&folder).join(format!("tall-{width}.png"))).await;
        }
    }
    page.click("#gestures button").await;
    page.wait_for("mouthpiece.stats().then((stats) => stats.height === 640)").await;
    assert_eq!(page.evaluate("told.length").await, 1, "the gesture is known");
    assert_eq!(page.console_errors(), Vec::<String>::new());
    server.stop().await;
}
