// Making elements. Everything on the page is made by h(), whose strings become text nodes: what a model or a person wrote
// is never read as HTML. The one exception in the house is markdown.js, which shows what the server's /render made safe.

/**
 * h("button", {class: "pill", onclick: send, disabled: true}, "Send") makes that button.
 * Booleans become attributes without a value, functions listeners, `style` and `dataset` take objects.
 * @param {string} tag @param {Object<string, any>} [props] @param {...any} children
 * @returns {HTMLElement}
 */
export function h(tag, props, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [k, v] of Object.entries(value)) element.style.setProperty(k, v);
    else if (name === "dataset") Object.assign(element.dataset, value);
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((c) => c !== null && c !== undefined && c !== false));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

/** The same for SVG. */
export function svg(tag, props, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(props || {})) if (value !== undefined) element.setAttribute(name, value);
  element.append(...children.flat());
  return element;
}

const PATHS = {
  menu: "M4 7h16M4 12h16M4 17h10",
  plus: "M12 5v14M5 12h14",
  sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 2.5v2M12 19.5v2M2.5 12h2M19.5 12h2M5.3 5.3l1.4 1.4M17.3 17.3l1.4 1.4M5.3 18.7l1.4-1.4M17.3 6.7l1.4-1.4",
  moon: "M20 14.5A8.5 8.5 0 0 1 9.5 4a8.5 8.5 0 1 0 10.5 10.5z",
  sliders: "M4 7h9M17 7h3M4 17h3M11 17h9M15 4.8v4.4M9 14.8v4.4",
  send: "M12 19V5M6 11l6-6 6 6",
  stop: "M7.5 7.5h9v9h-9z",
  copy: "M9 9h10v11H9zM6 15H5V4h10v2",
  check: "M5 12.5l4.5 4.5L19 7.5",
  again: "M19.5 12a7.5 7.5 0 1 1-2.3-5.4M19.5 3.5v4h-4",
  edit: "M5 19l1-4L16 5l3 3L9 18zM14 7l3 3",
  left: "M14.5 6l-6 6 6 6",
  right: "M9.5 6l6 6-6 6",
  inside: "M10.5 4a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13zM15.5 15.5L20 20",
  dots: "M6 12h.01M12 12h.01M18 12h.01",
  close: "M6 6l12 12M18 6L6 18",
  tool: "M14.5 6.5a4 4 0 0 1 5-1l-2.5 2.5 1 1 2.5-2.5a4 4 0 0 1-5.5 5L8 18.5 5.5 16l7-7a4 4 0 0 1 2-2.5z",
};

/** One of the line drawings above, hidden from screen readers: the button around it has the words. */
export function icon(name) {
  return svg("svg", { viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true" }, svg("path", { d: PATHS[name] }));
}

/** A round button that shows a drawing. */
export function iconButton(name, label, onclick, props = {}) {
  return h("button", { class: "icon-button", type: "button", "aria-label": label, title: label, onclick, ...props }, icon(name));
}

/** Says something to screen readers, once they have finished their sentence. */
export function announce(text) {
  document.getElementById("live").textContent = text;
}

let fading = 0;

/** A line at the bottom of the page for some seconds, with at most one thing to do about it. */
export function toast(text, action, act) {
  const box = document.getElementById("toast");
  const close = () => { box.hidden = true; };
  box.replaceChildren(text, action ? h("button", { class: "link", type: "button", onclick: () => { close(); act(); } }, action) : "");
  box.hidden = false;
  clearTimeout(fading);
  fading = setTimeout(close, 7000);
}
