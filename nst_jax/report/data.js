// The data as it is now, what can be asked of it, and which cells are shown.
"use strict";

let data = adopted(JSON.parse(document.getElementById("data").textContent));
const LIVE = data.live;
const SHOWABLE = /\.(png|jpe?g|webp|gif)$/i; // by browsers; a TIFF is not
const CATEGORIES = 8; // colours of style sheets, --series-0 to --series-7

const filter = { text: "", off: new Set() }; // `off`: keys of `labelKey`

/** Numbers the cells: a large picture is found by its cell's place. */
function adopted(fresh) {
  fresh.cells.forEach((cell, index) => (cell.index = index));
  return fresh;
}

function cellNamed(name) {
  return data.cells.find((cell) => cell.name === name);
}

function axisNamed(name) {
  return data.axes.find((axis) => axis.name === name);
}

/** "beta 0.02 · seed 1"; the name of a cell without labels. */
function titleOf(cell, space = " ") {
  const labels = data.axes.map((axis) => `${axis.name}${space}${cell.labels[axis.name]}`);
  return labels.join(`${space}· `) || cell.name;
}

function stateOf(cell) {
  const steps = cell.steps === null ? "" : `, step ${cell.steps}`;
  if (cell.status === "stopped") return `stopped${cell.steps === null ? "" : ` after ${cell.steps} steps`}`;
  return cell.status === "running" ? `running${steps}` : cell.status;
}

/** The same, with who is at it. */
function workOf(cell) {
  const isNamed = cell.worker && ["running", "stopped"].includes(cell.status);
  return stateOf(cell) + (isNamed ? ` \u00b7 ${cell.worker}` : "");
}

// Pictures. In a written page the small ones are in the data and the large ones in elements at the
// page's end; a live page asks its server, and a new version of a file has a new address.

function pictureOf(cell) {
  if (!LIVE || (cell.picture && SHOWABLE.test(cell.picture.path))) return cell.picture;
  return cell.frame;
}

function smallOf(cell) {
  return LIVE ? largeOf(cell) : pictureOf(cell).small;
}

function largeOf(cell) {
  const picture = pictureOf(cell);
  if (!LIVE) return embedded(`cell-${cell.index}`) ?? picture.small;
  const path = picture.path.split("/").map(encodeURIComponent).join("/");
  return `files/${path}?${picture.version}`;
}

/** Address of a cell's k-th picture along the way; none where the page has no room for it. */
function frameOf(cell, frame, k) {
  if (!LIVE) return embedded(`frame-${cell.index}-${k}`);
  return `files/${frame.path.split("/").map(encodeURIComponent).join("/")}`;
}

/** Content and style pictures that are there: [{role, name, width, height, small, large}]. */
function inputsOf(cell) {
  const several = cell.styles.length > 1;
  const indices = [
    ...(cell.content === null ? [] : [["Content", cell.content]]),
    ...cell.styles.map((index, k) => [several ? `Style ${k + 1}` : "Style", index]),
  ];
  return indices
    .map(([role, index]) => ({ role, index, ...data.inputs[index] }))
    .filter((input) => input.width && (LIVE || input.small))
    .map((input) => {
      const address = `inputs/${input.index}?${input.version}`;
      const small = LIVE ? address : input.small;
      const large = LIVE ? address : (embedded(`input-${input.index}`) ?? small);
      return { ...input, small, large };
    });
}

function embedded(id) {
  return document.getElementById(id)?.textContent;
}

/** What is shown in place of a picture that could not be loaded. */
function onBroken(event) {
  event.target.classList.add("broken");
}

// Measures: what a cell has numbers of, as "group:name".

// Name -> what it is called, how one value is written, how a column of them.
const FIELDS = {
  steps: [data.kind === "film" ? "Frames" : "Steps", number, columnNumber],
  seconds: ["Time", duration, columnDuration],
  steps_per_second: [
    data.kind === "film" ? "Frames per second" : "Steps per second",
    number,
    columnNumber,
  ],
  peak_memory_bytes: ["Peak memory", bytes, columnBytes],
};

/** Of all cells: [[group name, [[key, text], ...]], ...]. */
function measures() {
  const names = (group) => [...new Set(data.cells.flatMap((cell) => Object.keys(cell[group])))];
  const keyed = (group, list) => list.map((name) => [`${group}:${name}`, name]);
  const terms = names("terms");
  const fields = Object.keys(FIELDS).filter((name) => data.cells.some((c) => c[name] !== null));
  return [
    ["Metrics", names("metrics").map((name) => [`metrics:${name}`, withArrow(name)])],
    [
      "Objective",
      keyed(
        "terms",
        terms.filter((name) => !name.includes("/")),
      ),
    ],
    ["Run", fields.map((name) => [`field:${name}`, FIELDS[name][0]])],
    [
      "Layers",
      keyed(
        "terms",
        terms.filter((name) => name.includes("/")),
      ),
    ],
  ].filter(([, list]) => list.length);
}

function valueOf(cell, key) {
  const [group, name] = split(key);
  if (group === "label") return cell.labels[name];
  return (group === "field" ? cell[name] : cell[group][name]) ?? null;
}

function textOf(cell, key) {
  const [group, name] = split(key);
  const value = valueOf(cell, key);
  return group === "field" && FIELDS[name] ? FIELDS[name][1](value) : number(value);
}

/** How a measure is written in a column: a function of a cell. */
function columnOf(cells, key) {
  const [group, name] = split(key);
  const column = (group === "field" && FIELDS[name]?.[2]) || columnNumber;
  const write = column(cells.map((cell) => valueOf(cell, key)));
  return (cell) => write(valueOf(cell, key));
}

