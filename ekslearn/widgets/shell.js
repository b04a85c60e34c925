// A terminal on any place of a lab. Python runs the lines; here they are typed and shown.
const CSS = "/*style*/";
const WORKING = 100, SILENT = 4000;     // milliseconds


function shown(entry) {
  const box = make("div", "entry");
  if (entry.line) box.append(make("pre", "typed", `${entry.place}$ ${entry.line}`));
  if (entry.stdout) box.append(make("pre", "", entry.stdout));
  if (entry.status) {
    const failed = make("div", "failed");
    if (entry.stderr) failed.append(make("pre", "", entry.stderr));
    failed.append(make("div", "changed", `exit status ${entry.status}`));
    box.append(failed);
  } else if (entry.stderr) box.append(make("pre", "", entry.stderr));
  for (const change of entry.changed) {
    box.append(make("div", "changed", change.words));
    const diff = make("div", "diff");
    for (const [sign, row] of change.rows) diff.append(make("pre", "", `${sign} ${row}`));
    box.append(diff);
  }
  for (const words of entry.notes) box.append(make("div", "follows", words));
  return box;
}

function render({ model, el }) {
  const host = make("div", "ekslearn-live");
  host.dataset.lmSuppressShortcuts = "true";    // else Jupyter takes letters for commands
  const shadow = host.attachShadow({ mode: "open" });
  const card = make("section", model.get("compact") ? "card compact" : "card");
  card.setAttribute("aria-label", `Terminal, ${model.get("title")}`);
  const head = make("div", "head"), tools = make("div", "tools");
  const place = make("select");
  for (const name of model.get("places")) place.append(new Option(name, name));
  const on = make("label", "", "Place");
  on.append(place);
  tools.append(on);
  const undo = press(tools, "Undo", () => ask({ do: "undo" }),
    { name: "Undo the last command" });
  const reset = press(tools, "Reset", () => ask({ do: "reset" }), { name: "Undo every command" });
  const share = press(tools, "Share", () => {
    if (panel.hidden) ask({ do: "share" });
    panel.hidden = !panel.hidden;
    share.setAttribute("aria-expanded", String(!panel.hidden));
  }, { name: "Share this state as text" });
  share.setAttribute("aria-expanded", "false");
  head.append(make("div", "title", "Terminal"), make("div", "quiet", model.get("title")), tools);

  const log = make("div", "log");
  log.tabIndex = 0;
  log.setAttribute("role", "log");
  log.setAttribute("aria-label", "What was typed and what came of it");
  const prompt = make("div", "prompt");
  const sign = make("label"), input = make("input");
  Object.assign(input, { type: "text", id: "line", autocomplete: "off", spellcheck: false });
  input.setAttribute("autocapitalize", "off");
  sign.htmlFor = "line";
  prompt.append(sign, input);
  const status = make("p", "quiet status");
  status.setAttribute("role", "status");
  const panel = make("div", "share");
  panel.hidden = true;
  const text = make("textarea"), caption = make("label", "quiet",
    "The scenario and every command so far; ekslearn.load() of this text brings it all back.");
  text.readOnly = true;
  text.id = "shared";
  caption.htmlFor = "shared";
  panel.append(caption, text);
  press(panel, "Copy", async () => {
    text.select();
    try { await navigator.clipboard.writeText(text.value); } catch { document.execCommand("copy"); }
    say("Copied.");
  });
  card.append(head, log, prompt, status, panel);
  shadow.append(make("style", "", CSS), card);
  el.append(host);

  const IDLE = "Enter runs, \u2191 \u2193 earlier lines, Tab completes, Shift+Tab leaves.";
  const say = (words) => { status.textContent = words; };
  let waiting = [], asked = 0, typed = [], at = 0, tabbed = null;
  function ask(what) {
    asked += 1;
    waiting.forEach(clearTimeout);
    waiting = [setTimeout(() => say("working\u2026"), WORKING),
      setTimeout(() => say("No answer: is the kernel running? Run this cell again."), SILENT)];
    host.dataset.busy = "true";
    model.send({ ...what, place: place.value, serial: asked });
  }
  function answered(words = IDLE) {
    waiting.forEach(clearTimeout);
    delete host.dataset.busy;
    say(words);
  }
  function fill() {
    const entries = model.get("entries");
    log.replaceChildren(...entries.map(shown));
    if (!entries.length)
      log.append(make("div", "quiet", "Type a command, for instance:  ip route"));
    log.scrollTop = log.scrollHeight;
    undo.disabled = reset.disabled = model.get("depth") === 0;
    typed = entries.filter((entry) => entry.line).map((entry) => entry.line);
    at = typed.length;
  }
  function turn() {
    place.value = model.get("place");
    sign.textContent = `${model.get("place")}$ `;
    input.setAttribute("aria-label", `Command line on ${model.get("place")}`);
  }
  function offered({ options, text: before }) {
    if (before !== input.value) return;
    const start = before.lastIndexOf(" ") + 1, last = before.slice(start);
    if (!options.length) return say("Nothing completes this.");
    let common = options[0];
    for (const option of options)
      while (!option.startsWith(common)) common = common.slice(0, -1);
    if (options.length === 1) {
      input.value = `${before.slice(0, start)}${options[0]} `;
      return say(IDLE);
    }
    if (common.length > last.length) input.value = before.slice(0, start) + common;
    say(options.join("   "));
  }
  const custom = (message) => {
    if (message.serial !== asked) return;
    answered();
    if (message.options) offered(message);
    if (message.shared !== undefined) text.value = message.shared;
  };
  input.addEventListener("keydown", (event) => {
    event.stopPropagation();
    if (event.key === "Enter" && input.value.trim()) {
      ask({ do: "run", line: input.value });
      input.value = "";
    } else if (event.key === "ArrowUp" || event.key === "ArrowDown") {
      at = Math.min(Math.max(at + (event.key === "ArrowUp" ? -1 : 1), 0), typed.length);
      input.value = typed[at] ?? "";
    } else if (event.key === "Tab" && !event.shiftKey && input.value && tabbed !== input.value) {
      tabbed = input.value;                     // a second Tab in a row moves on as usual
      ask({ do: "complete", text: input.value });
    } else return;
    event.preventDefault();
  });
  place.addEventListener("change", () => {
    model.set("place", place.value);
    model.save_changes();
  });
  model.on("change:entries", fill);
  model.on("change:depth", fill);
  model.on("change:place", turn);
  model.on("msg:custom", custom);
  fill();
  turn();
  say(IDLE);
  return () => {
    waiting.forEach(clearTimeout);
    model.off("change:entries", fill);
    model.off("change:depth", fill);
    model.off("change:place", turn);
    model.off("msg:custom", custom);
  };
}
export default { render };
