// The player of a pool's film. All frames arrive once; stepping happens here alone. Only the
// buttons of a live view ask Python, which makes more frames.
const CSS = "/*style*/";

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
  const frames = data.frames;

  const head = make("div", "head");
  head.append(make("div", "title", data.title), make("div", "quiet", data.about));
  const says = stacked("says", frames.map((frame) => [make("div", "sentence", frame.words)]));
  const sentence = make("div", "sentence");
  says.voice.append(sentence);
  const playing = player(host, card, frames.map((frame) => frame.words), start,
    { group: "Stepping through time", name: "Step in time", show, told });

  const plot = chart(frames, playing.go);
  const rows = make("div", "rows-of-slots"), numbers = make("dl", "numbers");
  const pending = make("div"), decisions = make("div", "decisions");
  card.append(head, says.box, playing.controls);
  if (ask) card.append(asking());
  if (frames.length > 1) card.append(plot.node);
  card.append(rows, numbers, pending, decisions);
  card.append(make("p", "quiet help", "Keys: \u2190 \u2192 one step, Home and End to either end. "
    + "A slot with a thick frame has just changed."));
  shadow.replaceChildren(make("style", "", CSS), card);

  function asking() {
    const box = make("div", "more");
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", "What happens next");
    press(box, "Create a pod", () => ask("create 1"));
    press(box, "Create 5", () => ask("create 5"), { name: "Create five pods" });
    press(box, "Delete a pod", () => ask("delete 1"), { name: "Delete the youngest pod" });
    press(box, "Wait 5 s", () => ask("sleep 5"), { name: "Wait five seconds", className: "main" });
    press(box, "Wait 60 s", () => ask("sleep 60"), { name: "Wait sixty seconds" });
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
    press(settings, "Set", change, { name: "Set these and restart aws-node" });
    box.append(settings);
    const wrong = make("div", "wrong", data.wrong || "");
    wrong.setAttribute("role", "alert");
    box.append(wrong);
    return box;
  }

  function show(now) {
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
  }
  playing.begin();
  return playing;
}

function render({ model, el }) {
  const host = make("div", "ekslearn-live");
  el.append(host);
  const told = (step) => { model.set("step", step); model.save_changes(); };
  let serial = 0, showing = null;
  const ask = (line) => { serial += 1; model.send({ serial, line }); };
  const renew = () => {
    const held = host.shadowRoot && host.shadowRoot.activeElement;
    const name = held && held.getAttribute("aria-label");
    if (showing) showing.pause();
    const data = { ...model.get("film_data"), wrong: model.get("wrong") };
    showing = mount(host, data, model.get("step"), told, data.live ? ask : null);
    const again = name && host.shadowRoot.querySelector(`[aria-label="${name}"]`);
    if (again) again.focus();
  };
  const follow = () => showing.follow(model.get("step"));
  renew();
  model.on("change:film_data", renew);
  model.on("change:wrong", renew);
  model.on("change:step", follow);
  return () => {
    showing.pause();
    model.off("change:film_data", renew);
    model.off("change:wrong", renew);
    model.off("change:step", follow);
  };
}
export default { render };
