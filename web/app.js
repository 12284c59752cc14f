/**
 * The page: the avatar, the conversation, the state of the connection and live figures.
 *
 * In here: everything visible but the microphone's button (`voice.js`) and the panel of outputs (`outputs.js`). Not in here: sockets and WebRTC (`client.js`). What people and servers write reaches the
 * page as text only, never as HTML.
 *
 * `window.mouthpiece` is the live client, for tests and for whoever looks from the console.
 */

import { AvatarWebRTCClient } from "./client.js";
import { outputPanel } from "./outputs.js";
import { voiceInput } from "./voice.js";
import { ask, token } from "./token.js";

/** Fewest milliseconds between two looks at the figures. */
const FIGURES_INTERVAL_MS = 1000;

/** Turns kept on the page; a conversation of hours must not make it slow. */
const TURNS_KEPT = 200;

const STATES = {
  idle: "Not connected",
  connecting: "Connecting",
  connected: "Live",
  reconnecting: "Reconnecting",
  failed: "Cannot connect",
  closed: "Disconnected",
};

/** What to say of an error; the server's own message, for whoever wants to know more, is folded away below it. */
const PROBLEMS = {
  message_too_long: "That message is too long.",
  text_too_long: "That message is too long.",
  nothing_to_say: "There is nothing in that message that can be spoken.",
  too_many_messages: "That was too much at once. Wait a moment.",
  busy: "There is too much waiting to be said. Let the avatar finish first.",
  unknown_avatar: "There is no such avatar here.",
  avatar_unavailable: "The avatar cannot be loaded just now.",
  unknown_gesture: "The avatar does not know that gesture.",
  bad_session_name: "The session in this page's address has a name that is not allowed.",
  outputs_off: "The server does not do that here.",
  unauthorized: "This page lets in only those who have a link with a token.",
  forbidden: "This link does not allow that.",
  token_ended: "The time of this link is over.",
  not_live: "Nobody is here just now.",
  bad_output: "That cannot be recorded or pushed there.",
  output_exists: "There is a recording of that name already.",
  llm_failed: "The avatar has no answer: its language model failed.",
  llm_rate_limited: "The avatar's language model is asked too much just now. Wait a moment.",
  speech_failed: "The avatar lost its voice.",
  no_voice: "The avatar has no voice for some of this, and leaves it out.",
  asr_failed: "The avatar did not understand: its speech recogniser failed.",
  lip_sync_failed: "The avatar's face could not be drawn.",
  no_common_codec: "This browser cannot play the avatar's video.",
  negotiation_failed: "The video connection could not be set up. Trying again.",
  peer_failed: "The video connection was lost. Trying again.",
  server_full: "All places are taken just now. Trying again.",
  shutting_down: "The server is restarting. It will be back.",
  missed: "This connection is too slow: some of the conversation is missing here.",
};

const element = (id) => document.getElementById(id);
const video = element("avatar-video");
const frame = element("frame");
const history = element("history");
const message = element("message");

const client = new AvatarWebRTCClient(null, video, { token });
window.mouthpiece = client;

// ---- The conversation -------------------------------------------------------------------------------------------------

/** Replies by the id of their utterance: the bubble, its text, whether the avatar has begun to say it. */
const replies = new Map();
let waiting = null;
/** The turn whose answer is waited for. */
let waitingFor = null;
let turnsSent = 0;
/** Other pages of the session have turns of their own. */
const pageId = Math.random().toString(36).slice(2);
let lastProblem = null;

function add(node) {
  // Someone who reads further up is not pulled down.
  const follows = history.scrollHeight - history.scrollTop - history.clientHeight < 80;
  element("empty").hidden = true;
  if (waiting && node !== waiting) history.insertBefore(node, waiting);
  else history.append(node);
  const entries = history.querySelectorAll(".turn, .notice");
  if (entries.length > TURNS_KEPT) entries[0].remove();
  if (follows) scrollDown();
}

