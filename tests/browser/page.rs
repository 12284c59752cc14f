//! What a person does on our page, and what the browser counts of picture and voice.

use std::time::Duration;

use serde::Deserialize;

use super::chromium::Page;

/// Counters of `getStats` since the peer connected, at one moment.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Counted {
    /// The page's clock, in milliseconds.
    pub at: f64,
    pub frames_decoded: f64,
    pub frames_received: f64,
    /// What the picture that is shown is stamped with, in RTP's 32 bits.
    pub stamp: f64,
    pub freezes: f64,
    /// Sum of squared samples by seconds (`totalAudioEnergy`): loudness squared times time.
    pub energy: f64,
    pub width: f64,
}

/// What came of something that was said, from its beginning until no more of it was heard.
#[derive(Clone, Copy, Debug)]
pub struct Spoken {
    /// How long it was, as the server tells.
    pub seconds: f64,
    /// Pictures that the avatar took meanwhile, by the clock that they are stamped with.
    pub sent: f64,
    pub decoded: f64,
    /// Mean power of the voice while it spoke, where full scale is 1.
    pub power: f64,
}

impl Spoken {
    /// Decoded pictures of a second of the avatar's time, whatever this machine took for it.
    pub fn fps(&self) -> f64 {
        25.0 * self.decoded / self.sent
    }
}

/// What happened between two looks.
#[derive(Clone, Copy, Debug)]
pub struct Played {
    pub seconds: f64,
    pub decoded_fps: f64,
    pub received_fps: f64,
    pub freezes: f64,
    /// Mean power of the voice, where full scale is 1.
    pub power: f64,
}

const COUNT: &str = "(async () => {
  const entries = [...(await mouthpiece.peerConnection.getStats()).values()];
  const inbound = (kind) => entries.find((entry) => entry.type === 'inbound-rtp' && entry.kind === kind) ?? {};
  const video = inbound('video');
  return { at: video.timestamp ?? performance.now(), frames_decoded: video.framesDecoded ?? 0,
    frames_received: video.framesReceived ?? 0, freezes: video.freezeCount ?? 0,
    energy: inbound('audio').totalAudioEnergy ?? 0, width: video.frameWidth ?? 0,
    stamp: mouthpiece.peerConnection.getReceivers().find(({ track }) => track.kind === 'video')
      .getSynchronizationSources()[0]?.rtpTimestamp ?? 0,
    hitches: (inbound('audio').concealedSamples ?? 0) + (video.freezeCount ?? 0) + (video.framesDropped ?? 0) };
})()";

/// Counts when the next utterance begins, and keeps what is told of its end.
const SPEECH: &str = "(() => {
  window.speech = {};
  const once = (type, happens) => mouthpiece.addEventListener(type, happens, { once: true });
  once('speech_started', () => { speech.before = COUNT; });
  once('speech_ended', ({ detail }) => speech.before.then(() => { speech.ended = detail; }));
})()";

/// What silence through the encoder is below: it is far under a millionth, and speech has some hundredths.
pub const SILENT: f64 = 1e-6;

impl Page {
    /// Waits until picture and voice flow, then turns the sound on.
    pub async fn wait_until_live(&self) {
        self.wait_until_connected().await;
        self.click("#unmute").await;
        self.wait_for("!document.getElementById('avatar-video').muted").await;
    }

    /// Waits until picture and voice flow: the first frames were decoded.
    pub async fn wait_until_connected(&self) {
        self.wait_for("window.mouthpiece?.state === 'connected'").await;
        self.wait_for("mouthpiece.stats().then((stats) => stats.frames_decoded >= 10)").await;
    }

    /// Types a message and presses the button.
    pub async fn send(&self, text: &str) {
        self.click("#message").await;
        self.write(text).await;
        self.wait_for("!document.getElementById('send').disabled").await;
        self.click("#send").await;
    }

    /// Asks the avatar to say something, which it does in these words.
    pub async fn ask_to_say(&self, text: &str) {
        self.send(&format!("Say: {text}")).await;
    }

    /// Waits until the avatar speaks.
    pub async fn wait_until_speaking(&self) {
        self.wait_for("mouthpiece.speaking").await;
    }

    /// Waits until the avatar is done and its last sound was heard: none comes for longer than a pause between sentences.
    pub async fn wait_until_silent(&self) {
        self.wait_for("!mouthpiece.speaking").await;
        while self.watch(Duration::from_millis(700)).await.power > SILENT {}
    }

    /// Waits until so many more pictures were decoded.
    pub async fn sees(&self, more: u32) {
        let enough = self.count().await.frames_decoded + f64::from(more);
        self.wait_for(&format!("{COUNT}.then((now) => now.frames_decoded >= {enough})")).await;
    }

    pub async fn count(&self) -> Counted {
        serde_json::from_value(self.evaluate(COUNT).await).unwrap()
    }

