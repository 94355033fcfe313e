// The table of results.
"use strict";

/** The tab; a click on a head sorts, on a name opens the cell. */
function tableView(open) {
  const state = { sort: "", descending: false, layers: false };
  const layers = checkbox("Layers", false, (value) => ((state.layers = value), update()));
  const table = h("table", { class: "results" });
  const scroller = h("div", { class: "scroller", tabindex: 0, role: "region" }, table);
  scroller.setAttribute("aria-label", "Results");
  const controls = h("div", { class: "controls" }, layers);
  const paper = paperPart();
  const element = h("div", {}, controls, scroller, paper.element);
  let [drawnAs, listed] = ["", []];

  function columnKeys() {
    const isLayers = ([name]) => name === "Layers";
    controls.hidden = !measures().some(isLayers);
    return [
      ...data.axes.map((axis) => [`label:${axis.name}`, axis.name]),
      ["field:status", "Status"],
      ...(hasWorkers() ? [["field:worker", "Worker"]] : []),
      ...measures()
        .filter((group) => state.layers || !isLayers(group))
        .flatMap(([, list]) => list),
    ];
  }

  /** One that has painted everything need not be named. */
  function hasWorkers() {
    const workers = new Set(data.cells.map((cell) => cell.worker));
    return workers.size > 1 || (data.workers.length > 0 && !data.ended);
  }

  function sortBy(key) {
    state.descending = state.sort === key ? !state.descending : isHigherBetter(key);
    state.sort = key;
    update();
  }

  const isWord = (key) => /^label:|^field:(status|worker)$/.test(key);

  function head(key, text) {
    const direction = state.descending ? "descending" : "ascending";
    const isSorted = state.sort === key;
    return h(
      "th",
      {
        scope: "col",
        class: isWord(key) ? "word" : null,
        "aria-sort": isSorted ? direction : null,
      },
      h(
        "button",
        { type: "button", "data-key": `head ${key}`, onclick: () => sortBy(key) },
        text,
        isSorted ? icon(ICONS[direction]) : null,
      ),
    );
  }

  function row(cell, keys, columns) {
    const name = h(
      "button",
      { type: "button", "data-key": `row ${cell.name}`, onclick: () => open(cell.name) },
      cell.name,
    );
    return h(
      "tr",
      { "data-status": cell.status },
      h("th", { scope: "row" }, name),
      keys.map(([key]) => {
        if (key === "field:status") {
          const why = cell.message ? h("small", { title: cell.message }, cell.message) : null;
          return h("td", { class: "word status" }, stateOf(cell), why);
        }
        if (isWord(key)) return h("td", { class: "word" }, valueOf(cell, key));
        return h("td", {}, columns.get(key)(cell));
      }),
    );
  }

  function update() {
    const keys = columnKeys();
    const cells = state.sort ? sorted(shownCells(), state.sort, state.descending) : shownCells();
    listed = cells.map((cell) => cell.name);
    const drawing = JSON.stringify([
      state,
      keys,
      cells.map((c) => [c.name, stateOf(c), c.worker, c.terms, c.metrics]),
    ]);
    paper.update();
    if (drawing === drawnAs) return;
    drawnAs = drawing;
    const focused = table.contains(document.activeElement) && document.activeElement.dataset.key;
    const names = [["field:name", "Cell"], ...keys];
    const columns = new Map(
      keys.filter(([key]) => !isWord(key)).map(([key]) => [key, columnOf(cells, key)]),
    );
    table.replaceChildren(
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          names.map(([key, text]) => head(key, text)),
        ),
      ),
      h(
        "tbody",
        {},
        cells.map((cell) => row(cell, keys, columns)),
      ),
    );
    if (focused) {
      const again = [...table.querySelectorAll("button")].find((b) => b.dataset.key === focused);
      again?.focus({ preventScroll: true });
    }
  }

  return { element, update, order: () => listed };
}
