/**
 * The page on which avatars are made: of a photo or a clip that is chosen, dropped or taken with the camera.
 *
 * In here: the form, how far the server is, what it found, a sentence by the new avatar, the list. Not in here: the live
 * picture (`client.js`). What people and servers write reaches the page as text only, never as HTML.
 *
 * The server keeps the file for a while, so that an option that is changed afterwards makes the avatar once more without
 * sending the file again. `window.mouthpiece` is the live client, for tests and for whoever looks from the console.
 */

import { AvatarWebRTCClient } from "./client.js";
import { ask as askServer, listen, showPicture, token } from "./token.js";

/** Of a clip that is recorded here. Longer ones take longer to make and look no livelier. */
const LONGEST_RECORDING_S = 15;
/** An option is changed in steps; what comes of it is made when no further step follows. */
const AFTER_LAST_CHANGE_MS = 500;
/** The longer side of a photo as it is shown before it is sent, in pixels. */
const PREVIEW_SIDE = 640;

/** What a browser records that the server reads, the better first. */
const RECORDINGS = ["video/webm;codecs=vp9", "video/webm;codecs=vp8", "video/webm", "video/mp4"];

const CAMERA_REFUSED = {
  NotAllowedError: "The camera may not be used. Allow it in the browser, next to the address.",
  NotFoundError: "There is no camera.",
  NotReadableError: "The camera is in use by another program.",
};

/** What to say first of a fault; the server's own words follow. */
const FAULTS = {
  no_usable_face: "This picture cannot be used.",
  unusable_file: "This file cannot be used.",
  avatar_exists: "There is such an avatar already.",
  avatar_busy: "Somebody makes such an avatar just now.",
  avatar_protected: "This avatar stays as it is.",
  file_too_large: "The file is too large.",
  too_slow: "The file came too slowly.",
  disk_full: "The server's disk is full.",
  server_full: "The server is busy.",
  uploads_off: "This server lets nobody make avatars from here.",
  unknown_job: "The server has let go of the file: choose it again.",
  stopped: "Stopped.",
  unreachable: "The server cannot be reached.",
  camera: "The camera cannot be used.",
};

const element = (id) => document.getElementById(id);
const form = element("form");

/** The file that is chosen. */
let file = null;
/** Whether it is a clip; `null` while that is not known. */
let isClip = null;
/** The largest file that is taken, in bytes. */
let mostBytes = Infinity;
/** Ids that there are. */
let taken = new Set();
/** Words of files' names that name nobody: what cameras, phones and browsers call pictures. */
const NO_NAMES = new Set("avatar camera clip download face film image img movie mov photo pic picture portrait pxl dsc dscf dscn screenshot selfie snapshot unnamed untitled upload vid video".split(" "));
/** The name that was proposed, until another is typed. */
let proposed = "";
/** Whether the id follows the name. */
let idFollows = true;
/** The job at the server: `{ path, made }`; `made` once it has made an avatar. */
let job = null;
let sending = null;
let events = null;
let client = null;

// ---- The list ---------------------------------------------------------------------------------------------------------

async function ask(path, options = {}) {
  let response;
  try {
    response = await askServer(path, options);
  } catch (error) {
    throw Object.assign(new Error(error.message), { code: "unreachable" });
  }
  if (response.status === 204) return null;
  const body = await response.json().catch(() => ({ code: "unreachable", message: `HTTP ${response.status}` }));
  if (!response.ok) throw Object.assign(new Error(body.message), { code: body.code });
  return body;
}

async function showList() {
  const state = element("gallery-state");
  let answer;
  try {
    answer = await ask("api/avatars");
  } catch (error) {
    state.textContent = `The list cannot be had: ${error.message}`;
    return;
  }
  const { avatars, uploads } = answer;
  mostBytes = uploads?.most_bytes ?? Infinity;
  const allowed = uploads?.allowed ?? false;
  element("everything").disabled = !allowed;
  element("off").hidden = allowed;
  taken = new Set(avatars.map(({ id }) => id));
  state.textContent = avatars.length === 0 ? "There is no avatar yet." : "";
  state.hidden = avatars.length > 0;
  element("list").replaceChildren(...avatars.map((avatar) => item(avatar, allowed)));
  checkId();
}

