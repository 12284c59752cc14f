//! Speaking to the avatar: Chromium with a recorded voice as its microphone, and a speech recogniser in a process of its own.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::chromium::{Chromium, Page};
use super::playing::LONG;
use super::server::Server;

const PROJECT: &str = env!("CARGO_MANIFEST_DIR");
const QUESTION: &str = "Excuse me, what time is it now?";
/// Seconds until the microphone hears its recording once more, which is when a test is over.
const SILENCE: f64 = 300.0;

/// A script of the integration tests that prints its port. Ends with the test.
struct Service(Child, String);

impl Service {
    fn start(script: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new("python3")
            .arg(format!("{PROJECT}/tests/it/{script}"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self(child, format!("http://127.0.0.1:{}/v1", line.trim()))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the microphone hears: silences in seconds and sentences.
fn recording(folder: &Path, parts: &[(f64, &str)]) -> PathBuf {
    let said = folder.join("said.wav");
    let mut samples = Vec::new();
    let mut rate = 22_050;
    for (silence, sentence) in parts {
        if !sentence.is_empty() {
            let spoken =
                Command::new("espeak-ng").args(["-v", "en-gb+f3", "-s", "150", "-w"]).arg(&said).arg(sentence).status();
            assert!(spoken.unwrap().success());
            let (spoken, told) = mouthpiece::speech::sound::read(&said).unwrap();
            rate = told;
            let spoken: Vec<i16> = spoken.into_iter().map(mouthpiece::speech::pcm::to_i16).collect();
            let last = spoken.iter().rposition(|sample| sample.abs() > 300).unwrap();
            samples.extend_from_slice(&spoken[..=last]);
        }
        samples.resize(samples.len() + (silence * f64::from(rate)) as usize, 0);
    }
    let path = folder.join("microphone.wav");
    let spec =
        hound::WavSpec { channels: 1, sample_rate: rate, bits_per_sample: 16, sample_format: hound::SampleFormat::Int };
    let mut writer = hound::WavWriter::create(&path, spec).unwrap();
    samples.iter().for_each(|sample| writer.write_sample(*sample).unwrap());
    writer.finalize().unwrap();
    path
}

async fn with_microphone(recording: &Path) -> Chromium {
    let file = format!("--use-file-for-fake-audio-capture={}", recording.display());
    let flags = ["--autoplay-policy=no-user-gesture-required", "--use-fake-ui-for-media-stream"];
    Chromium::launch_with(&[&flags[..], &["--use-fake-device-for-media-stream", &file]].concat()).await
}

async fn until_user_says(page: &Page, words: &str) {
    let said = format!(
        "[...document.querySelectorAll('.turn.user:not(.draft) .content')].some((turn) => turn.textContent === {words:?})"
    );
    page.wait_for(&said).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_asks_aloud_and_is_answered_aloud() {
    let folder = tempfile::tempdir().unwrap();
    let chromium = with_microphone(&recording(folder.path(), &[(1.5, ""), (SILENCE, QUESTION)])).await;
    let recogniser = Service::start("asr_server.py", &["150", "What time is it?"]);
    let server = Server::start_with(&["--asr-url", &recogniser.1, "--asr-model", "whisper"]).await;
    let page = chromium.page(&server.url("")).await;
    page.wait_until_live().await;
    assert_eq!(page.evaluate("mouthpiece.microphone").await, false);
    page.click("#microphone").await;
    until_user_says(&page, "What time is it?").await;
    page.wait_until_speaking().await;
    if let Ok(path) = std::env::var("SCREENSHOT") {
        page.screenshot(Path::new(&path)).await;
    }
    page.wait_until_silent().await;
    assert_eq!(page.turns("user").await, ["What time is it?"]);
    let answers = page.turns("avatar").await;
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert!(server.metric("mouthpiece_speech_heard_total{became=\"turn\"}").await >= Some(1.0));
    page.click("#microphone").await;
    page.wait_for("!mouthpiece.microphone").await;
    assert_eq!(page.console_errors(), Vec::<String>::new());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_who_speaks_over_the_avatar_stops_it() {
    let folder = tempfile::tempdir().unwrap();
    let interruption = "Wait a moment please, I have another question for you, and it is important.";
    let chromium = with_microphone(&recording(folder.path(), &[(4.0, ""), (SILENCE, interruption)])).await;
    let recogniser = Service::start("asr_server.py", &["150", "I have another question."]);
    let server = Server::start_with(&["--asr-url", &recogniser.1, "--asr-model", "whisper"]).await;
    let page = chromium.page(&server.url("")).await;
    page.wait_until_live().await;
    let ended = "(() => { window.ended = []; mouthpiece.addEventListener('speech_ended', ({ detail }) => ended.push(detail)); })()";
    page.evaluate(ended).await;
    page.ask_to_say(&[LONG; 3].join(" ")).await;
    page.wait_until_speaking().await;
    page.click("#microphone").await;
    page.wait_for("ended.length > 0").await;
    assert_eq!(page.evaluate("ended[0].interrupted").await, true);
    until_user_says(&page, "I have another question.").await;
    page.wait_until_speaking().await;
    assert_eq!(page.console_errors(), Vec::<String>::new());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_a_recogniser_has_no_button_to_speak() {
    let chromium = Chromium::launch().await;
    let server = Server::start().await;
    let page = chromium.page(&server.url("")).await;
    page.wait_until_live().await;
    assert_eq!(page.evaluate("document.getElementById('microphone').hidden").await, true);
    server.stop().await;
}

/// Notes when the microphone was loud last, and when a frame with a fresh mouth is shown after that: known by the mark of
/// `--mark-speech`, as in the figures of what is written.
const ANSWERED: &str = "(async () => {
  const video = document.getElementById('avatar-video');
  window.corner ??= new OffscreenCanvas(64, 32).getContext('2d', { willReadFrequently: true });
  const light = (x) => corner.getImageData(x, 16, 1, 1).data.slice(0, 3).reduce((sum, part) => sum + part) / 3;
  const marked = () => {
    corner.drawImage(video, 0, 0, 64, 32, 0, 0, 64, 32);
    return light(16) - light(48) > 100;
  };
  window.ears ??= (() => {
    const context = new AudioContext({ latencyHint: 'interactive' });
    const analyser = context.createAnalyser();
    analyser.fftSize = 256;
    const { track } = mouthpiece.peerConnection.getSenders().find(({ track }) => track?.kind === 'audio');
    context.createMediaStreamSource(new MediaStream([track])).connect(analyser);
    const samples = new Float32Array(256);
    setInterval(() => {
      analyser.getFloatTimeDomainData(samples);
      if (samples.some((sample) => Math.abs(sample) > 0.01)) window.loud = performance.now();
    }, 5);
    return analyser;
  })();
  const frame = () => new Promise((resolve) => {
    video.requestVideoFrameCallback((now, frame) => resolve(Math.max(now, frame.expectedDisplayTime)));
  });
  const asked = performance.now();
  window.loud = 0;
  while (marked()) await frame();
  for (;;) {
    const shown = await frame();
    if (marked() && window.loud > asked) return shown - window.loud;
    if (shown - asked > 30000) throw new Error(`no answer is seen; loud ${window.loud - asked}`);
  }
})()";
const QUESTIONS: usize = 15;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a figure: takes three minutes of a quiet machine"]
async fn how_soon_a_spoken_question_is_seen_answered() {
    let folder = tempfile::tempdir().unwrap();
    let chromium = with_microphone(&recording(folder.path(), &[(2.0, ""), (7.0, QUESTION)])).await;
    let recogniser = Service::start("asr_server.py", &["150", "What time is it?"]);
    let model = Service::start("llm_server.py", &["0", "50", "50"]);
    let ears = ["--asr-url", &recogniser.1, "--asr-model", "whisper"];
    let mind = ["--llm-url", &model.1, "--llm-model", "a-model", "--mark-speech"];
    let server = Server::start_with(&[&ears[..], &mind[..]].concat()).await;
    let page = chromium.page(&server.url("")).await;
    page.wait_until_live().await;
    page.click("#microphone").await;
    page.wait_for("mouthpiece.microphone").await;
    let mut seen = Vec::new();
    for _ in 0..QUESTIONS + 1 {
        seen.push(page.evaluate(ANSWERED).await.as_f64().unwrap());
        page.wait_until_silent().await;
    }
    let mut seen = seen.split_off(1);
    seen.sort_by(f64::total_cmp);
    eprintln!("from the end of a question to a mouth: {seen:.0?}");
    eprintln!("p50 {:.0} ms, p95 {:.0} ms of {QUESTIONS}", seen[QUESTIONS / 2], seen[QUESTIONS * 95 / 100]);
    assert!(seen[QUESTIONS / 2] <= 1200.0, "{seen:.0?}");
    server.stop().await;
}
