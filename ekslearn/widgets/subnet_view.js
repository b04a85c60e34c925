// A subnet as a bitmap. Everything arrives once; moving about and finding a free block happen here.
const CSS = "/*style*/";
const INK = "#000", MUTED = "#767676", CHOSEN = "#0072b2", PACKET = "#d55e00";
const ENI = "#56b4e9", PICKED = "#f0e442", GUTTER = 104, GAP = 4, TOP = 7;

const dotted = (number) => [24, 16, 8, 0].map((bit) => (number >>> bit) & 255).join(".");
const numbered = (text) => {
  const parts = text.trim().split(".");
  if (parts.length !== 4 || parts.some((part) => !/^\d{1,3}$/.test(part) || Number(part) > 255))
    return null;
  return parts.reduce((sum, part) => sum * 256 + Number(part), 0);
};

// One address: each kind has a fill and a figure of its own, so that no hue is needed.
function cell(pen, kind, x, y, size) {
  const big = size >= 8, grey = big ? "#d9d9d9" : MUTED;
  const open = size >= 5 ? "#fff" : kind === "." ? "#efefef" : "#c4c4c4";
  const fill = { r: grey, P: ENI, s: ENI, x: PICKED, t: grey }[kind] || open;
  pen.fillStyle = fill;
  pen.fillRect(x, y, size, size);
  pen.strokeStyle = ".pe".includes(kind) ? "#b5b5b5" : INK;
  pen.lineWidth = 1;
  if (size >= 5) pen.strokeRect(x + 0.5, y + 0.5, size - 1, size - 1);
  const line = (...points) => {
    pen.beginPath();
    points.forEach(([a, b], n) => (n % 2 ? pen.lineTo(x + a * size, y + b * size)
      : pen.moveTo(x + a * size, y + b * size)));
    pen.stroke();
  };
  pen.strokeStyle = INK;
  if (kind === "r" && big) line([0.2, 0.2], [0.8, 0.8], [0.8, 0.2], [0.2, 0.8]);
  if (kind === "x" && big) line([0.15, 0.85], [0.85, 0.15]);
  if (kind === "p" && size >= 5) line([0.25, 0.75], [0.75, 0.25]);
  if (kind === "e" && size >= 5) line([0.3, 0.5], [0.7, 0.5]);
  if (kind === "P") {
    pen.fillStyle = INK;
    const dot = Math.max(2, size * 0.36);
    pen.fillRect(x + (size - dot) / 2, y + (size - dot) / 2, dot, dot);
  }
}