function scrollDown() {
  history.scrollTop = history.scrollHeight;
}

function turn(kind, text) {
  const node = document.createElement("div");
  node.className = `turn ${kind}`;
  node.dir = "auto";
  const who = document.createElement("span");
  who.className = "unseen";
  who.textContent = kind === "user" ? "You: " : "Avatar: ";
  const content = document.createElement("span");
  content.className = "content";
  content.textContent = text;
  node.append(who, content);
  return node;
}

function showWaiting(id) {
  hideWaiting();
  waitingFor = id;
  const node = document.createElement("div");
  node.className = "turn avatar waiting";
  node.setAttribute("aria-hidden", "true");
  for (let dot = 0; dot < 3; dot++) node.append(document.createElement("i"));
  waiting = node;
  add(node);
}

function hideWaiting() {
  waiting?.remove();
  waiting = null;
  waitingFor = null;
}

/** Something is told of a turn: if it is the one that is waited for, its answer is here. */
function answers({ id }) {
  if (id !== undefined && id === waitingFor) hideWaiting();
}

function announce(text) {
  element("announce").textContent = text;
}

function problem({ code, message: detail = "", id }) {
  // One of another's turn leaves mine alone.
  if (id === undefined || id === waitingFor) hideWaiting();
  // A server that says the same on every attempt is quoted once.
  if (lastProblem?.isConnected && lastProblem === history.lastElementChild && lastProblem.dataset.detail === detail) return;
  const heading = PROBLEMS[code];
  lastProblem = document.createElement(heading ? "details" : "p");
  lastProblem.className = "notice";
  lastProblem.dataset.detail = detail;
  if (heading) {
    const summary = document.createElement("summary");
    summary.textContent = heading;
    lastProblem.append(summary);
  }
  lastProblem.append(detail);
  add(lastProblem);
  announce(heading ?? detail);
}

client.addEventListener("text", ({ detail }) => {
  let reply = replies.get(detail.utterance_id);
  if (!reply) {
    if (!detail.content) return;
    answers(detail);
    reply = { node: turn("avatar", ""), text: "" };
    replies.set(detail.utterance_id, reply);
    add(reply.node);
  }
  const follows = history.scrollHeight - history.scrollTop - history.clientHeight < 80;
  reply.text += detail.content;
  reply.node.querySelector(".content").textContent = reply.text;
  if (follows) scrollDown();
  if (detail.final) announce(reply.text);
});

client.addEventListener("speech_started", ({ detail }) => {
  answers(detail);
  showSpeaking();
});

client.addEventListener("speech_ended", ({ detail }) => {
  answers(detail);
  ended(detail, detail.interrupted ? "Stopped" : null);
});

/** A turn has ended. `why` not all of it was heard, if so. */
function ended(detail, why) {
  showSpeaking();
  const reply = replies.get(detail.utterance_id);
  replies.delete(detail.utterance_id);
  if (!reply || why === null) return;
  const content = reply.node.querySelector(".content");
  const spoken = detail.text_spoken ?? "";
  if (reply.text.startsWith(spoken)) {
    const rest = document.createElement("span");
    rest.className = "unspoken";
    rest.textContent = reply.text.slice(spoken.length);
    content.replaceChildren(spoken, rest);
  }
  const mark = document.createElement("small");
  mark.textContent = why;
  reply.node.append(mark);
  scrollDown();
}

client.addEventListener("error", ({ detail }) => {
  if (detail.utterance_id !== undefined) ended(detail, "Broken off");
  problem(detail);
});

client.addEventListener("missed", ({ detail: { count } }) => {
  showSpeaking();
  problem({ code: "missed", message: `${count} messages of the server were missed.` });
});

// ---- Captions ---------------------------------------------------------------------------------------------------------

let captionsTimer = null;

