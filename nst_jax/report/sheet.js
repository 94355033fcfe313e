// The contact sheet: cards in a grid of two axes, or in a list.
"use strict";

/** One cell's card, drawn once; `update(cell)` changes what has changed. */
function card(name, open) {
  const image = h("img", { alt: "", loading: "lazy", decoding: "async", onerror: onBroken });
  const state = h("span", { class: "state" });
  const frame = h("span", { class: "mat" }, image, state);
  const title = h("span", { class: "title" });
  const value = h("span", { class: "value" });
  const element = h(
    "button",
    { type: "button", class: "card", onclick: () => open(name) },
    frame,
    h("span", { class: "caption" }, title, value),
  );
  return {
    element,
    image,
    update(cell, measure) {
      const picture = pictureOf(cell);
      setAttribute(element, "data-status", cell.status);
      setAttribute(frame, "class", picture ? "mat" : "mat empty");
      image.hidden = !picture;
      if (picture && image.dataset.version !== String(picture.version)) {
        image.dataset.version = picture.version;
        image.classList.remove("broken");
        setAttribute(image, "width", picture.width);
        setAttribute(image, "height", picture.height);
        image.src = smallOf(cell);
      }
      const result = measure ? `${measureName(measure)} ${textOf(cell, measure)}` : "";
      image.alt = picture ? `Painting: ${titleOf(cell)}` : "";
      const why = cell.message ? `: ${cell.message}` : "";
      setText(state, cell.status === "done" && picture ? "" : workOf(cell) + why);
      setText(title, titleOf(cell, "\u00a0"));
      setText(value, measure && valueOf(cell, measure) !== null ? textOf(cell, measure) : "");
      setAttribute(element, "aria-label", [titleOf(cell), workOf(cell) + why, result].join(", "));
      setAttribute(element, "title", why ? cell.message : result);
    },
  };
}

