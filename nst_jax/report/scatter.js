// The tab that sets one measure against another, with the Pareto front.
"use strict";

/** A point for each cell that is done; a click opens it. */
function scatterView(open) {
  const state = { x: "", y: "", colour: "", front: true };
  state.colour = (data.axes.find((axis) => axis.name !== REPEATS) ?? data.axes[0])?.name ?? "";
  const hidden = new Set();
  const chart = lineChart();
  const keys = colourKeys(hidden, () => update());
  const set = (change) => (Object.assign(state, change), update());
  const x = choice("Across", (value) => set({ x: value }));
  const y = choice("Up", (value) => set({ y: value }));
  const colour = choice("Colour by", (value) => (hidden.clear(), set({ colour: value })));
  const front = checkbox("Pareto front", true, (value) => set({ front: value }));
  const controls = h("div", { class: "controls" }, y.element, x.element, colour.element, front);
  const hint = h("p", { class: "hint" });
  const element = h("div", {}, controls, chart.element, keys.element, hint);

  function update() {
    const groups = measures();
    const all = groups.flatMap(([, list]) => list.map(([key]) => key));
    if (!state.x) state.x = all[0] ?? "";
    if (!state.y) state.y = all.find((key) => key === "metrics:style_gram") ?? all[1] ?? state.x;
    x.update(groups, state.x);
    y.update(groups, state.y);
    colour.update(axisChoices("nothing"), state.colour);
    const axis = axisNamed(state.colour);
    keys.update(axis);
    const places = [state.x, state.y];
    const cells = shownCells()
      .filter((cell) => cell.status === "done")
      .filter((cell) => !axis || !hidden.has(cell.labels[axis.name]))
      .filter((cell) => places.every((key) => valueOf(cell, key) !== null));
    const point = (cell) => places.map((key) => valueOf(cell, key));
    const best = paretoFront(cells, ...places);
    const series = cells.map((cell) => ({
      name: titleOf(cell) + (best.includes(cell) ? " (Pareto front)" : ""),
      cell: cell.name,
      colour: colourOf(axis, axis && cell.labels[axis.name]),
      mark: axis ? MARKS[axis.labels.indexOf(cell.labels[axis.name]) % MARKS.length] : MARKS[0],
      points: [point(cell)],
    }));
    const line = { name: "Pareto front", colour: "var(--muted)", dash: "4 4", cell: best[0]?.name };
    chart.update({
      series: state.front ? [...series, { ...line, points: best.map(point) }] : series,
      x: { name: measureName(state.x), kind: measureScale(cells, state.x) },
      y: { name: measureName(state.y), kind: measureScale(cells, state.y) },
      height: Math.max(320, Math.min(520, innerHeight - 330)),
      onpick: (picked) => open(picked.cell),
      label: `${measureName(state.y)} against ${measureName(state.x)}.`,
    });
    const ways = places.map((key) => `${isHigherBetter(key) ? "more" : "less"}`);
    setText(
      hint,
      `${plural(cells.length, "cell")} done. On the front, no other cell is better in both: ` +
        `${ways[0]} ${measureName(state.x)} and ${ways[1]} ${measureName(state.y)} is better. ` +
        "Choose a point to open its cell.",
    );
  }

  return { element, update };
}

/** The cells than which no other is as good in both measures and better in one, by the first. */
function paretoFront(cells, first, second) {
  const cost = (cell, key) => (isHigherBetter(key) ? -1 : 1) * valueOf(cell, key);
  const order = [...cells].sort(
    (a, b) => cost(a, first) - cost(b, first) || cost(a, second) - cost(b, second),
  );
  let least = Infinity;
  return order.filter((cell) => cost(cell, second) < least && ((least = cost(cell, second)), true));
}

/** "log" where a measure's values are positive and span two decades, else "linear". */
function measureScale(cells, key) {
  const values = cells.map((cell) => valueOf(cell, key));
  const [least, most] = [Math.min(...values), Math.max(...values)];
  return least > 0 && most >= 100 * least ? "log" : "linear";
}

/** The legend of the labels of an axis, kept while nothing changes. */
function colourKeys(hidden, onchange) {
  const element = h("div");
  let keyed = "";
  return {
    element,
    update(axis) {
      const entries = (axis ? shownLabels(axis) : []).map((label) => ({
        name: label,
        colour: colourOf(axis, label),
      }));
      const key = JSON.stringify([axis?.name, entries]);
      if (key === keyed) return;
      keyed = key;
      const caption = h("span", { class: "legend-name" }, axis?.name ?? "");
      const buttons = legend(axis?.name ?? "", entries, hidden, onchange);
      element.replaceChildren(...(axis ? [h("div", { class: "keys" }, caption, buttons)] : []));
    },
  };
}
