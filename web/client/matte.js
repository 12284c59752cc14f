/**
 * Avatars that are cut out, composed over the page.
 *
 * The video of such an avatar is twice as wide or twice as high as its picture: the colours are its left or upper half, the
 * matte is the other one, as grey (`avatar.matte` of the server's messages is `beside` or `below`). In here: a canvas that
 * takes the video's place and shows each of its frames with what is transparent left out, by a shader, or in JavaScript where
 * there is no WebGL. Not in here: who is shown (`../client.js`).
 */

/** The darkest and the lightest of a matte are noise of the encoder: so much of the whole is cut off at both ends. */
const GUARD = 0.04;

/** Frames of avatars before this one may still come after the message that it took over. */
const REMEMBERED = 3;

const VERTICES = `
attribute vec2 corner;
varying vec2 place;
void main() {
  place = vec2(corner.x, 1.0 - corner.y);
  gl_Position = vec4(corner * 2.0 - 1.0, 0.0, 1.0);
}`;

const FRAGMENTS = `
precision mediump float;
varying vec2 place;
uniform sampler2D frame;
uniform vec2 share;
uniform vec2 matte;
uniform vec2 pixel;
void main() {
  // Not nearer to the other half than a sample of chroma reaches.
  vec2 at = clamp(place, pixel, 1.0 - pixel) * share;
  vec3 colour = texture2D(frame, at).rgb;
  float level = dot(texture2D(frame, at + matte).rgb, vec3(0.299, 0.587, 0.114));
  float part = clamp((level - ${GUARD.toFixed(3)}) / ${(1 - 2 * GUARD).toFixed(3)}, 0.0, 1.0);
  gl_FragColor = vec4(colour * part, part);
}`;

/** What of a frame are the colours, and how far away the matte is, for each place of it. */
const PLACES = { beside: { share: [0.5, 1], matte: [0.5, 0] }, below: { share: [1, 0.5], matte: [0, 0.5] } };

/** Shows one video element's frames: in the video itself while they are opaque, else in a canvas in its place. */
export class MattedScreen {
  #video = null;
  #callback = null;
  /** Whom frames may show, the newest first. */
  #avatars = [];
  #canvas;
  #own;
  #painter = null;
  /** Whom the last frame showed, if it was cut out. */
  #composed = null;
  #changed;

  /**
   * @param {HTMLCanvasElement|null} canvas takes the pictures; without one, a canvas is put behind the video in the page,
   *   with the same class
   * @param {(avatar: object|null) => void} changed told who is composed from now on; null: the video shows its frames itself
   */
  constructor(canvas, changed) {
    this.#own = canvas;
    this.#canvas = canvas;
    this.#changed = changed;
  }

  /** What shows the avatar now. */
  get element() {
    return this.#composed ? this.#canvas : this.#video;
  }

  /** @param {{width: number, height: number, matte?: string}} avatar takes over, with the first frame that has its shape */
  expect(avatar) {
    this.#avatars = [avatar, ...this.#avatars.filter(({ id }) => id !== avatar.id)].slice(0, REMEMBERED);
    this.#watch();
  }