/** Shows the sentence that is heard; its words brighten as they are. Built anew only when a word begins. */
function showCaption() {
  captionsTimer = requestAnimationFrame(showCaption);
  const caption = client.caption();
  const place = element("caption");
  const begun = caption?.words.filter((word) => word.begun).length ?? 0;
  const key = caption ? `${caption.utterance_id} ${caption.sentence} ${begun}` : "";
  if (place.dataset.key === key) return;
  place.dataset.key = key;
  place.hidden = caption === null;
  if (!caption) return;
  const said = document.createElement("b");
  said.textContent = caption.words.slice(0, begun).map(({ text }) => text).join("");
  place.replaceChildren(said, caption.words.slice(begun).map(({ text }) => text).join(""));
}

function toggleCaptions(shown) {
  cancelAnimationFrame(captionsTimer);
  element("captions-toggle").setAttribute("aria-pressed", String(shown));
  if (shown) showCaption();
  else element("caption").hidden = true;
}

element("captions-toggle").addEventListener("click", ({ currentTarget }) => {
  toggleCaptions(currentTarget.getAttribute("aria-pressed") !== "true");
});

// ---- Writing ----------------------------------------------------------------------------------------------------------

function send() {
  const id = `${pageId}-${++turnsSent}`;
  if (!client.sendText(message.value, id)) return;
  add(turn("user", message.value.trim()));
  scrollDown();
  showWaiting(id);
  message.value = "";
  fit();
  // Whoever writes to the avatar wants to hear it, unless they said otherwise.
  if (!muteChosen) setMuted(false);
}

function fit() {
  message.style.height = "auto";
  message.style.height = `${message.scrollHeight}px`;
  showReady();
}

function showReady() {
  element("send").disabled = !client.ready || message.value.trim() === "";
}

function showSpeaking() {
  frame.classList.toggle("speaking", client.speaking);
  element("stop").disabled = !client.speaking;
}

function stop() {
  hideWaiting();
  client.interrupt();
}

element("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
  message.focus();
});
message.addEventListener("input", fit);
message.addEventListener("keydown", (event) => {
  // Enter while an input method composes a word chooses the word.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
  event.preventDefault();
  send();
});
element("stop").addEventListener("click", () => {
  stop();
  message.focus({ preventScroll: true });
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && client.speaking) stop();
});

// ---- Speaking ---------------------------------------------------------------------------------------------------------

voiceInput(client, element("microphone"), {
  turn,
  add,
  problem,
  heard() {
    // Whoever speaks to the avatar wants to hear it, unless they said otherwise.
    if (!muteChosen) setMuted(false);
  },
});

// ---- Sound ------------------------------------------------------------------------------------------------------------

let muteChosen = false;

function setMuted(muted) {
  video.muted = muted;
  client.play();
  showSound();
}

function showSound() {
  const muted = video.muted;
  element("unmute").hidden = !muted || muteChosen;
  const button = element("mute");
  button.hidden = muted && !muteChosen;
  button.setAttribute("aria-pressed", String(muted));
  button.title = muted ? "Sound on" : "Mute";
  button.querySelector("use").setAttribute("href", muted ? "#icon-muted" : "#icon-sound");
}

element("unmute").addEventListener("click", () => setMuted(false));
element("mute").addEventListener("click", () => {
  muteChosen = !video.muted;
  setMuted(muteChosen);
});
client.addEventListener("sound_blocked", showSound);

// ---- The connection ---------------------------------------------------------------------------------------------------

client.addEventListener("state", ({ detail: { state, reason } }) => {
  const pill = element("state");
  pill.dataset.state = state;
  pill.querySelector("b").textContent = STATES[state] ?? state;
  pill.title = reason;
  frame.classList.toggle("stale", state !== "connected");
  frame.classList.toggle("dead", state === "failed");
  if (state === "reconnecting" || state === "failed") hideWaiting();
  // Whatever was being said ended with the connection it was said over.
  if (!client.ready) replies.clear();
  showSpeaking();
  showReady();
});

client.addEventListener("session", ({ detail: { avatar } }) => {
  showAvatar(avatar);
  // Until there is a picture.
  if (video.videoWidth === 0) fitFrame(avatar.width, avatar.height);
  listAvatars();
  showReady();
});

