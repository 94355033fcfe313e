// Two tabs of charts: every cell's curve, and a measure against an axis.
"use strict";

const REPEATS = "seed"; // an axis of this name is averaged over unless told otherwise

const axisChoices = (none) => [["", [["", none], ...data.axes.map((a) => [a.name, a.name])]]];

/** Curves of a term over steps or seconds, a line for each cell. */
function curvesView(open) {
  const state = { term: "total", against: "step", colour: "", log: true };
  state.colour = (data.axes.find((axis) => axis.name !== REPEATS) ?? data.axes[0])?.name ?? "";
  const hidden = new Set();
  const chart = lineChart();
  const keys = colourKeys(hidden, () => update());
  const set = (change) => (Object.assign(state, change), update());
  const term = choice("Term", (value) => set({ term: value }));
  const colour = choice("Colour by", (value) => (hidden.clear(), set({ colour: value })));
  const against = segments(
    "Against",
    [
      ["step", "Steps"],
      ["seconds", "Seconds"],
    ],
    "step",
    (value) => set({ against: value }),
  );
  const log = checkbox("Logarithmic", true, (value) => set({ log: value }));
  const controls = h("div", { class: "controls" }, term.element, colour.element, against, log);
  const hint = h("p", { class: "hint" }, "Choose a line to open its cell.");
  const element = h("div", {}, controls, chart.element, keys.element, hint);

  function termChoices() {
    const names = new Set(data.cells.flatMap((cell) => Object.keys(cell.curve.terms)));
    const pairs = [...names].map((name) => [name, name]);
    const isLayer = ([name]) => name.includes("/");
    return [
      ["Objective", pairs.filter((pair) => !isLayer(pair))],
      ["Layers", pairs.filter(isLayer)],
    ].filter(([, list]) => list.length);
  }

  function update() {
    term.update(termChoices(), state.term);
    colour.update(axisChoices("nothing"), state.colour);
    const axis = axisNamed(state.colour);
    keys.update(axis);
    const cells = shownCells().filter((cell) => !axis || !hidden.has(cell.labels[axis.name]));
    const series = cells.map((cell) => ({
      name: titleOf(cell),
      cell: cell.name,
      colour: colourOf(axis, axis && cell.labels[axis.name]),
      points: (cell.curve.terms[state.term] ?? []).map((y, k) => [cell.curve[state.against][k], y]),
    }));
    chart.update({
      series,
      x: { name: state.against === "step" ? "step" : "seconds", kind: "linear" },
      y: { name: state.term, kind: state.log ? "log" : "linear" },
      height: Math.max(320, Math.min(520, innerHeight - 330)),
      onpick: (picked) => open(picked.cell),
      label: `${state.term} of ${plural(cells.length, "cell")} against ${state.against}.`,
    });
  }

  return { element, update };
}