  /** @param {HTMLVideoElement|null} video composes the frames of this one from now on; null for none */
  follow(video) {
    if (video === this.#video) return;
    this.#stop();
    if (!video) this.#reveal();
    this.#video = video;
    this.#watch();
  }

  /** Frames are looked at only while one of them may be cut out. */
  #watch() {
    if (this.#callback !== null || !this.#video || !this.#avatars.some(({ matte }) => matte)) return;
    const next = () => {
      this.#callback = null;
      this.#watch();
      this.#compose();
    };
    // A browser without callbacks of frames composes at the pace of its screen.
    this.#callback = this.#video.requestVideoFrameCallback?.(next) ?? requestAnimationFrame(next);
  }

  #stop() {
    if (this.#callback === null) return;
    if (this.#video.cancelVideoFrameCallback) this.#video.cancelVideoFrameCallback(this.#callback);
    else cancelAnimationFrame(this.#callback);
    this.#callback = null;
  }

  #compose() {
    const { videoWidth: width, videoHeight: height } = this.#video;
    if (width === 0) return;
    const avatar = this.#avatars.find((avatar) => hasShape(avatar, width, height)) ?? this.#avatars[0];
    if (!PLACES[avatar.matte] || !hasShape(avatar, width, height)) {
      this.#reveal();
      return;
    }
    this.#canvas ??= canvasBehind(this.#video);
    this.#painter ??= painterOf(this.#canvas);
    if (this.#composed?.id !== avatar.id) {
      this.#canvas.width = avatar.width;
      this.#canvas.height = avatar.height;
    }
    if (!this.#painter.paint(this.#video, PLACES[avatar.matte])) return;
    if (this.#composed?.id === avatar.id) return;
    this.#composed = avatar;
    hide(this.#video);
    this.#canvas.hidden = false;
    this.#changed(avatar);
  }

  /** The video shows its frames itself again. */
  #reveal() {
    if (!this.#composed) return;
    this.#composed = null;
    show(this.#video);
    this.#canvas.hidden = true;
    if (!this.#own) {
      this.#canvas.remove();
      this.#canvas = null;
      this.#painter = null;
    }
    this.#changed(null);
  }
}

/** Whether a frame of this size shows the avatar: encoders may scale frames, and then round their sides. */
function hasShape({ width, height, matte }, videoWidth, videoHeight) {
  const wide = matte === "beside" ? 2 * width : width;
  const high = matte === "below" ? 2 * height : height;
  return Math.abs(videoWidth * high - videoHeight * wide) <= 2 * Math.max(wide, high);
}

function canvasBehind(video) {
  const canvas = document.createElement("canvas");
  canvas.className = video.className;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", video.getAttribute("aria-label") ?? "The avatar, live");
  video.after(canvas);
  return canvas;
}

/** It plays on, and takes no room; a video that is not rendered at all would not be given frames everywhere. */
function hide(video) {
  const hidden = { position: "absolute", opacity: "0", "pointer-events": "none", transition: "none" };
  for (const [name, value] of Object.entries(hidden)) video.style.setProperty(name, value, "important");
}

function show(video) {
  for (const name of ["position", "opacity", "pointer-events", "transition"]) video.style.removeProperty(name);
}

function painterOf(canvas) {
  const gl = canvas.getContext("webgl", { alpha: true, premultipliedAlpha: true, antialias: false, depth: false });
  if (gl) return new Shader(canvas, gl);
  console.warn("no WebGL here: the avatar is cut out in JavaScript, which takes more of a processor");
  return new Pixels(canvas);
}

/** Composes by a shader. */
class Shader {
  #gl;
  #places = null;

  constructor(canvas, gl) {
    this.#gl = gl;
    canvas.dataset.composer = "webgl";
    // Whatever made the browser take its context back, it gives another one when it can.
    canvas.addEventListener("webglcontextlost", (event) => {
      event.preventDefault();
      this.#places = null;
    });
  }

  /** @returns {boolean} whether the frame is to be seen */
  paint(video, { share, matte }) {
    const gl = this.#gl;
    if (gl.isContextLost()) return false;
    this.#places ??= prepared(gl);
    try {
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGB, gl.RGB, gl.UNSIGNED_BYTE, video);
    } catch (error) {
      console.warn("a frame cannot be composed:", error.message);
      return false;
    }
    gl.viewport(0, 0, gl.drawingBufferWidth, gl.drawingBufferHeight);
    gl.uniform2fv(this.#places.share, share);
    gl.uniform2fv(this.#places.matte, matte);
    gl.uniform2f(this.#places.pixel, 1 / (video.videoWidth * share[0]), 1 / (video.videoHeight * share[1]));
    gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
    return true;
  }
}

function prepared(gl) {
  const program = gl.createProgram();
  for (const [kind, text] of [[gl.VERTEX_SHADER, VERTICES], [gl.FRAGMENT_SHADER, FRAGMENTS]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, text);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  gl.useProgram(program);
  gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
  gl.bufferData(gl.ARRAY_BUFFER, new Float32Array([0, 0, 1, 0, 0, 1, 1, 1]), gl.STATIC_DRAW);
  const corner = gl.getAttribLocation(program, "corner");
  gl.enableVertexAttribArray(corner);
  gl.vertexAttribPointer(corner, 2, gl.FLOAT, false, 0, 0);
  gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
  // Sides that are no powers of two want these.
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.LINEAR);
  const [share, matte, pixel] = ["share", "matte", "pixel"].map((name) => gl.getUniformLocation(program, name));
  return { share, matte, pixel };
}

/** Composes pixel by pixel. */
class Pixels {
  #context;
  #both = document.createElement("canvas");

  constructor(canvas) {
    this.#context = canvas.getContext("2d");
    canvas.dataset.composer = "2d";
  }

  paint(video, { matte: [right, down] }) {
    const { width, height } = this.#context.canvas;
    const [wide, high] = [right > 0 ? 2 * width : width, down > 0 ? 2 * height : height];
    if (this.#both.width !== wide || this.#both.height !== high) [this.#both.width, this.#both.height] = [wide, high];
    const both = this.#both.getContext("2d", { willReadFrequently: true });
    both.drawImage(video, 0, 0, wide, high);
    const colours = both.getImageData(0, 0, width, height);
    const matte = both.getImageData(wide - width, high - height, width, height).data;
    for (let at = 0; at < matte.length; at += 4) {
      const part = (matte[at + 1] / 255 - GUARD) / (1 - 2 * GUARD);
      colours.data[at + 3] = Math.round(255 * Math.min(1, Math.max(0, part)));
    }
    this.#context.putImageData(colours, 0, 0);
    return true;
  }
}
