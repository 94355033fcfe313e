// Elements, numbers and words. Whatever comes from the data becomes text, never markup.
"use strict";

const SVG = "http://www.w3.org/2000/svg"; // the name of a namespace: nothing is fetched

/** An HTML element: h("a", {class: "x", onclick: f, css: {"--k": 1}}, "text", child, null). */
function h(tag, attributes = {}, ...children) {
  return dressed(document.createElement(tag), attributes, children);
}

/** The same of SVG. */
function s(tag, attributes = {}, ...children) {
  return dressed(document.createElementNS(SVG, tag), attributes, children);
}

function dressed(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "css") setProperties(element, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child || child === 0));
  return element;
}

function setProperties(element, properties) {
  for (const [name, value] of Object.entries(properties)) element.style.setProperty(name, value);
}

/** Sets text only where it changed, so that a screen reader and a selection are left alone. */
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function setAttribute(element, name, value) {
  if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

/** A drawn icon of 16 by 16, hidden from screen readers: the button that holds it has a name. */
function icon(path) {
  const attributes = { viewBox: "0 0 16 16", class: "icon", "aria-hidden": "true" };
  return s("svg", attributes, s("path", { d: path }));
}

const ICONS = {
  close: "M3.5 3.5l9 9M12.5 3.5l-9 9",
  previous: "M10 3L5 8l5 5",
  next: "M6 3l5 5-5 5",
  grip: "M5 4.5L1.5 8 5 11.5M11 4.5L14.5 8 11 11.5",
  descending: "M8 3v10M4 9l4 4 4-4",
  ascending: "M8 13V3M4 7l4-4 4 4",
};

/**
 * A labelled select. `groups`: [[group name or "", [[value, text], ...]], ...].
 * Its `update(groups, value)` leaves an unchanged list alone: an open one stays open.
 */
function choice(label, onchange) {
  const select = h("select", { onchange: () => onchange(select.value) });
  const element = h("label", { class: "field" }, h("span", {}, label), select);
  let listed = "";
  return {
    element,
    update(groups, value) {
      const list = JSON.stringify(groups);
      if (list !== listed) {
        const options = (pairs) => pairs.map(([key, text]) => h("option", { value: key }, text));
        select.replaceChildren(
          ...groups.flatMap(([name, pairs]) =>
            name ? h("optgroup", { label: name }, ...options(pairs)) : options(pairs),
          ),
        );
        listed = list;
      }
      if (select.value !== value) select.value = value;
    },
  };
}

/** A checkbox with its label. */
function checkbox(label, checked, onchange) {
  const input = h("input", { type: "checkbox", checked, onchange: () => onchange(input.checked) });
  return h("label", { class: "check" }, input, h("span", {}, label));
}

/** Buttons of which one is pressed. `options`: [[value, text], ...]. */
function segments(label, options, value, onchange) {
  const press = (chosen) => {
    for (const [key, button] of buttons) button.setAttribute("aria-pressed", key === chosen);
  };
  const buttons = new Map(
    options.map(([key, text]) => [
      key,
      h("button", { type: "button", onclick: () => (press(key), onchange(key)) }, text),
    ]),
  );
  press(value);
  return h("div", { class: "segments", role: "group", "aria-label": label }, ...buttons.values());
}

/** 4 significant digits, as short as can be; "–" for what is not known. */
function number(value) {
  if (value === null || value === undefined) return "–";
  if (value === 0 || (Number.isInteger(value) && Math.abs(value) < 1e6)) return String(value);
  const size = Math.abs(value);
  if (size >= 1e5 || size < 1e-3) {
    const [digits, exponent] = value.toExponential(2).split("e");
    return `${Number(digits)}e${Number(exponent)}`;
  }
  return String(Number(value.toPrecision(4)));
}

/**
 * Numbers of one column in one notation: as many decimals for all as the least needs for two digits
 * and the largest for four, or all as powers of ten where that takes too many.
 */
function columnNumber(values) {
  const sizes = values.filter(Number.isFinite).map(Math.abs);
  const whole = values.every((value) => !Number.isFinite(value) || Number.isInteger(value));
  const places = (value, digits) => digits - 1 - Math.floor(Math.log10(value));
  const positive = sizes.filter((size) => size > 0);
  const [least, most] = [Math.min(...positive), Math.max(...positive)];
  const known = (write) => (value) => Number.isFinite(value) ? write(value) : "\u2013";
  if (!positive.length || (whole && most < 1e6)) return known(String);
  const decimals = Math.max(places(most, 4), places(least, 2), 0);
  if (most >= 1e6 || decimals > 6) return known((value) => value.toExponential(2).replace("+", ""));
  return known((value) => value.toFixed(decimals));
}

/** Seconds of one column in one unit. */
function columnDuration(values) {
  const most = Math.max(0, ...values.filter(Number.isFinite));
  const [size, unit] = most < 600 ? [1, "s"] : most < 36000 ? [60, "min"] : [3600, "h"];
  const known = (value) => `${(value / size).toFixed(1)} ${unit}`;
  return (value) => (Number.isFinite(value) ? known(value) : "\u2013");
}

/** Bytes of one column in one unit. */
function columnBytes(values) {
  const most = Math.max(0, ...values.filter(Number.isFinite));
  const write = (value) =>
    most < 1e9 ? `${Math.round(value / 1e6)} MB` : `${(value / 1e9).toFixed(2)} GB`;
  return (value) => (Number.isFinite(value) ? write(value) : "\u2013");
}

function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 60) return `${Number(seconds.toFixed(seconds < 10 ? 1 : 0))} s`;
  if (seconds < 600 && Math.floor(seconds % 60))
    return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function bytes(value) {
  if (value === null || value === undefined) return "–";
  return value < 1e9 ? `${Math.round(value / 1e6)} MB` : `${(value / 1e9).toPrecision(3)} GB`;
}

function plural(count, noun) {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}
