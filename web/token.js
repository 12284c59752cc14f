/**
 * The token that lets this page in, where the server asks for one: it comes in the address behind `#token=`, which browsers
 * send to nobody, and leaves the address bar at once. It is kept for as long as the tab is open.
 *
 * In here: asking with it, where a page cannot set the header itself, pictures and streams of events, too. Not in here: the
 * WebSocket, which the client opens with it (`client.js`, option `token`).
 */

const KEPT_AS = "mouthpiece-token";
/** Before a stream of events that broke off is asked for again. */
const AGAIN_MS = 2000;

/** @type {string|null} */
export const token = take();

function take() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given !== null) history.replaceState(null, "", location.pathname + location.search);
  try {
    if (given) sessionStorage.setItem(KEPT_AS, given);
    return given || sessionStorage.getItem(KEPT_AS);
  } catch {
    // Nothing is kept where the browser is told to keep nothing: a reload then needs the whole address again.
    return given || null;
  }
}

/**
 * `fetch`, with the token.
 * @param {string} path
 * @param {RequestInit} [options]
 */
export function ask(path, options = {}) {
  const headers = new Headers(options.headers);
  if (token) headers.set("Authorization", `Bearer ${token}`);
  return fetch(path, { ...options, headers });
}

/**
 * Shows a picture of the server's.
 * @param {HTMLImageElement} image
 * @param {string} path
 */
export async function showPicture(image, path) {
  if (!token) {
    image.src = path;
    return;
  }
  const response = await ask(path);
  if (!response.ok) return;
  const reader = new FileReader();
  reader.onload = () => (image.src = reader.result);
  reader.readAsDataURL(await response.blob());
}

/**
 * A stream of events of the server's: an EventSource, or what is like one as far as this page uses it.
 * @param {string} path
 */
export function listen(path) {
  return token ? new AskedEvents(path) : new EventSource(path);
}

class AskedEvents extends EventTarget {
  readyState = EventSource.CONNECTING;
  /** @type {(() => void)|null} */
  onerror = null;
  #abort = new AbortController();

  constructor(path) {
    super();
    this.#follow(path);
  }

  close() {
    this.readyState = EventSource.CLOSED;
    this.#abort.abort();
  }

  async #follow(path) {
    while (this.readyState !== EventSource.CLOSED) {
      try {
        const response = await ask(path, { signal: this.#abort.signal });
        if (!response.ok) {
          this.readyState = EventSource.CLOSED;
        } else {
          this.readyState = EventSource.OPEN;
          await this.#read(response.body.pipeThrough(new TextDecoderStream()).getReader());
        }
      } catch {
        // Closed by us, or broken off, as its end is.
      }
      if (this.#abort.signal.aborted) return;
      this.onerror?.();
      await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
    }
  }

  async #read(reader) {
    let text = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      text += value;
      const events = text.split("\n\n");
      text = events.pop();
      for (const event of events) this.#tell(event);
    }
  }

  #tell(event) {
    const field = (name) => {
      const lines = event.split("\n").filter((line) => line.startsWith(`${name}:`));
      return lines.map((line) => line.slice(name.length + 1).replace(/^ /, "")).join("\n");
    };
    const type = field("event");
    if (type) this.dispatchEvent(new MessageEvent(type, { data: field("data") }));
  }
}
