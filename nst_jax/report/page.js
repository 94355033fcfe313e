// The page: head, tabs, filter, and on a live page the news every two seconds.
"use strict";

const PERIOD = 2000; // milliseconds between two questions for news
const head = pageHead();
const body = data.kind === "sweep" ? sweepBody() : runBody();
document.getElementById("head").append(head.element);
document.getElementById("main").append(body.element);
head.update();
body.update();
if (LIVE && !data.ended) setTimeout(poll, PERIOD);
if (!LIVE) addEventListener("load", () => body.update()); // the large pictures come last

/** Asks for news until everything has ended; what has not changed is not drawn again. */
async function poll() {
  const text = await fetch("data.json", { cache: "no-store" })
    .then((answer) => (answer.ok ? answer.text() : null))
    .catch(() => null);
  if (text !== null && text !== poll.last) {
    poll.last = text;
    data = adopted(JSON.parse(text));
    body.update();
  }
  head.update(text === null ? "No answer; trying again" : "");
  if (!data.ended) setTimeout(poll, PERIOD);
}

/** Name, counts, what was painted from. */
function pageHead() {
  const state = h("span", { class: "pulse", role: "status" });
  const summary = h("p", { class: "summary" });
  const pictures = h("div", { class: "inputs" });
  const kinds = { sweep: data.sweeps.length ? "Sweeps" : "Sweep", run: "Run", film: "Film" };
  const kind = h("span", {}, kinds[data.kind]);
  const element = h(
    "div",
    { class: "masthead" },
    h("div", {}, h("p", { class: "kicker" }, kind, state), h("h1", {}, data.name), summary),
    pictures,
  );
  let [listed, told] = ["", ""];

  function update(trouble = "") {
    const going = LIVE && !data.ended;
    setText(state, trouble || (going ? "Live" : LIVE ? "Ended" : ""));
    state.classList.toggle("live", going && !trouble);
    state.hidden = !state.textContent;
    const parts = data.kind === "sweep" ? counts() : outcome(data.cells[0]);
    if (parts.join() !== told) summary.replaceChildren(...parts.map((part) => h("span", {}, part)));
    told = parts.join();
    const inputs = unique(data.cells.flatMap(inputsOf)).slice(0, 6);
    const list = JSON.stringify(inputs.map((input) => [input.index, input.version]));
    if (list !== listed) {
      listed = list;
      pictures.replaceChildren(...inputs.map(figure));
    }
  }

  const unique = (inputs) => [...new Map(inputs.map((input) => [input.index, input])).values()];

  function figure({ role, name, small, width, height }) {
    const kind = role.replace(/ \d+$/, "");
    const alt = `${kind}: ${name}`;
    const image = h("img", { src: small, alt, width, height, onerror: onBroken });
    return h("figure", {}, image, h("figcaption", {}, h("b", {}, kind), h("span", {}, name)));
  }

  function outcome(cell) {
    const noun = data.kind === "film" ? "frames" : "steps";
    const state = cell.status === "done" && cell.steps ? `${cell.steps} ${noun}` : stateOf(cell);
    return [state, cell.seconds === null ? "" : duration(cell.seconds)].filter(Boolean);
  }

  function counts() {
    const sizes = data.axes.map((axis) => `${axis.labels.length} ${axis.name}`).join(" × ");
    const isGrid = data.axes.length > 1 && !data.sweeps.length;
    const cells = plural(data.cells.length, "cell") + (isGrid ? ` (${sizes})` : "");
    const states = ["done", "running", "waiting", "stopped", "failed"]
      .map((status) => [data.cells.filter((cell) => cell.status === status).length, status])
      .filter(([count]) => count)
      .map(([count, status]) => `${count} ${status}`);
    const seconds = data.cells.reduce((sum, cell) => sum + (cell.seconds ?? 0), 0);
    return [cells, ...states, seconds ? duration(seconds) : "", ...outlook()].filter(Boolean);
  }

  /** How many are at work, and for how long at their present pace. */
  function outlook() {
    if (!LIVE || data.ended || !data.workers.length) return [];
    const left = data.seconds_left;
    const unit = left < 90 ? 10 : 60;
    const roughly = duration(unit * Math.max(1, Math.round(left / unit)));
    return [plural(data.workers.length, "worker"), left === null ? "" : `about ${roughly} left`];
  }

  return { element, update };
}

/** A single run: its view, without tabs. */
function runBody() {
  const view = cellView();
  return { element: view.element, update: () => view.update(data.cells[0]) };
}

