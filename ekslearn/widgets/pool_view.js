// The player of a pool's film. All frames arrive once; stepping happens here alone. Only the
// buttons of a live view ask Python, which makes more frames.
const CSS = "/*style*/";
const SVG = "http://www.w3.org/2000/svg";

const make = (name, className = "", text = "") => {
  const node = document.createElement(name);
  if (className) node.className = className;
  if (text) node.textContent = text;
  return node;
};
const draw = (name, attributes, text = "") => {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text) node.textContent = text;
  return node;
};

function slot(one, before) {
  const node = make("li", `slot ${one.kind}`);
  if (before && before.kind !== one.kind) node.classList.add("new");
  node.append(make("b", "", one.address || "\u00a0"));
  if (one.cells) {
    const cells = make("div", "cells");
    cells.setAttribute("role", "img");
    cells.setAttribute("aria-label", one.cells.map((cell) => cell.words).join(", "));
    one.cells.forEach((cell) => {
      const box = make("div", `cell ${cell.kind}`);
      box.title = cell.words;
      cells.append(box);
    });
    node.append(cells);
  }
  const said = make("span", "", one.said);
  said.title = one.words;
  node.append(said);
  return node;
}

function decision(one) {
  const box = make("div");
  box.append(make("h4", "", one.head));
  const list = make("ul");
  for (const [name, holds, words] of one.checks) {
    const row = make("li", holds ? "holds" : "");
    row.append(make("b", "", holds ? "yes" : "no"), `${name}: ${words}`);
    list.append(row);
  }
  const lines = one.did.map((text) => ["did", text]);
  if (one.calls.length) lines.push(["EC2", one.calls.join(", ")]);
  if (!one.checks.length && !lines.length) lines.push(["", "nothing to do"]);
  for (const [head, text] of lines) {
    const row = make("li");
    row.append(make("b", "", head), text);
    list.append(row);
  }
  box.append(list);
  return box;
}

function chart(frames, go) {
  const box = make("div", "plot");
  const node = draw("svg", { class: "chart", viewBox: "0 0 600 84", "aria-hidden": "true",
    preserveAspectRatio: "none" });
  const end = Math.max(1, frames[frames.length - 1].until);
  const count = (frame, name) => frame.numbers.find(([key]) => key === name)[1];
  const most = Math.max(1, ...frames.map((frame) => count(frame, "TotalIPs")));
  const x = (time) => 3 + (time / end) * 594, y = (value) => 80 - (value / most) * 74;
  const line = (attributes) => {
    const path = draw("path", { ...attributes, "vector-effect": "non-scaling-stroke" });
    node.append(path);
    return path;
  };
  line({ class: "axis", d: "M3 80H597" });
  const legend = make("div", "legend"), values = {};
  const names = { total: "TotalIPs", assigned: "AssignedIPs", cooling: "CooldownIPs" };
  for (const [kind, name] of Object.entries(names)) {
    let way = "";
    frames.forEach((frame) => {
      const value = y(count(frame, name));
      way += way ? `H${x(frame.time)}V${value}H${x(frame.until)}`
        : `M${x(0)} ${value}H${x(frame.until)}`;
    });
    line({ class: kind, d: way });
    const item = make("div", kind, name);
    values[name] = make("b");
    item.append(values[name]);
    legend.append(item);
  }
  const cursor = line({ class: "cursor", d: "" });
  node.addEventListener("click", (event) => {
    const at = node.getBoundingClientRect();
    const time = ((event.clientX - at.left) * 600 / at.width - 3) * end / 594;
    const found = frames.findIndex((frame) => frame.until >= time);
    go(found < 0 ? frames.length - 1 : found);
  });
  const ends = make("div", "ends");
  ends.append(make("span", "", "0 s"), make("span", "", `${end} s`));
  const left = make("div", "lines");
  left.append(node, ends);
  box.append(left, legend);
  const show = (frame) => {
    cursor.setAttribute("d", `M${x(frame.until)} 2V80`);
    for (const [name, value] of Object.entries(values))
      value.textContent = ` ${count(frame, name)}`;
  };
  return { node: box, show };
}

