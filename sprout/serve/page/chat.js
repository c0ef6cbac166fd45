// The chat: one conversation is shown, at most one reply is being written. Every change goes the same way: change the tree,
// draw it, store it.

import { composer } from "./composer.js";
import { announce, h } from "./dom.js";
import { CHAT, generate } from "./generate.js";
import { contextMeter } from "./meter.js";
import { models, picker, toolBoxes } from "./models.js";
import { newReply, textOf } from "./reply.js";
import { sampling } from "./settings.js";
import * as store from "./store.js";
import { addTurn, messagesUpTo, newConversation, path, ROOT, titleFrom, walk } from "./tree.js";
import { followEnd } from "./scroll.js";
import { AssistantTurn, UserTurn } from "./turns.js";

const EXAMPLES = [
  ["A sum, step by step", "What do you get for 482 + 395?"],
  ["A small story", "I want a story with sail, noisy and dolphin."],
  ["A sum for the calculator", "Can you tell me 73364 - 52582?"],
  ["About itself", "Who are you?"],
];
const SAVE_EVERY = 1000; // ms, while a reply is being written
const LAST = "sprout.conversation";

/** @param {HTMLElement} view  @param {() => void} listChanged  draws the list at the side */
export function chatView(view, listChanged) {
  let conversation = newConversation();
  let drawn = new Map(); // turn id -> UserTurn or AssistantTurn
  let writing = null; // {conversation, turn, stop: AbortController}

  const title = h("h1", { class: "hidden-text" });
  const system = h("p", { class: "system", hidden: true });
  const thread = h("div", { class: "thread" });
  const scroll = h("div", { class: "scroll" }, system, thread);
  const meter = contextMeter(() => {
    const shown = path(conversation), text = box.text().trim();
    const messages = messagesUpTo(conversation, shown.at(-1));
    return text ? [...messages, { role: "user", content: text }] : shown.length ? messages : [];
  });
  const box = composer({
    label: "Write to Sprout", send, stop, type: () => meter.update(),
    below: [picker(), toolBoxes(), meter.element],
  });
  view.append(title, scroll, h("div", { class: "dock" }, box.element));
  const toEnd = followEnd(scroll, thread);
  models.listen(() => meter.update());

  function draw() {
    const shown = path(conversation);
    title.textContent = conversation.title;
    title.hidden = !shown.length; // the welcome has its own
    showSystem();
    if (!shown.length) thread.replaceChildren(welcome());
    else {
      const elements = shown.map((turn) => draws(turn).element);
      if (elements.some((element, i) => thread.children[i] !== element) || thread.children.length !== elements.length) thread.replaceChildren(...elements);
      for (const turn of shown) drawn.get(turn.id).update();
    }
    box.setBusy(writing !== null);
    meter.update();
  }

  function showSystem() {
    system.hidden = !conversation.system.trim();
    system.textContent = `System prompt: ${conversation.system}`;
  }

  function draws(turn) {
    if (!drawn.has(turn.id)) {
      const go = (by) => { walkTo(turn, by); };
      const limits = { context: models.get(turn.reply?.model)?.sprout.context };
      drawn.set(turn.id, turn.role === "user"
        ? new UserTurn(conversation, turn, { edit: (text) => ask(turn.parent, text), walk: go })
        : new AssistantTurn(conversation, turn, { again: () => answer(turn.parent), retry: () => retry(turn), walk: go, limits }));
    }
    return drawn.get(turn.id);
  }

  function walkTo(turn, by) {
    const next = walk(conversation, turn, by);
    if (!next) return;
    draw();
    store.save(conversation);
    const buttons = drawn.get(next.id).arrows;
    const button = by < 0 ? buttons.before : buttons.after;
    (button.disabled ? (by < 0 ? buttons.after : buttons.before) : button).focus();
  }

  function send(text) {
    ask(path(conversation).at(-1)?.id ?? ROOT, text);
  }

  function ask(parent, text) {
    if (!conversation.turns.length) conversation.title = titleFrom(text);
    const turn = addTurn(conversation, parent, { role: "user", text });
    answer(turn.id);
  }

  /** Has a reply written below the user's turn `parent`, beside those that are there. */
  function answer(parent) {
    if (writing) stop();
    const options = sampling();
    write(addTurn(conversation, parent, { role: "assistant", reply: newReply(models.chosen, options.seed) }), options);
  }

  /** Has a reply that went wrong written once more, in its place. */
  function retry(turn) {
    if (writing) stop();
    const options = sampling();
    turn.reply = newReply(models.chosen, options.seed);
    drawn.get(turn.id).stopListening();
    drawn.delete(turn.id);
    write(turn, options);
  }

  async function write(turn, options) {
    const mine = { conversation, turn, stop: new AbortController() };
    writing = mine;
    const at = conversation;
    const messages = messagesUpTo(at, at.turns.find((other) => other.id === turn.parent));
    draw();
    drawn.get(turn.id).view.limits.maxTokens = options.max_tokens;
    listChanged();
    toEnd();
    announce("Sprout is writing.");
    let saved = 0;
    await models.tried;
    const model = (turn.reply.model ||= models.chosen);
    const body = { model, messages, ...options, house_tools: models.toolsOf(model) };
    await generate(turn.reply, CHAT, body, mine.stop.signal, () => {
      drawn.get(turn.id)?.update();
      if (Date.now() - saved > SAVE_EVERY) { saved = Date.now(); store.save(at); }
    });
    if (writing === mine) writing = null;
    at.updated = Date.now();
    store.save(at);
    listChanged();
    if (conversation === at) draw();
    box.setBusy(writing !== null);
    announce(turn.reply.error ? "" : `Sprout: ${textOf(turn.reply) || "an empty reply"}`); // an error is an alert itself
  }

  function stop() {
    writing?.stop.abort();
    writing = null;
    box.setBusy(false);
  }

  function welcome() {
    const examples = EXAMPLES.map(([title, text]) => h("button", { class: "example", type: "button", onclick: () => send(text) }, h("strong", {}, title), h("span", {}, text)));
    return h("div", { class: "welcome" }, h("img", { src: "/page/icon.svg", alt: "", width: "52", height: "52" }), h("h1", {}, "A small model, grown from nothing"),
      h("p", {}, "It knows a small invented world, sums, stories, and a few words about itself. Ask it something, then look inside."), h("div", { class: "examples" }, examples));
  }

  /** Shows a conversation; null begins a new one. */
  function choose(id) {
    for (const turn of drawn.values()) turn.stopListening();
    drawn = new Map();
    conversation = store.get(id) ?? newConversation();
    try { sessionStorage.setItem(LAST, conversation.id); } catch { /* then a reload begins anew */ }
    settleInterrupted();
    draw();
    listChanged();
    if (conversation.turns.length) toEnd();
    else scroll.scrollTop = 0;
    if (!matchMedia("(hover: none)").matches) box.focus(); // a phone would open its keyboard
  }

  /** A reply that was being written when the page was left. */
  function settleInterrupted() {
    for (const { reply } of conversation.turns) {
      if (reply && reply.finish === null && !reply.error && writing?.turn.reply !== reply) reply.finish = "cancelled";
    }
  }

  return {
    choose,
    begin() {
      let last = null;
      try { last = sessionStorage.getItem(LAST); } catch { /* no storage */ }
      choose(store.get(last)?.id ?? null);
    },
    current: () => conversation.id,
    stop,
    focus: () => box.focus(),
    system: {
      get: () => conversation.system,
      set(text) {
        conversation.system = text;
        showSystem();
        if (conversation.turns.length) store.save(conversation);
        meter.update();
      },
    },
  };
}