function item(avatar, allowed) {
  const node = document.createElement("li");
  node.dataset.id = avatar.id;
  const picture = document.createElement(avatar.preview ? "img" : "div");
  if (avatar.preview) {
    Object.assign(picture, { alt: "", loading: "lazy" });
    showPicture(picture, avatar.preview.slice(1));
  } else picture.className = "blank";
  const words = document.createElement("p");
  words.className = "words";
  const name = document.createElement("b");
  name.textContent = avatar.name;
  words.append(name);
  const missing = avatar.usable ? null : `The model ${avatar.model} is not on this server`;
  for (const text of [`${avatar.kind}, ${avatar.width}×${avatar.height}`, missing, avatar.licence]) {
    if (!text) continue;
    const about = document.createElement("span");
    about.className = "quiet small";
    about.textContent = text;
    words.append(about);
  }
  const buttons = document.createElement("div");
  buttons.className = "buttons";
  const talk = document.createElement("a");
  talk.className = "button";
  talk.href = `./?avatar=${avatar.id}`;
  talk.textContent = "Talk";
  talk.setAttribute("aria-label", `Talk to ${avatar.name}`);
  if (avatar.usable) buttons.append(talk);
  if (allowed && avatar.deletable) {
    const remove = document.createElement("button");
    remove.type = "button";
    remove.className = "button";
    remove.textContent = "Delete";
    remove.setAttribute("aria-label", `Delete ${avatar.name}`);
    remove.addEventListener("click", () => removeAvatar(avatar));
    buttons.append(remove);
  }
  node.append(picture, words, buttons);
  return node;
}

async function removeAvatar({ id, name }) {
  const sure = element("sure");
  element("sure-title").textContent = `Delete ${name}?`;
  sure.returnValue = "no";
  sure.showModal();
  await new Promise((resolve) => sure.addEventListener("close", resolve, { once: true }));
  if (sure.returnValue !== "yes") return;
  if (job?.made === id) startOver();
  let problem = null;
  try {
    await ask(`api/avatars/${id}`, { method: "DELETE" });
  } catch (error) {
    problem = error;
  }
  await showList();
  const state = element("gallery-state");
  state.hidden = false;
  state.textContent = problem ? `${name} is not deleted: ${problem.message}` : `${name} is deleted.`;
  element("gallery-title").focus({ preventScroll: true });
}

// ---- The file ---------------------------------------------------------------------------------------------------------

async function choose(chosen) {
  if (!chosen) return;
  startOver();
  file = chosen;
  const words = element("chosen");
  words.textContent = `${file.name}, ${megabytes(file.size)}`;
  const clip = element("clip");
  const canvas = element("photo");
  if (clip.src) URL.revokeObjectURL(clip.src);
  clip.removeAttribute("src");
  clip.hidden = canvas.hidden = true;
  isClip = file.type.startsWith("video/") ? true : file.type.startsWith("image/") ? false : null;
  if (isClip) {
    clip.src = URL.createObjectURL(file);
    clip.hidden = false;
  } else if (!(await drawPhoto(file, canvas))) {
    words.textContent += " (this browser cannot show it, the server may well read it)";
  }
  if (file.size > mostBytes) words.textContent = `${file.name} has ${megabytes(file.size)}; at most ${megabytes(mostBytes)} are taken.`;
  proposeName(file.name ?? "");
  showOptions();
  showReady();
}

/** Proposes the file's name as that of the avatar where it is one: `anna_lee.jpg`, but neither `IMG_0042.jpg` nor `photo.png`. */
function proposeName(fileName) {
  const name = element("name");
  if (name.value !== "" && name.value !== proposed) return;
  const words = fileName.replace(/\.[^.]*$/, "").split(/[\s_-]+/).filter(Boolean);
  const isName = words.length <= 3 && words.every((word) => /^\p{L}{2,20}$/u.test(word) && !NO_NAMES.has(word.toLowerCase()));
  proposed = isName ? words.map((word) => word[0].toUpperCase() + word.slice(1)).join(" ") : "";
  name.value = proposed;
  name.dispatchEvent(new Event("input"));
}

const megabytes = (bytes) => `${(bytes / 1048576).toFixed(bytes < 10485760 ? 1 : 0)} MB`;

/** Shows a photo; on a canvas, as the page's policy lets no other pictures in than the server's. */
async function drawPhoto(photo, canvas) {
  try {
    const bitmap = await createImageBitmap(photo);
    if (photo !== file) return true;
    const scale = Math.min(1, PREVIEW_SIDE / Math.max(bitmap.width, bitmap.height));
    canvas.width = Math.max(1, Math.round(bitmap.width * scale));
    canvas.height = Math.max(1, Math.round(bitmap.height * scale));
    canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    bitmap.close();
    canvas.hidden = false;
    return true;
  } catch {
    return false;
  }
}

