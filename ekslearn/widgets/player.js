// What every widget's browser side begins with: making elements, and stepping through stops.
const SVG = "http://www.w3.org/2000/svg", PAUSE = 1600;      // milliseconds a played step stays

const make = (name, className = "", text = "") => {
  const node = document.createElement(name);
  if (className) node.className = className;
  if (text) node.textContent = text;
  return node;
};
// A text that breaks between words alone: a name keeps its hyphens, an option its dashes.
const worded = (text) => text.split(" ").flatMap((word, n) => [n ? " " : "",
  word.includes("-") ? make("span", "word", word) : word]);
const draw = (name, attributes) => {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
};
const press = (into, text, act, { name = text, className = "" } = {}) => {
  const node = make("button", className, text);
  node.type = "button";
  node.setAttribute("aria-label", name);
  node.addEventListener("click", act);
  into.append(node);
  return node;
};
const hearing = (node, keys, go) => node.addEventListener("keydown", (event) => {
  if (!(event.key in keys) || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  event.stopPropagation();
  go(keys[event.key]());
});

// Things that stand in each other's place and of which one is seen: no step changes the height.
function stacked(className, nodes) {
  const box = make("div", `stack ${className}`);
  for (const node of nodes) {
    const ghost = make("div", "ghost");
    ghost.setAttribute("aria-hidden", "true");
    ghost.append(...node);
    box.append(ghost);
  }
  const voice = make("div");
  voice.setAttribute("aria-live", "polite");
  box.append(voice);
  return { box, voice };
}

// Buttons, a slider and keys for stops that say `words`; `show(now, from)` shows one, `told(now)`
// hears of a learner's step.
function player(host, card, words, start, { group, name, show, told }) {
  const last = words.length - 1;
  let now = Math.min(Math.max(start, 0), last), timer = null;
  const controls = make("div", "steps");
  controls.setAttribute("role", "group");
  controls.setAttribute("aria-label", group);
  const by = (step) => () => { pause(); go(now + step); };
  const back = press(controls, "\u25C0 Back", by(-1), { name: "Back one step" });
  const next = press(controls, "Next \u25B6", by(1), { name: "Next step", className: "main" });
  const play = press(controls, "Play", () => (timer ? pause() : playing()),
    { name: "Play all steps" });
  const label = make("label", "", "Step"), slider = make("input"), where = make("output");
  Object.assign(slider, { type: "range", min: 0, max: last, step: 1 });
  slider.setAttribute("aria-label", name);
  slider.addEventListener("input", () => { pause(); go(Number(slider.value)); });
  label.append(slider, where);
  controls.append(label);

  function turn(from) {
    where.textContent = `${now + 1} of ${last + 1}`;
    slider.value = now;
    slider.setAttribute("aria-valuetext", `${now + 1} of ${last + 1}: ${words[now]}`);
    back.disabled = now === 0;
    next.disabled = now === last;
    play.disabled = last === 0;
    host.dataset.step = now;
    show(now, from);
  }
  function go(to, tell = true) {
    const target = Math.min(Math.max(to, 0), last), from = now;
    if (target === now) return;
    now = target;
    turn(from);
    const held = host.shadowRoot.activeElement;   // a button that has just gone grey hears no keys
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
    }, PAUSE);
  }
  hearing(card, { ArrowRight: () => now + 1, ArrowUp: () => now + 1, ArrowLeft: () => now - 1,
    ArrowDown: () => now - 1, Home: () => 0, End: () => last }, (to) => { pause(); go(to); });
  return { controls, begin: () => turn(now), pause, go: (to) => { pause(); go(to); },
    follow: (to) => { pause(); go(to, false); } };
}
