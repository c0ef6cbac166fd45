// How the next token is chosen, in a drawer at the side. The numbers are kept in this browser; those of a setting that was
// left alone are not sent, so that the server's own defaults hold.

import { h, iconButton } from "./dom.js";

/** key, label, least, most, step, default, what it does */
const DIALS = [
  ["temperature", "Temperature", 0, 2, 0.05, 0.7, "0 always takes the likeliest token; 1 draws as the model was trained; more gets wild."],
  ["top_p", "Top p", 0.05, 1, 0.05, 1, "Draws only from the likeliest tokens that together have this probability."],
  ["top_k", "Top k", 0, 100, 1, 0, "Draws only from this many of the likeliest tokens; 0 is all."],
  ["min_p", "Min p", 0, 0.5, 0.01, 0, "Leaves out tokens less likely than this share of the likeliest one."],
  ["repetition_penalty", "Repetition penalty", 1, 2, 0.05, 1, "Above 1, tokens that have occurred become less likely."],
];
const BOXES = [
  ["max_tokens", "Longest reply", "tokens; empty: as the server has it"],
  ["seed", "Seed", "the same seed gives the same reply; empty: a new one each time"],
];
const PLACE = "sprout.settings";

function read() {
  try { return JSON.parse(localStorage.getItem(PLACE)) ?? {}; } catch { return {}; }
}

let values = read();

function keep(key, value) {
  if (value === null) delete values[key];
  else values[key] = value;
  try { localStorage.setItem(PLACE, JSON.stringify(values)); } catch { /* lasts as long as the page */ }
}

/** The settings as fields of a request. A seed is always chosen here, so that a reply can be had again. */
export function sampling() {
  const body = { temperature: values.temperature ?? 0.7, seed: values.seed ?? Math.floor(Math.random() * 2 ** 31) };
  for (const key of ["top_p", "top_k", "min_p", "repetition_penalty", "max_tokens"]) if (values[key] !== undefined) body[key] = values[key];
  return body;
}

/**
 * The drawer. `system` reads and writes the system prompt of the conversation; `extra` comes at the end.
 * @param {{get: () => string, set: (text: string) => void}} system
 */
export function settingsDrawer(system, extra) {
  const prompt = h("textarea", { id: "system-prompt", rows: "3", placeholder: "None. For example: Answer in capitals.", oninput: () => system.set(prompt.value) });
  const fields = h("div", {});
  const draw = () => fields.replaceChildren(...DIALS.map(dial), ...BOXES.map(box));
  const reset = h("button", { class: "button", type: "button", onclick: () => { values = {}; keep("seed", null); draw(); } }, "Back to the defaults");
  const drawer = h("dialog", { class: "drawer", "aria-labelledby": "settings-title" },
    h("div", { class: "drawer-head" }, h("h2", { id: "settings-title" }, "Settings"), iconButton("close", "Close the settings", () => drawer.close())),
    h("div", { class: "field" }, h("label", { for: "system-prompt" }, "System prompt"), prompt, h("p", { class: "hint" }, "Stands before everything else in this chat.")),
    fields, reset, extra);
  drawer.addEventListener("click", (event) => { if (event.target === drawer) drawer.close(); }); // outside of it
  return { element: drawer, open() { prompt.value = system.get(); draw(); drawer.showModal(); } };
}

function dial([key, label, least, most, step, standard, hint]) {
  const id = `set-${key}`, value = values[key] ?? standard;
  const number = h("input", { id, type: "number", min: least, max: most, step, value, class: "number-field", "aria-describedby": `${id}-hint` });
  const slide = h("input", { type: "range", min: least, max: most, step, value, "aria-label": `${label}, slider` });
  const set = (from, to) => {
    const wanted = Math.min(most, Math.max(least, Number(from.value)));
    if (from.value === "" || !Number.isFinite(wanted)) return;
    to.value = wanted;
    keep(key, wanted === standard ? null : wanted);
  };
  number.addEventListener("input", () => set(number, slide));
  number.addEventListener("change", () => { number.value = values[key] ?? standard; });
  slide.addEventListener("input", () => set(slide, number));
  return h("div", { class: "field" }, h("div", { class: "field-head" }, h("label", { for: id }, label), number), slide, h("p", { class: "hint", id: `${id}-hint` }, hint));
}

function box([key, label, hint]) {
  const id = `set-${key}`, least = key === "seed" ? 0 : 1;
  const field = h("input", { id, type: "number", min: least, step: 1, value: values[key] ?? "", class: "number-field", "aria-describedby": `${id}-hint` });
  field.addEventListener("input", () => {
    const wanted = Math.trunc(Number(field.value));
    keep(key, field.value === "" || !(wanted >= least && wanted < 2 ** 31) ? null : wanted);
  });
  return h("div", { class: "field" }, h("div", { class: "field-head" }, h("label", { for: id }, label), field), h("p", { class: "hint", id: `${id}-hint` }, hint));
}
