/**
 * Client of a mouthpiece server: signalling over a WebSocket, the avatar's picture and voice over WebRTC.
 *
 * In here: when to offer and to reconnect, what can be said and heard. Its parts, in `client/`: the peer connection
 * (`peer.js`), the socket (`socket.js`), signs of life of both (`liveness.js`), the video element (`screen.js`), avatars that
 * are cut out (`matte.js`), figures from getStats (`figures.js`), captions in step with the sound (`captions.js`), when an answer is shown (`latency.js`), a
 * voice of the page's own (`audio.js`), the microphone (`microphone.js`). Not in here: our page (`app.js`). No dependencies
 * besides; any page may import this file.
 *
 * Two ways to use it.
 *
 * The client opens and keeps the connection by itself:
 *
 *     const client = new AvatarWebRTCClient();
 *     client.addEventListener("text", ({ detail }) => show(detail.content));
 *     client.connect("wss://host/ws?avatar=anna", document.querySelector("video"));
 *     client.speak("Hello!");
 *
 * Or the page owns the socket and hands over what arrives:
 *
 *     const client = new AvatarWebRTCClient(websocket, videoElement);
 *     websocket.onopen = () => client.initialize();
 *     websocket.onmessage = (event) => client.handleMessage(event.data);
 *
 * @module
 */

import { audioFrames } from "./client/audio.js";
import { Captions, heardTimestamp } from "./client/captions.js";
import { Figures } from "./client/figures.js";
import { ShownFrames } from "./client/latency.js";
import { Heartbeat, Received } from "./client/liveness.js";
import { MattedScreen } from "./client/matte.js";
import { Microphone } from "./client/microphone.js";
import { buffersLittle, LossBuffer, offeringPeer } from "./client/peer.js";
import { playStream, showStream } from "./client/screen.js";
import { openSocket } from "./client/socket.js";

/** Wire protocol this client speaks; the server says its own in `session`. */
export const PROTOCOL_VERSION = 1;

/** Errors that come again on every attempt, so that reconnecting is no use; all but one where they close the socket. */
const LASTING_ERRORS = new Set([
  "unknown_avatar", "bad_session_name", "no_common_codec", "unauthorized", "forbidden", "token_ended",
]);

/** Those of them that another token may mend. */
const TOKEN_ERRORS = new Set(["unauthorized", "token_ended"]);

/** Errors that end the offer under way. */
const OFFER_ERRORS = new Set([
  "offer_without_media", "offer_not_receivable", "no_common_codec", "bad_sdp", "negotiation_failed", "peer_failed",
]);

/** A server that accepts a socket says `session` at once; without it the page goes on without its ICE servers. */
const SESSION_TIMEOUT_MS = 2000;

/** An answer takes some 50 ms, gathering behind a dead STUN server seconds; the server itself gives up after ten. */
const ANSWER_TIMEOUT_MS = 12_000;

/** A connection that is lost for shorter often comes back by itself, as on a change from one Wi-Fi cell to the next. */
const DISCONNECTED_GRACE_MS = 3000;

/** Audio the browser has not sent yet; beyond it `sendAudio` waits. */
const AUDIO_BUFFERED_BYTES = 256 * 1024;

/**
 * @typedef {object} ClientOptions
 * @property {RTCIceServer[]} [iceServers] used until the server names its own in `session`
 * @property {RTCIceTransportPolicy} [iceTransportPolicy] "relay" to force TURN, which the server may do too
 * @property {number|null} [jitterBufferTargetMs] least delay the browser may buffer; 0, the default, is as little as the
 *   network allows, which is more while it loses packets; null leaves it to the browser
 * @property {HTMLCanvasElement|null} [canvas] shows avatars that are cut out; without one, a canvas takes the video's place in
 *   the page while there is such an avatar, behind it and with the same class
 * @property {string|(() => string)} [token] what lets this viewer in, where the server asks for it; a function is asked for
 *   one at each connection, so that one that ends can be followed by another
 * @property {number} [retryMinMs] first wait before reconnecting, 300 by default; doubles with each attempt
 * @property {number} [retryMaxMs] longest wait, 10000 by default
 */