function showOptions() {
  for (const node of document.querySelectorAll(".of-photo")) node.hidden = isClip === true;
  for (const node of document.querySelectorAll(".of-clip")) node.hidden = isClip === false || file === null;
}

function showReady() {
  element("go").disabled = file === null || file.size > mostBytes || sending !== null || job !== null;
}

element("file").addEventListener("change", ({ target }) => {
  choose(target.files[0]);
  // The same file may be chosen again.
  target.value = "";
});

const drop = element("drop");
for (const type of ["dragenter", "dragover"]) {
  drop.addEventListener(type, (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
}
drop.addEventListener("dragleave", (event) => {
  if (!drop.contains(event.relatedTarget)) drop.classList.remove("over");
});
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  if (!element("everything").disabled) choose(event.dataTransfer.files[0]);
});
// A file that misses the field must not take the page's place.
for (const type of ["dragover", "drop"]) document.addEventListener(type, (event) => event.preventDefault());

// ---- The camera -------------------------------------------------------------------------------------------------------

let camera = null;
let recorder = null;
let recordingTimer = null;

element("camera-open").addEventListener("click", async () => {
  try {
    camera = await navigator.mediaDevices.getUserMedia({
      video: { facingMode: "user", width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 25 } },
    });
  } catch (error) {
    return showFault({ code: "camera", message: CAMERA_REFUSED[error.name] ?? "Browsers give it to pages on localhost or https only." });
  }
  element("viewfinder").srcObject = camera;
  element("drop").hidden = true;
  element("camera").hidden = false;
  element("record").hidden = typeof MediaRecorder === "undefined";
  element("snap").focus();
});

function closeCamera() {
  clearInterval(recordingTimer);
  for (const track of camera?.getTracks() ?? []) track.stop();
  camera = recorder = null;
  element("viewfinder").srcObject = null;
  element("camera").hidden = true;
  element("drop").hidden = false;
  element("snap").disabled = false;
  element("record").setAttribute("aria-pressed", "false");
  element("record").textContent = "Record a clip";
  element("camera-open").focus();
}

element("camera-close").addEventListener("click", () => {
  if (recorder) recorder.ondataavailable = recorder.onstop = null;
  closeCamera();
});

element("snap").addEventListener("click", async () => {
  const video = element("viewfinder");
  if (video.videoWidth === 0) return;
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  canvas.getContext("2d").drawImage(video, 0, 0);
  const photo = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.95));
  closeCamera();
  choose(new File([photo], "camera.jpg", { type: "image/jpeg" }));
});

element("record").addEventListener("click", () => {
  if (recorder) return recorder.stop();
  const type = RECORDINGS.find((kind) => MediaRecorder.isTypeSupported(kind));
  const pieces = [];
  recorder = new MediaRecorder(camera, { mimeType: type, videoBitsPerSecond: 6_000_000 });
  recorder.ondataavailable = ({ data }) => pieces.push(data);
  recorder.onstop = () => {
    const plain = recorder.mimeType.split(";")[0];
    const clip = new File(pieces, plain === "video/mp4" ? "camera.mp4" : "camera.webm", { type: plain });
    closeCamera();
    choose(clip);
  };
  recorder.start();
  element("snap").disabled = true;
  element("record").setAttribute("aria-pressed", "true");
  element("record").textContent = "Stop recording";
  const began = performance.now();
  const show = () => {
    const seconds = Math.floor((performance.now() - began) / 1000);
    element("camera-state").textContent = `Recording, ${seconds} of ${LONGEST_RECORDING_S} s. Sit quietly, mouth closed.`;
    if (seconds >= LONGEST_RECORDING_S) recorder?.stop();
  };
  show();
  recordingTimer = setInterval(show, 500);
});

// ---- The form ---------------------------------------------------------------------------------------------------------

/** `Anna Sørensen` becomes `anna-sorensen`. */
function idOf(name) {
  const plain = name.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase().replace(/ø/g, "o").replace(/ß/g, "ss");
  return plain.replace(/[^a-z0-9_]+/g, "-").replace(/^[-_]+|-+$/g, "").slice(0, 64);
}

function checkId() {
  const id = element("id");
  const own = job?.made === id.value;
  id.setCustomValidity(taken.has(id.value) && !own ? "There is an avatar of this id already: choose another one." : "");
}

