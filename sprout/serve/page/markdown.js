// Text that is Markdown, also while it is still being written. The server turns it into safe HTML (serve/render.py); asking
// it for every token would be too much, so it is asked now and then, and what came since hangs at the end as plain text.

import { renderMarkdown } from "./api.js";
import { copyButton } from "./clipboard.js";
import { h } from "./dom.js";

const PAUSE = 300; // ms between two questions; more where the answer takes long
const rendered = new Map(); // text -> html, the latest few
const KEPT = 200;
const HOLDS_TEXT = new Set(["P", "LI", "UL", "OL", "BLOCKQUOTE", "PRE", "CODE", "TABLE", "TBODY", "TR", "TD", "H3", "H4", "H5", "H6"]);

export class MarkdownBox {
  constructor() {
    this.element = h("div", { class: "prose" });
    this.text = ""; // all of it
    this.done = ""; // as much of it as is shown as Markdown
    this.waiting = false;
    this.pause = PAUSE;
  }

  /** Shows `text`: what was there and more, or something else. */
  set(text) {
    if (text === this.text) return;
    this.text = text;
    if (!text.startsWith(this.done)) this.done = "";
    if (rendered.has(text)) this.show(text, rendered.get(text));
    else {
      this.hang();
      this.ask();
    }
  }

  /** Asks the server, once at a time. Where it does not answer the text stays plain. */
  async ask() {
    if (this.waiting) return;
    this.waiting = true;
    const text = this.text, began = performance.now();
    try {
      const html = await renderMarkdown(text);
      rendered.set(text, html);
      if (rendered.size > KEPT) rendered.delete(rendered.keys().next().value);
      if (this.text.startsWith(text)) this.show(text, html);
    } catch { /* plain text is fine */ }
    this.pause = Math.max(PAUSE, 2 * (performance.now() - began));
    await new Promise((wake) => setTimeout(wake, this.pause));
    this.waiting = false;
    if (this.text !== text) this.ask();
  }

  show(text, html) {
    this.element.innerHTML = html; // the only place in the house; the server made it safe
    this.done = text;
    this.tail = null;
    for (const block of this.element.querySelectorAll("pre")) dress(block);
    for (const table of this.element.querySelectorAll("table")) scrollable(table, "Table");
    this.hang();
  }

  /** Hangs what is not Markdown yet at the end of the last thing that holds text, or in a paragraph of its own. */
  hang() {
    if (!this.done) this.element.replaceChildren();
    if (!this.tail?.isConnected) {
      this.tail = h("span", { class: "tail" });
      const spot = this.done ? lastThing(this.element) : this.element;
      const code = spot.closest("pre");
      const ended = code ? /(```|~~~)\s*$/.test(this.done) : spot === this.element || /\n\s*\n$/.test(this.done);
      if (ended) this.element.append(h("p", {}, this.tail));
      else spot.append(this.tail);
      if (code && !ended && !this.done.endsWith("\n")) dropLineEnd(spot);
      this.inCode = Boolean(code) && !ended;
    }
    // Markdown drops the space at the end of what was asked for; code keeps it.
    const rest = this.text.slice(this.inCode ? this.done.length : this.done.trimEnd().length).trimEnd();
    this.tail.textContent = this.tail.parentElement.tagName === "P" && this.tail.parentElement.firstChild === this.tail ? rest.trimStart() : rest;
    this.tail.parentElement.hidden = !this.tail.parentElement.textContent;
  }
}

/** The innermost element at the end. */
function lastThing(element) {
  let spot = element;
  while (spot.lastElementChild && (HOLDS_TEXT.has(spot.lastElementChild.tagName) || spot.lastElementChild.className === "block")) spot = spot.lastElementChild;
  return spot;
}

/** Markdown ends a block of code with a line end, also where the last line is not finished. */
function dropLineEnd(code) {
  const texts = document.createTreeWalker(code, NodeFilter.SHOW_TEXT);
  let last = null;
  while (texts.nextNode()) if (texts.currentNode.data) last = texts.currentNode;
  if (last?.data.endsWith("\n")) last.data = last.data.slice(0, -1);
}

/** A head above a block of code: its language and a button that copies it. */
function dress(block) {
  const code = block.querySelector("code") ?? block;
  const language = /language-(\S+)/.exec(code.className)?.[1] ?? "";
  const head = h("div", { class: "block-head" }, h("span", {}, language), copyButton("Copy the code", () => code.textContent));
  const box = h("div", { class: "block" }, head);
  block.replaceWith(box);
  box.append(block);
  block.tabIndex = 0; // so that it can be scrolled with the keyboard
  block.setAttribute("role", "region");
  block.setAttribute("aria-label", language ? `Code, ${language}` : "Code");
}

function scrollable(element, label) {
  const box = h("div", { class: "wide", tabindex: "0", role: "region", "aria-label": label });
  element.replaceWith(box);
  box.append(element);
}
