// The painting, what lies over its left part, and how it grew.
"use strict";

// Kept from one cell to the next; `step` null: the painting as it is now.
const comparison = { role: "Content", split: 0, step: null };

/** The pictures along the way to a painting, and it: [{step, address}]. */
function growthOf(cell) {
  const along = cell.frames
    .map((frame, k) => ({ step: frame.step, address: frameOf(cell, frame, k) }))
    .filter(({ step, address }) => address && step < cell.steps);
  return [...along, { step: cell.steps, address: largeOf(cell) }];
}

/** The last of them up to a step. */
function grownTo(cell, step) {
  const all = growthOf(cell);
  return (step === null ? null : all.findLast((one) => one.step <= step)) ?? all.at(-1);
}

/** What a painting can be compared with: [{role, name, text, address}]. */
function counterparts(cell) {
  const inputs = inputsOf(cell).map(({ role, name, large }) => {
    return { role, name, text: role, address: large };
  });
  const cells = data.cells
    .filter((other) => other !== cell && pictureOf(other))
    .map((other) => {
      const { address } = grownTo(other, comparison.step);
      return { role: `cell ${other.name}`, name: other.name, text: titleOf(other), address };
    });
  return { inputs, cells };
}

/** The picture of one cell; `update(cell)` shows another one, or the same as it is now. */
function stage() {
  const painting = h("img", { alt: "", class: "painting", onerror: onBroken, draggable: "false" });
  const other = h("img", { alt: "", class: "other", onerror: onBroken, draggable: "false" });
  const range = h("input", { type: "range", min: 0, max: 100, step: 1, oninput: () => place() });
  const grip = h("span", { class: "grip" }, icon(ICONS.grip));
  const line = h("span", { class: "divide", "aria-hidden": "true" }, h("i"), grip);
  const [left, right] = [h("span", { class: "tag left" }), h("span", { class: "tag right" })];
  const frame = h("div", { class: "frame" }, painting, other, left, right, range, line);
  const empty = h("div", { class: "vacant" });
  const compare = choice("Compare with", (role) => {
    comparison.role = role;
    if (comparison.split < 12) comparison.split = 50;
    update(current);
  });
  const steps = h("input", { type: "range", min: 0, step: 1, oninput: () => turn() });
  const reached = h("output");
  const growth = h("label", { class: "field growth" }, h("span", {}, data.kind === "film" ? "Frame" : "Step"), steps, reached);
  const controls = h("div", { class: "compare" }, compare.element, growth);
  const element = h("div", { class: "stage" }, frame, empty, controls);
  let [current, chosen] = [null, null];

  function place(value = Number(range.value)) {
    comparison.split = value;
    range.value = value;
    setProperties(frame, { "--split": `${value}%` });
    left.hidden = value < 12 || !chosen;
    right.hidden = value > 88 || value < 1 || !chosen;
    setAttribute(range, "aria-valuetext", `${value} % ${chosen?.text.toLowerCase() ?? ""}`);
  }

  function turn() {
    const all = growthOf(current);
    const k = Number(steps.value);
    comparison.step = k < all.length - 1 ? all[k].step : null;
    update(current);
  }

  // The pointer may take the picture anywhere, not only the slider's thumb.
  const drag = (event) => {
    const box = frame.getBoundingClientRect();
    const share = (event.clientX - box.left) / box.width;
    place(Math.round(Math.min(Math.max(share, 0), 1) * 100));
  };
  frame.addEventListener("pointerdown", (event) => {
    if (!chosen || event.button !== 0) return;
    event.preventDefault();
    frame.setPointerCapture(event.pointerId);
    range.focus({ preventScroll: true, focusVisible: false });
    drag(event);
  });
  frame.addEventListener("pointermove", (event) => {
    if (frame.hasPointerCapture(event.pointerId)) drag(event);
  });

  /** Sets a picture's address only where it changed, so that nothing flickers. */
  function show(image, address, text) {
    if (image.getAttribute("src") !== address) {
      image.classList.remove("broken");
      image.src = address;
    }
    image.alt = text;
  }

  function update(cell) {
    current = cell;
    const picture = pictureOf(cell);
    frame.hidden = controls.hidden = !picture;
    empty.hidden = Boolean(picture);
    setText(empty, cell.status === "failed" ? "No painting" : stateOf(cell));
    if (!picture) return;
    const { width, height } = picture;
    setProperties(frame, { "--ratio": width / height, "--natural": `${width}px` });

    const all = growthOf(cell);
    const now = grownTo(cell, comparison.step);
    growth.hidden = all.length < 2;
    steps.max = all.length - 1;
    steps.value = all.findIndex(({ step }) => step === now.step);
    setAttribute(steps, "aria-valuetext", `step ${now.step}`);
    setText(reached, now.step === null ? "" : String(now.step));
    show(painting, now.address, `Painting: ${titleOf(cell)}`);

    const { inputs, cells } = counterparts(cell);
    const known = [...inputs, ...cells];
    chosen = known.find(({ role }) => role === comparison.role) ?? known[0] ?? null;
    const pairs = (list) => list.map(({ role, text }) => [role, text]);
    const groups = [
      ["Pictures", pairs(inputs)],
      ["Cells", pairs(cells)],
    ];
    compare.element.hidden = !chosen;
    compare.update(
      groups.filter(([, list]) => list.length),
      chosen?.role ?? "",
    );
    range.hidden = line.hidden = other.hidden = !chosen;
    if (chosen) {
      comparison.role = chosen.role;
      show(other, chosen.address, `${chosen.text}: ${chosen.name}`);
      setText(left, chosen.text);
      const what = chosen.role.startsWith("cell ") ? "other painting" : "input picture";
      setAttribute(range, "aria-label", `How much of the ${what} lies over the painting`);
    }
    setText(right, chosen?.role.startsWith("cell ") ? titleOf(cell) : "Painting");
    place(comparison.split);
  }

  return { element, update };
}
