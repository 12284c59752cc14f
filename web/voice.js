/**
 * Speaking to the avatar: the microphone's button, and what was understood.
 *
 * A click switches the microphone on and off; then turns begin and end with the voice. Held down, the button is to talk:
 * the microphone is heard while it is held. Not in here: the microphone itself (`client/microphone.js`).
 */

/** Held for longer, a press is no click. */
const HOLD_MS = 250;

const REFUSED = {
  NotAllowedError: "The microphone may not be used. Allow it in the browser, next to the address.",
  NotFoundError: "There is no microphone.",
  NotReadableError: "The microphone is in use by another program.",
};

/**
 * @param {import("./client.js").AvatarWebRTCClient} client
 * @param {HTMLButtonElement} button
 * @param {{turn: (kind: string, text: string) => HTMLElement, add: (node: HTMLElement) => void, problem: (error: {code:
 *   string, message: string}) => void, heard: () => void}} page `heard` is called when a turn was understood
 */
export function voiceInput(client, button, { turn, add, problem, heard }) {
  let draft = null;
  let holding = null;
  let held = false;

  function show() {
    button.setAttribute("aria-pressed", String(client.microphone));
    button.classList.toggle("held", held);
    button.title = client.microphone ? "Switch the microphone off" : "Speak (hold to talk)";
    button.setAttribute("aria-label", button.title);
  }

  async function switchMicrophone(on) {
    try {
      await client.switchMicrophone(on);
    } catch (error) {
      problem({ code: "microphone", message: REFUSED[error.name] ?? error.message });
    }
    show();
  }

  function release() {
    clearTimeout(holding);
    holding = null;
    if (!held) return;
    held = false;
    client.pushToTalk(false);
    show();
  }

  button.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    button.setPointerCapture(event.pointerId);
    holding = setTimeout(async () => {
      held = true;
      if (!client.microphone) await switchMicrophone(true);
      // The question whether the page may use the microphone takes the pointer away.
      if (held && client.microphone) client.pushToTalk(true);
      show();
    }, HOLD_MS);
  });
  button.addEventListener("pointercancel", release);
  button.addEventListener("lostpointercapture", release);
  button.addEventListener("click", (event) => {
    const wasHeld = held;
    release();
    if (wasHeld) event.preventDefault();
    else switchMicrophone(!client.microphone);
  });
  button.addEventListener("contextmenu", (event) => event.preventDefault());

  client.addEventListener("session", ({ detail }) => {
    button.hidden = !detail.listens;
    show();
  });
  client.addEventListener("transcript", ({ detail: { content, final } }) => {
    if (content && !draft) {
      draft = turn("user", "");
      draft.classList.add("draft");
      add(draft);
    }
    if (draft && content) draft.querySelector(".content").textContent = content;
    if (!final) return;
    draft?.classList.remove("draft");
    if (!content) draft?.remove();
    draft = null;
    if (content) heard();
  });
}
