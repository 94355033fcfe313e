// The table for a paper: means over seeds, with 95 % intervals, as Markdown, LaTeX or CSV.
"use strict";

// Of Student's t, two-sided 95 %, by degrees of freedom; beyond them 1.96 is near enough.
const T95 = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228];

/** The half-width of the 95 % interval of a mean; null for a single value. */
function halfWidth(values) {
  const { deviation } = summary(values);
  if (deviation === undefined) return null;
  return ((T95[values.length - 2] ?? 1.96) * deviation) / Math.sqrt(values.length);
}

/**
 * Rows of the cells that are shown, cells that differ only in the axis "seed" as one:
 * {head: [text], rows: [[label or [mean, half-width]]]}.
 */
function paperTable() {
  const axes = data.axes.filter((axis) => axis.name !== "seed");
  const [, list] = measures()[0] ?? ["", []];
  const groups = new Map();
  for (const cell of shownCells()) {
    const labels = axes.map((axis) => cell.labels[axis.name]);
    const key = JSON.stringify(labels);
    if (!groups.has(key)) groups.set(key, { labels, cells: [] });
    groups.get(key).cells.push(cell);
  }
  const rows = [...groups.values()].map(({ labels, cells }) => [
    ...labels,
    ...list.map(([key]) => {
      const values = cells.map((cell) => valueOf(cell, key)).filter((value) => value !== null);
      return [summary(values).mean ?? null, halfWidth(values)];
    }),
  ]);
  return { head: [...axes.map((axis) => axis.name), ...list.map(([, text]) => text)], rows };
}

/** A number with its interval, both to the place that the interval's second digit has. */
function withInterval([mean, half], plusMinus) {
  if (mean === null) return "";
  if (!half) return String(Number(mean.toPrecision(4)));
  const places = Math.min(Math.max(1 - Math.floor(Math.log10(half)), 0), 20);
  return `${mean.toFixed(places)} ${plusMinus} ${half.toFixed(places)}`;
}

const texts = (row, plusMinus) =>
  row.map((one) => (Array.isArray(one) ? withInterval(one, plusMinus) : one));

// Format -> (head, rows) -> text.
const PAPER = {
  Markdown({ head, rows }) {
    const line = (words) => `| ${words.map((word) => word.replaceAll("|", "\\|")).join(" | ")} |`;
    const rule = `|${"---|".repeat(head.length)}`;
    return [line(head), rule, ...rows.map((row) => line(texts(row, "\u00b1")))].join("\n");
  },
  LaTeX({ head, rows }) {
    const escaped = (word) =>
      word
        .replace(/[&%$#_{}]/g, "\\$&")
        .replace("\u2191", "$\\uparrow$")
        .replace("\u2193", "$\\downarrow$");
    const line = (words) => `${words.join(" & ")} \\\\`;
    const cells = (row) =>
      row.map((one) => {
        if (!Array.isArray(one)) return escaped(one);
        const text = withInterval(one, "\\pm");
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

/** Buttons that copy the table; where that is not allowed, it is shown and selected. */
function paperButtons() {
  const shown = h("pre", { class: "paper", hidden: true });
  const said = h("span", { "aria-live": "polite" });
  async function copy(format) {
    shown.textContent = PAPER[format](paperTable());
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
  const buttons = Object.keys(PAPER).map((format) =>
    h("button", { type: "button", class: "plain", onclick: () => copy(format) }, format),
  );
  const label = h("span", {}, "Copy means over seeds as");
  return h("div", { class: "paper-buttons" }, h("div", {}, label, buttons, said), shown);
}
