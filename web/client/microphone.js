/**
 * The viewer's microphone, in the peer connection that brings the avatar.
 *
 * The offer always has a place for it, which is empty until somebody switches it on: nothing is negotiated anew then.
 * Not in here: when it is heard, and what is said (`../client.js`).
 */

/** The avatar comes out of the loudspeaker: without this it would hear itself. */
const AUDIO = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };

export class Microphone {
  /** @type {MediaStreamTrack|null} */
  #track = null;
  #peer = null;
  #live = true;

  /** Whether it is switched on. */
  get on() {
    return this.#track !== null;
  }

  /**
   * Asks the browser for it, which asks the viewer.
   * @throws {DOMException} as getUserMedia: the viewer said no, there is none, the page is not secure
   */
  async switchOn() {
    if (this.#track) return;
    if (!navigator.mediaDevices) throw new DOMException("microphones need https or localhost", "NotAllowedError");
    const stream = await navigator.mediaDevices.getUserMedia({ audio: AUDIO });
    [this.#track] = stream.getAudioTracks();
    this.#track.enabled = this.#live;
    this.#track.onended = () => this.switchOff();
    await this.#place();
  }

  /** Gives it back; the browser stops showing that it is in use. */
  async switchOff() {
    this.#track?.stop();
    this.#track = null;
    await this.#place();
  }

  /** Lets what it hears through, or silence. */
  set live(live) {
    this.#live = live;
    if (this.#track) this.#track.enabled = live;
  }

  /** Puts it into a peer connection, now and whenever it is switched. */
  async attach(peer) {
    this.#peer = peer;
    await this.#place();
  }

  async #place() {
    const transceiver = this.#peer?.getTransceivers().find(({ receiver }) => receiver.track.kind === "audio");
    // A peer connection that is closed meanwhile has no use for it.
    await transceiver?.sender.replaceTrack(this.#track).catch(() => {});
  }
}
