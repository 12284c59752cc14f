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
