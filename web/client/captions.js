/**
 * Which words are being heard, by the clock of the sound itself.
 *
 * In here: the captions a server sent and where in them the browser's playout is. The RTP timestamp of what is played
 * counts the jitter buffer in, so words light up with the sound however late that is. Not in here: showing them.
 */

/** Opus' RTP clock. */
const TICKS_PER_MS = 48;

/** A sentence stays for a moment after its last word. */
const LINGER_MS = 600;

/** Sentences kept; they come one at a time and are heard within seconds. */
const KEPT = 32;

/** Packets carry 20 ms; beyond a few of them the sound has stopped, and guessing on would run ahead of it. */
const GUESSED_MS = 100;

/**
 * The RTP timestamp of the sound that is heard now; null before the first.
 * @param {RTCPeerConnection|null} peer
 */
export function heardTimestamp(peer) {
  const receiver = peer?.getReceivers().find(({ track }) => track.kind === "audio");
  const source = receiver?.getSynchronizationSources?.()[0];
  if (source?.rtpTimestamp === undefined) return null;
  const age = performance.timeOrigin + performance.now() - source.timestamp;
  return source.rtpTimestamp + Math.min(Math.max(age, 0), GUESSED_MS) * TICKS_PER_MS;
}

/** The captions of one viewer. */
export class Captions {
  #sentences = [];

  /** Takes a `caption` message; one for a sentence that is known replaces it. */
  take(message) {
    const same = (known) => known.utterance_id === message.utterance_id && known.sentence === message.sentence;
    const at = this.#sentences.findIndex(same);
    if (at >= 0) this.#sentences[at] = message;
    else this.#sentences.push(message);
    if (this.#sentences.length > KEPT) this.#sentences.shift();
  }

  /** Forgets an utterance that was stopped, or with no argument everything. */
  forget(utteranceId) {
    this.#sentences = this.#sentences.filter((known) => utteranceId !== undefined && known.utterance_id !== utteranceId);
  }

  /**
   * The sentence that is heard at an RTP timestamp.
   * @param {number|null} timestamp
   * @returns {{utterance_id: string, sentence: number, words: {text: string, begun: boolean}[]}|null}
   */
  at(timestamp) {
    if (timestamp === null) return null;
    for (const { utterance_id, sentence, rtp_timestamp, words } of this.#sentences.toReversed()) {
      if (rtp_timestamp === null || words.length === 0) continue;
      // Timestamps wrap around after a day.
      const ms = ((timestamp - rtp_timestamp) | 0) / TICKS_PER_MS;
      if (ms < 0 || ms > words.at(-1).end_ms + LINGER_MS) continue;
      return { utterance_id, sentence, words: words.map(({ text, start_ms }) => ({ text, begun: start_ms <= ms })) };
    }
    return null;
  }
}
