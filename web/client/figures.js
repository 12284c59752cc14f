/**
 * Figures of a peer connection, from getStats.
 *
 * In here: reading a report and the rates between two of them. Not in here: the connection (`../client.js`).
 */

/** Fewest milliseconds that rates are taken over; less is noise at 25 frames a second. */
const WINDOW_MS = 950;

/** Reads the figures of one peer connection after another, keeping what rates are taken against. */
export class Figures {
  #samples = [];

  /** Forgets what was read, for the next peer connection. */
  reset() {
    this.#samples = [];
  }

  /**
   * @param {RTCPeerConnection|null} peer
   * @param {{started?: number, offered?: number, answered?: number, connected?: number, shown?: number}} timing when what
   *   happened, on the page's clock
   * @returns {Promise<object>} see `AvatarWebRTCClient.stats`
   */
  async read(peer, { started, offered, answered, connected, shown }) {
    const report = peer ? await peer.getStats() : new Map();
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
    const since = (from, to) => (from !== undefined && to !== undefined ? to - from : null);
    const bitsPerSecond = perSecond("bytes");
    return {
      fps: before ? perSecond("frames") : (video.framesPerSecond ?? null),
      bitrate_kbps: bitsPerSecond === undefined || bitsPerSecond === null ? null : (bitsPerSecond * 8) / 1000,
      round_trip_ms: pair.currentRoundTripTime === undefined ? null : pair.currentRoundTripTime * 1000,
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
    const old = this.#samples.findLastIndex((sample) => now.at - sample.at >= WINDOW_MS);
    if (old > 0) this.#samples.splice(0, old);
    const before = this.#samples[0] ?? null;
    // Asked every few milliseconds, it need not keep every answer.
    if (!before || now.at - this.#samples.at(-1).at >= WINDOW_MS / 10) this.#samples.push(now);
    return before && now.at - before.at >= 100 ? before : null;
  }
}
