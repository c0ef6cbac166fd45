// A text as the model sees it: token after token, each coloured by how likely the model found it. With the keyboard the row
// is one stop; arrows walk along it, Enter opens the card of a token.

import { closeCard, openCard, percent, spelled } from "./card.js";
import { h } from "./dom.js";

const LEVELS = [[0.9, "sure"], [0.6, "likely"], [0.3, "torn"], [0.1, "doubtful"], [0, "surprising"]];
const NAMES = { sure: "90 % and more", likely: "60 – 90 %", torn: "30 – 60 %", doubtful: "10 – 30 %", surprising: "below 10 %" };

const levelOf = (p) => LEVELS.find(([least]) => p >= least)[1];

export class TokenRow {
  /** @param {string} label for screen readers  @param {boolean} hover whether cards open by pointing already */
  constructor(label, { hover = false } = {}) {
    this.row = h("div", { class: "tokens", role: "group", "aria-label": `${label}. Arrow keys walk along it, Enter tells more.` });
    this.element = h("div", { class: "inside" }, this.row);
    this.tokens = []; // [span, token]
    this.shown = 0; // entries of the list that are drawn
    this.row.addEventListener("click", (event) => this.open(event.target));
    this.row.addEventListener("keydown", (event) => this.key(event));
    if (hover) for (const kind of ["pointerover", "focusin"]) this.row.addEventListener(kind, (event) => this.open(event.target, true));
    if (hover) for (const kind of ["pointerleave", "focusout"]) this.row.addEventListener(kind, () => closeCard());
  }

  /** Draws what is new in the list; it only ever grows. */
  set(list) {
    for (const token of list.slice(this.shown)) this.add(token);
    this.shown = list.length;
  }

  add(token) {
    if ("result" in token && token.id === undefined) {
      this.row.append(h("span", { class: "placed" }, h("span", { class: "hidden-text" }, "Placed by the tool: "), token.result));
      return;
    }
    const p = token.logprob === undefined ? null : Math.exp(token.logprob);
    const special = token.special || /^<\|.*\|>$/s.test(token.token);
    const kind = [special ? "special" : "", p === null ? "plain" : levelOf(p)].join(" ");
    const label = p === null ? `${spelled(token)}, id ${token.id}` : `${spelled(token)}, ${percent(p)}`;
    const text = token.token.includes("\ufffd") ? spelled(token) : token.token.replaceAll("\n", "↵");
    const span = h("span", { class: `token ${kind}`, role: "button", tabindex: this.tokens.length ? "-1" : "0", "aria-label": label }, text);
    this.tokens.push([span, token]);
    this.row.append(span);
    if (token.token.includes("\n")) this.row.append(h("br"));
  }

  open(target, quiet = false) {
    const found = this.tokens.find(([span]) => span === target);
    if (found) openCard(found[0], found[1], { quiet });
  }

  key(event) {
    const at = this.tokens.findIndex(([span]) => span === event.target);
    if (at < 0) return;
    const steps = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: this.tokens.length - 1 };
    const next = this.tokens[steps[event.key]]?.[0];
    if (event.key === "Enter" || event.key === " ") this.open(event.target);
    else if (next) {
      event.target.tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
    }
    if (event.key in steps || event.key === "Enter" || event.key === " ") event.preventDefault();
  }
}

/** What the colours mean. */
export function legend() {
  const swatches = LEVELS.map(([, name]) => h("span", {}, h("span", { class: `token ${name}`, "aria-hidden": "true" }, "  "), NAMES[name]));
  return h("p", { class: "legend" }, "How likely each token was: ", swatches);
}
