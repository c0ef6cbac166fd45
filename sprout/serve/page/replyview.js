// Draws a reply: its text as Markdown, tool calls as cards that unfold, on demand its tokens, and below how it ended and how
// fast it was. `update` may be called for every chunk: it touches only what changed.

import { copyButton } from "./clipboard.js";
import { h, icon, iconButton } from "./dom.js";
import { inside } from "./inside.js";
import { MarkdownBox } from "./markdown.js";
import { shortName } from "./models.js";
import { textOf } from "./reply.js";
import { legend, TokenRow } from "./tokens.js";

export class ReplyView {
  /**
   * @param {import("./reply.js").Reply} reply
   * @param {{retry?: () => void, buttons?: HTMLElement[], named?: boolean, context?: number}} [options]  `retry` after an
   *   error, `buttons` behind those of every reply, `named`: whether the model is told below
   */
  constructor(reply, { retry, buttons = [], named = true, limits = {} } = {}) {
    Object.assign(this, { reply, retry, named, limits });
    this.drawn = []; // for each part what draws it
    this.said = h("div", { class: "said" });
    this.row = null;
    this.within = h("div", { class: "within", hidden: true });
    this.note = h("p", { class: "note", hidden: true });
    this.trouble = h("div", { class: "trouble", role: "alert", hidden: true });
    this.stats = h("p", { class: "stats" });
    this.look = iconButton("inside", "Look inside this reply", () => this.showInside(this.within.hidden), { "aria-pressed": "false" });
    const copying = copyButton("Copy the reply", () => textOf(this.reply));
    this.tools = h("div", { class: "tools" }, copying, this.look, buttons);
    this.waiting = h("span", { class: "waiting", "aria-hidden": "true" }, h("i"), h("i"), h("i"));
    this.foot = h("div", { class: "foot" }, this.tools, this.stats);
    this.element = h("div", { class: "reply" }, this.said, this.within, this.waiting, this.note, this.trouble, this.foot);
    this.stopListening = inside.listen((on) => this.showInside(on));
    this.showInside(inside.on);
    this.update();
  }

  update() {
    const { reply } = this;
    const writing = reply.finish === null && !reply.error;
    reply.parts.forEach((part, i) => this.drawPart(part, i));
    this.said.classList.toggle("writing", writing);
    this.waiting.hidden = !writing || reply.parts.some((part) => part.type === "text");
    if (!this.within.hidden) this.row.set(reply.tokens);
    this.look.hidden = !reply.tokens.length;
    this.foot.hidden = writing;
    this.stats.textContent = writing ? "" : this.statsLine();
    const note = this.noteOf(reply.finish);
    this.note.hidden = !note;
    this.note.textContent = note;
    this.showTrouble();
  }

  drawPart(part, i) {
    if (!this.drawn[i]) {
      this.drawn[i] = part.type === "text" ? new MarkdownBox() : new CallCard();
      this.said.append(this.drawn[i].element);
    }
    this.drawn[i].set(part.type === "text" ? part.text : part);
  }

  showInside(on) {
    if (on && !this.row) {
      this.row = new TokenRow("The tokens of the reply");
      this.within.append(this.row.element, legend());
    }
    const shown = on && (this.reply.tokens.length > 0 || this.reply.finish === null);
    this.within.hidden = !shown;
    this.said.hidden = shown;
    this.look.setAttribute("aria-pressed", String(shown));
    if (shown) this.row.set(this.reply.tokens);
  }

  statsLine() {
    const { stats, model } = this.reply;
    const parts = this.named ? [shortName(model)] : [];
    if (stats) {
      const first = stats.first_seconds;
      parts.push(`${stats.tokens_per_s.toFixed(stats.tokens_per_s < 10 ? 1 : 0)} tokens/s`);
      if (Number.isFinite(first)) parts.push(`first after ${first < 0.095 ? `${Math.round(1000 * first)} ms` : `${first.toFixed(1)} s`}`);
      parts.push(`${stats.tokens} ${stats.tokens === 1 ? "token" : "tokens"}`);
    }
    return parts.join(" · ");
  }

  noteOf(finish) {
    const { maxTokens, context } = this.limits;
    if (finish === "length") return `Cut off: the reply reached the limit of ${maxTokens ? `${maxTokens} tokens` : "tokens for a reply"}.`;
    if (finish === "context") return `Cut off: the model’s context of ${context ? `${context} tokens` : "tokens"} is full. Start a new chat, or edit an earlier turn.`;
    if (finish === "cancelled") return "Stopped.";
    if (finish === "call") return "Ended in a call of a tool that is not the server’s.";
    return "";
  }

  showTrouble() {
    const { error } = this.reply;
    if (this.trouble.hidden === !error) return;
    clearInterval(this.counting);
    this.trouble.hidden = !error;
    if (!error) return;
    const when = h("span", {});
    const again = h("button", { class: "link", type: "button", onclick: () => this.retry?.() }, "Try again");
    this.trouble.replaceChildren(h("span", {}, error.message, " ", when), this.retry ? again : "");
    if (error.retryAfter) this.count(when, again, error.retryAfter);
  }

  /** Counts down to when the server said that it can be asked again. */
  count(when, again, seconds) {
    const end = Date.now() + 1000 * seconds;
    const tick = () => {
      const left = Math.ceil((end - Date.now()) / 1000);
      again.disabled = left > 0;
      when.textContent = left > 0 ? `Try again in ${left} s.` : "It may have time now.";
      if (left <= 0) clearInterval(this.counting);
    };
    tick();
    this.counting = setInterval(tick, 500);
  }
}

/** A tool call: folded to one line, unfolded with what went in and what came out. */
class CallCard {
  constructor() {
    this.title = h("span", { class: "call-name" });
    this.brief = h("span", { class: "call-brief" });
    this.input = h("pre", { tabindex: "0", "aria-label": "Input", role: "region" });
    this.result = h("pre", { tabindex: "0", "aria-label": "Result", role: "region" });
    this.element = h("details", { class: "call" }, h("summary", {}, icon("tool"), this.title, this.brief),
      h("div", { class: "call-body" }, h("h3", {}, "Input"), this.input, h("h3", {}, "Result"), this.result));
  }

  set(part) {
    this.title.textContent = part.name ?? "a call that makes no sense";
    this.brief.textContent = part.result === null ? "…" : brief(part);
    this.input.textContent = pretty(part.arguments);
    this.result.textContent = part.result ?? "…";
  }
}

const brief = (part) => `${values(part.arguments)} → ${part.result}`;

function values(text) {
  try { return Object.values(JSON.parse(text)).join(", "); } catch { return text; }
}

function pretty(text) {
  try { return JSON.stringify(JSON.parse(text), null, 2); } catch { return text; }
}
