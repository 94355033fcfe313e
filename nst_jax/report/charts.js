// Line charts, drawn by hand: axes, lines, marks with error bars, a readout for pointer and keys.
"use strict";

const MARKS = ["M-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0 -7 0", "M-3.2-3.2h6.4v6.4h-6.4z"];
MARKS.push("M0-4.6L4.6 0 0 4.6-4.6 0z", "M0-4.4L4.4 3.4H-4.4z");
const DASHES = ["", "6 3", "2 3", "8 3 2 3"];

/**
 * A chart in a figure; `update(spec)` draws it, and it draws itself again when its width changes.
 *
 * spec: {
 *   series: [{name, colour, dash, mark, points: [[x, y, deviation or undefined], ...], cell}],
 *   x: {name, kind: "linear" | "log" | "band", ticks: [[value, text], ...] or undefined},
 *   y: {name, kind: "linear" | "log", domain: [least, most] or undefined},
 *   height, shared: read out all series at one x (else the nearest point of one),
 *   onpick: called with the series that is clicked, label: what a screen reader says
 * }
 */
function lineChart() {
  const plot = h("div", { class: "plot" });
  const tip = h("div", { class: "tip", hidden: true });
  const spoken = h("output", { class: "quiet" });
  const save = saveButton(() => [frame.svg, spec.label]);
  const element = h("div", { class: "chart" }, plot, tip, spoken, save);
  let [spec, frame, cursor, width] = [null, null, null, 0];

  const draw = () => {
    width = plot.clientWidth;
    if (!spec || !width) return;
    const focused = frame && document.activeElement === frame.svg;
    frame = drawn(spec, width);
    frame.svg.addEventListener("pointermove", (event) => point(event));
    frame.svg.addEventListener("pointerleave", () => show(null));
    frame.svg.addEventListener("blur", () => show(null));
    frame.svg.addEventListener("click", () => cursor && spec.onpick?.(cursor.series));
    frame.svg.addEventListener("keydown", move);
    const held = cursor; // what goes away may say that it lost the focus
    plot.replaceChildren(frame.svg);
    if (focused) frame.svg.focus({ preventScroll: true });
    show(held && found(held));
  };
  new ResizeObserver(() => plot.clientWidth !== width && draw()).observe(plot);

  /** The same place after the data has changed. */
  const found = ({ series, index }) => {
    const again = frame.series.find((other) => other.name === series.name);
    return again?.points.length
      ? { series: again, index: Math.min(index, again.points.length - 1) }
      : null;
  };

  const point = (event) => {
    const box = frame.svg.getBoundingClientRect();
    show(nearest(frame, event.clientX - box.left, event.clientY - box.top, spec.shared));
  };

  const move = (event) => {
    const all = frame.series.filter((series) => series.points.length);
    if (!all.length) return;
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (event.key === "Enter" && cursor && spec.onpick) spec.onpick(cursor.series);
    if (!(event.key in steps)) return;
    event.preventDefault();
    event.stopPropagation(); // the arrows that turn the viewer's pages
    const [along, across] = steps[event.key];
    const at = cursor ?? { series: all[0], index: -along };
    const series = all.at((all.indexOf(at.series) + across + all.length) % all.length);
    const index = Math.min(Math.max(at.index + along, 0), series.points.length - 1);
    show({ series, index });
    spoken.textContent = tip.textContent;
  };

  const show = (to) => {
    cursor = to;
    tip.hidden = !to;
    frame.svg.classList.toggle("has-near", Boolean(to) && !spec.shared);
    for (const series of frame.series) series.path.classList.toggle("near", series === to?.series);
    frame.rule.setAttribute("visibility", to ? "visible" : "hidden");
    frame.dot.setAttribute("visibility", to ? "visible" : "hidden");
    if (!to) return;
    const [x, y] = to.series.points[to.index];
    const [left, top] = [frame.x(x), frame.y(y)];
    setProperties(frame.dot, { transform: `translate(${left}px, ${top}px)` });
    setProperties(frame.dot, { fill: to.series.colour });
    setProperties(frame.rule, { transform: `translateX(${left}px)` });
    tip.replaceChildren(...(spec.shared ? readAll(x) : readOne(to)));
    const room = width - tip.offsetWidth - 4;
    const beside = left + 14 > room ? left - tip.offsetWidth - 14 : left + 14;
    const above = Math.min(Math.max(top - 20, 0), spec.height - tip.offsetHeight - 4);
    setProperties(tip, { left: `${Math.max(beside, 4)}px`, top: `${Math.max(above, 0)}px` });
  };

  const written = (x) => (spec.x.kind === "band" ? spec.x.ticks[x][1] : number(x));
  const readAll = (x) => [
    h("strong", {}, `${spec.x.name} ${written(x)}`),
    ...frame.series.flatMap((series) => {
      const here = series.points.find((other) => other[0] === x);
      return here ? [line(series, series.name, here)] : [];
    }),
  ];
  const readOne = ({ series, index }) => [
    h("strong", {}, series.name || spec.y.name),
    line(series, `${spec.x.name} ${written(series.points[index][0])}`, series.points[index]),
  ];
  const line = (series, name, [, y, deviation]) =>
    h("div", {}, swatch(series), h("span", {}, name), h("b", {}, number(y) + spread(deviation)));
  const spread = (deviation) => (deviation === undefined ? "" : ` ± ${number(deviation)}`);

  return {
    element,
    update(fresh) {
      spec = fresh;
      draw();
    },
  };
}

