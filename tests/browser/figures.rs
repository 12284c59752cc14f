//! Figures for a quiet machine, printed: not run with the other tests, since a busy machine would only blur them.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};

use super::chromium::{Chromium, Page};
use super::playing::LONG;
use super::server::Server;

/// From the click until a sound is to be heard, as the page's own audio graph sees it.
const HEAR: &str = "(async () => {
  const video = document.getElementById('avatar-video');
  window.ears ??= (() => {
    const context = new AudioContext({ latencyHint: 'interactive' });
    const analyser = context.createAnalyser();
    analyser.fftSize = 512;
    context.createMediaStreamSource(video.srcObject).connect(analyser);
    return analyser;
  })();
  const samples = new Float32Array(512);
  const asked = performance.now();
  mouthpiece.speak('People believe what they can see.');
  for (;;) {
    ears.getFloatTimeDomainData(samples);
    if (samples.some((sample) => Math.abs(sample) > 0.01)) return performance.now() - asked;
    if (performance.now() - asked > 10000) throw new Error('nothing is heard');
    await new Promise((resolve) => setTimeout(resolve, 4));
  }
})()";
const UTTERANCES: usize = 20;
const SENTENCES: [&str; 4] = [
    "Hello, it is good to see you again.",
    "People believe what they can see.",
    "Maybe we should begin with the weather.",
    "Four brave boys jumped over the pond.",
];

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a figure: takes two minutes of a quiet machine"]
async fn how_soon_a_sentence_is_heard() {
    let chromium = Chromium::launch().await;
    let server = Server::start().await;
    let page = chromium.page(&server.url("")).await;
    page.wait_until_live().await;
    let mut heard = Vec::new();
    for _ in 0..UTTERANCES + 2 {
        heard.push(page.evaluate(HEAR).await.as_f64().unwrap());
        page.wait_until_silent().await;
    }
    let mut heard = heard.split_off(2);
    heard.sort_by(f64::total_cmp);
    eprintln!("from text to sound in the page: p50 {:.0} ms, p95 {:.0} ms of {UTTERANCES}", heard[9], heard[18]);
    server.stop().await;
}

/// From the text until a frame with a fresh mouth is shown, known by the mark that `--mark-speech` draws into it: white
/// beside black in the top left corner.
const SEE: &str = "(async (say, text, delay) => {
  const video = document.getElementById('avatar-video');
  window.corner ??= new OffscreenCanvas(64, 32).getContext('2d', { willReadFrequently: true });
  const light = (x) => corner.getImageData(x, 16, 1, 1).data.slice(0, 3).reduce((sum, part) => sum + part) / 3;
  const marked = () => {
    corner.drawImage(video, 0, 0, 64, 32, 0, 0, 64, 32);
    return light(16) - light(48) > 100;
  };
  const frame = () => new Promise((resolve) => {
    video.requestVideoFrameCallback((now, frame) => resolve(Math.max(now, frame.expectedDisplayTime)));
  });
  await frame();
  if (marked()) throw new Error('marked before anything is said');
  await new Promise((resolve) => setTimeout(resolve, delay));
  const asked = performance.now();
  mouthpiece[say](text);
  for (;;) {
    const shown = await frame();
    if (marked()) return shown - asked;
    if (shown - asked > 10000) throw new Error('no mouth is seen');
  }
})";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a figure: takes two minutes of a quiet machine"]
async fn how_soon_a_sentence_is_seen() {
    let chromium = Chromium::launch().await;
    let server = Server::start_with(&["--mark-speech"]).await;
    let page = chromium.page(&server.url("")).await;
    page.wait_until_live().await;
    let mut seen = Vec::new();
    for turn in 0..UTTERANCES + 2 {
        // The page has just shown a frame, so without a delay every text would come at the same phase of a tick.
        let (text, delay) = (SENTENCES[turn % SENTENCES.len()], turn * 11 % 40);
        seen.push(page.evaluate(&format!("{SEE}('speak', {text:?}, {delay})")).await.as_f64().unwrap());
        page.wait_until_silent().await;
    }
    let mut seen = seen.split_off(2);
    seen.sort_by(f64::total_cmp);
    eprintln!("from text to a mouth in the page: p50 {:.0} ms, p95 {:.0} ms of {UTTERANCES}", seen[9], seen[18]);
    assert!(seen[9] <= 400.0, "{seen:.0?}");
    server.stop().await;
}

