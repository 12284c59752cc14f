/**
 * When the first lip-synced frame of an answer is on the screen.
 *
 * In here: following the frames that a video element shows, by their RTP timestamps, until the one that a `latency`
 * message told of. Not in here: telling the server and the page (`../client.js`). A browser that does not tell the RTP
 * timestamps of frames (only Chromium's does) never reports any.
 */

/** The RTP clock of video. */
const TICKS_PER_MS = 90;

/** Frames remembered, for a message that comes after its frame. */
const KEPT = 25;

/** If the frame itself was lost, one of those behind it counts; later, the picture has nothing to do with the turn. */
const WITHIN_MS = 3000;

/** The frames of one video element and the one that is waited for. */
export class ShownFrames {
  #video = null;
  #callback = null;
  #shown = [];
  #awaited = null;

  /** @param {HTMLVideoElement|null} video follows this one from now on; null for none */
  follow(video) {
    this.forget();
    this.#video?.cancelVideoFrameCallback?.(this.#callback);
    this.#video = video;
    this.#next();
  }

  /** Forgets what was shown and what is waited for. */
  forget() {
    this.#shown = [];
    this.#awaited = null;
  }

  /**
   * Waits for a frame, instead of the one that was waited for before.
   * @param {number|null} rtpTimestamp
   * @param {(at: number) => void} shown called with the time it is displayed, on the clock of `performance.now()`
   */
  await(rtpTimestamp, shown) {
    this.#awaited = null;
    // A hidden page is shown nothing until somebody looks at it.
    if (rtpTimestamp === null || globalThis.document?.visibilityState === "hidden") return;
    this.#awaited = { rtpTimestamp, shown };
    for (const frame of this.#shown) this.#look(frame);
  }

  #look({ rtpTimestamp, at }) {
    if (!this.#awaited) return;
    // Timestamps wrap around after half a day.
    const after = ((rtpTimestamp - this.#awaited.rtpTimestamp) | 0) / TICKS_PER_MS;
    // Half a frame for rounding.
    if (after < -20 || after > WITHIN_MS) return;
    const { shown } = this.#awaited;
    this.#awaited = null;
    shown(at);
  }

  #next() {
    this.#callback = this.#video?.requestVideoFrameCallback?.((now, { rtpTimestamp, expectedDisplayTime }) => {
      this.#next();
      if (rtpTimestamp === undefined) return;
      const frame = { rtpTimestamp, at: Math.max(now, expectedDisplayTime) };
      this.#shown.push(frame);
      if (this.#shown.length > KEPT) this.#shown.shift();
      this.#look(frame);
    });
  }
}