function mount(host, data, start, told) {
  host.dataset.lmSuppressShortcuts = "true";
  const shadow = host.shadowRoot || host.attachShadow({ mode: "open" });
  const card = make("section", "card");
  card.setAttribute("aria-label", data.label);
  const size = data.letters.length, block = data.block;
  const words = Object.fromEntries(data.kinds.map(([kind, , , text]) => [kind, text]));
  const free = new Set(data.blocks);
  let now = Math.min(Math.max(start, 0), size - 1);

  const head = make("div", "head");
  head.append(make("div", "title", data.title), make("div", "quiet", data.about));
  const room = make("p", "room", data.room);

  const controls = make("div", "controls");
  controls.setAttribute("role", "group");
  controls.setAttribute("aria-label", "Finding addresses");
  const onward = (fits) => {            // the next place that fits, or the first one again
    for (let step = 1; step <= size; step += 1)
      if (fits((now + step) % size)) return go((now + step) % size);
    return undefined;
  };
  const seek = press(controls, "Next free /28", () => {
    tick.checked = true;
    onward((n) => free.has(n));
  }, { className: "main" });
  seek.disabled = free.size === 0;
  const taken = (n) => !".per".includes(data.letters[n]);
  press(controls, "Next taken address", () => onward(taken)).disabled = ![...data.letters]
    .some((_, n) => taken(n));
  const ticking = make("label", "tick"), tick = make("input");
  tick.type = "checkbox";
  tick.addEventListener("change", () => paint());
  ticking.append(tick, "Show every free /28");
  const field = make("label", "", "Go to address"), goal = make("input");
  Object.assign(goal, { type: "text", spellcheck: false, autocomplete: "off" });
  goal.addEventListener("keydown", (event) => {
    event.stopPropagation();
    if (event.key !== "Enter") return;
    const found = numbered(goal.value), there = found === null ? -1 : found - data.base;
    const good = there >= 0 && there < size;
    goal.setAttribute("aria-invalid", String(!good));
    if (good) go(there); else sentence.textContent = found === null
      ? `"${goal.value.slice(0, 40)}" isn't an IPv4 address.`
      : `${dotted(found)} isn't in this subnet.`;
  });
  field.append(goal);
  controls.append(ticking, field);

  const map = make("div", "map"), canvas = make("canvas");
  map.tabIndex = 0;
  map.setAttribute("role", "slider");
  map.setAttribute("aria-label", data.label);
  map.setAttribute("aria-valuemin", 0);
  map.setAttribute("aria-valuemax", size - 1);
  canvas.setAttribute("aria-hidden", "true");
  map.append(canvas);
  const sentence = make("div", "sentence");
  sentence.setAttribute("aria-live", "polite");

  const key = make("ul", "key");
  for (const [kind, text, count] of data.kinds) {
    const item = make("li"), sample = make("canvas");
    const scale = window.devicePixelRatio || 1;
    sample.width = sample.height = 16 * scale;
    sample.style.width = sample.style.height = "16px";
    const pen = sample.getContext("2d");
    pen.scale(scale, scale);
    cell(pen, kind, 0, 0, 16);
    sample.setAttribute("aria-hidden", "true");
    item.append(sample, make("b", "", String(count)), make("span", "", text));
    key.append(item);
  }
  card.append(head, room, controls, sentence, map, key, make("p", "quiet help",
    "Keys: arrows one address or one row, Page Up and Page Down one /28, Home and End."));
  shadow.replaceChildren(make("style", "", CSS), card);

  const across = block * Math.min(16, 2 ** Math.max(0, Math.floor((Math.log2(size) - 6) / 2)));
  let unit = 10;
  const place = (n) => {
    const column = n % across, row = Math.floor(n / across);
    return [GUTTER + column * unit + Math.floor(column / block) * GAP, row * (unit + (unit > 6))];
  };
  const rowHeight = () => unit + (unit > 6);
  function paint() {
    const width = map.clientWidth;
    if (!width) return;
    const gaps = (across / block - 1) * GAP;
    unit = Math.max(2, Math.min(24, Math.floor((width - GUTTER - gaps - 4) / across)));
    const rows = Math.ceil(size / across), scale = window.devicePixelRatio || 1;
    const height = rows * rowHeight() + TOP + 4;
    Object.assign(canvas, { width: width * scale, height: height * scale });
    Object.assign(canvas.style, { width: `${width}px`, height: `${height}px` });
    const pen = canvas.getContext("2d");
    pen.scale(scale, scale);
    pen.translate(2, TOP);
    pen.font = "12px ui-monospace, 'Cascadia Mono', Menlo, Consolas, monospace";
    pen.textBaseline = "middle";
    const every = Math.ceil(14 / rowHeight());
    for (let row = 0; row < rows; row += every) {
      pen.fillStyle = "#5c5c5c";
      pen.fillText(dotted(data.base + row * across), 0, row * rowHeight() + unit / 2);
    }
    for (let n = 0; n < size; n += 1) cell(pen, data.letters[n], ...place(n), unit);
    const frame = (from, count, colour, thick) => {
      const [x, y] = place(from), long = Math.min(count, across) * unit;
      pen.strokeStyle = colour;
      pen.lineWidth = thick;
      pen.strokeRect(x, y, long, unit);
    };
    if (tick.checked) data.blocks.forEach((at) => frame(at, block, CHOSEN, unit > 6 ? 3 : 1.5));
    frame(now - (now % block), block, INK, unit > 6 ? 2 : 1);
    frame(now, 1, PACKET, unit > 6 ? 4 : 2.5);
  }
  function show() {
    const from = now - (now % block), part = data.letters.slice(from, from + block);
    const open = [...part].filter((kind) => ".pe".includes(kind)).length;
    const owner = data.owners[now] ? `, ${data.owners[now]}` : "";
    const whole = free.has(from) ? "wholly free" : `${open} of ${block} free`;
    const text = `${dotted(data.base + now)}: ${words[data.letters[now]]}${owner}. `
      + `Its /28, ${dotted(data.base + from)}/${data.length}: ${whole}.`;
    sentence.textContent = text;
    map.setAttribute("aria-valuenow", now);
    map.setAttribute("aria-valuetext", text);
    host.dataset.step = now;
    paint();
  }
  function go(to) {
    goal.removeAttribute("aria-invalid");
    now = Math.min(Math.max(to, 0), size - 1);
    show();
    told(now);
  }
  const keys = { ArrowRight: () => now + 1, ArrowLeft: () => now - 1,
    ArrowDown: () => (now + across < size ? now + across : now),
    ArrowUp: () => (now >= across ? now - across : now),
    PageDown: () => now - (now % block) + block, PageUp: () => now - (now % block) - block,
    Home: () => 0, End: () => size - 1 };
  hearing(map, keys, go);
  canvas.addEventListener("click", (event) => {
    const box = canvas.getBoundingClientRect();
    const x = event.clientX - box.left - 2 - GUTTER, y = event.clientY - box.top - TOP;
    const wide = block * unit + GAP, column = Math.floor(x / wide) * block
      + Math.min(block - 1, Math.floor((x % wide) / unit));
    const found = Math.floor(y / rowHeight()) * across + column;
    if (x >= 0 && column < across && found < size) go(found);
    map.focus();
  });
  show();
  const watch = new ResizeObserver(() => paint());
  watch.observe(map);
  return { go: (to) => { if (to !== now) go(to); }, stop: () => watch.disconnect() };
}

function render({ model, el }) {
  const host = make("div", "ekslearn-live");
  el.append(host);
  const told = (at) => { model.set("at", at); model.save_changes(); };
  let showing = mount(host, model.get("map_data"), model.get("at"), told);
  const renew = () => {
    showing.stop();
    showing = mount(host, model.get("map_data"), model.get("at"), told);
  };
  const follow = () => showing.go(model.get("at"));
  model.on("change:map_data", renew);
  model.on("change:at", follow);
  return () => {
    showing.stop();
    model.off("change:map_data", renew);
    model.off("change:at", follow);
  };
}
export default { render };
