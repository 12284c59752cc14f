/**
 * One peer connection that receives picture and voice, and may send a voice.
 *
 * In here: making it with its offer, and what it reports. Not in here: signalling, and when to offer (`../client.js`).
 */

/**
 * Makes a peer connection and its offer, neither known to anybody yet.
 *
 * @param {RTCConfiguration} configuration
 * @param {{
 *   onStream: (peer: RTCPeerConnection, stream: MediaStream) => void,
 *   onCandidate: (peer: RTCPeerConnection, candidate: RTCIceCandidateInit|null) => void,
 *   onState: (peer: RTCPeerConnection, state: RTCPeerConnectionState) => void,
 * }} reports what is called when it has a track more, a candidate as the server takes it (null after the last one), or
 *   another state
 * @returns {Promise<{peer: RTCPeerConnection, offer: RTCSessionDescriptionInit}>}
 */
export async function offeringPeer(configuration, { onStream, onCandidate, onState }) {
  const peer = new RTCPeerConnection({ bundlePolicy: "max-bundle", ...configuration });
  peer.addTransceiver("video", { direction: "recvonly" });
  // Both ways, with nothing to send: a microphone takes its place later (`microphone.js`).
  peer.addTransceiver("audio", { direction: "sendrecv" });
  // One stream for both, whatever the server calls them: an element plays one.
  const stream = new MediaStream();
  peer.ontrack = ({ track }) => {
    stream.addTrack(track);
    onStream(peer, stream);
  };
  peer.onicecandidate = ({ candidate }) => {
    // An empty candidate ends one generation; the null after it ends them all and is the one the server knows.
    if (candidate?.candidate === "") return;
    const { sdpMid = null, sdpMLineIndex = null, usernameFragment = null } = candidate ?? {};
    onCandidate(peer, candidate && { candidate: candidate.candidate, sdpMid, sdpMLineIndex, usernameFragment });
  };
  peer.onconnectionstatechange = () => onState(peer, peer.connectionState);
  return { peer, offer: await peer.createOffer() };
}

/**
 * Takes what the network gives without adding delay; browsers know it under two names, or none.
 *
 * @param {RTCPeerConnection} peer
 * @param {number|null} targetMs null leaves it to the browser
 */
export function buffersLittle(peer, targetMs) {
  if (targetMs === null) return;
  for (const receiver of peer.getReceivers()) {
    if ("jitterBufferTarget" in receiver) receiver.jitterBufferTarget = targetMs;
    else if ("playoutDelayHint" in receiver) receiver.playoutDelayHint = targetMs / 1000;
  }
}

/** From this share of lost packets on there is something to wait for. */
const LEAST_LOST = 0.012;

/** So long after the last loss that is told of a browser still waits. */
const LOSSES_LAST_MS = 30_000;

/** Longer than this nothing is waited for: a person who talks to the avatar would notice. */
const MOST_WAITED_MS = 320;

/**
 * Makes room for what comes late on a network that loses packets: a picture's packet comes again a round trip after it is
 * missed, or two when that one is lost too; of the voice there is a copy in the next packet or the one after.
 */
export class LossBuffer {
  #timer = null;
  #targetMs = 0;

  /**
   * @param {RTCPeerConnection|null} peer
   * @param {number|null} leastMs what is buffered without losses; null leaves it to the browser
   * @param {{lost: number, round_trip_ms?: number}} network as the server tells of it
   */
  follow(peer, leastMs, { lost, round_trip_ms }) {
    if (!peer || leastMs === null) return;
    if (lost >= LEAST_LOST) {
      clearTimeout(this.#timer);
      this.#timer = null;
      const waited = Math.min(MOST_WAITED_MS, 2 * (round_trip_ms ?? 50) + 60);
      // Only ever more, until the losses are over: each change is heard.
      if (waited > this.#targetMs) buffersLittle(peer, Math.max(leastMs, (this.#targetMs = waited)));
    } else if (this.#targetMs > 0) {
      this.#timer ??= setTimeout(() => {
        this.forget();
        buffersLittle(peer, leastMs);
      }, LOSSES_LAST_MS);
    }
  }

  forget() {
    clearTimeout(this.#timer);
    this.#timer = null;
    this.#targetMs = 0;
  }
}