/** A sweep: tabs over what the filter lets through. */
function sweepBody() {
  const open = (name) => shown.open(name);
  const views = {
    sheet: ["Sheet", sheetView(open)],
    curves: ["Curves", curvesView(open)],
    axes: ["Axes", axesView()],
    scatter: ["Scatter", scatterView(open)],
    parallel: ["Parallel", parallelView(open)],
    table: ["Table", tableView(open)],
    ...(data.sweeps.length ? { configs: ["Configs", configsView()] } : {}),
  };
  let current = location.hash.slice(1) in views ? location.hash.slice(1) : "sheet";
  const order = () => (views[current][1].order ?? (() => shownCells().map((c) => c.name)))();
  const shown = viewer(order, (name) => current === "sheet" && views.sheet[1].focus(name));
  const filters = filterPart(update);

  const tabs = new Map();
  const panels = new Map();
  for (const [key, [name, view]] of Object.entries(views)) {
    const names = { id: `tab-${key}`, "aria-controls": `panel-${key}` };
    const pick = () => select(key);
    tabs.set(key, h("button", { type: "button", role: "tab", ...names, onclick: pick }, name));
    const panel = { id: `panel-${key}`, role: "tabpanel", "aria-labelledby": `tab-${key}` };
    panels.set(key, h("div", panel, view.element));
  }
  const list = h("div", { role: "tablist", "aria-label": "Views" }, ...tabs.values());
  list.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by) return;
    const keys = [...tabs.keys()];
    select(keys.at((keys.indexOf(current) + by + keys.length) % keys.length));
    tabs.get(current).focus();
  });
  const bar = h("div", { class: "topbar" }, list, filters.element);
  const element = h("div", {}, bar, filters.panel, ...panels.values());
  addEventListener("hashchange", () => {
    if (location.hash.slice(1) in views) select(location.hash.slice(1));
  });

  function select(key) {
    current = key;
    if (location.hash.slice(1) !== key) history.replaceState(null, "", `#${key}`);
    update();
  }

  function update() {
    for (const [key, tab] of tabs) {
      setAttribute(tab, "aria-selected", key === current);
      setAttribute(tab, "tabindex", key === current ? 0 : -1);
      panels.get(key).hidden = key !== current;
    }
    filters.update();
    views[current][1].update();
    shown.update();
  }

  return { element, update };
}

/** Search text, and a button for every label of every axis. */
function filterPart(onchange) {
  const search = h("input", {
    type: "search",
    placeholder: "Search",
    "aria-label": "Search cells",
    oninput: () => ((filter.text = search.value), onchange()),
  });
  const count = h("span", { class: "count", role: "status" });
  const toggle = h(
    "button",
    {
      type: "button",
      class: "plain",
      "aria-expanded": "false",
      "aria-controls": "filters",
      onclick: () => {
        panel.hidden = !panel.hidden;
        toggle.setAttribute("aria-expanded", !panel.hidden);
      },
    },
    "Filter",
  );
  const chips = data.axes.flatMap((axis) =>
    axis.labels.map((label) => [axis.name, label, chip(axis.name, label)]),
  );
  const rows = data.axes.map((axis) => {
    const own = chips.filter(([name]) => name === axis.name).map(([, , button]) => button);
    const buttons = h("div", { class: "chips", role: "group", "aria-label": axis.name }, ...own);
    return h("div", { class: "chip-row" }, h("span", {}, axis.name), buttons);
  });
  const clear = h("button", { type: "button", class: "plain", onclick: reset }, "Show all");
  const panel = h("div", { id: "filters", class: "filters", hidden: true }, ...rows, clear);
  const element = h("div", { class: "finder" }, count, search, toggle);

  function chip(axis, label) {
    const click = () => {
      const key = labelKey(axis, label);
      if (!filter.off.delete(key)) filter.off.add(key);
      onchange();
    };
    return h("button", { type: "button", onclick: click }, label);
  }

  function reset() {
    filter.off.clear();
    filter.text = search.value = "";
    onchange();
  }

  function update() {
    for (const [axis, label, button] of chips)
      setAttribute(button, "aria-pressed", isOn(axis, label));
    const [few, all] = [shownCells().length, data.cells.length];
    setText(count, few === all ? "" : `${few} of ${all}`);
    toggle.classList.toggle("active", filter.off.size > 0);
  }

  return { element, panel, update };
}
