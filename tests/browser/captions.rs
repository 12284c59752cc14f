//! Captions light up with the sound that the browser plays, not with the message that brought them.

use serde::Deserialize;

use super::chromium::Chromium;
use super::playing::LONG;
use super::server::Server;

/// From the beginning of a sentence to the first and the last sound of it that was played, in milliseconds of the
/// sound's own clock.
#[derive(Debug, Deserialize)]
struct Sentence {
    length: f64,
    first_loud: f64,
    last_loud: f64,
    /// The looks right before the first sound and right after the last one, where there was one: a busy browser looks seldom.
    quiet_before: Option<f64>,
    quiet_after: Option<f64>,
    /// How many of its words the page had lit when the first sound was played, how many had begun by the sound's clock, and
    /// how many were lit when the last sound was played.
    lit_first: usize,
    begun_first: usize,
    lit_last: usize,
    words: usize,
}

/// Notes with each picture what is heard and which words the page has lit.
const RECORD: &str = "(() => {
  const sentences = new Map();
  window.sentences = sentences;
  mouthpiece.addEventListener('caption', ({ detail }) => {
    const known = sentences.get(detail.sentence) ?? { first_loud: null, last_loud: null, quiet_before: null };
    sentences.set(detail.sentence, { ...known, start: detail.rtp_timestamp, words: detail.words.length,
      starts: detail.words.map(({ start_ms }) => start_ms), length: detail.words.at(-1).end_ms });
  });
  const context = new AudioContext();
  const analyser = new AnalyserNode(context, { fftSize: 512 });
  context.createMediaStreamSource(document.getElementById('avatar-video').srcObject).connect(analyser);
  const sound = new Float32Array(512);
  const look = () => {
    requestAnimationFrame(look);
    analyser.getFloatTimeDomainData(sound);
    const source = mouthpiece.peerConnection.getReceivers().find(({ track }) => track.kind === 'audio')
      .getSynchronizationSources()[0];
    if (!source) return;
    const place = ({ start }) => ((source.rtpTimestamp - start) | 0) / 48;
    const heard = [...sentences.values()].filter((sentence) => place(sentence) > -100).at(-1);
    if (!heard) return;
    const at = place(heard);
    if (sound.every((sample) => Math.abs(sample) < 0.02)) {
      if (heard.first_loud === null) heard.quiet_before = at;
      else heard.quiet_after ??= at;
      return;
    }
    const lit = mouthpiece.caption()?.words.filter(({ begun }) => begun).length ?? 0;
    heard.last_loud = at;
    heard.quiet_after = null;
    heard.lit_last = lit;
    heard.first_loud ??= at;
    heard.lit_first ??= lit;
    heard.begun_first ??= heard.starts.filter((start) => start <= at).length;
  };
  look();
})()";

/// Ticks at which a sentence had no sound to play.
const STARVED: &str = "mouthpiece_pairs_total{shows=\"starved\"}";

#[tokio::test(flavor = "multi_thread")]
async fn words_light_up_with_the_sound_that_is_played() {
    let chromium = Chromium::launch().await;
    let server = Server::start().await;
    let page = chromium.page(&server.url("")).await;
    page.wait_until_live().await;
    page.evaluate(RECORD).await;
    page.ask_to_say(LONG).await;
    page.wait_for("!document.getElementById('caption').hidden").await;
    page.wait_until_speaking().await;
    page.wait_until_silent().await;
    let sentences: Vec<Sentence> = serde_json::from_value(page.evaluate("[...sentences.values()]").await).unwrap();
    // Where the voice does not keep up, a sentence takes longer than it is.
    let longer = 40.0 * server.metric(STARVED).await.unwrap_or(0.0);
    eprintln!("{sentences:#?}, longer by {longer} ms");
    assert!(sentences.len() >= 3, "{sentences:#?}");
    for sentence in &sentences {
        // Voices begin and end with some silence, and a packet is 20 ms. The first sound was played between two looks, and
        // so was the last one.
        assert!(sentence.first_loud >= -40.0 && sentence.quiet_before.is_none_or(|at| at <= 200.0), "{sentence:?}");
        assert!(sentence.last_loud <= sentence.length + 60.0 + longer, "{sentence:?}");
        assert!(sentence.quiet_after.is_none_or(|at| at >= sentence.length - 400.0), "{sentence:?}");
        assert!(sentence.lit_first <= sentence.begun_first.max(1) + 1, "{sentence:?}");
        assert!(sentence.lit_last == sentence.words || sentence.last_loud > sentence.length + 60.0, "{sentence:?}");
    }
    assert_eq!(page.evaluate("document.getElementById('caption').hidden").await, true);
    assert_eq!(page.console_errors(), Vec::<String>::new());
    server.stop().await;
}
