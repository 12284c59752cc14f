/**
 * Client of a mouthpiece server: signalling over a WebSocket, the avatar's picture and voice over WebRTC.
 *
 * In here: one peer connection and its offers, reconnecting, what can be said and heard, figures from getStats.
 * Not in here: anything visible (`app.js`). No dependencies; any page may import this file.
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

/** Wire protocol this client speaks; the server says its own in `session`. */
export const PROTOCOL_VERSION = 1;

/** Errors that come again on every attempt, so that reconnecting is no use. */
const LASTING_ERRORS = new Set(["unknown_avatar", "bad_session_name", "no_common_codec"]);

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

/** Between pings; a socket silent for a whole interval after one is taken for dead. */
const HEARTBEAT_MS = 5000;

/** The server takes frames of at most 64 KiB. */
const AUDIO_FRAME_BYTES = 32 * 1024;

/** Audio the browser has not sent yet; beyond it `sendAudio` waits. */
const AUDIO_BUFFERED_BYTES = 256 * 1024;

/** Fewest milliseconds that rates in `stats()` are taken over; less is noise at 25 frames a second. */
const STATS_WINDOW_MS = 950;

/**
 * @typedef {object} ClientOptions
 * @property {RTCIceServer[]} [iceServers] used until the server names its own in `session`
 * @property {RTCIceTransportPolicy} [iceTransportPolicy] "relay" to force TURN
 * @property {number|null} [jitterBufferTargetMs] least delay the browser may buffer; 0, the default, is as little as the
 *   network allows, null leaves it to the browser
 * @property {number} [retryMinMs] first wait before reconnecting, 300 by default; doubles with each attempt
 * @property {number} [retryMaxMs] longest wait, 10000 by default
 */

/**
 * One viewer of an avatar.
 *
 * Every message of the server is dispatched as a CustomEvent named after its `type` with the message as `detail`:
 * `session`, `text`, `speech_started`, `speech_ended`, `error`, ... Besides:
 *
 * | event | `detail` |
 * |---|---|
 * | `state` | `{state, reason}`: see {@link AvatarWebRTCClient#state} |
 * | `first_frame` | `{time_to_first_frame_ms}`, once per peer connection |
 * | `sound_blocked` | none: the browser wants a gesture before it plays sound; the video plays muted until then |
 */
export class AvatarWebRTCClient extends EventTarget {
  /** @type {ClientOptions} */
  #options;
  #state = "idle";
  #url = null;
  #iceServers;
  #session = null;
  #speaking = new Set();

  #prepared = null;
  #heldCandidates = [];
  #answered = null;
  #timing = {};
  #samples = [];

