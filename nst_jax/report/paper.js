// The table for a paper: means over seeds, with 95 % intervals, as Markdown, LaTeX or CSV.
"use strict";

// Of Student's t, two-sided 95 %, by degrees of freedom; beyond them a series is right to 4 digits.
const T95 = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228];
const Z95 = 1.959964;

function studentT95(freedom) {
  const z = Z95;
  const first = (z ** 3 + z) / 4;
  const second = (5 * z ** 5 + 16 * z ** 3 + 3 * z) / 96;
  return T95[freedom - 1] ?? z + first / freedom + second / freedom ** 2;
}

/** The half-width of the 95 % interval of a mean; null for a single value. */
function halfWidth(values) {
  const { deviation } = summary(values);
  if (deviation === undefined) return null;
  return (studentT95(values.length - 1) * deviation) / Math.sqrt(values.length);
}

/**
 * What a row is about: a measure's values of cells, or where `than` is [axis, label] how much more
 * they have than the cells with that label which are alike otherwise, seed by seed.
 */
function sampler(than) {
  const known = (list) => list.filter((value) => value !== null);
  if (!than) return (cells, key) => known(cells.map((cell) => valueOf(cell, key)));
  const [axis, label] = than;
  const place = (labels) => JSON.stringify(data.axes.map(({ name }) => labels[name]));
  const done = data.cells.filter((cell) => cell.status === "done");
  const at = new Map(done.map((cell) => [place(cell.labels), cell]));
  return (cells, key) =>
    known(
      cells.map((cell) => {
        const other = at.get(place({ ...cell.labels, [axis]: label }));
        const [own, theirs] = [valueOf(cell, key), other ? valueOf(other, key) : null];
        return own === null || theirs === null ? null : own - theirs;
      }),
    );
}

/**
 * Rows of the cells that are shown and done, cells that differ only in the axis "seed" as one:
 * {head: [text], rows: [[label or [mean, half-width]]]}. `than`: see `sampler`.
 */
function paperTable(than = null) {
  const axes = data.axes.filter((axis) => axis.name !== REPEATS);
  const [, list] = measures()[0] ?? ["", []];
  const cells = shownCells().filter((cell) => cell.status === "done");
  const compared = than ? cells.filter((cell) => cell.labels[than[0]] !== than[1]) : cells;
  const sample = sampler(than);
  const rows = grouped(compared, axes).map((group) => [
    ...group.labels,
    ...list.map(([key]) => {
      const values = sample(group.cells, key);
      return [summary(values).mean ?? null, halfWidth(values)];
    }),
  ]);
  const isPaired = (row) => row.some((one) => Array.isArray(one) && one[0] !== null);
  const names = list.map(([, text]) => (than ? `\u0394 ${text}` : text));
  const head = [...axes.map((axis) => axis.name), ...names];
  return { head, rows: than ? rows.filter(isPaired) : rows };
}

/**
 * A number with its interval, both to the place that the interval's second digit has; very large
 * and small ones with a power of ten. `style`: how that and the sign between them are written.
 */
function withInterval([mean, half], style) {
  if (mean === null) return "";
  const size = Math.max(Math.abs(mean), half ?? 0);
  const power = size && (size >= 1e5 || size < 1e-3) ? Math.floor(Math.log10(size)) : 0;
  const [number, width] = [mean, half ?? 0].map((value) => value / 10 ** power);
  if (!width) return String(Number(number.toPrecision(4))) + style.power(power);
  const places = Math.min(Math.max(1 - Math.floor(Math.log10(width)), 0), 20);
  const text = `${number.toFixed(places)} ${style.sign} ${width.toFixed(places)}`;
  return power ? `(${text})${style.power(power)}` : text;
}

const PLAIN = { sign: "\u00b1", power: (power) => (power ? `e${power}` : "") };
const MATH = { sign: "\\pm", power: (power) => (power ? ` \\times 10^{${power}}` : "") };

const texts = (row) => row.map((one) => (Array.isArray(one) ? withInterval(one, PLAIN) : one));

// What LaTeX would take for something else, or does not have.
const LATEX = {
  "\\": "\\textbackslash{}",
  "~": "\\textasciitilde{}",
  "^": "\\textasciicircum{}",
  "<": "$<$",
  ">": "$>$",
  "|": "$|$",
  "\u0394": "$\\Delta$",
  "\u2191": "$\\uparrow$",
  "\u2193": "$\\downarrow$",
  "\u2013": "--",
};

