// Draws the turns of a conversation: what the user said (which can be edited, and shown as tokens) and the replies, each
// with arrows where it has siblings.

import { tokenize } from "./api.js";
import { copyButton } from "./clipboard.js";
import { h, iconButton } from "./dom.js";
import { inside } from "./inside.js";
import { models } from "./models.js";
import { ReplyView } from "./replyview.js";
import { place } from "./tree.js";
import { TokenRow } from "./tokens.js";

/**
 * "‹ 2/3 ›" for a turn with siblings.
 * @param {(by: number) => void} go
 */
export class Arrows {
  constructor(conversation, turn, go) {
    Object.assign(this, { conversation, turn });
    this.before = iconButton("left", "The version before", () => go(-1));
    this.after = iconButton("right", "The next version", () => go(1));
    this.number = h("span", {});
    this.element = h("span", { class: "arrows", role: "group", "aria-label": "Versions" }, this.before, this.number, this.after);
    this.update();
  }

  update() {
    const { index, count } = place(this.conversation, this.turn);
    this.element.hidden = count < 2;
    this.number.textContent = `${index + 1}/${count}`;
    this.before.disabled = index === 0;
    this.after.disabled = index === count - 1;
  }
}

export class UserTurn {
  /** @param {{edit: (text: string) => void, walk: (by: number) => void}} acts */
  constructor(conversation, turn, acts) {
    Object.assign(this, { turn, acts });
    this.arrows = new Arrows(conversation, turn, acts.walk);
    this.bubble = h("div", { class: "bubble" }, turn.text);
    this.within = h("div", { class: "within", hidden: true });
    this.editButton = iconButton("edit", "Edit and ask again", () => this.edit());
    this.look = iconButton("inside", "Show the tokens of this message", () => this.showInside(this.within.hidden), { "aria-pressed": "false" });
    this.tools = h("div", { class: "tools" }, this.arrows.element, copyButton("Copy the message", () => turn.text), this.editButton, this.look);
    this.element = h("article", { class: "turn user", "aria-label": "You" }, h("h2", { class: "hidden-text" }, "You"), this.bubble, this.within, this.tools);
    this.stopListening = inside.listen((on) => this.showInside(on));
    this.showInside(inside.on);
  }

  async showInside(on) {
    this.within.hidden = this.tools.hidden || !on;
    this.bubble.hidden = !this.within.hidden;
    this.look.setAttribute("aria-pressed", String(!this.within.hidden));
    if (this.within.hidden || this.within.dataset.model === models.chosen) return;
    const model = models.chosen;
    try {
      const { tokens, count } = await tokenize({ model, text: this.turn.text });
      const row = new TokenRow("The tokens of your message", { hover: true });
      row.set(tokens.map(({ text, ...token }) => ({ token: text, ...token })));
      this.within.dataset.model = model;
      this.within.replaceChildren(row.element, h("p", { class: "legend" }, `${count} tokens for ${this.turn.text.length} letters`));
    } catch {
      this.within.hidden = true;
      this.bubble.hidden = false;
    }
  }

  edit() {
    const field = h("textarea", { "aria-label": "Edit your message", rows: String(Math.min(8, this.turn.text.split("\n").length + 1)), value: this.turn.text });
    const close = () => {
      box.remove();
      this.tools.hidden = false;
      this.showInside(inside.on);
    };
    const done = () => {
      const text = field.value.trim();
      if (!text) return;
      close();
      this.acts.edit(text);
    };
    const cancel = () => { close(); this.editButton.focus(); };
    field.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); done(); }
      if (event.key === "Escape") { event.stopPropagation(); cancel(); }
    });
    const box = h("div", { class: "editing" }, field, h("div", { class: "row" },
      h("button", { class: "button", type: "button", onclick: cancel }, "Cancel"),
      h("button", { class: "button main", type: "button", onclick: done }, "Ask this instead")));
    this.bubble.hidden = this.within.hidden = this.tools.hidden = true;
    this.element.prepend(box);
    field.focus();
    field.setSelectionRange(field.value.length, field.value.length);
  }

  update() { this.arrows.update(); }
}

export class AssistantTurn {
  /** @param {{again: () => void, retry: () => void, walk: (by: number) => void, limits: Object}} acts */
  constructor(conversation, turn, acts) {
    this.turn = turn;
    this.arrows = new Arrows(conversation, turn, acts.walk);
    const again = iconButton("again", "Another reply", acts.again);
    this.view = new ReplyView(turn.reply, { retry: acts.retry, buttons: [again, this.arrows.element], limits: acts.limits });
    this.element = h("article", { class: "turn assistant", "aria-label": "Sprout" }, h("h2", { class: "hidden-text" }, "Sprout"), this.view.element);
    this.stopListening = this.view.stopListening;
  }

  update() {
    this.arrows.update();
    this.view.update();
  }
}