// Whoever has another name in mind types it in place of the proposed one.
element("name").addEventListener("click", ({ target }) => {
  if (proposed !== "" && target.value === proposed) target.select();
});
element("name").addEventListener("input", ({ target }) => {
  if (idFollows) element("id").value = idOf(target.value);
  checkId();
});
element("id").addEventListener("input", ({ target }) => {
  idFollows = target.value === "";
  checkId();
});

function query() {
  const text = (id) => element(id).value.trim();
  const values = new URLSearchParams({
    id: text("id"), name: text("name"), licence: text("licence"), consent: text("consent"), file: file?.name || "upload",
  });
  for (const flag of ["still", "whole", "mirror", "closed"]) if (element(flag).checked) values.set(flag, "true");
  if (element("alpha").value) values.set("alpha", element("alpha").value);
  if (text("face")) values.set("face", text("face"));
  const [start, end] = [text("trim-start"), text("trim-end")];
  if (isClip !== false && (start || end)) values.set("trim", `${start}..${end}`);
  return values;
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (!element("go").disabled) send();
});

/** Sends the file; `XMLHttpRequest`, as `fetch` does not say how much of it has gone. */
function send() {
  showWork(`Making ${element("name").value.trim()}`);
  showProgress("sending the file", 0, "");
  const request = new XMLHttpRequest();
  sending = request;
  showReady();
  request.open("POST", `api/avatars?${query()}`);
  request.setRequestHeader("Content-Type", "application/octet-stream");
  if (token) request.setRequestHeader("Authorization", `Bearer ${token}`);
  request.responseType = "json";
  request.upload.onprogress = ({ loaded, total }) => showProgress("sending the file", loaded / total, `${megabytes(loaded)} of ${megabytes(total)}`);
  request.onload = () => {
    sending = null;
    if (request.status === 202) return follow(request.response.job);
    showFault(request.response ?? { code: "unreachable", message: `HTTP ${request.status}` });
  };
  request.onerror = () => {
    sending = null;
    showFault({ code: "unreachable", message: "The file could not be sent." });
  };
  request.onabort = () => {
    sending = null;
    startOver();
  };
  request.send(file);
}

element("cancel").addEventListener("click", () => {
  if (sending) return sending.abort();
  startOver();
});

// ---- The work ---------------------------------------------------------------------------------------------------------

function showWork(title) {
  element("work").hidden = false;
  element("work-title").textContent = title;
  element("progress-box").hidden = false;
  element("fault").hidden = true;
  element("work-title").focus({ preventScroll: true });
  showCard("nearest");
}

/** Scrolls to what is being made. */
function showCard(block) {
  const behavior = matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth";
  element("work").scrollIntoView({ block, behavior });
}

function showProgress(stage, share, left) {
  const percent = Math.round(share * 100);
  element("progress").value = percent;
  element("stage").textContent = stage;
  element("left").textContent = [`${percent} %`, left].filter(Boolean).join(", ");
}

function showFault({ code, message }) {
  element("work").hidden = false;
  element("progress-box").hidden = true;
  const heading = document.createElement("b");
  heading.textContent = FAULTS[code] ?? "That did not work.";
  const fault = element("fault");
  fault.replaceChildren(heading, message ?? "");
  fault.hidden = false;
  if (!job?.made) element("work-title").textContent = "Not made";
  showReady();
}

/** What becomes of a job, until its end. */
function follow(name) {
  job = { name, path: `api/avatars/jobs/${name}`, made: job?.made ?? null };
  showReady();
  events?.close();
  events = listen(`${job.path}/events`);
  const on = (type, happens) => events.addEventListener(type, ({ data }) => happens(JSON.parse(data)));
  on("waiting", ({ ahead }) => showProgress(ahead > 0 ? `waiting for ${ahead} before it` : "waiting", 0, ""));
  on("making", ({ stage, share, seconds_left: left }) => {
    showProgress(stage, share, left === null ? "" : left > 90 ? `about ${Math.round(left / 60)} min left` : `about ${left} s left`);
  });
  on("done", (done) => {
    events.close();
    isMade(done);
  });
  on("failed", (failed) => {
    events.close();
    isNotMade(failed);
  });
  const source = events;
  source.onerror = () => {
    // The browser tries again by itself, unless the job is gone.
    if (source.readyState === EventSource.CLOSED && events === source) showFault({ code: "unknown_job", message: "" });
  };
}

function showFound(path, words) {
  element("found-box").hidden = !path;
  if (path) showPicture(element("found"), path.slice(1));
  element("found-words").textContent = words;
}

