// The small card that opens at a token: what it is, how likely it was, and what else could have stood there.

import { h } from "./dom.js";

let open = null; // {card, owner}

/** Spaces and line ends made visible. */
export const visible = (text) => text.replaceAll(" ", "␣").replaceAll("\n", "↵").replaceAll("\t", "⇥") || "∅";

export const hex = (bytes) => bytes.map((b) => b.toString(16).padStart(2, "0")).join(" ");

/** A token as its bytes, if they are only a part of a letter; else as its text. */
export const spelled = (token) => (token.token.includes("\ufffd") ? `‹${hex(token.bytes)}›` : visible(token.token));

export const percent = (p) => (p >= 0.9995 ? "100 %" : p >= 0.001 ? `${(100 * p).toFixed(p < 0.0995 ? 2 : 1)} %` : "< 0.1 %");

export function closeCard(refocus = false) {
  if (!open) return;
  open.card.remove();
  open.owner.classList.remove("open");
  open.owner.removeAttribute("aria-describedby");
  if (refocus) open.owner.focus();
  open = null;
}

/** Opens the card of `token` at the element `owner`. */
export function openCard(owner, token, { quiet = false } = {}) {
  closeCard();
  const card = h("div", { class: "card", id: "card", role: quiet ? "tooltip" : "dialog", "aria-label": quiet ? undefined : `Token ${spelled(token)}`, tabindex: "-1" },
    head(token), facts(token), token.top_logprobs?.length ? alternatives(token) : null);
  document.body.append(card);
  owner.classList.add("open");
  if (quiet) owner.setAttribute("aria-describedby", "card");
  open = { card, owner };
  settle(card, owner.getClientRects()[0] ?? owner.getBoundingClientRect());
  if (!quiet) card.focus({ preventScroll: true });
}

function head(token) {
  const p = token.logprob === undefined ? null : Math.exp(token.logprob);
  return h("div", { class: "card-head" }, h("code", {}, spelled(token)), p === null ? null : h("strong", {}, percent(p)));
}

function facts(token) {
  const rows = [["id", String(token.id)], ["bytes", hex(token.bytes)]];
  if (token.logprob !== undefined) rows.push(["surprise", `${Math.max(0, -token.logprob / Math.LN2).toFixed(2)} bits`]);
  if (token.special) rows.push(["kind", "control token"]);
  return h("dl", {}, rows.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

/** The likeliest tokens for this place with bars, the chosen one marked, and what is left for all others. */
function alternatives(token) {
  const shown = [...token.top_logprobs];
  if (!shown.some((other) => other.id === token.id)) shown.push(token);
  const rest = Math.max(0, 1 - shown.reduce((sum, other) => sum + Math.exp(other.logprob), 0));
  const rows = shown.map((other) => row(spelled(other), Math.exp(other.logprob), other.id === token.id));
  return h("div", {}, h("h3", {}, "What could have stood here"), h("ul", {}, rows, row("all others", rest, false)));
}

function row(name, p, chosen) {
  return h("li", { class: chosen ? "chosen" : "" },
    h("code", {}, name, chosen ? h("span", { class: "hidden-text" }, " (chosen)") : null),
    h("span", { class: "bar" }, h("span", { style: { width: `${100 * p}%` } })), h("span", { class: "number" }, percent(p)));
}

/** Below the token, or above it where there is no room, and inside the window. */
function settle(card, spot) {
  const { width, height } = card.getBoundingClientRect();
  const left = Math.max(8, Math.min(spot.left, innerWidth - width - 8));
  const below = spot.bottom + 6;
  const top = below + height <= innerHeight - 8 ? below : Math.max(8, spot.top - height - 6);
  card.style.left = `${left}px`;
  card.style.top = `${top}px`;
}

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || !open) return;
  event.stopPropagation(); // it closes the card; a reply that is being written goes on
  closeCard(true);
}, true);
document.addEventListener("pointerdown", (event) => {
  if (open && !open.card.contains(event.target) && !open.owner.contains(event.target)) closeCard();
});
document.addEventListener("scroll", (event) => { if (open && !open.card.contains(event.target)) closeCard(); }, true);
