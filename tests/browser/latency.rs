//! The overlay tells how long an answer took to each stage, up to the picture that the browser shows, and what the server had
//! no time for.

use super::chromium::Chromium;
use super::server::Server;

/// What a stage's row says, as it is read: label, milliseconds since the stage before, milliseconds since the beginning.
const ROWS: &str = "[...document.querySelectorAll('#turn dt')].map((term) => {
  const [took, at] = [term.nextElementSibling, term.nextElementSibling.nextElementSibling];
  return [term.textContent, took.textContent, at.textContent];
})";
const SHOWN: &str = "mouthpiece_turn_stage_seconds_count{stage=\"shown\"}";

#[tokio::test(flavor = "multi_thread")]
async fn the_overlay_tells_the_way_of_each_answer_to_the_screen() {
    let chromium = Chromium::launch().await;
    let server = Server::start().await;
    let page = chromium.page(&server.url("")).await;
    page.wait_until_live().await;
    page.click("#figures-toggle").await;
    assert_eq!(page.evaluate("document.getElementById('turn').hidden").await, true, "nothing was said yet");
    for (answers, sentence) in ["Hello, it is good to see you again.", "Four brave boys jumped."].iter().enumerate() {
        page.evaluate("window.shown = 0; mouthpiece.addEventListener('shown', () => shown++, { once: true })").await;
        // A machine that is short of time draws some sentences' mouths too late.
        page.ask_to_say(&[*sentence; 10].join(" ")).await;
        page.wait_for("shown > 0").await;
        let rows: Vec<[String; 3]> = serde_json::from_value(page.evaluate(ROWS).await).unwrap();
        let labels: Vec<_> = rows.iter().map(|[label, ..]| label.as_str()).collect();
        assert_eq!(labels, ["First words", "First sound", "First picture", "Shown"]);
        let (mut before, mut parts) = (0, 0);
        for [label, took, at] in &rows {
            let (took, at) = (took.strip_prefix('+').unwrap(), at.strip_suffix(" ms").unwrap());
            let (took, at): (u64, u64) = (took.parse().unwrap(), at.parse().unwrap());
            assert!(at >= before && at - before == took, "{label}: {rows:?}");
            (before, parts) = (at, parts + usize::from(took > 0));
        }
        assert!(parts >= 2 && rows[3][2] != rows[2][2], "the browser needs time too: {rows:?}");
        let total = page.evaluate("document.querySelector('#turn b').textContent").await;
        assert_eq!(total, rows[3][2], "{rows:?}");
        server.wait_for_metric(SHOWN, answers as f64 + 1.0).await;
        page.click("#stop").await;
        page.wait_until_silent().await;
    }
    assert_eq!(page.console_errors(), Vec::<String>::new());
    server.stop().await;
}

/// What the overlay says of mouths that the server had no time to draw.
const LEFT_OUT: &str = "[...document.querySelectorAll('#connection dt')]
  .find((term) => term.textContent === 'Mouths left out').nextElementSibling.textContent";

#[tokio::test(flavor = "multi_thread")]
async fn the_overlay_tells_how_many_mouths_the_server_had_no_time_for() {
    let chromium = Chromium::launch().await;
    let server = Server::start().await;
    let page = chromium.page(&server.url("")).await;
    page.wait_until_live().await;
    page.click("#figures-toggle").await;
    page.wait_for(&format!("{LEFT_OUT} === '0 %'")).await;
    // What a server that is short of time sends after a sentence, which cannot be had of this one at will.
    let stats = r#"{"type":"stats","mouths":60,"mouths_left_out":24}"#;
    page.evaluate(&format!("void mouthpiece.handleMessage({stats:?})")).await;
    page.wait_for(&format!("{LEFT_OUT} === '40 %'")).await;
    assert_eq!(page.console_errors(), Vec::<String>::new());
    server.stop().await;
}
