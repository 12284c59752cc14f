/**
 * The panel of the session's outputs: recorded, pushed, written or shown as a camera, besides the viewers.
 *
 * In here: its button, the form that starts one, the list with a button to stop each. The button is there once the server
 * says that outputs may be started here. Not in here: the rest of the page (`app.js`), the messages (`client.js`).
 * What servers write reaches the page as text only.
 */

/** By kind: what it is called, and what is asked for besides. */
const KINDS = {
  record: { label: "Recording", field: "name", hint: "Name (optional)" },
  rtmp: { label: "RTMP push", field: "url", hint: "rtmps://server/app/key" },
  srt: { label: "SRT push", field: "url", hint: "srt://server:port" },
  hls: { label: "HLS folder", field: "name", hint: "Name (optional)" },
  v4l2: { label: "Camera", field: null, hint: "" },
};

const STATES = { connecting: "starting", live: "live", retrying: "trying again", ended: "ended", error: "failed" };

const element = (id) => document.getElementById(id);

function labelled(tag, className, text) {
  const node = document.createElement(tag);
  node.className = className;
  node.textContent = text;
  return node;
}

function row(client, output) {
  const item = document.createElement("li");
  item.dataset.state = output.state;
  const what = labelled("b", "", KINDS[output.kind]?.label ?? output.kind);
  const how = labelled("span", "state", STATES[output.state] ?? output.state);
  const target = labelled("span", "target", output.target);
  target.title = output.target;
  const stop = labelled("button", "", output.state === "ended" || output.state === "error" ? "Remove" : "Stop");
  stop.type = "button";
  stop.setAttribute("aria-label", `${stop.textContent}: ${what.textContent} ${output.target}`);
  stop.addEventListener("click", () => {
    stop.disabled = client.stopOutput(output.id);
  });
  item.append(what, how, stop, target);
  if (output.message) item.append(labelled("span", "problem", output.message));
  return item;
}

/** Has the panel follow a client. `opened` is called when it opens; the answer closes it. */
export function outputPanel(client, opened) {
  const [panel, toggle, form, kind, place, list] = ["outputs", "outputs-toggle", "output-form", "output-kind", "output-place", "output-list"].map(element);
  const problem = element("output-problem");
  for (const [value, { label }] of Object.entries(KINDS)) kind.append(new Option(label, value));

  function ask() {
    const { field, hint } = KINDS[kind.value];
    place.hidden = field === null;
    place.required = field === "url";
    place.placeholder = hint;
    place.value = "";
    // A stream key is not for whoever looks over a shoulder.
    place.type = field === "url" ? "password" : "text";
  }

  function show(shown) {
    panel.hidden = !shown;
    toggle.setAttribute("aria-expanded", String(shown));
    if (shown) opened();
  }

  kind.addEventListener("change", ask);
  toggle.addEventListener("click", () => show(panel.hidden));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    problem.textContent = "";
    const { field } = KINDS[kind.value];
    const given = place.value.trim();
    client.startOutput(kind.value, field && given ? { [field]: given } : {});
    place.value = "";
  });
  client.addEventListener("outputs", ({ detail }) => {
    toggle.hidden = false;
    list.replaceChildren(...detail.outputs.map((output) => row(client, output)));
    toggle.classList.toggle("busy", detail.outputs.some(({ state }) => state === "live"));
  });
  client.addEventListener("error", ({ detail }) => {
    if (["bad_output", "output_exists", "outputs_off"].includes(detail.code)) problem.textContent = detail.message;
  });
  ask();
  return () => show(false);
}
