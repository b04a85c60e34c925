// Every way through a load balancer. All of them arrive once; choosing and stepping happen here.
const CSS = "/*style*/";

// The chosen value of each group of buttons, and the number of the way that they make.
function chooser(data, chosen, turned) {
  const form = make("div", "choices"), sizes = data.choices.map((each) => each.values.length);
  const values = [];
  for (let n = sizes.length - 1, rest = chosen; n >= 0; n -= 1) {
    values[n] = rest % sizes[n];
    rest = Math.floor(rest / sizes[n]);
  }
  const number = () => values.reduce((sum, value, n) => sum * sizes[n] + value, 0);
  const serial = Math.random().toString(36).slice(2), marks = [];
  data.choices.forEach((each, n) => {
    const field = make("fieldset"), legend = make("legend", "", each.label);
    field.append(legend);
    marks[n] = each.values.map(([, text], value) => {
      const label = make("label"), radio = make("input");
      Object.assign(radio, { type: "radio", name: `${each.name}-${serial}` });
      radio.addEventListener("keydown", (event) => event.stopPropagation());
      radio.addEventListener("change", () => {
        values[n] = value;
        turned(number());
      });
      label.append(radio, text);
      field.append(label);
      return radio;
    });
    form.append(field);
  });
  const mark = () => marks.forEach((radios, n) => { radios[values[n]].checked = true; });
  mark();
  return form;
}

function mount(host, data, start, told) {
  host.dataset.lmSuppressShortcuts = "true";
  const shadow = host.shadowRoot || host.attachShadow({ mode: "open" });
  const card = make("section", "card");
  card.setAttribute("aria-label", data.label);
  const head = make("div", "head");
  head.append(make("div", "title", data.title));
  const summaries = data.pages.map((each) => worded(each.summary));
  const { box: sum, voice: said } = stacked("sum", summaries);
  let page = make("div", "page"), pause = () => {};
  let at = Math.min(Math.max(start, 0), data.ways.length - 1);

  // A page with a way's player, headers and facts, or with a word that there are none.
  function filled({ facts, rows }) {
    const page = make("div", "page");
    if (!rows.length) {
      page.append(make("div", "quiet", "Nothing is built, so there are no headers to show."));
      return { page, pause: () => {} };
    }
    const list = make("dl", "facts");
    facts.forEach(([name, value]) => {
      const said = make("dd");
      said.append(...worded(value));
      list.append(make("dt", "", name), said);
    });
    const body = make("tbody");
    const lines = rows.map(({ cells, changed }) => {
      const line = make("tr");
      cells.forEach((text, n) => {
        const name = ["", "", "src", "dst", ""][n], cell = make("td");
        cell.append(...text ? worded(text) : []);
        if (n === 2 || n === 3) cell.classList.add("mono");
        if (name && changed.includes(name)) {
          cell.replaceChildren(make("b", "", text), make("span", "new", " new"));
        }
        line.append(cell);
      });
      body.append(line);
      return line;
    });
    const table = make("table"), top = make("thead"), names = make("tr");
    data.heads.forEach((text) => {
      const cell = make("th", "", text || "way");
      cell.scope = "col";
      names.append(cell);
    });
    top.append(names);
    table.append(top, body);
    const texts = rows.map((row) => worded(row.told));
    const { box, voice } = stacked("sentence", texts);
    const stage = { dataset: {}, shadowRoot: shadow,
      get isConnected() { return host.isConnected; } };
    const play = player(stage, page, rows.map((row) => row.told), 0, {
      group: "Steps through the headers", name: "Header", told: () => {},
      show: (now) => {
        lines.forEach((line, n) => {
          line.classList.toggle("now", n === now);
          if (n === now) line.setAttribute("aria-current", "step");
          else line.removeAttribute("aria-current");
        });
        voice.replaceChildren(...worded(rows[now].told));
      },
    });
    const frame = make("div", "frame");
    frame.tabIndex = 0;
    frame.setAttribute("role", "group");
    frame.setAttribute("aria-label", "Headers, wire by wire");
    frame.append(table);
    page.append(play.controls, box, frame, list);
    play.begin();
    return { page, pause: play.pause };
  }
  function turn() {
    pause();
    const way = data.pages[data.ways[at]], turned = filled(way);
    said.replaceChildren(...worded(way.summary));
    page.replaceWith(turned.page);
    ({ page, pause } = turned);
    host.dataset.step = at;
  }
  // Every way gets the height of the tallest, so that nothing below the ledger ever jumps.
  const most = Math.max(...data.pages.map((each) => each.rows.length));
  const longest = data.pages.filter((each) => each.rows.length === most);
  let wide = 0;
  const fit = () => {
    if (card.clientWidth === wide) return;
    wide = card.clientWidth;
    const tall = longest.map((each) => {
      const { page: probe } = filled(each);
      probe.classList.add("ghost");
      page.after(probe);
      const high = Math.ceil(probe.getBoundingClientRect().height);
      probe.remove();
      return high;
    });
    card.style.setProperty("--tall", `${Math.max(...tall)}px`);
  };
  new ResizeObserver(fit).observe(card);
  const choose = (to) => {
    at = to;
    turn();
    told(at);
  };
  let form = chooser(data, at, choose);
  card.append(head, form, sum, page, make("p", "quiet help",
    "Keys: arrows choose within a group; below, they step through the headers."));
  shadow.replaceChildren(make("style", "", CSS), card);
  turn();
  return { stop: () => pause(), go: (to) => {
    if (to === at) return;
    at = to;
    const fresh = chooser(data, at, choose);
    form.replaceWith(fresh);
    form = fresh;
    turn();
  } };
}

function render({ model, el }) {
  const host = make("div", "ekslearn-live");
  el.append(host);
  const told = (at) => { model.set("at", at); model.save_changes(); };
  const showing = mount(host, model.get("ledger_data"), model.get("at"), told);
  const follow = () => showing.go(model.get("at"));
  model.on("change:at", follow);
  return () => {
    showing.stop();
    model.off("change:at", follow);
  };
}
export default { render };
