// The player of a packet's walk. All steps arrive once; stepping happens here alone: it switches
// classes and one transform on marks that already exist, and redraws nothing.
const CSS = "/*style*/";

const line = (points) => points.map(([x, y], n) => `${n ? "L" : "M"}${x} ${y}`).join("");
const spot = ([x, y]) => `translate(${x}px, ${y}px)`;

function panel(stop) {
  const panel = make("div", "panel"), box = make("div", "decides");
  panel.append(make("p", "cap", stop.caption), box);
  if (stop.rows.length) {
    const rows = make("div", "rows");
    rows.setAttribute("role", "list");
    stop.rows.forEach((text, n) => {
      const row = make("div", n === stop.lit ? "row lit" : "row");
      row.append(...worded(text));
      row.setAttribute("role", "listitem");
      if (n === stop.lit) {
        row.setAttribute("aria-current", "true");
        row.setAttribute("aria-label", `decides: ${text}`);
      }
      rows.append(row);
    });
    box.append(rows);
  }
  if (stop.others.length) {
    const rest = make("details"), rows = make("div", "rows");
    rest.append(make("summary", "", `Other chains of this table (${stop.others.length} rows)`));
    stop.others.forEach((text) => {
      rows.append(make("div", "row"));
      rows.lastChild.append(...worded(text));
    });
    rest.append(rows);
    box.append(rest);
  }
  if (stop.note) box.append(make("p", "note", stop.note));
  if (stop.passed_over.length) {
    const more = make("details");
    more.append(make("summary", "", `Passed over, and why (${stop.passed_over.length})`));
    const list = make("ul");
    stop.passed_over.forEach((text) => list.append(make("li", "", text)));
    more.append(list);
    box.append(more);
  }
  const head = make("dl", "packet-head");
  for (const [field, old, value] of stop.header) {
    const shown = make("dd");
    if (old) {
      shown.append(make("span", "", `${old} \u2192 `), make("span", "new", value),
        make("span", "why", " changed"));
    } else shown.textContent = value;
    head.append(make("dt", "", field), shown);
  }
  panel.append(head);
  return panel;
}