/** The tab. `open(name)` shows a cell; `order` lists names as they are laid out. */
function sheetView(open) {
  const names = data.axes.map((axis) => axis.name);
  const [down, across] = startAxes();
  const state = {
    layout: "grid",
    rows: down,
    columns: across,
    measure: "",
    sort: names.length ? `label:${names[0]}` : "field:name",
    descending: false,
  };
  const cards = new Map();
  let drawnAs = "";

  const rows = choice("Rows", (value) => lay("rows", value));
  const columns = choice("Columns", (value) => lay("columns", value));
  const sort = choice("Sort by", (value) =>
    set({ sort: value, descending: isHigherBetter(value) }),
  );
  const measure = choice("Below each", (value) => set({ measure: value }));
  const direction = h("button", {
    type: "button",
    class: "round",
    onclick: () => set({ descending: !state.descending }),
  });
  const size = h("input", {
    type: "range",
    min: 80,
    max: 400,
    step: 4,
    value: startSize(),
    oninput: () => (resize(), sharpen()),
  });
  const layout = segments(
    "Layout",
    [
      ["grid", "Grid"],
      ["list", "List"],
    ],
    "grid",
    (value) => set({ layout: value }),
  );
  const gridOnly = h("div", { class: "pair" }, rows.element, columns.element);
  const listOnly = h("div", { class: "pair" }, sort.element, direction);
  const sizeField = h("label", { class: "field size" }, h("span", {}, "Size"), size);
  const controls = h("div", { class: "controls" }, layout, gridOnly, listOnly);
  controls.append(measure.element, sizeField);
  const body = h("div", { class: "sheet" });
  const element = h("div", {}, controls, body);
  resize();

  /** The last two axes. Of only two, the longer one lies along the longer side of the window. */
  function startAxes() {
    const [first, second] = data.axes.slice(-2);
    if (!second) return ["", first?.name ?? ""];
    const lying = data.axes.length === 2 && first.labels.length > second.labels.length;
    return lying && innerWidth > 900 ? [second.name, first.name] : [first.name, second.name];
  }

  /** Such that a whole grid is seen at once, about: few cells large, many small. */
  function startSize() {
    const [down, across] = [axisNamed(state.rows), axisNamed(state.columns)];
    const columns = across?.labels.length ?? 1;
    const sections = data.axes.length > 2 && innerWidth > 900 ? 2 : 1; // beside each other
    const wide = (Math.min(innerWidth, 1600) * 0.93 - 48 * (sections - 1)) / sections;
    const high = ((innerHeight - 330) * 1.35) / (down?.labels.length ?? 2) - 42;
    const fitting = Math.min((wide - 80) / columns - 16, high * shape());
    return Math.round(Math.min(Math.max(fitting, 100), 360));
  }

  /** Width by height of the first painting: cells without one are drawn alike. */
  function shape() {
    const picture = data.cells.map(pictureOf).find(Boolean);
    return picture ? picture.width / picture.height : 1;
  }

  function resize() {
    setProperties(body, { "--size": `${size.value}px`, "--shape": shape() });
  }

  /** An axis cannot be both: where it is taken, the two change places. */
  function lay(side, value) {
    const other = side === "rows" ? "columns" : "rows";
    const swapped = state[other] === value ? { [other]: state[side] } : {};
    set({ [side]: value, ...swapped });
  }

  function set(change) {
    Object.assign(state, change);
    update();
  }

  function cardOf(cell) {
    if (!cards.has(cell.name)) cards.set(cell.name, card(cell.name, open));
    const one = cards.get(cell.name);
    one.update(cell, state.measure);
    return one.element;
  }

  // Small pictures that are shown larger than they are become the large ones once seen.
  const seen = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      const cell = isIntersecting && cellNamed(target.dataset.cell);
      if (!cell || LIVE || !pictureOf(cell)) continue;
      const longer = Math.max(target.clientWidth, target.clientHeight) * devicePixelRatio;
      if (longer > 190 && target.dataset.large !== target.dataset.version) {
        const large = largeOf(cell);
        if (large === smallOf(cell)) continue; // not parsed yet
        target.dataset.large = target.dataset.version;
        target.src = large;
      }
    }
  });

  function sharpen() {
    seen.disconnect();
    for (const [name, { image }] of cards) {
      image.dataset.cell = name;
      if (image.isConnected) seen.observe(image);
    }
  }
  addEventListener("load", sharpen);

  function grid(cells) {
    const [down, across] = [axisNamed(state.rows), axisNamed(state.columns)];
    const others = data.axes.filter((axis) => axis !== down && axis !== across);
    return grouped(cells, others).map((group) => {
      const block = down || across ? table(group.cells, down, across) : flow(group.cells);
      return h("section", {}, group.name ? h("h3", {}, group.name) : null, block);
    });
  }

  function table(cells, down, across) {
    if (!down) return flow(cells);
    // Of several sweeps, a group may lack whole rows and columns; they take no room.
    const present = (axis) =>
      axis.labels.filter((label) => cells.some((cell) => cell.labels[axis.name] === label));
    const [rowLabels, labels] = [present(down), across ? present(across) : [""]];
    const at = (row, column) =>
      cells.find(
        (cell) =>
          cell.labels[down.name] === row && (!across || cell.labels[across.name] === column),
      );
    const head = across
      ? h(
          "thead",
          {},
          h(
            "tr",
            {},
            h("td", { class: "corner" }),
            labels.map((label, k) => h("th", { scope: "col" }, axisName(across, k), label)),
          ),
        )
      : null;
    const body = rowLabels.map((row, k) =>
      h(
        "tr",
        {},
        h("th", { scope: "row" }, axisName(down, k), row),
        labels.map((column) => {
          const cell = at(row, column);
          return h("td", { class: cell ? null : "missing" }, cell ? cardOf(cell) : null);
        }),
      ),
    );
    const longest = Math.max(...rowLabels.map((label) => label.length), down.name.length);
    const sizes = { "--columns": labels.length, "--letters": longest };
    const grid = h("table", { class: "grid", css: sizes });
    grid.append(...[head, h("tbody", {}, body)].filter(Boolean));
    return h("div", { class: "scroller" }, grid);
  }

  /** Drawn over the first label only, said with each. */
  function axisName(axis, index) {
    return h("span", { class: index ? "axis-name quiet" : "axis-name" }, axis.name);
  }

  function flow(cells) {
    return h("div", { class: "flow" }, cells.map(cardOf));
  }

  function update() {
    const cells = shownCells();
    const axes = data.axes.map((axis) => [axis.name, axis.name]);
    rows.update([["", [["", "none"], ...axes]]], state.rows);
    columns.update([["", [["", "none"], ...axes]]], state.columns);
    const labels = data.axes.map((axis) => [`label:${axis.name}`, axis.name]);
    const named = [
      ["Axes", labels],
      [
        "",
        [
          ["field:name", "Cell"],
          ["field:status", "Status"],
        ],
      ],
    ];
    sort.update([...named, ...measures()], state.sort);
    if (!state.measure) state.measure = firstMeasure();
    measure.update([["", [["", "nothing"]]], ...measures()], state.measure);
    direction.replaceChildren(icon(state.descending ? ICONS.descending : ICONS.ascending));
    setAttribute(direction, "aria-label", state.descending ? "Descending" : "Ascending");
    gridOnly.hidden = state.layout !== "grid" || data.axes.length < 2;
    listOnly.hidden = state.layout !== "list";

    const list = sorted(cells, state.sort, state.descending);
    const shown = state.layout === "list" ? list : cells;
    const { layout, rows: down, columns: across } = state;
    const drawing = JSON.stringify([layout, down, across, shown.map((cell) => cell.name)]);
    if (drawing === drawnAs) {
      for (const cell of shown) cardOf(cell);
    } else {
      drawnAs = drawing;
      const focused = document.activeElement;
      body.classList.toggle("listed", layout === "list" || !down);
      const blocks = layout === "list" ? [flow(list)] : grid(cells);
      const nothing = h("p", { class: "nothing" }, "No cell passes the filter.");
      body.replaceChildren(...(cells.length ? blocks : [nothing]));
      if (body.contains(focused)) focused.focus({ preventScroll: true });
    }
    resize();
    sharpen();
  }

  return {
    element,
    update,
    focus: (name) => cards.get(name)?.element.focus(),
    order: () => [...body.querySelectorAll(".card img")].map((image) => image.dataset.cell),
  };
}
