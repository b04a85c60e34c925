// Fields above, an answer below. Python decides; here it is asked for and shown.
const CSS = "/*style*/";
const WORKING = 100, SILENT = 4000;     // milliseconds

// The address before or after, for the arrow keys; anything that isn't one stays as it is.
const beside = (text, by) => {
  const octets = text.trim().split(".").map(Number);
  if (octets.length !== 4 || octets.some((each) => !(each >= 0 && each <= 255))) return text;
  const next = octets.reduce((sum, each) => sum * 256 + each, 0) + by;
  if (next < 0 || next > 0xffffffff) return text;
  return [24, 16, 8, 0].map((shift) => Math.floor(next / 2 ** shift) % 256).join(".");
};

function render({ model, el }) {
  const host = make("div", "ekslearn-live");
  host.dataset.lmSuppressShortcuts = "true";    // else Jupyter takes letters for commands
  const shadow = host.attachShadow({ mode: "open" });
  const card = make("section", "card");
  card.setAttribute("aria-label", `Route lookup: ${model.get("title")}`);
  const head = make("div", "head");
  head.append(make("div", "title", model.get("title")), make("div", "quiet", model.get("about")));
  const form = make("div", "form");
  form.setAttribute("role", "group");
  form.setAttribute("aria-label", "The packet");
  const fields = {};
  const field = (name, text, node, className = "") => {
    const label = make("label", className);
    label.append(make("span", "", text), node);
    node.dataset.field = name;
    fields[name] = node;
    form.append(label);
  };
  const line = (hint) => Object.assign(make("input"),
    { type: "text", autocomplete: "off", spellcheck: false, placeholder: hint });
  field("destination", "Destination address", line(""));
  field("source", "Source address", line("none yet"));
  field("iif", "Came in by", make("select"));
  field("mark", "Mark", line("0"), "short");
  const said = make("p", "said");
  said.id = "said";
  said.setAttribute("role", "status");
  const body = make("div", "ekslearn-lookup");
  const status = make("p", "quiet status");
  card.append(head, form, said, body, status);
  shadow.append(make("style", "", CSS), card);
  el.append(host);

  const IDLE = "Enter asks. \u2191 \u2193 in an address: the one after, the one before.";
  let asked = 0, waiting = [], sent = "";
  const standing = () => JSON.stringify(Object.values(fields).map((node) => node.value));
  function ask() {
    if (standing() === sent) return;
    sent = standing();
    asked += 1;
    waiting.forEach(clearTimeout);
    waiting = [setTimeout(() => { status.textContent = "working\u2026"; }, WORKING),
      setTimeout(() => { status.textContent =
        "No answer: is the kernel running? Run this cell again."; }, SILENT)];
    host.dataset.busy = "true";
    const values = Object.entries(fields).map(([name, node]) => [name, node.value]);
    model.send({ ...Object.fromEntries(values), serial: asked });
  }
  const custom = (message) => {
    if (message.serial !== asked) return;
    waiting.forEach(clearTimeout);
    delete host.dataset.busy;
    status.textContent = IDLE;
    if (standing() === sent) fill();            // unless somebody is typing on
  };
  function fill() {
    if (host.dataset.busy) return;              // an answer to what isn't asked any more
    const options = [["", "sent from here"], ...model.get("links").map((it) => [it, it])];
    fields.iif.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
    for (const [name, node] of Object.entries(fields)) {
      const value = String(model.get(name));
      node.value = name === "mark" && Number(value) === 0 ? "" : value;
    }
    sent = standing();
  }
  function answer() {
    const [wrong] = model.get("wrong");
    for (const [name, node] of Object.entries(fields)) {
      node.setAttribute("aria-invalid", String(name === wrong));
      if (name === wrong) node.setAttribute("aria-describedby", "said");
      else node.removeAttribute("aria-describedby");
    }
    said.textContent = model.get("said");
    said.className = wrong ? "said wrong" : "said";
    if (!model.get("body")) body.style.minHeight = `${body.offsetHeight}px`;    // nothing jumps
    const open = [...body.querySelectorAll("details")].map((node) => node.open);
    body.innerHTML = model.get("body");         // made by ekslearn.widgets, which escapes texts
    body.querySelectorAll("details").forEach((node, n) => { node.open = Boolean(open[n]); });
    if (model.get("body")) body.style.minHeight = "";
  }
  form.addEventListener("change", ask);
  form.addEventListener("keydown", (event) => {
    event.stopPropagation();
    const { target, key } = event;
    if (target.tagName !== "INPUT") return;
    if (key === "Enter") ask();
    else if ((key === "ArrowUp" || key === "ArrowDown") && target !== fields.mark) {
      target.value = beside(target.value, key === "ArrowUp" ? 1 : -1);
      ask();
    } else return;
    event.preventDefault();
  });
  const watched = [["change:said", answer], ["change:body", answer], ["change:wrong", answer],
    ["change:links", fill], ["msg:custom", custom],
    ...Object.keys(fields).map((name) => [`change:${name}`, fill])];
  watched.forEach(([name, act]) => model.on(name, act));
  fill();
  answer();
  status.textContent = IDLE;
  return () => {
    waiting.forEach(clearTimeout);
    watched.forEach(([name, act]) => model.off(name, act));
  };
}
export default { render };
