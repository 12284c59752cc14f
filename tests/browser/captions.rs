//! Captions light up with the sound that the browser plays, not with the message that brought them.

use std::time::Duration;

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
    /// How many of its words the page had lit when the first sound was played, and when the last one was.
    lit_first: usize,
    lit_last: usize,
    words: usize,
}

/// Notes with each picture what is heard and which words the page has lit.
const RECORD: &str = "(() => {
  const sentences = new Map();
  window.sentences = sentences;
  mouthpiece.addEventListener('caption', ({ detail }) => {
    const known = sentences.get(detail.sentence) ?? { first_loud: null, last_loud: null };
    sentences.set(detail.sentence, { ...known, start: detail.rtp_timestamp, words: detail.words.length,
      length: detail.words.at(-1).end_ms });
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
    if (!source || sound.every((sample) => Math.abs(sample) < 0.02)) return;
    const heard = [...sentences.values()].filter(({ start }) => ((source.rtpTimestamp - start) | 0) / 48 > -100).at(-1);
    if (!heard) return;
    const lit = mouthpiece.caption()?.words.filter(({ begun }) => begun).length ?? 0;
    heard.last_loud = ((source.rtpTimestamp - heard.start) | 0) / 48;
    heard.lit_last = lit;
    heard.first_loud ??= heard.last_loud;
    heard.lit_first ??= lit;
  };
  look();
})()";

#[tokio::test(flavor = "multi_thread")]
async fn words_light_up_with_the_sound_that_is_played() {
    let chromium = Chromium::launch().await;
    let server = Server::start().await;
    let page = chromium.page(&server.url("")).await;
    page.wait_until_live().await;
    page.evaluate(RECORD).await;
    page.ask_to_say(LONG).await;
    page.wait_for("!document.getElementById('caption').hidden", Duration::from_secs(10)).await;
    page.wait_until_speaking().await;
    page.wait_until_silent().await;
    let sentences: Vec<Sentence> = serde_json::from_value(page.evaluate("[...sentences.values()]").await).unwrap();
    eprintln!("{sentences:#?}");
    assert!(sentences.len() >= 3, "{sentences:#?}");
    for sentence in &sentences {
        // Voices begin and end with some silence, and a packet is 20 ms.
        assert!((-40.0..=200.0).contains(&sentence.first_loud), "{sentence:?}");
        assert!((-400.0..=60.0).contains(&(sentence.last_loud - sentence.length)), "{sentence:?}");
        assert!(sentence.lit_first <= 2 && sentence.lit_last == sentence.words, "{sentence:?}");
    }
    assert_eq!(page.evaluate("document.getElementById('caption').hidden").await, true);
    assert_eq!(page.console_errors(), Vec::<String>::new());
    server.stop().await;
}