function mount(host, data, start, told, ask = null) {
  host.dataset.lmSuppressShortcuts = "true";
  const shadow = host.shadowRoot || host.attachShadow({ mode: "open" });
  const card = make("section", "card");
  card.setAttribute("aria-label", data.title);
  const frames = data.frames, last = frames.length - 1;
  let now = Math.min(Math.max(start, 0), last), timer = null;

  const head = make("div", "head");
  head.append(make("div", "title", data.title), make("div", "quiet", data.about));
  const says = make("div", "says"), sentence = make("div", "sentence");
  says.setAttribute("aria-live", "polite");
  says.append(sentence);

  const controls = make("div", "controls");
  controls.setAttribute("role", "group");
  controls.setAttribute("aria-label", "Stepping through time");
  const button = (text, name, act, className = "", into = controls) => {
    const node = make("button", className, text);
    node.type = "button";
    node.setAttribute("aria-label", name);
    node.addEventListener("click", act);
    into.append(node);
    return node;
  };
  const back = button("\u25C0 Back", "Back one step", () => { pause(); go(now - 1); });
  const next = button("Next \u25B6", "Next step", () => { pause(); go(now + 1); }, "main");
  const play = button("Play", "Play all steps", () => (timer ? pause() : playing()));
  const label = make("label", "", "Step"), slider = make("input"), where = make("output");
  Object.assign(slider, { type: "range", min: 0, max: last, step: 1 });
  slider.setAttribute("aria-label", "Step in time");
  label.append(slider, where);
  controls.append(label);

  const plot = chart(frames, (to) => { pause(); go(to); });
  const rows = make("div", "rows-of-slots"), numbers = make("dl", "numbers");
  const pending = make("div"), decisions = make("div", "decisions");
  card.append(head, says, controls);
  if (ask) card.append(asking());
  if (last > 0) card.append(plot.node);
  card.append(rows, numbers, pending, decisions);
  card.append(make("p", "quiet help", "Keys: \u2190 \u2192 one step, Home and End to either end. "
    + "A slot with a thick frame has just changed."));
  shadow.replaceChildren(make("style", "", CSS), card);

  function asking() {
    const box = make("div", "more");
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", "What happens next");
    button("Create a pod", "Create a pod", () => ask("create 1"), "", box);
    button("Create 5", "Create five pods", () => ask("create 5"), "", box);
    button("Delete a pod", "Delete the youngest pod", () => ask("delete 1"), "", box);
    button("Wait 5 s", "Wait five seconds", () => ask("sleep 5"), "main", box);
    button("Wait 60 s", "Wait sixty seconds", () => ask("sleep 60"), "", box);
    const fields = {}, settings = make("div", "settings");
    host.typed = host.typed || {};      // what was typed and isn't set yet outlives a new frame
    for (const [name, value] of Object.entries(data.settings)) {
      const field = make("label", "", name), input = make("input");
      if (host.typed[name] === String(value)) delete host.typed[name];
      Object.assign(input, { type: "text", inputMode: "numeric",
        value: host.typed[name] === undefined ? value : host.typed[name] });
      input.addEventListener("input", () => { host.typed[name] = input.value; });
      input.addEventListener("keydown", (event) => {
        event.stopPropagation();
        if (event.key === "Enter") change();
      });
      fields[name] = input;
      field.append(input);
      settings.append(field);
    }
    const change = () => {
      const changed = Object.entries(fields)
        .filter(([name, input]) => input.value.trim() !== String(data.settings[name]))
        .map(([name, input]) => `${name}=${input.value.trim()}`);
      if (changed.length) ask(`set ${changed.join(" ")}`);
    };
    button("Set", "Set these and restart aws-node", change, "", settings);
    box.append(settings);
    const wrong = make("div", "wrong", data.wrong || "");
    wrong.setAttribute("role", "alert");
    box.append(wrong);
    return box;
  }

  function show() {
    const frame = frames[now], before = now ? frames[now - 1] : null;
    sentence.textContent = frame.words;
    rows.replaceChildren(...frame.rows.flatMap((row) => {
      const list = make("ul", "slots");
      const old = before && before.rows.find((other) => other.title === row.title);
      list.setAttribute("aria-label", row.title);
      list.append(...row.slots.map((one, n) => slot(one, before
        && (old ? old.slots.find((other) => other.address === one.address && one.address)
          || old.slots[n] : { kind: "" }))));
      return [make("div", "rowtitle", row.title), list];
    }));
    numbers.replaceChildren(...frame.numbers.map(([name, value]) => {
      const pair = make("div");
      pair.append(make("dt", "", name), make("dd", "", String(value)));
      return pair;
    }));
    pending.replaceChildren(...frame.pending.map((text) => make("p", "pending", text)));
    decisions.replaceChildren(...frame.decisions.map(decision));
    plot.show(frame);
    where.textContent = `${now + 1} of ${last + 1}`;
    slider.value = now;
    slider.setAttribute("aria-valuetext", `${now + 1} of ${last + 1}: ${frame.words}`);
    back.disabled = now === 0;
    next.disabled = now === last;
    host.dataset.step = now;
  }
  function go(to, tell = true) {
    const target = Math.min(Math.max(to, 0), last);
    if (target === now) return;
    now = target;
    show();
    const held = shadow.activeElement;      // a button that has just gone grey hears no keys
    if (held && held.disabled) slider.focus();
    if (tell) told(now);
  }
  function pause() {
    clearInterval(timer);
    timer = null;
    play.textContent = "Play";
    play.setAttribute("aria-label", "Play all steps");
  }
  function playing() {
    if (now === last) go(0);
    play.textContent = "Pause";
    play.setAttribute("aria-label", "Pause");
    timer = setInterval(() => {
      if (now === last || !host.isConnected) pause(); else go(now + 1);
      if (now === last) pause();
    }, 1600);
  }
  slider.addEventListener("input", () => { pause(); go(Number(slider.value)); });
  const keys = { ArrowRight: () => now + 1, ArrowUp: () => now + 1, ArrowLeft: () => now - 1,
    ArrowDown: () => now - 1, Home: () => 0, End: () => last };
  card.addEventListener("keydown", (event) => {
    if (!(event.key in keys) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    pause();
    go(keys[event.key]());
  });
  show();
  // Python's own step may be one of a film that is only just arriving: it isn't told of another.
  return { go: (to) => { pause(); go(to, false); }, stop: pause };
}

function render({ model, el }) {
  const host = make("div", "ekslearn-live");
  el.append(host);
  const told = (step) => { model.set("step", step); model.save_changes(); };
  let serial = 0, player = null;
  const ask = (line) => { serial += 1; model.send({ serial, line }); };
  const renew = () => {
    const held = host.shadowRoot && host.shadowRoot.activeElement;
    const name = held && held.getAttribute("aria-label");
    if (player) player.stop();
    const data = { ...model.get("film_data"), wrong: model.get("wrong") };
    player = mount(host, data, model.get("step"), told, data.live ? ask : null);
    const again = name && host.shadowRoot.querySelector(`[aria-label="${name}"]`);
    if (again) again.focus();
  };
  const follow = () => player.go(model.get("step"));
  renew();
  model.on("change:film_data", renew);
  model.on("change:wrong", renew);
  model.on("change:step", follow);
  return () => {
    player.stop();
    model.off("change:film_data", renew);
    model.off("change:wrong", renew);
    model.off("change:step", follow);
  };
}
export default { render };