client.addEventListener("first_frame", () => frame.classList.add("live"));

// ---- The avatar -------------------------------------------------------------------------------------------------------

const choice = element("avatars");

function showAvatar(avatar) {
  element("name").textContent = avatar.name;
  document.title = avatar.name;
  message.placeholder = `Write to ${avatar.name}`;
  showChosen();
  const buttons = (avatar.gestures ?? []).map((name) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = name.replaceAll("_", " ");
    button.addEventListener("click", () => client.gesture(name));
    return button;
  });
  element("gestures").replaceChildren(...buttons);
  element("gestures").hidden = buttons.length === 0;
}

/** The frame has the shape of what is in it, which may change while it plays. */
function fitFrame(width, height) {
  document.documentElement.style.setProperty("--video-width", width);
  document.documentElement.style.setProperty("--video-height", height);
}

/** Offers those that the server has, if there are several. */
async function listAvatars() {
  let avatars = [];
  try {
    const reply = await ask("api/avatars");
    if (reply.ok) ({ avatars } = await reply.json());
  } catch {
    // Without the list there is no choice, and everything else goes on.
  }
  const usable = avatars.filter((avatar) => avatar.usable);
  choice.replaceChildren(...usable.map(({ id, name }) => new Option(name, id)));
  choice.hidden = usable.length < 2;
  element("name").classList.toggle("unseen", !choice.hidden);
  showChosen();
}

function showChosen() {
  choice.value = client.avatar?.id ?? "";
  choice.disabled = false;
}

choice.addEventListener("change", () => {
  // Until it is seen.
  if (client.swapAvatar(choice.value)) choice.disabled = true;
  else showChosen();
});
client.addEventListener("avatar", ({ detail }) => showAvatar(detail));
client.addEventListener("error", ({ detail }) => {
  if (detail.utterance_id === undefined && detail.id === undefined) showChosen();
});
video.addEventListener("resize", () => {
  // The video of one that is cut out has its matte in it.
  if (video.videoWidth > 0 && !client.avatar?.matte) fitFrame(video.videoWidth, video.videoHeight);
});

const BACKDROPS = { page: "The page", checks: "Checks", studio: "Studio", dusk: "Dusk" };
let backdrop = "studio";

function showBackdrop(transparent) {
  const button = element("backdrop");
  button.hidden = !transparent;
  button.title = `Backdrop: ${BACKDROPS[backdrop]}`;
  if (transparent) frame.dataset.backdrop = backdrop;
  else delete frame.dataset.backdrop;
}

client.addEventListener("composed", ({ detail: { width, height, transparent } }) => {
  if (transparent) fitFrame(width, height);
  else if (video.videoWidth > 0) fitFrame(video.videoWidth, video.videoHeight);
  showBackdrop(transparent);
});
element("backdrop").addEventListener("click", () => {
  const names = Object.keys(BACKDROPS);
  backdrop = names[(names.indexOf(backdrop) + 1) % names.length];
  showBackdrop(true);
});

// ---- Live figures -----------------------------------------------------------------------------------------------------

const milliseconds = (value, digits = 0) => (value === null ? "–" : `${value.toFixed(digits)} ms`);
const FIGURES = [
  ["Frames", (s) => (s.fps === null ? "–" : `${s.fps.toFixed(1)} fps`)],
  ["Bitrate", (s) => (s.bitrate_kbps === null ? "–" : `${s.bitrate_kbps.toFixed(0)} kbit/s`)],
  ["Round trip", (s) => milliseconds(s.round_trip_ms, 1)],
  ["Jitter buffer", (s) => milliseconds(s.jitter_buffer_ms)],
  ["… of the voice", (s) => milliseconds(s.audio_jitter_buffer_ms)],
  ["Voice late by", (s) => milliseconds(s.av_skew_ms)],
  ["First frame", (s) => milliseconds(s.time_to_first_frame_ms)],
  ["Mouths left out", (s) => `${Math.round(s.mouths_left_out * 100)} %`],
  ["Freezes, lost", (s) => `${s.freezes}, ${s.packets_lost}`],
  ["Network", (s) => s.network === null ? "–"
    : `${s.network.rung}, ${s.network.rate_kbps} kbit/s, ${(s.network.lost * 100).toFixed(1)} % lost`],
  ["Video", (s) => (s.width === null ? "–" : `${s.codec ?? ""} ${s.width}×${s.height}`)],
];
let figuresTimer = null;

