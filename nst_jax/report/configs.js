// The tab of several sweeps: what their configs differ in.
"use strict";

const MAX_VALUES = 6; // that a sweep's cells have of one key, written out

/** A row for each key that differs between cells, a column for each sweep. */
function configsView() {
  const table = h("table", { class: "results values" });
  const scroller = h("div", { class: "scroller", tabindex: 0, role: "region" }, table);
  scroller.setAttribute("aria-label", "Configs");
  const hint = h("p", { class: "hint" });
  const element = h("div", {}, scroller, hint);

  function valuesIn(cells, key) {
    const all = cells.map((cell) => new Map(flattened(cell.config)).get(key) ?? "\u2013");
    const values = [...new Set(all)];
    const more = values.length > MAX_VALUES ? `, \u2026 (${values.length})` : "";
    return values.slice(0, MAX_VALUES).join(", ") + more;
  }

  function update() {
    const keys = [...differingKeys()].sort();
    const sweeps = grouped(shownCells(), data.axes.slice(0, 1));
    const names = ["Key", ...sweeps.map(({ labels }) => labels[0])];
    const title = (name) => h("th", { scope: "col", class: "word" }, name);
    const row = (key) => {
      const values = sweeps.map(({ cells }) => valuesIn(cells, key));
      const columns = values.map((value) => h("td", { class: "word" }, value));
      const look = { class: new Set(values).size > 1 ? "differs" : null };
      return h("tr", look, h("th", { scope: "row" }, key), columns);
    };
    table.replaceChildren(
      h("thead", {}, h("tr", {}, names.map(title))),
      h("tbody", {}, keys.map(row)),
    );
    const marked = "Marked are those whose values differ between sweeps.";
    setText(hint, `${plural(keys.length, "key")} with values that differ between cells. ${marked}`);
  }

  return { element, update };
}