function mount(host, walk, start, told, live = false) {
  host.dataset.lmSuppressShortcuts = "true";
  const shadow = host.shadowRoot || host.attachShadow({ mode: "open" });
  const style = make("style", "", CSS);
  const card = make("section", live ? "card live" : "card");
  card.setAttribute("aria-label", walk.label);
  const last = walk.stops.length - 1;

  const head = make("div", "head");
  head.append(make("div", "title", walk.title), make("div", "quiet", walk.about));
  const verdict = make("div", "verdict", walk.verdict);
  head.append(verdict);

  const says = stacked("says", walk.stops.map((stop) => [
    make("div", "leg", stop.leg_words), make("div", "sentence", stop.words)]));
  const leg = make("div"), sentence = make("div", "sentence");
  says.voice.append(leg, sentence);
  const playing = player(host, card, walk.stops.map((stop) => stop.words), start,
    { group: "Stepping", name: "Step of the walk", show, told });

  const stage = make("div", "stage"), picture = make("div", "picture"), side = make("div", "side");
  picture.innerHTML = walk.svg;         // made by ekslearn.draw, which escapes every text
  picture.style.flexBasis = `${walk.least}px`;
  picture.style.maxWidth = `${walk.width}px`;
  const svg = picture.querySelector("svg");
  svg.style.minWidth = `${walk.least}px`;       // its smallest text stays readable
  const ways = walk.stops.map((stop) => {
    const way = draw("path", { d: line(stop.way), class: `way ${stop.leg}` });
    svg.append(way);
    return way;
  });
  const packet = draw("g", { class: "packet", id: "packet" });
  const tag = draw("text", { x: 0, y: 0 }), lead = draw("line", {});
  packet.append(lead, draw("path", { d: "M0-11L11 0L0 11L-11 0Z" }), tag);
  svg.append(packet);
  const marks = walk.stops.map((stop) => stop.marks
    .map((id) => svg.querySelector(`[id="${CSS_escape(id)}"]`)).filter(Boolean));

  const stack = make("div", "stack");
  const panels = walk.stops.map(panel);
  stack.append(...panels);
  side.append(stack);
  stage.append(picture, side);
  const help = make("p", "quiet help", "Keys: \u2190 \u2192 one step, Home and End to either end."
    + " Solid line: request. Dashed line: reply.");
  card.append(head, says.box, playing.controls, stage, help);
  shadow.replaceChildren(style, card);

  const still = () => window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  function move(from, to) {
    const end = walk.stops[to].at;
    packet.getAnimations().forEach((running) => running.cancel());
    packet.style.transform = spot(end);
    if (Math.abs(to - from) !== 1 || still()) return;
    const way = to > from ? walk.stops[to].way : [...walk.stops[from].way].reverse();
    if (way.length < 2) return;
    const far = [0];
    for (let n = 1; n < way.length; n += 1)
      far.push(far[n - 1] + Math.hypot(way[n][0] - way[n - 1][0], way[n][1] - way[n - 1][1]));
    const total = far[far.length - 1] || 1;
    packet.animate(way.map((point, n) => ({ transform: spot(point), offset: far[n] / total })),
      { duration: Math.min(240 + total * 1.2, 620), easing: "ease-in-out" });
  }
  // What is too wide or too long for its frame is scrolled to where things happen.
  function reveal(now) {
    const stop = walk.stops[now];
    const reach = (node, name) => {
      if (node.scrollWidth <= node.clientWidth + 1 && node.scrollHeight <= node.clientHeight + 1)
        return node.removeAttribute("tabindex");
      node.tabIndex = 0;
      return node.setAttribute("aria-label", name);
    };
    const scale = svg.clientWidth / walk.width, [x, y] = stop.at.map((each) => each * scale);
    picture.scrollLeft = x - picture.clientWidth / 2;
    const tall = picture.clientHeight, edge = Math.min(90, tall / 4);     // a tall map follows it
    if (y < picture.scrollTop + edge || y > picture.scrollTop + tall - edge)
      picture.scrollTo({ top: y - tall / 2, behavior: still() ? "auto" : "smooth" });
    reach(picture, "Picture");
    reach(panels[now], "This step");
    const rows = panels[now].querySelector(".rows"), lit = panels[now].querySelector(".lit");
    if (rows) reach(rows, "The listing");
    if (lit) rows.scrollTop = lit.offsetTop - (rows.clientHeight - lit.offsetHeight) / 2;
  }
  function show(now, from) {
    const stop = walk.stops[now];
    panels.forEach((node, n) => node.classList.toggle("now", n === now));
    reveal(now);
    ways.forEach((node, n) => node.classList.toggle("gone", n <= now));
    marks.flat().forEach((node) => node.classList.remove("here"));
    marks[now].forEach((node) => node.classList.add("here"));
    packet.setAttribute("class", `packet ${stop.leg}`);
    tag.textContent = stop.leg === "reply" ? "reply" : "request";
    const [right, down] = stop.tag;       // where it covers no label: a line leads there
    tag.setAttribute("x", right);
    tag.setAttribute("y", down);
    const half = tag.getComputedTextLength() / 2 || 0;
    lead.setAttribute("x2", right - Math.max(-half, Math.min(half, right)));
    lead.setAttribute("y2", down - Math.max(-3, Math.min(9, down)));
    leg.className = `leg ${stop.kind === "end" ? "end" : stop.leg}`;
    leg.textContent = stop.leg_words;
    sentence.textContent = stop.words;
    verdict.classList.toggle("shown", now === last);
    move(from, now);
  }
  playing.begin();
  requestAnimationFrame(() => reveal(Number(host.dataset.step)));       // once it has its size
  return playing;
}
const CSS_escape = (text) => text.replace(/["\\]/g, "\\$&");

function render({ model, el }) {
  const host = make("div", "ekslearn-live");
  el.append(host);
  const told = (step) => { model.set("step", step); model.save_changes(); };
  let walking = mount(host, model.get("walk"), model.get("step"), told, true);
  const renew = () => {
    walking.pause();
    walking = mount(host, model.get("walk"), model.get("step"), told, true);
  };
  const follow = () => walking.follow(model.get("step"));
  model.on("change:walk", renew);
  model.on("change:step", follow);
  return () => {
    walking.pause();
    model.off("change:walk", renew);
    model.off("change:step", follow);
  };
}
export default { render };