// What the page's style gives an SVG, which its file must have itself.
const DRAWN = ["fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-linejoin", "opacity"];
const WRITTEN = ["font-family", "font-size", "text-anchor"];

/** A chart as a file of its own: light, with its colours as every program reads them. */
function standalone(svg) {
  const copy = svg.cloneNode(true);
  const all = (root) => [root, ...root.querySelectorAll("*")];
  const copies = all(copy);
  setProperties(svg, { "color-scheme": "light" });
  all(svg).forEach((element, k) => {
    const style = getComputedStyle(element);
    const names = element.tagName === "text" ? [...DRAWN, ...WRITTEN] : DRAWN;
    for (const name of names) {
      const value = style.getPropertyValue(name);
      copies[k].setAttribute(name, /^(fill|stroke)$/.test(name) ? plainColour(value) : value);
    }
    for (const name of ["class", "style", "tabindex"]) copies[k].removeAttribute(name);
  });
  svg.style.removeProperty("color-scheme");
  for (const hidden of copy.querySelectorAll('[visibility="hidden"]')) hidden.remove();
  copy.setAttribute("xmlns", SVG);
  return new XMLSerializer().serializeToString(copy);
}

/** A colour of any notation as "#rrggbb"; "none" stays. */
function plainColour(value) {
  if (value === "none") return value;
  const context = document.createElement("canvas").getContext("2d");
  context.fillStyle = value;
  context.fillRect(0, 0, 1, 1);
  const bytes = [...context.getImageData(0, 0, 1, 1).data.slice(0, 3)];
  return `#${bytes.map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

/** A button that saves a chart; `drawn()`: [svg, what it is called]. */
function saveButton(drawn) {
  const save = () => {
    const [svg, label] = drawn();
    const file = new Blob([standalone(svg)], { type: "image/svg+xml" });
    const name = label.replace(/[^\w]+/g, "_").replace(/^_+|_+$/g, "");
    const link = h("a", { href: URL.createObjectURL(file), download: `${name}.svg` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };
  const title = "Save this chart as an SVG file";
  return h("button", { type: "button", class: "plain save", title, onclick: save }, "Save SVG");
}

/** A short piece of a series' line, for legends and readouts. */
function swatch({ colour, dash, mark }) {
  return s(
    "svg",
    { class: "swatch", viewBox: "0 0 22 10", "aria-hidden": "true", css: { color: colour } },
    s("path", { d: "M1 5H21", "stroke-dasharray": dash || null, class: "stroke" }),
    mark ? s("path", { d: mark, transform: "translate(11 5)", class: "fill" }) : null,
  );
}

/** Buttons that switch series on and off. `entries`: [{name, colour, dash, mark, text}]. */
function legend(label, entries, hidden, onchange) {
  const button = (entry) =>
    h(
      "button",
      {
        type: "button",
        "aria-pressed": !hidden.has(entry.name),
        onclick: (event) => {
          if (!hidden.delete(entry.name)) hidden.add(entry.name);
          event.currentTarget.setAttribute("aria-pressed", !hidden.has(entry.name));
          onchange();
        },
      },
      swatch(entry),
      h("span", {}, entry.name),
      entry.text ? h("b", {}, entry.text) : null,
    );
  return h("div", { class: "legend", role: "group", "aria-label": label }, ...entries.map(button));
}

function drawn(spec, width) {
  const series = spec.series.map((one) => ({ ...one, points: usable(one.points, spec) }));
  const points = series.flatMap((one) => one.points);
  const yDomain = spec.y.domain ?? domain(points.flatMap(reach), spec.y.kind);
  const yTicks = ticks(spec.y.kind, yDomain, spec.height / 55);
  const letters = Math.max(3, ...yTicks.map((tick) => number(tick).length));
  const box = { left: 12 + 6.6 * letters, right: width - 14, top: 28, bottom: spec.height - 40 };
  const band = spec.x.kind === "band";
  const xDomain = band
    ? [-0.5, spec.x.ticks.length - 0.5]
    : domain(spec.x.ticks?.map(([value]) => value) ?? points.map(([x]) => x), spec.x.kind, 0.02);
  const x = scale(spec.x.kind, xDomain, [box.left, box.right]);
  const y = scale(spec.y.kind, yDomain, [box.bottom, box.top]);
  const xTicks =
    spec.x.ticks ?? ticks(spec.x.kind, xDomain, (width - 60) / 80).map((v) => [v, number(v)]);

  const svg = s("svg", {
    width,
    height: spec.height,
    viewBox: `0 0 ${width} ${spec.height}`,
    tabindex: 0,
    role: "img",
    "aria-label": `${spec.label} Arrow keys read out points.`,
    class: spec.onpick ? "pickable" : null,
  });
  for (const tick of yTicks) {
    const place = { x1: box.left, x2: box.right, y1: y(tick), y2: y(tick), class: "gridline" };
    const text = { x: box.left - 8, y: y(tick) + 4, "text-anchor": "end" };
    svg.append(s("line", place), s("text", text, number(tick)));
  }
  let taken = -Infinity;
  for (const [tick, text] of xTicks) {
    const half = 3.3 * text.length;
    const middle = Math.min(Math.max(x(tick), half), width - half);
    if (middle - half < taken) continue; // it would write over its neighbour
    taken = middle + half + 8;
    const mark = { x1: x(tick), x2: x(tick), y1: box.bottom, y2: box.bottom + 4, class: "tick" };
    svg.append(s("line", mark));
    svg.append(s("text", { x: middle, y: box.bottom + 18, "text-anchor": "middle" }, text));
  }
  const base = { x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom, class: "axis" };
  svg.append(s("line", base));
  svg.append(s("text", { x: 2, y: 13, class: "name" }, spec.y.name));
  const right = { x: box.right, y: spec.height - 5, class: "name", "text-anchor": "end" };
  svg.append(s("text", right, spec.x.name));
  if (!points.length) {
    const middle = { x: (box.left + box.right) / 2, y: (box.top + box.bottom) / 2 };
    svg.append(s("text", { ...middle, "text-anchor": "middle" }, "No values yet"));
  }

  const rule = s("line", { y1: box.top, y2: box.bottom, class: "rule", visibility: "hidden" });
  svg.append(rule);
  for (const one of series) {
    const at = one.points.map(([a, b]) => `${round(x(a))} ${round(y(b))}`);
    const line = { d: at.length ? `M${at.join("L")}` : "", "stroke-dasharray": one.dash || null };
    one.path = s("g", { class: "line", css: { color: one.colour } });
    one.path.append(s("path", { ...line, class: "stroke" }));
    for (const [a, b, deviation] of one.points) {
      if (deviation) {
        const low = spec.y.kind === "log" && b - deviation <= 0 ? box.bottom : y(b - deviation);
        const [middle, high] = [round(x(a)), y(b + deviation)];
        const d = `M${middle} ${low}V${high}M${middle - 4} ${low}h8M${middle - 4} ${high}h8`;
        one.path.append(s("path", { d, class: "bar" }));
      }
      if (one.mark || one.points.length === 1) {
        const transform = `translate(${round(x(a))} ${round(y(b))})`;
        one.path.append(s("path", { d: one.mark || MARKS[0], transform, class: "fill" }));
      }
    }
    svg.append(one.path);
  }
  const dot = s("circle", { r: 4.5, class: "dot", visibility: "hidden" });
  svg.append(dot);
  return { svg, series, x, y, rule, dot };
}

const round = (value) => Math.round(value * 10) / 10;

/** Points that a scale can show: a logarithm has no zeros. */
function usable(points, spec) {
  const shows = (value, kind) => Number.isFinite(value) && (kind !== "log" || value > 0);
  return points.filter(([x, y]) => shows(x, spec.x.kind) && shows(y, spec.y.kind));
}

/** The values that the y axis must reach for a point with its error bar. */
function reach([, y, deviation]) {
  return deviation ? [y, y + deviation, y - deviation > 0 || y <= 0 ? y - deviation : y] : [y];
}

/** [least, most] with some room; of a logarithm, room in its own measure. */
function domain(values, kind, room = 0.05) {
  const usable = values.filter((value) => Number.isFinite(value) && (kind !== "log" || value > 0));
  if (!usable.length) return kind === "log" ? [0.1, 10] : [0, 1];
  const [to, from] = kind === "log" ? [Math.log10, (v) => 10 ** v] : [(v) => v, (v) => v];
  let [least, most] = [Infinity, -Infinity];
  for (const value of usable) [least, most] = [Math.min(least, value), Math.max(most, value)];
  const [low, high] = [to(least), to(most)];
  const margin = (high - low) * room || (kind === "log" ? 0.1 : Math.abs(high) * 0.1 || 1);
  return [from(low - margin), from(high + margin)];
}

function scale(kind, [least, most], [from, to]) {
  const measure = kind === "log" ? Math.log10 : (value) => value;
  const [low, span] = [measure(least), measure(most) - measure(least) || 1];
  return (value) => from + ((measure(value) - low) / span) * (to - from);
}

/** Round values within a domain, about `count` of them. */
function ticks(kind, [least, most], count) {
  if (kind === "log") {
    for (const digits of [[1], [1, 2, 5], [1, 2, 3, 4, 5, 6, 7, 8, 9]]) {
      const decades = Math.floor(Math.log10(least));
      const list = [];
      for (let k = decades; 10 ** k <= most; k++) list.push(...digits.map((d) => d * 10 ** k));
      const inside = list.filter((value) => value >= least && value <= most);
      if (inside.length >= 3) {
        const stride = Math.ceil(inside.length / Math.max(count, 2));
        return inside.filter((_, index) => index % stride === 0).map(clean);
      }
    }
  }
  const rough = (most - least) / Math.max(count, 1);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((digit) => digit * power).find((size) => size >= rough);
  const list = [];
  for (let k = Math.ceil(least / step); k * step <= most; k++) list.push(clean(k * step));
  return list;
}

const clean = (value) => Number(value.toPrecision(12));

/** The series and point at a place in pixels; with `shared`, at the nearest x. */
function nearest(frame, left, top, shared) {
  let [best, distance] = [null, Infinity];
  for (const series of frame.series) {
    series.points.forEach(([x, y], index) => {
      const [dx, dy] = [frame.x(x) - left, frame.y(y) - top];
      const far = shared ? Math.abs(dx) + Math.abs(dy) / 1e4 : Math.hypot(dx, dy);
      if (far < distance) [best, distance] = [{ series, index }, far];
    });
  }
  return best;
}