/**
 * One viewer of an avatar.
 *
 * Every message of the server is dispatched as a CustomEvent named after its `type` with the message as `detail`:
 * `session`, `text`, `speech_started`, `latency`, `speech_ended`, `avatar`, `error`, `missed`, ... Every turn that the server takes
 * ends in exactly one message that carries its `utterance_id`, and its `id` if it had one: `speech_ended`, or `error` with
 * `utterance_id`; both say in `spoken_ms` and `text_spoken` what was heard of it. An `error` with `id` alone refuses a turn.
 * Besides:
 *
 * | event | `detail` |
 * |---|---|
 * | `state` | `{state, reason}`: see {@link AvatarWebRTCClient#state} |
 * | `first_frame` | `{time_to_first_frame_ms}`, once per peer connection |
 * | `composed` | `{element, width, height, transparent}`: what shows the avatar from now on, a canvas that the page is seen through where the avatar is cut out, else the video element |
 * | `shown` | `{utterance_id, stages}`: the first lip-synced frame of an answer is on the screen; `stages` are those of its `latency` message and `shown`, in milliseconds since the turn began |
 * | `sound_blocked` | none: the browser wants a gesture before it plays sound; the video plays muted until then |
 */
export class AvatarWebRTCClient extends EventTarget {
  /** @type {ClientOptions} */
  #options;
  #state = "idle";
  #url = null;
  #iceServers;
  #iceTransportPolicy;
  #session = null;
  #speaking = new Set();
  #captions = new Captions();
  #frames = new ShownFrames();
  #microphone = new Microphone();
  /** @type {MattedScreen} */
  #screen;

  #prepared = null;
  #heldCandidates = [];
  #answered = null;
  #timing = {};
  #figures = new Figures();

  #attempts = 0;
  #retryTimer = null;
  #offerTimer = null;
  #graceTimer = null;
  #heartbeat = new Heartbeat(() => this.#beat(), () => this.#reconnect("the server is silent"));
  #received = new Received();
  #signallingRoundTrip = null;
  /** Share of the mouths of the last sentence that there was no time to draw. */
  #mouthsLeftOut = 0;
  /** What the server says of the network to this viewer: `{rate_kbps, lost, round_trip_ms, rung}`. */
  #network = null;
  #losses = new LossBuffer();
  #wake = () => {
    if (this.#retryTimer !== null && globalThis.document?.visibilityState !== "hidden") this.#openSocket();
  };

  /**
   * @param {WebSocket|null} [websocket] an open or opening socket of the page's own; leave it out to use `connect`
   * @param {HTMLVideoElement|null} [videoElement] shows the avatar
   * @param {ClientOptions} [options]
   */
  constructor(websocket = null, videoElement = null, options = {}) {
    super();
    this.websocket = websocket;
    this.videoElement = videoElement;
    /** @type {RTCPeerConnection|null} */
    this.peerConnection = null;
    this.#options = { jitterBufferTargetMs: 0, retryMinMs: 300, retryMaxMs: 10_000, ...options };
    this.#screen = new MattedScreen(this.#options.canvas ?? null, (avatar) => this.#composedIs(avatar));
    this.#iceServers = this.#options.iceServers ?? [];
    this.#iceTransportPolicy = this.#options.iceTransportPolicy ?? "all";
  }

  /**
   * `idle` | `connecting` | `connected` (picture and voice flow) | `reconnecting` | `failed` (no use trying again) | `closed`
   * @type {string}
   */
  get state() {
    return this.#state;
  }

  /** What the server said in `session`, or null before it did; its `avatar` is the one that is seen by now. */
  get session() {
    return this.#session;
  }

  /**
   * The avatar that is seen, or null before the server has said so.
   * @returns {{id: string, name: string, width: number, height: number, fps: number, matte: ("beside"|"below"|undefined),
   *   gestures: string[]}|null} `matte` of one that is cut out says which half of the video it is
   */
  get avatar() {
    return this.#session?.avatar ?? null;
  }

  /** Whether the avatar is speaking now. */
  get speaking() {
    return this.#speaking.size > 0;
  }

