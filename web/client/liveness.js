/**
 * Signs of life: of the server on its socket, and of a peer connection that a browser still believes in.
 *
 * In here: noticing that there are none. Not in here: what is done about it (`../client.js`).
 */

/** Between beats; a server silent for a whole interval after one is taken for dead. */
const INTERVAL_MS = 5000;

/** Beats, which is to make the other side say something, and notices when it does not. */
export class Heartbeat {
  #timer = null;
  #heard = true;
  #beat;
  #silent;

  /**
   * @param {() => void} beat called at once and then at every interval
   * @param {() => void} silent called instead when nothing was heard since the last beat
   */
  constructor(beat, silent) {
    this.#beat = beat;
    this.#silent = silent;
  }

  start() {
    this.stop();
    this.#heard = true;
    this.#timer = setInterval(() => {
      if (!this.#heard) {
        this.#silent();
        return;
      }
      this.#heard = false;
      this.#beat();
    }, INTERVAL_MS);
    this.#beat();
  }

  stop() {
    clearInterval(this.#timer);
  }

  heard() {
    this.#heard = true;
  }
}

/** What a peer connection has received, looked at once a beat. */
export class Received {
  #peer = null;
  #bytes = 0;
  #idleBeats = 0;

  /**
   * @param {RTCPeerConnection} peer another one than the last time starts afresh
   * @returns {Promise<boolean>} whether nothing has come for two beats
   */
  async hasStalled(peer) {
    if (peer !== this.#peer) [this.#peer, this.#bytes, this.#idleBeats] = [peer, 0, 0];
    let bytes = 0;
    for (const entry of (await peer.getStats()).values()) if (entry.type === "inbound-rtp") bytes += entry.bytesReceived;
    if (peer !== this.#peer) return false;
    this.#idleBeats = bytes > this.#bytes ? 0 : this.#idleBeats + 1;
    this.#bytes = bytes;
    return this.#idleBeats >= 2;
  }
}
