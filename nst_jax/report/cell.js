// One cell in full: the painting against what it was made from, curves, metrics, config, command.
"use strict";

const comparison = { role: "Content", split: 0 }; // kept from one cell to the next

/** Everything about a cell; `update(cell)` shows another one, or the same as it is now. */
function cellView() {
  const picture = stage();
  const why = h("p", { class: "why", role: "note" });
  const losses = lossCurves();
  const facts = h("dl", { class: "facts" });
  const command = h("code");
  const said = h("span", { class: "quiet", role: "status" });
  const copy = h("button", { type: "button", class: "plain", onclick: copyCommand }, "Copy");
  const config = configTable();
  const commandPart = h(
    "section",
    {},
    h("div", { class: "head" }, h("h3", {}, "Command"), copy, said),
    h("pre", { tabindex: 0, "aria-label": "Command" }, command),
  );
  const curves = h("section", {}, losses.element);
  const numbers = h("section", {}, h("h3", {}, "Results"), facts);
  const details = h("div", { class: "details" }, why, numbers, curves, commandPart, config.element);
  const element = h("div", { class: "view" }, picture.element, details);

  async function copyCommand() {
    try {
      await navigator.clipboard.writeText(command.textContent);
    } catch {
      getSelection().selectAllChildren(command); // not allowed: at least it is selected
      setText(said, "Selected");
      return;
    }
    setText(copy, "Copied");
    setText(said, "Copied");
    setTimeout(() => (setText(copy, "Copy"), setText(said, "")), 2000);
  }

  return {
    element,
    update(cell) {
      picture.update(cell);
      why.hidden = !cell.message;
      setText(why, cell.message);
      losses.update(cell);
      curves.hidden = !cell.curve.step.length;
      if (command.textContent !== cell.command) command.replaceChildren(...units(cell.command));
      commandPart.hidden = !cell.command;
      config.update(cell);
      const pairs = [
        ["Status", cell.status],
        ...Object.entries(cell.metrics).map(([name, value]) => [name, number(value)]),
        ...Object.keys(FIELDS)
          .filter((name) => cell[name] !== null)
          .map((name) => [FIELDS[name][0], FIELDS[name][1](cell[name])]),
      ];
      const text = JSON.stringify(pairs);
      if (facts.dataset.text !== text) {
        facts.dataset.text = text;
        facts.replaceChildren(
          ...pairs.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))),
        );
      }
    },
  };
}

/** A command that is wrapped between its words only, not after the hyphens of an option. */
function units(command) {
  return command
    .split(/(\s+)/)
    .map((word) => (word.trim() ? h("span", { class: "unit" }, word) : word));
}

/** The painting, and over its left part the content or a style picture. */
function stage() {
  const painting = h("img", { alt: "", class: "painting", onerror: onBroken, draggable: "false" });
  const other = h("img", { alt: "", class: "other", onerror: onBroken, draggable: "false" });
  const range = h("input", { type: "range", min: 0, max: 100, step: 1, oninput: () => place() });
  const grip = h("span", { class: "grip" }, icon(ICONS.grip));
  const line = h("span", { class: "divide", "aria-hidden": "true" }, h("i"), grip);
  const [left, right] = [h("span", { class: "tag left" }), h("span", { class: "tag right" })];
  const frame = h("div", { class: "frame" }, painting, other, left, right, range, line);
  const empty = h("div", { class: "vacant" });
  const compare = h("div", { class: "compare" });
  const element = h("div", { class: "stage" }, frame, empty, compare);
  let [inputs, listed] = [[], ""];
  setText(right, "Painting");

  function place(value = Number(range.value)) {
    comparison.split = value;
    range.value = value;
    setProperties(frame, { "--split": `${value}%` });
    left.hidden = value < 12 || !chosen();
    right.hidden = value > 88 || value < 1 || !chosen();
    setAttribute(range, "aria-valuetext", `${value} % ${comparison.role.toLowerCase()}`);
  }

  const chosen = () => inputs.find((input) => input.role === comparison.role);

  function choose(role) {
    comparison.role = role;
    const input = chosen();
    range.hidden = line.hidden = other.hidden = !input;
    if (input) {
      if (other.getAttribute("src") !== input.large) other.src = input.large;
      other.alt = `${input.role}: ${input.name}`;
      setText(left, input.role);
      setAttribute(
        range,
        "aria-label",
        `How much of the ${input.role.toLowerCase()} picture lies over the painting`,
      );
    }
    place();
  }

  // The pointer may take the picture anywhere, not only the slider's thumb.
  const drag = (event) => {
    const box = frame.getBoundingClientRect();
    const share = (event.clientX - box.left) / box.width;
    place(Math.round(Math.min(Math.max(share, 0), 1) * 100));
  };
  frame.addEventListener("pointerdown", (event) => {
    if (!chosen() || event.button !== 0) return;
    event.preventDefault();
    frame.setPointerCapture(event.pointerId);
    range.focus({ preventScroll: true, focusVisible: false });
    drag(event);
  });
  frame.addEventListener("pointermove", (event) => {
    if (frame.hasPointerCapture(event.pointerId)) drag(event);
  });

  return {
    element,
    update(cell) {
      const shown = pictureOf(cell);
      frame.hidden = !shown;
      empty.hidden = Boolean(shown);
      setText(empty, cell.status === "failed" ? "No painting" : stateOf(cell));
      if (shown) {
        const address = largeOf(cell);
        if (painting.getAttribute("src") !== address) {
          painting.classList.remove("broken");
          painting.src = address;
        }
        painting.alt = `Painting: ${titleOf(cell)}`;
        const { width, height } = shown;
        setProperties(frame, { "--ratio": width / height, "--natural": `${width}px` });
      }
      inputs = inputsOf(cell);
      if (!chosen()) comparison.role = inputs[0]?.role ?? "";
      const roles = inputs.map((input) => input.role);
      compare.hidden = !shown || !roles.length;
      if (listed !== roles.join()) {
        listed = roles.join();
        const options = roles.map((role) => [role, role]);
        compare.replaceChildren(
          h("span", {}, "Compare with"),
          segments("Compare with", options, comparison.role, (role) => {
            choose(role);
            if (comparison.split < 12) place(50);
          }),
        );
      }
      range.value = comparison.split;
      choose(comparison.role);
    },
  };
}

