// One cell in full: the painting against what it was made from, curves, metrics, config, command.
"use strict";

/** Everything about a cell; `update(cell)` shows another one, or the same as it is now. */
function cellView() {
  const picture = stage();
  const film = filmPart();
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
  const shown = h("div", { class: "shown" }, film.element, picture.element);
  const element = h("div", { class: "view" }, shown, details);

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
      film.update(cell);
      why.hidden = !cell.message || cell.status === "stopped";
      setText(why, cell.message);
      losses.update(cell);
      curves.hidden = !cell.curve.step.length;
      if (command.textContent !== cell.command) command.replaceChildren(...units(cell.command));
      commandPart.hidden = !cell.command;
      config.update(cell);
      const pairs = [
        ["Status", cell.status],
        ...(cell.worker ? [["Worker", cell.worker]] : []),
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

/** A film beside its source; what is done to the first player, the second does as well. */
function filmPart() {
  const player = (name, controls) =>
    h("video", { controls, loop: true, muted: true, playsinline: true, "aria-label": name });
  const painting = player("Film", true);
  const source = player("Source", false);
  const follow = () => {
    if (Math.abs(source.currentTime - painting.currentTime) > 0.08)
      source.currentTime = painting.currentTime;
  };
  painting.addEventListener("play", () => (follow(), source.play()));
  painting.addEventListener("pause", () => (source.pause(), follow()));
  painting.addEventListener("seeked", follow);
  painting.addEventListener("timeupdate", follow);
  painting.addEventListener("ratechange", () => (source.playbackRate = painting.playbackRate));
  const titled = (text, video) => h("figure", {}, video, h("figcaption", {}, text));
  const pair = h("div", { class: "film" }, titled("Film", painting), titled("Source", source));
  const large = h("p", { class: "quiet" }, "The film is too large for this page: ");
  const element = h("div", {}, pair, large);

  /** Where a film is; nothing where the page has no room for it. */
  function addressOf(role, { path, version }) {
    if (!LIVE) return embedded(`film-${role}`);
    return `files/${path.split("/").map(encodeURIComponent).join("/")}?${version}`;
  }

  return {
    element,
    update(cell) {
      element.hidden = !cell.film;
      if (!cell.film) return;
      const addresses = { painting, source };
      pair.hidden = !addressOf("painting", cell.film.painting);
      large.hidden = !pair.hidden;
      large.replaceChildren(
        "The film is too large for this page: ",
        h("a", { href: cell.film.painting.path }, cell.film.painting.path),
      );
      if (pair.hidden) return;
      for (const [role, video] of Object.entries(addresses)) {
        const address = addressOf(role, cell.film[role]);
        if (video.getAttribute("src") !== address) video.src = address;
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
      x: { name: data.kind === "film" ? "frame" : "step", kind: "linear" },
      y: { name: state.group === "layers" ? "before lambdas" : "before weights", kind: "log" },
      height: 250,
      label: `Losses of ${titleOf(cell)} against steps.`,
    });
  }

  return { element, update };
}

/** The resolved config: the keys that differ between cells, or all with those marked. */
function configTable() {
  const summary = h("summary");
  const table = h("table");
  const only = checkbox("Only what differs between cells", true, (value) =>
    table.classList.toggle("only", value),
  );
  table.classList.add("only");
  const element = h("details", { class: "config" }, summary, only, table);
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
      only.hidden = !count;
      const differ = count ? `, ${count} of which differ between cells` : "";
      const note = h("small", {}, `${plural(pairs.length, "key")}${differ}`);
      summary.replaceChildren(h("h3", {}, "Config"), note);
      const row = ([key, value]) =>
        h(
          "tr",
          { class: differing.has(key) ? "differs" : count ? "same" : null },
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