async function isMade({ avatar, found }) {
  const isFirst = !job.made;
  job.made = avatar.id;
  element("progress-box").hidden = true;
  element("fault").hidden = true;
  element("work-title").textContent = `${avatar.name} is there`;
  showFound(found, "What was found: the mesh, and in blue what the mouth may move");
  element("id").readOnly = true;
  element("talk-to").href = `./?avatar=${avatar.id}`;
  element("talk-to").textContent = `Talk to ${avatar.name}`;
  element("done-links").hidden = false;
  element("say").hidden = false;
  if (!element("sentence").value) element("sentence").value = `Hello, I am ${avatar.name}. This is how I look when I speak.`;
  await showList();
  showLive(avatar);
  showReady();
  // On a phone it grew below what is seen. Who changes an option afterwards stays there.
  if (isFirst) showCard("start");
}

/** The job stays with its file, so that another option or another id is tried without sending it again. */
function isNotMade({ code, message, found }) {
  showFound(found, "What was found in the picture; faces are numbered from the left");
  showFault({ code, message });
  if (code !== "stopped") showCard("start");
  if (code === "stopped" && !job?.made) job = null;
  const go = element("go");
  if (job && !job.made) go.disabled = false;
}

// An option that is changed afterwards, or a form that is sent again after a fault, makes it once more.
let lastChange = null;
element("options").addEventListener("change", () => {
  if (!job?.made) return;
  clearTimeout(lastChange);
  lastChange = setTimeout(again, AFTER_LAST_CHANGE_MS);
});

async function again() {
  if (!form.reportValidity()) return;
  clearTimeout(lastChange);
  hideLive();
  showWork(`Making ${element("name").value.trim()}`);
  showProgress("waiting", 0, "");
  try {
    await ask(`${job.path}/again?${query()}`, { method: "POST" });
    follow(job.name);
  } catch (error) {
    // What is made now is followed to its end first.
    if (error.code === "job_running") lastChange = setTimeout(again, AFTER_LAST_CHANGE_MS);
    else {
      if (error.code === "unknown_job") job = null;
      showFault({ code: error.code, message: error.message });
    }
  }
}

element("go").addEventListener("click", (event) => {
  if (!job || job.made) return;
  event.preventDefault();
  again();
});

/** Back to the form; the server lets go of the file. */
function startOver() {
  clearTimeout(lastChange);
  events?.close();
  events = null;
  hideLive();
  letGo();
  job = null;
  element("work").hidden = true;
  for (const id of ["found-box", "say", "done-links", "fault"]) element(id).hidden = true;
  element("sentence").value = "";
  element("id").readOnly = false;
  checkId();
  showReady();
}

function letGo() {
  if (job) askServer(job.path, { method: "DELETE", keepalive: true }).catch(() => {});
}

element("another").addEventListener("click", () => {
  startOver();
  file = null;
  form.reset();
  idFollows = true;
  element("photo").hidden = element("clip").hidden = true;
  element("chosen").textContent = "Drop a photo or a clip here";
  showOptions();
  showReady();
  element("make").scrollIntoView({ block: "start" });
  element("file").focus({ preventScroll: true });
});

addEventListener("pagehide", ({ persisted }) => {
  if (!persisted) letGo();
});

// ---- The live sentence ------------------------------------------------------------------------------------------------

const STATES = {
  connecting: "Connecting", connected: "Live", reconnecting: "Connecting again", failed: "It cannot be shown live", closed: "",
};

function showLive({ id, width, height }) {
  hideLive();
  const video = element("avatar-video");
  element("live").hidden = false;
  document.documentElement.style.setProperty("--video-width", width);
  document.documentElement.style.setProperty("--video-height", height);
  client = new AvatarWebRTCClient(null, video, { token });
  window.mouthpiece = client;
  const own = client;
  client.addEventListener("state", ({ detail: { state } }) => {
    element("live-state").textContent = STATES[state] ?? state;
  });
  // The first sentence comes by itself, aloud where the browser lets it.
  client.addEventListener("first_frame", () => {
    if (own !== client) return;
    video.muted = false;
    client.play();
    client.speak(element("sentence").value);
  }, { once: true });
  client.addEventListener("error", ({ detail: { message } }) => {
    element("live-state").textContent = message;
  });
  const address = new URL(`ws?avatar=${id}`, location.href);
  address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  client.connect(address, video);
}

function hideLive() {
  client?.close();
  client = null;
  element("live").hidden = true;
}

element("say").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!client) return;
  element("avatar-video").muted = false;
  client.play();
  client.interrupt();
  client.speak(element("sentence").value);
});

showOptions();
showList();
