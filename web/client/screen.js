/**
 * The avatar's stream in a video element.
 */

/**
 * @param {HTMLVideoElement} video
 * @param {MediaStream} stream
 * @param {() => void} shown called when a picture of it is to be seen, perhaps twice
 */
export function showStream(video, stream, shown) {
  if (video.srcObject === stream) return;
  video.srcObject = stream;
  // Callbacks of frames rest in a page that is not visible, so whichever comes first counts.
  video.requestVideoFrameCallback?.(shown);
  video.addEventListener("loadeddata", shown, { once: true });
}

/**
 * @param {HTMLVideoElement} video
 * @param {() => void} soundBlocked called when the browser wants a gesture before it plays sound; it plays muted then
 */
export async function playStream(video, soundBlocked) {
  try {
    await video.play();
  } catch (error) {
    if (error.name !== "NotAllowedError" || video.muted) return; // AbortError: a new stream took over.
    video.muted = true;
    soundBlocked();
    await video.play().catch(() => {});
  }
}