/** A measure against an axis: means over repeats, a line for each label of a colour axis. */
function axesView() {
  const repeats = axisNamed(REPEATS) && data.axes.length > 1 ? REPEATS : "";
  const others = data.axes.map((axis) => axis.name).filter((name) => name !== repeats);
  const [x0, colour0] = data.sweeps.length && others[1] ? [others[1], others[0]] : others;
  const start = { x: x0 ?? "", colour: colour0 ?? "", repeats };
  const state = { measure: "", ...start, log: false, interval: false };
  const hidden = new Set();
  const charts = new Map();
  const set = (change) => (Object.assign(state, change), update());
  const measure = choice("Measure", (value) => set({ measure: value }));
  const x = choice("Against", (value) => assign("x", value));
  const colour = choice("Lines", (value) => assign("colour", value));
  const over = choice("Mean over", (value) => assign("repeats", value));
  const log = checkbox("Logarithmic", false, (value) => set({ log: value }));
  const interval = checkbox("95 % intervals", false, (value) => set({ interval: value }));
  const controls = h("div", { class: "controls" }, measure.element, x.element, colour.element);
  controls.append(over.element, interval, log);
  const facets = h("div", { class: "facets" });
  const keys = h("div");
  const hint = h("p", { class: "hint" });
  const element = h("div", {}, controls, facets, keys, hint);
  let keyed = "";

  /** An axis has one part: whoever had it before takes what it gives up. */
  function assign(part, value) {
    const loser = ["x", "colour", "repeats"].find(
      (other) => other !== part && value && state[other] === value,
    );
    hidden.clear();
    set({ ...(loser ? { [loser]: state[part] } : {}), [part]: value });
  }

  function marked(axis) {
    const list = axis ? axis.labels : [""];
    return list.map((label, k) => ({
      name: label,
      colour: colourOf(axis, label),
      mark: MARKS[k % MARKS.length],
      dash: axis && !isNumeric(axis) ? DASHES[Math.floor(k / CATEGORIES) % DASHES.length] : "",
    }));
  }

  function panel(cells, xAxis, colourAxis) {
    const band = scaleKind(xAxis) === "band";
    const labels = shownLabels(xAxis);
    return marked(colourAxis)
      .filter(({ name }) => !colourAxis || (isOn(colourAxis.name, name) && !hidden.has(name)))
      .map((entry) => ({
        ...entry,
        points: labels
          .map((label, k) => {
            const values = cells
              .filter((cell) => cell.labels[xAxis.name] === label)
              .filter((cell) => !colourAxis || cell.labels[colourAxis.name] === entry.name)
              .map((cell) => valueOf(cell, state.measure))
              .filter((value) => value !== null);
            const { mean, deviation } = summary(values);
            const reach = state.interval ? (halfWidth(values) ?? undefined) : deviation;
            return [band ? k : Number(label), mean, reach];
          })
          .sort((a, b) => a[0] - b[0]),
      }));
  }

  function update() {
    if (!state.measure) state.measure = firstMeasure();
    measure.update(measures(), state.measure);
    x.update([["", data.axes.map((axis) => [axis.name, axis.name])]], state.x);
    colour.update(axisChoices("one line"), state.colour);
    over.update(axisChoices("nothing"), state.repeats);
    const [xAxis, colourAxis, repeated] = [state.x, state.colour, state.repeats].map(axisNamed);
    if (!xAxis) return;
    const cells = shownCells().filter((cell) => cell.status === "done");
    const rest = data.axes.filter((axis) => ![xAxis, colourAxis, repeated].includes(axis));
    const panels = grouped(cells, rest).map((group) => [group.name, panel(group.cells, xAxis, colourAxis)]);
    const kind = state.log ? "log" : "linear";
    const reached = panels.flatMap(([, series]) =>
      series.flatMap((one) => one.points.flatMap(reach)),
    );
    const labels = shownLabels(xAxis);
    const xKind = scaleKind(xAxis);
    const xTicks = labels.map((label, k) => [xKind === "band" ? k : Number(label), label]);
    const sections = panels.map(([name]) => facet(name).element);
    const drawn = [...facets.children];
    if (sections.length !== drawn.length || sections.some((one, k) => one !== drawn[k])) {
      facets.replaceChildren(...sections);
    }
    for (const [name, series] of panels) {
      facet(name).chart.update({
        series,
        shared: series.length > 1,
        x: { name: xAxis.name, kind: xKind, ticks: xTicks.sort((a, b) => a[0] - b[0]) },
        y: { name: measureName(state.measure), kind, domain: domain(reached, kind) },
        height: panels.length > 1 ? 260 : Math.max(320, Math.min(480, innerHeight - 360)),
        label: `${measureName(state.measure)} against ${xAxis.name}. ${name}`,
      });
    }
    const entries = colourAxis ? marked(colourAxis).filter((e) => isOn(state.colour, e.name)) : [];
    if (keyed !== JSON.stringify([state.colour, entries])) {
      keyed = JSON.stringify([state.colour, entries]);
      const caption = h("span", { class: "legend-name" }, state.colour);
      const buttons = legend(state.colour, entries, hidden, update);
      keys.replaceChildren(...(colourAxis ? [h("div", { class: "keys" }, caption, buttons)] : []));
    }
    const count = repeated ? shownLabels(repeated).length : 1;
    const mean = `Means over up to ${plural(count, "value")} of ${state.repeats}; `;
    const what = state.interval ? "95 % interval (Student's t)" : "± one standard deviation";
    const bars = count > 1 ? `${mean}bars: ${what}. ` : "";
    interval.hidden = count < 2;
    setText(hint, `${bars}Cells that are done: ${cells.length}.`);
  }

  function facet(name) {
    if (!charts.has(name)) {
      const chart = lineChart();
      const heading = name ? h("h3", {}, name) : null;
      charts.set(name, { chart, element: h("section", {}, heading, chart.element) });
    }
    return charts.get(name);
  }

  return { element, update };
}

/** Mean and standard deviation (of a sample: n - 1) of numbers; nothing of none. */
function summary(values) {
  if (!values.length) return {};
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  if (values.length === 1) return { mean };
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return { mean, deviation: Math.sqrt(squares / (values.length - 1)) };
}