  #attempts = 0;
  #retryTimer = null;
  #offerTimer = null;
  #graceTimer = null;
  #heartbeatTimer = null;
  #heardSincePing = true;
  #signallingRoundTrip = null;
  #lastReceived = { bytes: 0, stalled: 0 };
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
    this.#iceServers = this.#options.iceServers ?? [];
  }

  /**
   * `idle` | `connecting` | `connected` (picture and voice flow) | `reconnecting` | `failed` (no use trying again) | `closed`
   * @type {string}
   */
  get state() {
    return this.#state;
  }

  /** What the server said in `session`, or null before it did. */
  get session() {
    return this.#session;
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
    peer.setConfiguration({ ...peer.getConfiguration(), iceServers: this.#iceServers });
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
      this.#lowLatency(peer);
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
    this.#heardSincePing = true;
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
        if (message.ice_servers?.length) this.#iceServers = message.ice_servers;
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
        break;
      case "pong":
        if (typeof message.sent_at === "number") this.#signallingRoundTrip = performance.now() - message.sent_at;
        break;
      case "error":
        if (OFFER_ERRORS.has(message.code)) this.#answerCame();
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
    if (owned) this.#dropSocket();
    this.#speaking.clear();
    this.#setState("closed");
  }

  // ---- Talking ------------------------------------------------------------------------------------------------------

  /**
   * A user's turn: the avatar answers it.
   * @param {string} text
   * @param {string} [id] comes back with what is said to it
   * @returns {boolean} whether it was sent; false if there is nothing to say or no connection
   */
  sendText(text, id) {
    return this.#say("text", text, id);
  }

  /**
   * Has the avatar say exactly this.
   * @param {string} text
   * @param {string} [id] comes back with `speech_started` and `speech_ended`
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
   * Lets the client's own voice move the avatar: `startAudio`, any number of `sendAudio`, `endAudio`.
   * @param {number} sampleRate 8000 to 48000
   */
  startAudio(sampleRate) {
    return this.#send({ type: "audio_start", sample_rate: sampleRate });
  }

  /**
   * Sends mono samples at the rate given to `startAudio`.
   * @param {Int16Array|Float32Array} samples
   * @returns {Promise<boolean>} settles when it makes sense to send more
   */
  async sendAudio(samples) {
    const pcm = samples instanceof Float32Array
      ? Int16Array.from(samples, (sample) => Math.max(-32768, Math.min(32767, Math.round(sample * 32768))))
      : samples;
    // The wire is little-endian whatever this machine is.
    const bytes = new Uint8Array(pcm.length * 2);
    const view = new DataView(bytes.buffer);
    pcm.forEach((sample, index) => view.setInt16(index * 2, sample, true));
    for (let start = 0; start < bytes.length; start += AUDIO_FRAME_BYTES) {
      while (this.ready && this.websocket.bufferedAmount > AUDIO_BUFFERED_BYTES) await delay(20);
      if (!this.ready) return false;
      this.websocket.send(bytes.subarray(start, start + AUDIO_FRAME_BYTES));
    }
    return true;
  }

  /** Ends what `startAudio` began. */
  endAudio() {
    return this.#send({ type: "audio_end" });
  }

  // ---- Figures ------------------------------------------------------------------------------------------------------

  /**
   * Figures of the connection. Rates are taken since the last call a second or more ago; what is not known is null.
   *
   * @returns {Promise<{
   *   state: string, fps: number|null, bitrate_kbps: number|null, round_trip_ms: number|null,
   *   signalling_round_trip_ms: number|null, jitter_buffer_ms: number|null, audio_jitter_buffer_ms: number|null,
   *   av_skew_ms: number|null, frames_decoded: number, frames_dropped: number, key_frames: number, freezes: number,
   *   freeze_ms: number, packets_received: number, packets_lost: number, audio_packets_lost: number,
   *   concealed_ms: number, nacks: number, plis: number, width: number|null, height: number|null, codec: string|null,
   *   audio_codec: string|null, audio_energy: number, audio_level: number|null, bytes_received: number,
   *   local_candidate: string|null, remote_candidate: string|null, time_to_answer_ms: number|null,
   *   time_to_connected_ms: number|null, time_to_first_frame_ms: number|null, load_to_first_frame_ms: number|null
   * }>} `av_skew_ms` is positive when the voice is late; the times run from the offer, `load_to_first_frame_ms` from
   *   `connect`
   */
  async stats() {
    const report = this.peerConnection ? await this.peerConnection.getStats() : new Map();
    const all = [...report.values()];
    const inbound = (kind) => all.find((entry) => entry.type === "inbound-rtp" && entry.kind === kind) ?? {};
    const video = inbound("video");
    const audio = inbound("audio");
    const transport = all.find((entry) => entry.type === "transport");
    const pair = report.get(transport?.selectedCandidatePairId)
      ?? all.find((entry) => entry.type === "candidate-pair" && entry.nominated && entry.state === "succeeded") ?? {};
    const now = {
      at: performance.now(),
      frames: video.framesDecoded ?? 0,
      bytes: (video.bytesReceived ?? 0) + (audio.bytesReceived ?? 0),
      delay: video.jitterBufferDelay ?? 0,
      emitted: video.jitterBufferEmittedCount ?? 0,
      audioDelay: audio.jitterBufferDelay ?? 0,
      audioEmitted: audio.jitterBufferEmittedCount ?? 0,
    };
    const before = this.#sampleBefore(now);
    const perSecond = (name) => before && ((now[name] - before[name]) * 1000) / (now.at - before.at);
    const mean = (sum, count) => {
      const counted = now[count] - (before?.[count] ?? 0);
      return counted > 0 ? ((now[sum] - (before?.[sum] ?? 0)) * 1000) / counted : null;
    };
    const codec = (entry) => report.get(entry.codecId)?.mimeType?.split("/")[1] ?? null;
    const candidate = (id) => {
      const entry = report.get(id);
      return entry ? `${entry.candidateType} ${entry.protocol}` : null;
    };
    const skew = video.estimatedPlayoutTimestamp && audio.estimatedPlayoutTimestamp
      ? video.estimatedPlayoutTimestamp - audio.estimatedPlayoutTimestamp : null;
    const { offered, answered, connected, shown, started } = this.#timing;
    const since = (from, to) => (from !== undefined && to !== undefined ? to - from : null);
    const bitsPerSecond = perSecond("bytes");
    return {
      state: this.#state,
      fps: before ? perSecond("frames") : (video.framesPerSecond ?? null),
      bitrate_kbps: bitsPerSecond === undefined || bitsPerSecond === null ? null : (bitsPerSecond * 8) / 1000,
      round_trip_ms: pair.currentRoundTripTime === undefined ? null : pair.currentRoundTripTime * 1000,
      signalling_round_trip_ms: this.#signallingRoundTrip,
      jitter_buffer_ms: mean("delay", "emitted"),
      audio_jitter_buffer_ms: mean("audioDelay", "audioEmitted"),
      av_skew_ms: skew,
      frames_decoded: now.frames,
      frames_dropped: video.framesDropped ?? 0,
      key_frames: video.keyFramesDecoded ?? 0,
      freezes: video.freezeCount ?? 0,
      freeze_ms: (video.totalFreezesDuration ?? 0) * 1000,
      packets_received: (video.packetsReceived ?? 0) + (audio.packetsReceived ?? 0),
      packets_lost: (video.packetsLost ?? 0) + (audio.packetsLost ?? 0),
      audio_packets_lost: audio.packetsLost ?? 0,
      concealed_ms: ((audio.concealedSamples ?? 0) - (audio.silentConcealedSamples ?? 0)) / 48,
      nacks: video.nackCount ?? 0,
      plis: video.pliCount ?? 0,
      width: video.frameWidth ?? null,
      height: video.frameHeight ?? null,
      codec: codec(video),
      audio_codec: codec(audio),
      audio_energy: audio.totalAudioEnergy ?? 0,
      audio_level: audio.audioLevel ?? null,
      bytes_received: now.bytes,
      local_candidate: candidate(pair.localCandidateId),
      remote_candidate: candidate(pair.remoteCandidateId),
      time_to_answer_ms: since(offered, answered),
      time_to_connected_ms: since(offered, connected),
      time_to_first_frame_ms: since(offered, shown),
      load_to_first_frame_ms: since(started, shown),
    };
  }

  /** The sample that rates are taken against: the youngest that is old enough, so that many may ask at once. */
  #sampleBefore(now) {
    const old = this.#samples.findLastIndex((sample) => now.at - sample.at >= STATS_WINDOW_MS);
    if (old > 0) this.#samples.splice(0, old);
    const before = this.#samples[0] ?? null;
    // Asked every few milliseconds, it need not keep every answer.
    if (!before || now.at - this.#samples.at(-1).at >= STATS_WINDOW_MS / 10) this.#samples.push(now);
    return before && now.at - before.at >= 100 ? before : null;
  }

  // ---- The peer connection ------------------------------------------------------------------------------------------

  /** Makes the peer connection and its offer ahead of the socket: both take long in a page that has just started. */
  #prepare() {
    this.#prepared ??= (async () => {
      const peer = new RTCPeerConnection({
        bundlePolicy: "max-bundle",
        iceTransportPolicy: this.#options.iceTransportPolicy ?? "all",
        iceServers: this.#iceServers,
      });
      peer.addTransceiver("video", { direction: "recvonly" });
      peer.addTransceiver("audio", { direction: "recvonly" });
      this.#listen(peer);
      return { peer, offer: await peer.createOffer() };
    })();
    this.#prepared.catch(() => (this.#prepared = null)); // initialize() reports it.
  }

  /** @param {RTCPeerConnection} peer */
  #listen(peer) {
    const stream = new MediaStream();
    peer.ontrack = ({ track }) => {
      if (peer !== this.peerConnection) return;
      // One stream for both, whatever the server calls them: an element plays one.
      stream.addTrack(track);
      this.#show(peer, stream);
    };
    peer.onicecandidate = ({ candidate }) => {
      if (peer !== this.peerConnection) return;
      // An empty candidate ends one generation; the null after it ends them all and is the one the server knows.
      if (candidate?.candidate === "") return;
      const { sdpMid = null, sdpMLineIndex = null, usernameFragment = null } = candidate ?? {};
      this.#send({
        type: "webrtc_ice_candidate",
        candidate: candidate && { candidate: candidate.candidate, sdpMid, sdpMLineIndex, usernameFragment },
      });
    };
    peer.onconnectionstatechange = () => {
      if (peer !== this.peerConnection) return;
      clearTimeout(this.#graceTimer);
      switch (peer.connectionState) {
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
    };
  }

  /** Takes what the network gives without adding delay; browsers know it under two names, or none. */
  #lowLatency(peer) {
    const target = this.#options.jitterBufferTargetMs;
    if (target === null) return;
    for (const receiver of peer.getReceivers()) {
      if ("jitterBufferTarget" in receiver) receiver.jitterBufferTarget = target;
      else if ("playoutDelayHint" in receiver) receiver.playoutDelayHint = target / 1000;
    }
  }

  #show(peer, stream) {
    const video = this.videoElement;
    if (!video) return;
    if (video.srcObject !== stream) {
      video.srcObject = stream;
      const shown = () => {
        if (peer !== this.peerConnection || this.#timing.shown !== undefined) return;
        this.#timing.shown = performance.now();
        this.#emit("first_frame", { time_to_first_frame_ms: this.#timing.shown - this.#timing.offered });
      };
      // Callbacks of frames rest in a page that is not visible, so whichever comes first counts.
      video.requestVideoFrameCallback?.(shown);
      video.addEventListener("loadeddata", shown, { once: true });
    }
    this.play();
  }

  /** Plays the video, without sound if the browser wants a gesture for that first. */
  async play() {
    const video = this.videoElement;
    if (!video?.srcObject) return;
    try {
      await video.play();
    } catch (error) {
      if (error.name !== "NotAllowedError" || video.muted) return; // AbortError: a new stream took over.
      video.muted = true;
      this.#emit("sound_blocked");
      await video.play().catch(() => {});
    }
  }

  #dropPeer() {
    clearTimeout(this.#graceTimer);
    this.#answerCame();
    this.#heldCandidates = [];
    this.#samples = [];
    this.#lastReceived = { bytes: 0, stalled: 0 };
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
    let socket;
    try {
      socket = new WebSocket(this.#url);
    } catch (error) {
      this.#fail(`${this.#url} is no address of a WebSocket: ${error.message}`);
      return;
    }
    this.websocket = socket;
    this.#session = null;
    let sessionTimer;
    let offered = false;
    const offer = () => {
      clearTimeout(sessionTimer);
      if (offered || socket !== this.websocket) return;
      offered = true;
      this.initialize().catch((error) => this.#reconnect(`no offer could be made: ${error.message}`));
    };
    // Messages are taken one after another: a candidate must not overtake the answer it belongs to.
    let inOrder = Promise.resolve();
    socket.onopen = () => {
      sessionTimer = setTimeout(offer, SESSION_TIMEOUT_MS);
      this.#startHeartbeat(socket);
    };
    socket.onmessage = ({ data }) => {
      inOrder = inOrder.then(async () => {
        if (socket !== this.websocket) return;
        await this.handleMessage(data);
        if (this.#session) offer();
      }).catch((error) => this.#reconnect(`a message of the server could not be used: ${error.message}`));
    };
    socket.onclose = () => {
      clearTimeout(sessionTimer);
      // What arrived before the end still counts, above all the error that explains it.
      inOrder.then(() => socket === this.websocket && this.#reconnect("the server is not reachable"));
    };
  }

  #dropSocket() {
    clearTimeout(this.#retryTimer);
    this.#retryTimer = null;
    clearInterval(this.#heartbeatTimer);
    const socket = this.websocket;
    this.websocket = null;
    socket?.close();
    this.#prepared?.then(({ peer }) => peer.close(), () => {});
    this.#prepared = null;
  }

  /** Starts over with a new socket, later and later while it fails. */
  #reconnect(reason) {
    if (this.#url === null || this.#state === "failed") return;
    this.#dropPeer();
    this.#dropSocket();
    this.#speaking.clear();
    const longest = Math.min(this.#options.retryMaxMs, this.#options.retryMinMs * 2 ** this.#attempts++);
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

  #afterError({ code, message, fatal }) {
    if (this.#url === null) return;
    if (LASTING_ERRORS.has(code)) this.#fail(message);
    else if (fatal) this.#reconnect(message);
    else if (OFFER_ERRORS.has(code)) this.#offerAgain(message);
  }

  #fail(reason) {
    this.#dropPeer();
    this.#dropSocket();
    this.#speaking.clear();
    this.#setState("failed", reason);
  }

  #startHeartbeat(socket) {
    clearInterval(this.#heartbeatTimer);
    this.#heardSincePing = true;
    this.#heartbeatTimer = setInterval(async () => {
      if (socket !== this.websocket) return;
      if (!this.#heardSincePing) {
        this.#reconnect("the server is silent");
        return;
      }
      this.#heardSincePing = false;
      this.#send({ type: "ping", sent_at: performance.now() });
      await this.#checkMedia();
    }, HEARTBEAT_MS);
    this.#send({ type: "ping", sent_at: performance.now() });
  }

  /** A connected peer that receives nothing for two heartbeats is lost, even if the browser has not noticed. */
  async #checkMedia() {
    const peer = this.peerConnection;
    if (peer?.connectionState !== "connected") return;
    const report = await peer.getStats();
    if (peer !== this.peerConnection) return;
    let bytes = 0;
    for (const entry of report.values()) if (entry.type === "inbound-rtp") bytes += entry.bytesReceived;
    const stalled = bytes > this.#lastReceived.bytes ? 0 : this.#lastReceived.stalled + 1;
    this.#lastReceived = { bytes, stalled };
    if (stalled >= 2) this.#offerAgain("picture and voice stopped");
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