/** The curves of one cell: the objective and its terms, or the layers of each. */
function lossCurves() {
  const state = { group: "terms" };
  const chart = lineChart();
  const keys = h("div");
  const hidden = new Set();
  const groups = segments(
    "Curves of",
    [
      ["terms", "Terms"],
      ["layers", "Layers"],
    ],
    "terms",
    (value) => {
      state.group = value;
      update(current);
    },
  );
  const element = h("div", {}, h("div", { class: "head" }, h("h3", {}, "Losses"), groups));
  element.append(chart.element, keys);
  let [current, listed] = [null, ""];

  function update(cell) {
    current = cell;
    const all = Object.keys(cell.curve.terms);
    const isLayer = (name) => name.includes("/");
    groups.hidden = !all.some(isLayer);
    const names = all.filter((name) => isLayer(name) === (state.group === "layers"));
    const series = names.map((name, k) => ({
      name,
      colour: `var(--series-${k % CATEGORIES})`,
      dash: DASHES[Math.floor(k / CATEGORIES) % DASHES.length],
      points: cell.curve.terms[name].map((y, i) => [cell.curve.step[i], y]),
      text: number(cell.terms[name]),
    }));
    const list = JSON.stringify(series.map(({ name, text }) => [name, text]));
    if (list !== listed) {
      listed = list;
      const held = keys.contains(document.activeElement) && document.activeElement.textContent;
      keys.replaceChildren(legend("Curves", series, hidden, () => update(current)));
      if (held) [...keys.querySelectorAll("button")].find((b) => b.textContent === held)?.focus();
    }
    chart.update({
      series: series.filter(({ name }) => !hidden.has(name)),
      shared: true,
      x: { name: "step", kind: "linear" },
      y: { name: state.group === "layers" ? "before lambdas" : "loss", kind: "log" },
      height: 250,
      label: `Losses of ${titleOf(cell)} against steps.`,
    });
  }

  return { element, update };
}

/** The resolved config; what differs between cells is marked. */
function configTable() {
  const summary = h("summary");
  const table = h("table");
  const element = h("details", { class: "config" }, summary, table);
  let listed = "";
  return {
    element,
    update(cell) {
      const pairs = flattened(cell.config);
      const list = JSON.stringify(pairs);
      element.hidden = !pairs.length;
      if (list === listed) return;
      listed = list;
      const differing = differingKeys();
      const count = pairs.filter(([key]) => differing.has(key)).length;
      const differ = count ? `, ${count} of which differ between cells` : "";
      const note = h("small", {}, `${plural(pairs.length, "key")}${differ}`);
      summary.replaceChildren(h("h3", {}, "Config"), note);
      const row = ([key, value]) =>
        h(
          "tr",
          { class: differing.has(key) ? "differs" : null },
          h("th", { scope: "row" }, key),
          h(
            "td",
            {},
            value,
            differing.has(key) ? h("span", { class: "quiet" }, " (differs)") : null,
          ),
        );
      table.replaceChildren(h("tbody", {}, pairs.map(row)));
    },
  };
}

/** The dialog that holds the view of one cell and turns to the next. `order()`: names. */
function viewer(order, onclose) {
  const dialog = document.getElementById("viewer");
  const view = cellView();
  const title = h("h2", { id: "viewer-title", tabindex: -1 });
  const place = h("span", { class: "place" });
  const turn = (by, name) =>
    h(
      "button",
      { type: "button", class: "round", "aria-label": name, title: name, onclick: () => go(by) },
      icon(by < 0 ? ICONS.previous : ICONS.next),
    );
  const close = h(
    "button",
    {
      type: "button",
      class: "round",
      "aria-label": "Close",
      title: "Close",
      onclick: () => dialog.close(),
    },
    icon(ICONS.close),
  );
  const bar = h(
    "div",
    { class: "heading" },
    title,
    place,
    turn(-1, "Previous cell"),
    turn(1, "Next cell"),
    close,
  );
  dialog.append(bar, view.element);
  dialog.addEventListener("close", () => onclose(name));
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const busy = event.target.matches("input, select, textarea");
    if (!by || busy || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    go(by);
  });
  let [name, names] = ["", []];

  function go(by) {
    name = names.at((names.indexOf(name) + by + names.length) % names.length);
    update();
  }

  function update() {
    if (!dialog.open) return;
    setText(title, titleOf(cellNamed(name)));
    setText(place, `${names.indexOf(name) + 1} / ${names.length}`);
    view.update(cellNamed(name));
  }

  return {
    update,
    open(chosen) {
      name = chosen;
      names = order();
      if (!names.includes(name)) names = data.cells.map((cell) => cell.name);
      dialog.showModal();
      update();
      dialog.scrollTop = 0;
      title.focus({ preventScroll: true });
    },
  };
}