async function showFigures() {
  let stats;
  try {
    stats = await client.stats();
  } catch {
    return; // The peer connection was closed meanwhile; the next look finds the next one.
  }
  FIGURES.forEach(([, text], index) => (cells[index].textContent = text(stats)));
}

const cells = FIGURES.map(([label]) => {
  const term = document.createElement("dt");
  term.textContent = label;
  const value = document.createElement("dd");
  element("connection").append(term, value);
  return value;
});

function toggleFigures(shown) {
  clearInterval(figuresTimer);
  element("figures").hidden = !shown;
  element("figures-toggle").setAttribute("aria-pressed", String(shown));
  if (!shown) return;
  showFigures();
  figuresTimer = setInterval(showFigures, FIGURES_INTERVAL_MS);
}

element("figures-toggle").addEventListener("click", () => {
  const shown = element("figures").hidden;
  if (shown) closeOutputs();
  toggleFigures(shown);
});

// ---- The last answer --------------------------------------------------------------------------------------------------

const STAGES = [
  ["transcript", "Transcript"],
  ["first_token", "First words"],
  ["first_audio", "First sound"],
  ["first_frame", "First picture"],
  ["shown", "Shown"],
];

/** Shows how long an answer took to each stage, since the user's text or the end of the user's speech. */
function showTurn(stages) {
  const box = element("turn");
  const [bar, rows] = [[], []];
  let before = 0;
  for (const [stage, label] of STAGES) {
    const ms = stages[stage];
    if (ms === undefined) continue;
    const part = document.createElement("i");
    part.className = stage;
    part.style.flexGrow = ms - before;
    bar.push(part);
    const [term, took, at] = ["dt", "dd", "dd"].map((name) => document.createElement(name));
    term.className = stage;
    term.textContent = label;
    took.textContent = `+${ms - before}`;
    at.textContent = milliseconds(ms);
    rows.push(term, took, at);
    before = ms;
  }
  box.querySelector("b").textContent = milliseconds(before);
  box.querySelector("#bar").replaceChildren(...bar);
  box.querySelector("dl").replaceChildren(...rows);
  box.hidden = false;
}

for (const type of ["latency", "shown"]) client.addEventListener(type, ({ detail }) => showTurn(detail.stages));

// ---- Start ------------------------------------------------------------------------------------------------------------

// Where the browser lays the keyboard over the page instead of shrinking it, the page shrinks itself.
function fitKeyboard() {
  const covered = window.innerHeight - window.visualViewport.height;
  const keyboard = covered > 60 && window.visualViewport.scale === 1;
  const root = document.documentElement.style;
  if (keyboard) root.setProperty("--app-height", `${window.visualViewport.height}px`);
  else root.removeProperty("--app-height");
  window.scrollTo(0, 0);
  scrollDown();
}
window.visualViewport?.addEventListener("resize", fitKeyboard);

// Both panels have the same corner.
const closeOutputs = outputPanel(client, () => toggleFigures(false));

const page = new URLSearchParams(location.search);
const address = new URL("ws", location.href);
address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
address.search = "";
address.hash = "";
for (const name of ["avatar", "session"]) if (page.has(name)) address.searchParams.set(name, page.get(name));
if (page.has("stats")) toggleFigures(true);
toggleCaptions(true);
showSound();
client.connect(address, video);
if (matchMedia("(hover: hover)").matches) message.focus();