/** Whether more of a measure is better, so that the best comes first when descending. */
function isHigherBetter(key) {
  const [group, name] = split(key);
  return group === "metrics" && data.higher.includes(name);
}

/** A metric's name with the way to better numbers. */
function withArrow(name) {
  return `${name} ${isHigherBetter(`metrics:${name}`) ? "\u2191" : "\u2193"}`;
}

function measureName(key) {
  const [group, name] = split(key);
  if (group === "metrics") return withArrow(name);
  return group === "field" ? (FIELDS[name]?.[0] ?? name) : name;
}

function split(key) {
  const at = key.indexOf(":");
  return [key.slice(0, at), key.slice(at + 1)];
}

/** The first measure: a metric where there are metrics, else the total. */
function firstMeasure() {
  return measures()[0]?.[1][0][0] ?? "";
}

// Order and filter.

/** Cells by a key, ascending or not; what has no value comes last. */
function sorted(cells, key, descending) {
  const place = placeOf(key);
  const known = cells.filter((cell) => place(cell) !== null);
  const unknown = cells.filter((cell) => place(cell) === null);
  const sign = descending ? -1 : 1;
  const order = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
  known.sort((a, b) => sign * order(place(a), place(b)) || a.index - b.index);
  return [...known, ...unknown];
}

/** The labels of an axis are in the order of the axis, whether numbers or words. */
function placeOf(key) {
  const [group, name] = split(key);
  if (group !== "label") return (cell) => valueOf(cell, key);
  const places = new Map(axisNamed(name).labels.map((label, index) => [label, index]));
  return (cell) => places.get(cell.labels[name]);
}

function labelKey(axis, label) {
  return JSON.stringify([axis, label]);
}

function isOn(axis, label) {
  return !filter.off.has(labelKey(axis, label));
}

function passes(cell) {
  if (!data.axes.every((axis) => isOn(axis.name, cell.labels[axis.name]))) return false;
  const words = [cell.name, titleOf(cell), stateOf(cell), cell.worker, cell.message];
  const text = words.join(" ").toLowerCase();
  return filter.text
    .toLowerCase()
    .split(/\s+/)
    .every((word) => text.includes(word));
}

function shownCells() {
  return data.cells.filter(passes);
}

/** Cells by their labels on some axes, in the order of these: [{labels, name, cells}]. */
function grouped(cells, axes) {
  const groups = new Map();
  for (const cell of cells) {
    const labels = axes.map((axis) => cell.labels[axis.name]);
    const key = JSON.stringify(labels);
    const name = axes.map((axis, k) => `${axis.name} ${labels[k]}`).join(" \u00b7 ");
    if (!groups.has(key)) groups.set(key, { labels, name, cells: [] });
    groups.get(key).cells.push(cell);
  }
  const places = ({ labels }) => labels.map((label, k) => axes[k].labels.indexOf(label));
  const order = (a, b) => a.map((place, k) => place - b[k]).find(Boolean) ?? 0;
  return [...groups.values()].sort((a, b) => order(places(a), places(b)));
}

function shownLabels(axis) {
  return axis.labels.filter((label) => isOn(axis.name, label));
}

// Axes as scales and colours.

function isNumeric(axis) {
  return axis.labels.every((label) => label.trim() !== "" && Number.isFinite(Number(label)));
}

/**
 * "band" for words, "log" for positive numbers whose ratios are more even than their differences
 * (or two that are a decade apart), else "linear".
 */
function scaleKind(axis) {
  if (!isNumeric(axis) || axis.labels.length < 2) return "band";
  const values = axis.labels.map(Number).sort((a, b) => a - b);
  if (values[0] <= 0) return "linear";
  if (values.length === 2) return values[1] >= 10 * values[0] ? "log" : "linear";
  const evenness = (list) => {
    const gaps = list.slice(1).map((value, k) => value - list[k]);
    return Math.min(...gaps) / Math.max(...gaps);
  };
  return evenness(values.map(Math.log)) > evenness(values) ? "log" : "linear";
}

/** The colour of a label: along a ramp where the labels are numbers, else one of a set. */
function colourOf(axis, label) {
  if (!axis) return "var(--series-0)";
  const index = axis.labels.indexOf(label);
  if (isNumeric(axis) && axis.labels.length > 2) {
    const places = axis.labels.map(Number).sort((a, b) => a - b);
    const share = places.indexOf(Number(label)) / (places.length - 1);
    if (share <= 0.5) return `color-mix(in oklab, var(--ramp-1) ${share * 200}%, var(--ramp-0))`;
    return `color-mix(in oklab, var(--ramp-2) ${share * 200 - 100}%, var(--ramp-1))`;
  }
  return `var(--series-${index % CATEGORIES})`;
}

/** Resolved configs as {"optimizer.name": "adam"}, values as JSON. */
function flattened(config, prefix = "") {
  return Object.entries(config).flatMap(([key, value]) =>
    value && typeof value === "object" && !Array.isArray(value)
      ? flattened(value, `${prefix}${key}.`)
      : [[prefix + key, JSON.stringify(value)]],
  );
}

/** The keys of configs that differ between cells, or that some configs lack. */
function differingKeys() {
  const configs = data.cells.map((cell) => flattened(cell.config)).filter((pairs) => pairs.length);
  const values = new Map();
  for (const [key, value] of configs.flat()) {
    if (!values.has(key)) values.set(key, []);
    values.get(key).push(value);
  }
  const differs = (list) => list.length < configs.length || new Set(list).size > 1;
  return new Set([...values].filter(([, list]) => differs(list)).map(([key]) => key));
}
