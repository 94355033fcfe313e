// The tab of parallel coordinates: an axis for all that varies or is measured, a line for each cell.
"use strict";

const PARALLEL = { top: 44, bottom: 24, height: 420, between: 96 }; // pixels

/** Lines of cells through all that varies and all that is measured; a click opens one. */
function parallelView(open) {
  const state = { colour: "", terms: false };
  state.colour = data.axes.find(({ name }) => name !== REPEATS)?.name ?? "";
  const plot = h("div", { class: "plot wide", tabindex: 0, role: "region" });
  plot.setAttribute("aria-label", "Parallel coordinates");
  const spoken = h("output", { class: "readout" });
  const hidden = new Set();
  const keys = colourKeys(hidden, () => update());
  const colour = choice("Colour by", (value) => (hidden.clear(), set({ colour: value })));
  const terms = checkbox("Terms of the objective", false, (value) => set({ terms: value }));
  const controls = h("div", { class: "controls" }, colour.element, terms);
  const hint = "Each axis runs from the worse value at its foot to the better at its head.";
  const save = saveButton(() => [svg, "parallel coordinates"]);
  const chart = h("div", { class: "chart" }, plot, save);
  const element = h("div", {}, controls, chart, spoken, keys.element);
  element.append(h("p", { class: "hint" }, `${hint} Choose a line to open its cell.`));
  const set = (change) => (Object.assign(state, change), update());
  let [svg, drawnAs, width] = [null, "", 0];
  new ResizeObserver(() => plot.clientWidth !== width && update()).observe(plot);

  /** [{name, place: cell -> share of the height from its head or null, ticks}] */
  function scales(cells) {
    const axes = data.axes.filter((axis) => axis.labels.length > 1);
    const [group] = measures();
    const wanted = ([name]) => name === group?.[0] || (state.terms && name === "Objective");
    const list = measures().filter(wanted).flatMap(([, pairs]) => pairs);
    return [...axes.map(axisScale), ...list.map(([key, name]) => measureScaleOf(key, name, cells))];
  }

  function axisScale(axis) {
    const labels = isNumeric(axis)
      ? [...axis.labels].sort((a, b) => Number(b) - Number(a))
      : axis.labels;
    const share = (label) => labels.indexOf(label) / Math.max(labels.length - 1, 1);
    return {
      name: axis.name,
      place: (cell) => share(cell.labels[axis.name]),
      ticks: labels.map((label) => [share(label), label]),
    };
  }

  function measureScaleOf(key, name, cells) {
    const known = cells.filter((cell) => valueOf(cell, key) !== null);
    const values = known.map((cell) => valueOf(cell, key));
    const [least, most] = [Math.min(...values), Math.max(...values)];
    const ends = isHigherBetter(key) ? [least, most] : [most, least];
    const along = scale(measureScale(known, key), ends, [1, 0]);
    return {
      name,
      place: (cell) => (valueOf(cell, key) === null ? null : along(valueOf(cell, key))),
      ticks: values.length ? ends.map((value, k) => [1 - k, number(value)]) : [],
    };
  }

  function update() {
    width = plot.clientWidth;
    colour.update(axisChoices("nothing"), state.colour);
    const axis = axisNamed(state.colour);
    keys.update(axis);
    const cells = shownCells()
      .filter((cell) => cell.status === "done")
      .filter((cell) => !axis || !hidden.has(cell.labels[axis.name]));
    const list = scales(cells);
    const key = JSON.stringify([width, state, list, cells.map((c) => [c.name, c.metrics, c.terms])]);
    if (!width || key === drawnAs) return;
    drawnAs = key;
    svg = drawnParallel(list, cells, axis, width, { tell, open });
    plot.replaceChildren(svg);
    tell(null);
  }

  /** Says which line the pointer is at. */
  function tell(cell) {
    for (const line of svg.querySelectorAll(".line")) {
      line.classList.toggle("near", cell !== null && line.dataset.cell === cell.name);
    }
    svg.classList.toggle("has-near", cell !== null);
    const [, list] = measures()[0] ?? ["", []];
    const values = cell ? list.map(([key, name]) => `${name} ${textOf(cell, key)}`) : [];
    setText(spoken, cell ? [titleOf(cell), ...values].join(" · ") : "\u00a0");
  }

  return { element, update };
}

function drawnParallel(scales, cells, axis, room, { tell, open }) {
  const { top, bottom, height, between } = PARALLEL;
  const width = Math.max(room, between * scales.length);
  const step = width / scales.length;
  const x = (k) => Math.round((k + 0.5) * step);
  const y = (share) => round(top + share * (height - top - bottom));
  const label = `${plural(cells.length, "cell")} over ${scales.map((one) => one.name).join(", ")}.`;
  const svg = s("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img" });
  svg.setAttribute("aria-label", label);
  for (const cell of cells) {
    const d = scales
      .map(({ place }, k) => [x(k), place(cell)])
      .filter(([, share]) => share !== null)
      .map(([left, share], k) => `${k ? "L" : "M"}${left} ${y(share)}`)
      .join("");
    const css = { color: colourOf(axis, axis && cell.labels[axis.name]) };
    const act = { onpointerenter: () => tell(cell), onpointerleave: () => tell(null) };
    act.onclick = () => open(cell.name);
    const line = s("g", { class: "line", "data-cell": cell.name, css, ...act });
    line.append(s("path", { d, class: "reach" }), s("path", { d, class: "stroke" }));
    svg.append(line);
  }
  scales.forEach(({ name, ticks }, k) => {
    svg.append(s("line", { x1: x(k), x2: x(k), y1: y(0), y2: y(1), class: "axis" }));
    svg.append(s("text", { x: x(k), y: 16, "text-anchor": "middle", class: "name" }, name));
    let free = -Infinity;
    for (const [share, text] of ticks.toSorted((a, b) => a[0] - b[0])) {
      if (y(share) < free) continue; // it would write over its neighbour
      free = y(share) + 14;
      svg.append(s("text", { x: x(k) + 6, y: y(share) + 4, class: "halo" }, text));
    }
  });
  return svg;
}
