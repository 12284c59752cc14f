/**
 * A client's own voice as the server takes it: binary frames of 16-bit little-endian PCM.
 */

/** The server takes frames of at most 64 KiB. */
const FRAME_BYTES = 32 * 1024;

/**
 * @param {Int16Array|Float32Array} samples
 * @returns {Generator<Uint8Array>}
 */
export function* audioFrames(samples) {
  const pcm = samples instanceof Float32Array
    ? Int16Array.from(samples, (sample) => Math.max(-32768, Math.min(32767, Math.round(sample * 32768))))
    : samples;
  // The wire is little-endian whatever this machine is.
  const bytes = new Uint8Array(pcm.length * 2);
  const view = new DataView(bytes.buffer);
  pcm.forEach((sample, index) => view.setInt16(index * 2, sample, true));
  for (let start = 0; start < bytes.length; start += FRAME_BYTES) yield bytes.subarray(start, start + FRAME_BYTES);
}