  /** Whether what is sent now reaches the server. */
  get ready() {
    return this.websocket?.readyState === 1 && (this.#session !== null || this.#url === null);
  }

  // ---- Connecting ---------------------------------------------------------------------------------------------------

  /**
   * Connects and stays connected until `close`: a lost socket is opened again with exponential back-off and jitter, a
   * lost peer connection is offered again.
   *
   * @param {string|URL} url ws: or wss: URL of the server's `/ws`; `?avatar=` and `?session=` choose whom to talk to
   * @param {HTMLVideoElement} [videoElement]
   * @returns {Promise<void>} settles when the avatar is connected for the first time; rejects when that cannot be
   */
  connect(url, videoElement = this.videoElement) {
    if (this.#url !== null) throw new Error("this client is connected already: close() it first");
    this.#url = String(url);
    this.videoElement = videoElement;
    globalThis.addEventListener?.("online", this.#wake);
    globalThis.document?.addEventListener("visibilitychange", this.#wake);
    const connected = new Promise((resolve, reject) => {
      const settle = ({ detail }) => {
        if (detail.state === "connected") resolve();
        else if (detail.state === "failed" || detail.state === "closed") reject(new Error(detail.reason || "closed"));
        else return;
        this.removeEventListener("state", settle);
      };
      this.addEventListener("state", settle);
    });
    connected.catch(() => {}); // Whoever does not wait for it hears of it by the events.
    this.#setState("connecting");
    this.#openSocket();
    return connected;
  }

  /**
   * Makes a peer connection and sends its offer. Called again, it replaces the peer connection.
   * @returns {Promise<void>} settles when the offer is sent
   */
  async initialize() {
    await this.#answered?.promise; // Two offers under way could not tell their answers apart.
    const socket = this.websocket;
    this.#dropPeer();
    this.#prepare();
    const { peer, offer } = await this.#prepared;
    this.#prepared = null;
    if (this.websocket !== socket || socket?.readyState !== 1) {
      peer.close();
      throw new Error("the WebSocket is not open: call initialize() when it is");
    }
    this.peerConnection = peer;
    await this.#microphone.attach(peer);
    const [iceServers, iceTransportPolicy] = [this.#iceServers, this.#iceTransportPolicy];
    peer.setConfiguration({ ...peer.getConfiguration(), iceServers, iceTransportPolicy });
    this.#timing = { offered: performance.now(), started: this.#timing.started };
    this.#expectAnswer();
    // Sent before gathering starts, so no candidate can overtake it.
    this.#send({ type: "webrtc_offer", sdp: offer.sdp });
    await peer.setLocalDescription(offer);
  }

  /**
   * Takes the server's answer to the offer.
   * @param {string} answerSdp
   */
  async handleAnswer(answerSdp) {
    const peer = this.peerConnection;
    if (!peer || peer.signalingState === "closed") return;
    this.#timing.answered ??= performance.now();
    try {
      await peer.setRemoteDescription({ type: "answer", sdp: answerSdp });
      buffersLittle(peer, this.#options.jitterBufferTargetMs);
      const held = this.#heldCandidates.splice(0);
      for (const candidate of held) await this.handleCandidate(candidate);
    } finally {
      this.#answerCame();
    }
  }

  /**
   * Takes one ICE candidate of the server; one that comes before the answer is kept for it.
   * @param {RTCIceCandidateInit|null} candidate null after the last one
   */
  async handleCandidate(candidate) {
    const peer = this.peerConnection;
    if (!peer?.remoteDescription) {
      this.#heldCandidates.push(candidate);
      return;
    }
    try {
      await peer.addIceCandidate(candidate ?? undefined);
    } catch (error) {
      // A candidate of the peer before this one, or of a kind this browser does not know: others remain.
      console.debug("ICE candidate not used:", error.message);
    }
  }

  /**
   * Takes one message of the server and dispatches it as an event.
   * @param {string|object} message JSON text, or what it holds
   */
  async handleMessage(message) {
    this.#heartbeat.heard();
    if (typeof message === "string") {
      try {
        message = JSON.parse(message);
      } catch {
        console.warn("not JSON from the server:", message.slice(0, 80));
        return;
      }
    }
    switch (message?.type) {
      case "session":
        this.#session = message;
        if (message.avatar) this.#screen.expect(message.avatar);
        if (message.ice_servers?.length) this.#iceServers = message.ice_servers;
        if (message.ice_transport_policy === "relay") this.#iceTransportPolicy = "relay";
        break;
      case "avatar":
        this.#avatarIs(message);
        break;
      case "webrtc_answer":
        await this.handleAnswer(message.sdp);
        break;
      case "webrtc_ice_candidate":
        await this.handleCandidate(message.candidate);
        break;
      case "speech_started":
        this.#speaking.add(message.utterance_id);
        break;
      case "speech_ended":
        this.#speaking.delete(message.utterance_id);
        if (message.interrupted) this.#captions.forget(message.utterance_id);
        break;
      case "latency":
        this.#awaitShown(message, performance.now());
        break;
      case "caption":
        // What is heard has started, even if the message that said so was missed.
        this.#speaking.add(message.utterance_id);
        this.#captions.take(message);
        break;
      case "stats":
        if (message.mouths !== undefined) {
          this.#mouthsLeftOut = message.mouths > 0 ? message.mouths_left_out / message.mouths : 0;
        }
        if (message.network) {
          this.#network = message.network;
          this.#losses.follow(this.peerConnection, this.#options.jitterBufferTargetMs, message.network);
        }
        break;
      case "missed":
        // What was being said may have ended since.
        this.#speaking.clear();
        break;
      case "pong":
        if (typeof message.sent_at === "number") this.#signallingRoundTrip = performance.now() - message.sent_at;
        break;
      case "error":
        if (OFFER_ERRORS.has(message.code)) this.#answerCame();
        if (message.utterance_id !== undefined) {
          this.#speaking.delete(message.utterance_id);
          this.#captions.forget(message.utterance_id);
        }
        break;
    }
    if (message?.type) this.#emit(message.type, message);
    if (message?.type === "error") this.#afterError(message);
  }

  /** Ends the conversation. `connect` starts another. */
  close() {
    globalThis.removeEventListener?.("online", this.#wake);
    globalThis.document?.removeEventListener("visibilitychange", this.#wake);
    const owned = this.#url !== null;
    this.#url = null;
    this.#dropPeer();
    this.#frames.follow(null);
    this.#screen.follow(null);
    if (owned) this.#dropSocket();
    this.#microphone.switchOff();
    this.#speaking.clear();
    this.#setState("closed");
  }

  // ---- Talking ------------------------------------------------------------------------------------------------------

  /**
   * A user's turn: the avatar answers it.
   * @param {string} text
   * @param {string} [id] comes back with what is said to it, and with its end
   * @returns {boolean} whether it was sent; false if there is nothing to say or no connection
   */
  sendText(text, id) {
    return this.#say("text", text, id);
  }

  /**
   * Has the avatar say exactly this.
   * @param {string} text
   * @param {string} [id] comes back with `speech_started` and with its end
   * @returns {boolean} whether it was sent
   */
  speak(text, id) {
    return this.#say("speak", text, id);
  }

  /** Stops the avatar now. */
  interrupt() {
    return this.#send({ type: "interrupt" });
  }

  /**
   * Has another avatar take over, for all who watch this session: loaded while the one before goes on, then seen in the same
   * connection, in whatever size it has. What is being said is said to its end in the voice that it began in. The event
   * `avatar` tells when it is seen; an `error` that it is not, and then the one before stays.
   * @param {string} id
   * @returns {boolean} whether it was sent
   */
  swapAvatar(id) {
    return this.#send({ type: "avatar", id });
  }

  /**
   * Has the avatar do one of its `gestures` (see {@link AvatarWebRTCClient#avatar}).
   * @param {string} name
   * @returns {boolean} whether it was sent
   */
  gesture(name) {
    return this.#send({ type: "gesture", name });
  }

  /**
   * Has the session recorded, pushed or written besides its viewers, where the server allows that: it then says `outputs`
   * when the socket opens, and again whenever one is in another state.
   * @param {"record"|"rtmp"|"srt"|"hls"|"v4l2"} kind
   * @param {{url?: string, name?: string}} [where] `url` to push to, `name` of what is written
   * @returns {boolean} whether it was sent
   */
  startOutput(kind, { url, name } = {}) {
    return this.#send({ type: "output_start", kind, url, name });
  }

  /**
   * @param {string} id of an output, as `outputs` says it
   * @returns {boolean} whether it was sent
   */
  stopOutput(id) {
    return this.#send({ type: "output_stop", output_id: id });
  }

  /** Whether the microphone is switched on. */
  get microphone() {
    return this.#microphone.on;
  }

  /**
   * Switches the viewer's microphone on or off. The avatar hears it if the server `listens` (see `session`), answers when
   * the viewer has spoken, and stops when it is interrupted; `transcript` tells what was understood.
   * @param {boolean} on
   * @returns {Promise<void>} settles when it is so
   * @throws {DOMException} as getUserMedia
   */
  async switchMicrophone(on) {
    if (on) await this.#microphone.switchOn();
    else await this.#microphone.switchOff();
  }

  /**
   * The button to talk went down or up. Once it was used, the microphone is heard only while it is down.
   * @param {boolean} pressed
   * @returns {boolean} whether it was sent
   */
  pushToTalk(pressed) {
    this.#microphone.live = pressed;
    return this.#send({ type: "push_to_talk", pressed });
  }

  /**
   * Lets the client's own voice move the avatar: `startAudio`, any number of `sendAudio`, `endAudio`.
   * @param {number} sampleRate 8000 to 48000
   * @param {string} [id] comes back with `speech_started` and with its end
   */
  startAudio(sampleRate, id) {
    return this.#send({ type: "audio_start", sample_rate: sampleRate, id });
  }

  /**
   * Sends mono samples at the rate given to `startAudio`.
   * @param {Int16Array|Float32Array} samples
   * @returns {Promise<boolean>} settles when it makes sense to send more
   */
  async sendAudio(samples) {
    for (const frame of audioFrames(samples)) {
      while (this.ready && this.websocket.bufferedAmount > AUDIO_BUFFERED_BYTES) await delay(20);
      if (!this.ready) return false;
      this.websocket.send(frame);
    }
    return true;
  }

  /** Ends what `startAudio` began. */
  endAudio() {
    return this.#send({ type: "audio_end" });
  }

  /**
   * The sentence that is heard just now and how far the voice has come in it; null in silence. Ask with each picture.
   * @returns {{utterance_id: string, sentence: number, words: {text: string, begun: boolean}[]}|null}
   */
  caption() {
    return this.#captions.at(heardTimestamp(this.peerConnection));
  }

  // ---- Figures ------------------------------------------------------------------------------------------------------

  /**
   * Figures of the connection. Rates are taken since the last call a second or more ago; what is not known is null.
   *
   * @returns {Promise<{
   *   state: string, mouths_left_out: number,
   *   network: {rate_kbps: number, lost: number, round_trip_ms: (number|undefined), rung: string}|null, fps: number|null, bitrate_kbps: number|null, round_trip_ms: number|null,
   *   signalling_round_trip_ms: number|null, jitter_buffer_ms: number|null, audio_jitter_buffer_ms: number|null,
   *   av_skew_ms: number|null, frames_decoded: number, frames_dropped: number, key_frames: number, freezes: number,
   *   freeze_ms: number, packets_received: number, packets_lost: number, audio_packets_lost: number,
   *   concealed_ms: number, nacks: number, plis: number, width: number|null, height: number|null, codec: string|null,
   *   audio_codec: string|null, audio_energy: number, audio_level: number|null, bytes_received: number,
   *   local_candidate: string|null, remote_candidate: string|null, time_to_answer_ms: number|null,
   *   time_to_connected_ms: number|null, time_to_first_frame_ms: number|null, load_to_first_frame_ms: number|null
   * }>} `mouths_left_out` is the share of the last sentence's mouths that the server had no time to draw, 0 to 1; `network`
   *   is what the server gives this viewer by its network: the picture's rate, the share of packets lost, the rung;
   *   `av_skew_ms` is positive when the voice is late; the times run from the offer, `load_to_first_frame_ms` from
   *   `connect`
   */
  async stats() {
    const figures = await this.#figures.read(this.peerConnection, this.#timing);
    return {
      state: this.#state,
      signalling_round_trip_ms: this.#signallingRoundTrip,
      mouths_left_out: this.#mouthsLeftOut,
      network: this.#network,
      ...figures,
    };
  }

  // ---- The peer connection ------------------------------------------------------------------------------------------

  /** Makes the peer connection and its offer ahead of the socket: both take long in a page that has just started. */
  #prepare() {
    this.#prepared ??= offeringPeer(
      { iceTransportPolicy: this.#iceTransportPolicy, iceServers: this.#iceServers },
      {
        onStream: (peer, stream) => peer === this.peerConnection && this.#show(peer, stream),
        onCandidate: (peer, candidate) =>
          peer === this.peerConnection && this.#send({ type: "webrtc_ice_candidate", candidate }),
        onState: (peer, state) => peer === this.peerConnection && this.#peerIs(state),
      },
    );
    this.#prepared.catch(() => (this.#prepared = null)); // initialize() reports it.
  }

  #peerIs(state) {
    clearTimeout(this.#graceTimer);
    switch (state) {
      case "connected":
        this.#timing.connected ??= performance.now();
        this.#attempts = 0;
        this.#setState("connected");
        break;
      case "disconnected":
        if (this.#url !== null) this.#setState("reconnecting", "the connection to the avatar is interrupted");
        this.#graceTimer = setTimeout(() => this.#offerAgain("the connection was lost"), DISCONNECTED_GRACE_MS);
        break;
      case "failed":
        if (this.#url === null) this.#setState("failed", "no connection for picture and voice could be made");
        this.#offerAgain("no connection for picture and voice could be made");
        break;
    }
  }

  #show(peer, stream) {
    const video = this.videoElement;
    if (!video) return;
    showStream(video, stream, () => {
      if (peer !== this.peerConnection || this.#timing.shown !== undefined) return;
      this.#timing.shown = performance.now();
      this.#emit("first_frame", { time_to_first_frame_ms: this.#timing.shown - this.#timing.offered });
    });
    this.#frames.follow(video);
    this.#screen.follow(video);
    this.play();
  }

  /** Finds out when the first lip-synced frame of an answer is shown, and tells the page and the server. */
  #awaitShown({ utterance_id, rtp_timestamp, stages }, told) {
    // The message left with the frame and has travelled for half a round trip.
    const travelled = (this.#signallingRoundTrip ?? 0) / 2;
    this.#frames.await(rtp_timestamp, (at) => {
      const ms = Math.round(Math.max(stages.first_frame, stages.first_frame + travelled + at - told));
      this.#send({ type: "shown", utterance_id, ms });
      this.#emit("shown", { utterance_id, stages: { ...stages, shown: ms } });
    });
  }

  /** Plays the video, without sound if the browser wants a gesture for that first. */
  async play() {
    if (this.videoElement?.srcObject) await playStream(this.videoElement, () => this.#emit("sound_blocked"));
  }

  #dropPeer() {
    clearTimeout(this.#graceTimer);
    this.#answerCame();
    this.#heldCandidates = [];
    this.#captions.forget();
    this.#frames.forget();
    this.#figures.reset();
    this.#losses.forget();
    this.peerConnection?.close();
    this.peerConnection = null;
  }

  #expectAnswer() {
    const answered = {};
    answered.promise = new Promise((resolve) => (answered.resolve = resolve));
    this.#answered = answered;
    this.#offerTimer = setTimeout(() => this.#reconnect("the server does not answer"), ANSWER_TIMEOUT_MS);
  }

  #answerCame() {
    clearTimeout(this.#offerTimer);
    this.#answered?.resolve();
    this.#answered = null;
  }

  // ---- Staying connected --------------------------------------------------------------------------------------------

  #openSocket() {
    clearTimeout(this.#retryTimer);
    this.#retryTimer = null;
    this.#timing = { started: performance.now() };
    this.#prepare();
    this.#session = null;
    let sessionTimer;
    let offered = false;
    const offer = () => {
      clearTimeout(sessionTimer);
      if (offered || socket !== this.websocket) return;
      offered = true;
      this.initialize().catch((error) => this.#reconnect(`no offer could be made: ${error.message}`));
    };
    const { token } = this.#options;
    const bearer = typeof token === "function" ? token() : token;
    // As subprotocols: a page cannot set headers, and what stands in an address is logged on its way.
    const socket = openSocket(this.#url, bearer ? ["mouthpiece", `bearer.${bearer}`] : [], {
      onOpen: () => {
        sessionTimer = setTimeout(offer, SESSION_TIMEOUT_MS);
        this.#heartbeat.start();
      },
      onMessage: async (message) => {
        if (socket !== this.websocket) return;
        await this.handleMessage(message);
        if (this.#session) offer();
      },
      onUnusable: (error) => this.#reconnect(`a message of the server could not be used: ${error.message}`),
      onClose: () => {
        clearTimeout(sessionTimer);
        if (socket === this.websocket) this.#reconnect("the server is not reachable");
      },
    });
    this.websocket = socket;
    if (!socket) this.#fail(`${this.#url} is no address of a WebSocket`);
  }

  #dropSocket() {
    clearTimeout(this.#retryTimer);
    this.#retryTimer = null;
    this.#heartbeat.stop();
    const socket = this.websocket;
    this.websocket = null;
    socket?.close();
    this.#prepared?.then(({ peer }) => peer.close(), () => {});
    this.#prepared = null;
  }

  /** Starts over with a new socket, later and later while it fails, and not before the server asks for it. */
  #reconnect(reason, leastMs = 0) {
    if (this.#url === null || this.#state === "failed") return;
    this.#dropPeer();
    this.#dropSocket();
    this.#speaking.clear();
    const growing = this.#options.retryMinMs * 2 ** this.#attempts++;
    const longest = Math.max(leastMs, Math.min(this.#options.retryMaxMs, growing));
    // Half of it by chance, or all pages of a server that restarts would come back in step.
    const wait = longest * (0.5 + Math.random() / 2);
    this.#retryTimer = setTimeout(() => this.#openSocket(), wait);
    this.#setState("reconnecting", reason);
  }

  /** Offers again on the same socket; if that failed before too, starts over. */
  #offerAgain(reason) {
    if (this.#url === null) return;
    if (this.#attempts > 0 || this.websocket?.readyState !== 1) {
      this.#reconnect(reason);
      return;
    }
    this.#attempts++;
    this.#setState("reconnecting", reason);
    this.initialize().catch((error) => this.#reconnect(error.message));
  }

  #afterError({ code, message, fatal, retry_after_s: seconds = 0 }) {
    if (this.#url === null) return;
    // One that the session goes on after refuses a swap.
    const mayMend = TOKEN_ERRORS.has(code) && typeof this.#options.token === "function";
    if (LASTING_ERRORS.has(code) && !mayMend && (fatal || code === "no_common_codec")) this.#fail(message);
    else if (fatal || code === "server_full") this.#reconnect(message, seconds * 1000);
    else if (OFFER_ERRORS.has(code)) this.#offerAgain(message);
  }

  #fail(reason) {
    this.#dropPeer();
    this.#dropSocket();
    this.#speaking.clear();
    this.#setState("failed", reason);
  }

  async #beat() {
    this.#send({ type: "ping", sent_at: performance.now() });
    const peer = this.peerConnection;
    if (peer?.connectionState !== "connected") return;
    // Lost, even if the browser has not noticed.
    const stalled = await this.#received.hasStalled(peer);
    if (stalled && peer === this.peerConnection) this.#offerAgain("picture and voice stopped");
  }

  /** Another avatar is seen. Whoever has to connect again wants to see that one, unless a session is shared, which has its own. */
  #avatarIs({ type: _, ...avatar }) {
    this.#screen.expect(avatar);
    if (this.#session) this.#session = { ...this.#session, avatar };
    if (this.#url === null) return;
    const url = new URL(this.#url, globalThis.location?.href);
    if (url.searchParams.has("session")) return;
    url.searchParams.set("avatar", avatar.id);
    this.#url = String(url);
  }

  /** The avatar is composed on a canvas from now on, or shown by the video element. */
  #composedIs(avatar) {
    const { width, height } = avatar ?? this.avatar ?? {};
    this.#emit("composed", { element: this.#screen.element, width, height, transparent: avatar !== null });
  }

  // ---- Small parts --------------------------------------------------------------------------------------------------

  #say(type, text, id) {
    const content = String(text).trim();
    if (content === "") return false;
    return this.#send(id === undefined ? { type, content } : { type, content, id });
  }

  #send(message) {
    if (this.websocket?.readyState !== 1) return false;
    this.websocket.send(JSON.stringify(message));
    return true;
  }

  #setState(state, reason = "") {
    if (state === this.#state) return;
    this.#state = state;
    this.#emit("state", { state, reason });
  }

  #emit(type, detail = null) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

const delay = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
