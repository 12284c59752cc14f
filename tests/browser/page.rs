//! What a person does on our page, and what the browser counts of picture and voice.

use std::time::Duration;

use serde::Deserialize;

use super::chromium::Page;

/// Connecting takes a quarter of a second; the rest is for a machine that is busy with something else.
pub const CONNECTED: Duration = Duration::from_secs(20);

/// Counters of `getStats` since the peer connected, at one moment.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Counted {
    /// The page's clock, in milliseconds.
    pub at: f64,
    pub frames_decoded: f64,
    pub frames_received: f64,
    pub freezes: f64,
    /// Sum of squared samples by seconds (`totalAudioEnergy`): loudness squared times time.
    pub energy: f64,
    pub width: f64,
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
    energy: inbound('audio').totalAudioEnergy ?? 0, width: video.frameWidth ?? 0 };
})()";

impl Page {
    /// Waits until picture and voice flow, then turns the sound on.
    pub async fn wait_until_live(&self) {
        self.wait_until_connected().await;
        self.click("#unmute").await;
        self.wait_for("!document.getElementById('avatar-video').muted", CONNECTED).await;
    }

    /// Waits until picture and voice flow: the first frames were decoded.
    pub async fn wait_until_connected(&self) {
        self.wait_for("window.mouthpiece?.state === 'connected'", CONNECTED).await;
        self.wait_for("mouthpiece.stats().then((stats) => stats.frames_decoded >= 10)", CONNECTED).await;
    }

    /// Types a message and presses the button.
    pub async fn send(&self, text: &str) {
        self.click("#message").await;
        self.write(text).await;
        self.wait_for("!document.getElementById('send').disabled", CONNECTED).await;
        self.click("#send").await;
    }

    /// Asks the avatar to say something, which it does in these words.
    pub async fn ask_to_say(&self, text: &str) {
        self.send(&format!("Say: {text}")).await;
    }

    /// Waits until the avatar speaks.
    pub async fn wait_until_speaking(&self) {
        self.wait_for("mouthpiece.speaking", CONNECTED).await;
    }

    /// Waits until the avatar is done and its last sound, half a second under way at most, was heard.
    pub async fn wait_until_silent(&self) {
        self.wait_for("!mouthpiece.speaking", Duration::from_secs(90)).await;
        self.count_after(Duration::from_millis(700)).await;
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

    /// Has something said by way of the form and counts while it is said.
    pub async fn speak_to_the_end(&self, text: &str) -> Played {
        self.ask_to_say(text).await;
        self.wait_until_speaking().await;
        let before = self.count().await;
        self.wait_for("!mouthpiece.speaking", Duration::from_secs(120)).await;
        let played = self.count().await.since(before);
        self.wait_until_silent().await;
        played
    }

    /// The turns that the history shows: `kind` is `user` or `avatar`.
    pub async fn turns(&self, kind: &str) -> Vec<String> {
        let turns = format!("[...document.querySelectorAll('#history .turn.{kind} .content')]");
        serde_json::from_value(self.evaluate(&format!("{turns}.map((turn) => turn.textContent)")).await).unwrap()
    }

    /// How late the voice is against the picture, looked at five times a second.
    pub async fn skew(&self, time: Duration) -> Skew {
        let looks = time.as_millis() / 200;
        let look = format!(
            "(async () => {{ const seen = []; for (let look = 0; look < {looks}; look++) {{
               await new Promise((resolve) => setTimeout(resolve, 200));
               const stats = await mouthpiece.stats();
               if (stats.av_skew_ms !== null) seen.push(stats.av_skew_ms);
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