// Format -> (head, rows) -> text.
const PAPER = {
  Markdown({ head, rows }) {
    const line = (words) => `| ${words.map((word) => word.replaceAll("|", "\\|")).join(" | ")} |`;
    const rule = `|${"---|".repeat(head.length)}`;
    return [line(head), rule, ...rows.map((row) => line(texts(row)))].join("\n");
  },
  LaTeX({ head, rows }) {
    const escaped = (word) =>
      word.replace(/[&%$#_{}\\~^<>|\u0394\u2191\u2193\u2013]/g, (one) => LATEX[one] ?? `\\${one}`);
    const line = (words) => `${words.join(" & ")} \\\\`;
    const cells = (row) =>
      row.map((one) => {
        if (!Array.isArray(one)) return escaped(one);
        const text = withInterval(one, MATH);
        return text && `$${text}$`;
      });
    return [
      `\\begin{tabular}{${"l".repeat(head.length)}}`,
      "\\hline",
      line(head.map(escaped)),
      "\\hline",
      ...rows.map((row) => line(cells(row))),
      "\\hline",
      "\\end{tabular}",
    ].join("\n");
  },
  CSV({ head, rows }) {
    const quoted = (word) => `"${String(word ?? "").replaceAll('"', '""')}"`;
    const isNumber = (column) => rows.some((row) => Array.isArray(row[column]));
    const names = head.flatMap((name, k) => (isNumber(k) ? [name, `${name} 95 %`] : [name]));
    const line = (words) => words.map(quoted).join(",");
    return [line(names), ...rows.map((row) => line(row.flat()))].join("\n");
  },
};

/** The table, and buttons that copy it; where that is not allowed, the text is selected. */
function paperPart() {
  const state = { than: "" };
  const than = choice("Show", (value) => ((state.than = value), update()));
  const table = h("table", { class: "results" });
  const scroller = h("div", { class: "scroller", tabindex: 0, role: "region" }, table);
  scroller.setAttribute("aria-label", "Means");
  const hint = h("p", { class: "hint" });
  const shown = h("pre", { class: "paper", hidden: true });
  const said = h("span", { "aria-live": "polite" });
  const asked = () => paperTable(state.than ? JSON.parse(state.than) : null);
  let drawnAs = "";

  async function copy(format) {
    shown.textContent = PAPER[format](asked());
    try {
      await navigator.clipboard.writeText(shown.textContent);
      setText(said, "Copied");
      setTimeout(() => setText(said, ""), 2000);
    } catch {
      shown.hidden = false;
      getSelection().selectAllChildren(shown);
      setText(said, "Selected");
    }
  }

  function update() {
    const axes = data.axes.filter(({ name, labels }) => name !== REPEATS && labels.length > 1);
    const differences = axes.map(({ name, labels }) => [
      `Paired differences: ${name}`,
      labels.map((label) => [labelKey(name, label), `minus ${name} ${label}`]),
    ]);
    element.hidden = !data.cells.some((cell) => cell.status === "done");
    than.update([["", [["", "means"]]], ...differences], state.than);
    const { head, rows } = asked();
    const drawing = JSON.stringify([state, head, rows]);
    if (drawing === drawnAs) return;
    drawnAs = drawing;
    const cell = (one) =>
      Array.isArray(one)
        ? h("td", {}, withInterval(one, PLAIN) || "\u2013")
        : h("td", { class: "word" }, one);
    const first = head.length - (measures()[0]?.[1].length ?? 0);
    const title = (text, k) => h("th", { scope: "col", class: k < first ? "word" : null }, text);
    table.replaceChildren(
      h("thead", {}, h("tr", {}, head.map(title))),
      h("tbody", {}, rows.map((row) => h("tr", {}, row.map(cell)))),
    );
    const over = axisNamed(REPEATS) ? " over seeds" : "";
    const means = `Means${over}, with the half-width of their 95 % intervals (Student's t).`;
    const seeds = over && ", seed by seed";
    const pairs = `Each cell minus the one that differs from it only there${seeds}. `;
    setText(hint, state.than ? pairs + means : means);
  }

  const buttons = Object.keys(PAPER).map((format) =>
    h("button", { type: "button", class: "plain", onclick: () => copy(format) }, format),
  );
  const label = h("span", { class: "legend-name" }, "Copy as");
  const bar = h("div", { class: "controls" }, than.element, label, buttons, said);
  const title = h("h3", {}, "Means");
  const element = h("section", { class: "means" }, title, bar, scroller, hint, shown);
  return { element, update };
}