/// What people say; the stand-in for a language model answers "You said ...", so its first clause ends where theirs does.
const TURNS: [&str; 5] = [
    "good morning, I would like to know when the museum opens today",
    "that the weather will be fine tomorrow, and that we could go to the lake",
    "it is a quarter past nine. The train leaves at ten",
    "there is a small shop around the corner that sells bread, cheese and wine",
    "hello",
];
const ANSWERS: usize = 20;

/// A language model of stated speed, from the integration tests.
fn language_model(first_token_ms: &str, tokens_a_second: &str) -> (tokio::process::Child, tokio::process::ChildStdout) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/llm_server.py");
    let mut process = tokio::process::Command::new("python3")
        .args([script, "0", first_token_ms, tokens_a_second])
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let said = process.stdout.take().unwrap();
    (process, said)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a figure: takes three minutes of a quiet machine"]
async fn how_soon_an_answer_is_seen() {
    let chromium = Chromium::launch().await;
    let (_model, said) = language_model("50", "50");
    let port = BufReader::new(said).lines().next_line().await.unwrap().unwrap();
    let url = format!("http://127.0.0.1:{port}/v1");
    let server = Server::start_with(&["--mark-speech", "--llm-url", &url, "--llm-model", "stand-in"]).await;
    let page = chromium.page(&server.url("")).await;
    page.wait_until_live().await;
    page.evaluate(
        "window.chains = []; mouthpiece.addEventListener('shown', ({ detail }) => chains.push(detail.stages))",
    )
    .await;
    let mut seen = Vec::new();
    for turn in 0..ANSWERS + 2 {
        let (text, delay) = (TURNS[turn % TURNS.len()], turn * 11 % 40);
        seen.push(page.evaluate(&format!("{SEE}('sendText', {text:?}, {delay})")).await.as_f64().unwrap());
        page.wait_until_silent().await;
    }
    let mut seen = seen.split_off(2);
    let chains: Vec<BTreeMap<String, f64>> = serde_json::from_value(page.evaluate("chains").await).unwrap();
    assert_eq!(chains.len(), ANSWERS + 2, "each is shown");
    for stage in ["first_token", "first_audio", "first_frame", "shown"] {
        let mut times: Vec<f64> = chains[2..].iter().map(|chain| chain[stage]).collect();
        times.sort_by(f64::total_cmp);
        eprintln!("{stage}: p50 {:.0} ms, p95 {:.0} ms", times[ANSWERS / 2 - 1], times[ANSWERS * 95 / 100 - 1]);
    }
    // The page saw the mark with its own eyes; what the chain says of the same frame must agree.
    let mut apart: Vec<f64> =
        seen.iter().zip(&chains[2..]).map(|(seen, chain)| (seen - chain["shown"]).abs()).collect();
    apart.sort_by(f64::total_cmp);
    seen.sort_by(f64::total_cmp);
    eprintln!("the chain is off by: p50 {:.0} ms, p95 {:.0} ms", apart[9], apart[18]);
    eprintln!("from text to a mouth in the page: p50 {:.0} ms, p95 {:.0} ms of {ANSWERS}", seen[9], seen[18]);
    assert!(seen[9] <= 700.0, "{seen:.0?}");
    assert!(apart[9] <= 40.0, "{apart:.0?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a figure: takes two minutes of a quiet machine"]
async fn how_a_minute_of_speech_plays() {
    let chromium = Chromium::launch().await;
    let server = Server::start().await;
    let page = chromium.page(&server.url("")).await;
    page.wait_until_live().await;
    let minute = [LONG; 6].join(" ");
    page.ask_to_say(&minute).await;
    page.wait_until_speaking().await;
    page.watch(Duration::from_secs(5)).await;
    let (played, skew) = tokio::join!(page.watch(Duration::from_secs(60)), page.skew(Duration::from_secs(55)));
    eprintln!("{played}\nvoice late: {skew}");
    assert!((24.5..=25.5).contains(&played.received_fps), "{played}");
    assert!((24.5..=25.5).contains(&played.decoded_fps) && played.freezes == 0.0, "{played}");
    assert!(skew.p5 >= -45.0 && skew.p95 <= 45.0, "{skew}");
    server.stop().await;
}

const VIEWERS: usize = 4;
const WINDOWS: usize = 5;
const WINDOW: Duration = Duration::from_secs(5);

/// The server's CPU as percent of a core, the median of some windows.
async fn cpu_percent(server: &Server, page: &Page) -> f64 {
    let mut windows = Vec::new();
    for _ in 0..WINDOWS {
        let (before, started) = (server.cpu_time(), std::time::Instant::now());
        page.watch(WINDOW).await;
        windows.push((server.cpu_time() - before).as_secs_f64() / started.elapsed().as_secs_f64() * 100.0);
    }
    windows.sort_by(f64::total_cmp);
    windows[WINDOWS / 2]
}

/// The slope of the least-squares line through what 1, 2, 3, ... viewers cost.
fn each_further(costs: &[f64]) -> f64 {
    let count = costs.len() as f64;
    let (middle, mean) = ((count + 1.0) / 2.0, costs.iter().sum::<f64>() / count);
    let from_middle = (1..=costs.len()).map(|viewers| viewers as f64 - middle);
    let covariance: f64 = from_middle.clone().zip(costs).map(|(from, cost)| from * (cost - mean)).sum();
    covariance / from_middle.map(|from| from * from).sum::<f64>()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a figure: takes four minutes of a quiet machine"]
async fn what_each_viewer_costs() {
    let chromium = Chromium::launch().await;
    let server = Server::start().await;
    let (mut pages, mut idle, mut speaking) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..VIEWERS {
        let page = chromium.page(&server.url("?session=shared")).await;
        page.wait_until_live().await;
        pages.push(page);
        idle.push(cpu_percent(&server, &pages[0]).await);
        pages[0].ask_to_say(&[LONG; 3].join(" ")).await;
        pages[0].wait_until_speaking().await;
        speaking.push(cpu_percent(&server, &pages[0]).await);
        pages[0].click("#stop").await;
        pages[0].wait_until_silent().await;
    }
    let (further, further_speaking) = (each_further(&idle), each_further(&speaking));
    eprintln!("percent of a core with 1 to {VIEWERS} viewers: idle {idle:.1?}, speaking {speaking:.1?}");
    eprintln!("each further viewer: idle {further:.2}, speaking {further_speaking:.2}");
    assert!(further <= 2.5, "{idle:.1?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "writes pictures of the page to the folder in SCREENSHOTS, to choose web/screenshot.png from"]
async fn the_page_in_mid_word() {
    let folder = std::path::PathBuf::from(std::env::var_os("SCREENSHOTS").expect("SCREENSHOTS names a folder"));
    let chromium = Chromium::launch().await;
    let server = Server::start().await;
    let page = chromium.page(&server.url("")).await;
    page.resize(1280, 800, false).await;
    page.wait_until_live().await;
    for sentence in SENTENCES {
        page.ask_to_say(sentence).await;
        page.wait_until_speaking().await;
        for at in 0..4 {
            page.watch(Duration::from_millis(300)).await;
            let first = sentence.split(' ').next().unwrap_or_default();
            page.screenshot(&folder.join(format!("{first}{at}.png"))).await;
        }
        page.wait_until_silent().await;
    }
    server.stop().await;
}