    /// What plays during a stretch of time.
    pub async fn watch(&self, time: Duration) -> Played {
        let before = self.count().await;
        self.count_after(time).await.since(before)
    }

    async fn count_after(&self, time: Duration) -> Counted {
        let waits = format!("new Promise((resolve) => setTimeout(resolve, {}))", time.as_millis());
        serde_json::from_value(self.evaluate(&format!("{waits}.then(() => {COUNT})")).await).unwrap()
    }

    /// Has something said by way of the form and counts until it was heard.
    pub async fn speak_to_the_end(&self, text: &str) -> Spoken {
        self.expect_speech().await;
        self.ask_to_say(text).await;
        self.hear_to_the_end().await
    }

    /// What is said next is counted by `hear_to_the_end`.
    pub async fn expect_speech(&self) {
        self.evaluate(&SPEECH.replace("COUNT", COUNT)).await;
    }

    /// Counts what was expected until it was heard.
    pub async fn hear_to_the_end(&self) -> Spoken {
        self.wait_for("speech.ended").await;
        let before: Counted = serde_json::from_value(self.evaluate("speech.before").await).unwrap();
        let seconds = self.evaluate("speech.ended.spoken_ms").await.as_f64().unwrap() / 1000.0;
        self.wait_until_silent().await;
        let after = self.count().await;
        Spoken {
            seconds,
            // 90,000 a second in 32 bits, and a picture every 40 ms.
            sent: (after.stamp - before.stamp).rem_euclid(4_294_967_296.0) / 3600.0,
            decoded: after.frames_decoded - before.frames_decoded,
            power: (after.energy - before.energy) / seconds,
        }
    }

    /// The turns that the history shows: `kind` is `user` or `avatar`.
    pub async fn turns(&self, kind: &str) -> Vec<String> {
        let turns = format!("[...document.querySelectorAll('#history .turn.{kind} .content')]");
        serde_json::from_value(self.evaluate(&format!("{turns}.map((turn) => turn.textContent)")).await).unwrap()
    }

    /// How late the voice is against the picture, looked at five times a second.
    pub async fn skew(&self, time: Duration) -> Skew {
        self.skew_by(&format!("look < {}", time.as_millis() / 200), "true").await
    }

    /// The same by so many looks between which the machine gave the browser the time to play: no sound was made up and no
    /// picture was late.
    pub async fn skew_where_it_plays(&self, looks: usize) -> Skew {
        self.skew_by(&format!("seen.length < {looks}"), "now.hitches === before.hitches").await
    }

    async fn skew_by(&self, goes_on: &str, counts: &str) -> Skew {
        let look = format!(
            "(async () => {{ const seen = []; let before = await {COUNT}; for (let look = 0; {goes_on}; look++) {{
               await new Promise((resolve) => setTimeout(resolve, 200));
               const stats = await mouthpiece.stats();
               const now = await {COUNT};
               if (stats.av_skew_ms !== null && {counts}) seen.push(stats.av_skew_ms);
               before = now;
             }} return seen; }})()"
        );
        let mut late: Vec<f64> = serde_json::from_value(self.evaluate(&look).await).unwrap();
        late.sort_by(f64::total_cmp);
        let at = |percent: usize| late.get(late.len() * percent / 100).copied().unwrap_or(f64::NAN);
        Skew { count: late.len(), p5: at(5), p50: at(50), p95: at(95) }
    }
}

/// Milliseconds by which the voice is late (early if negative).
#[derive(Clone, Copy, Debug)]
pub struct Skew {
    pub count: usize,
    pub p5: f64,
    pub p50: f64,
    pub p95: f64,
}

impl std::fmt::Display for Skew {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "p5 {:.0} ms, p50 {:.0} ms, p95 {:.0} ms of {} looks", self.p5, self.p50, self.p95, self.count)
    }
}

impl std::fmt::Display for Spoken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { seconds, sent, decoded, power } = self;
        write!(f, "{seconds:.1} s: {decoded} of {sent} pictures decoded, power {power:.1e}")
    }
}

impl std::fmt::Display for Played {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { seconds, decoded_fps, received_fps, freezes, power } = self;
        write!(
            f,
            "{seconds:.1} s: {received_fps:.2} fps received, {decoded_fps:.2} decoded, {freezes} freezes, power {power:.1e}"
        )
    }
}

impl Counted {
    pub fn since(self, before: Self) -> Played {
        let seconds = (self.at - before.at) / 1000.0;
        Played {
            seconds,
            decoded_fps: (self.frames_decoded - before.frames_decoded) / seconds,
            received_fps: (self.frames_received - before.frames_received) / seconds,
            freezes: self.freezes - before.freezes,
            power: (self.energy - before.energy) / seconds,
        }
    }
}
