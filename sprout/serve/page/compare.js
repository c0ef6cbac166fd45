// Side by side: one prompt, answered by the model of every stage at the same time. What each stage of training bought can
// be read from left to right.

import { composer } from "./composer.js";
import { announce, h } from "./dom.js";
import { CHAT, COMPLETIONS, generate } from "./generate.js";
import { models, STAGES, stageLabel, TAUGHT } from "./models.js";
import { newReply, textOf } from "./reply.js";
import { ReplyView } from "./replyview.js";
import { sampling } from "./settings.js";

const EXAMPLES = ["What do you get for 482 + 395?", "Reverse the word quiet.", "I want a story with sail, noisy and dolphin.", "Who are you?"];

/** @param {HTMLElement} view  @param {() => string} system  the system prompt of the chat, which holds here, too */
export function compareView(view, system) {
  let stopping = null; // the AbortController of all columns
  let run = "";
  let views = [];
  const asked = h("p", { class: "asked", hidden: true });
  const columns = h("div", { class: "columns" });
  const runs = h("select", { class: "quiet-select", "aria-label": "Run", onchange: () => { run = runs.value; draw(); } });
  const plain = h("input", { type: "checkbox", checked: true });
  const box = composer({
    label: "Ask every stage the same", send, stop,
    below: [runs, h("label", { class: "tool-box", title: "A base model has never seen a conversation: it goes on with texts." }, plain, "The base model goes on with the text")],
  });
  const examples = h("p", { class: "chips" }, EXAMPLES.map((text) => h("button", { class: "chip", type: "button", onclick: () => send(text) }, text)));
  view.append(h("div", { class: "scroll" }, h("div", { class: "wide-column" },
    h("header", { class: "lead" }, h("h1", {}, "Side by side"), h("p", {}, "The same question to the model after every stage of its training."), examples),
    asked, columns)), h("div", { class: "dock" }, box.element));
  models.listen(() => { if (!stopping && !views.length) draw(); });

  function modelOf(stage) {
    return models.list.find((model) => model.sprout.run === run && model.sprout.stage === stage);
  }

  /** Empty columns for the stages of the chosen run. */
  function draw() {
    const names = [...new Set(models.list.map((model) => model.sprout.run))];
    if (!names.includes(run)) run = names[0] ?? "";
    runs.replaceChildren(...names.map((name) => h("option", { value: name }, name)));
    runs.value = run;
    runs.hidden = names.length < 2;
    for (const old of views) old.stopListening();
    views = [];
    asked.hidden = true;
    columns.replaceChildren(...STAGES.map((stage) => column(stage, h("p", { class: "hint" }, modelOf(stage) ? "" : "This stage is not grown yet."))));
  }

  function column(stage, ...content) {
    return h("article", { class: "column", dataset: { stage }, "aria-label": stageLabel(stage) },
      h("header", {}, h("h2", {}, stageLabel(stage)), h("p", { class: "hint" }, TAUGHT[stage])), content);
  }

  async function send(text) {
    if (stopping) stop();
    const mine = new AbortController();
    stopping = mine;
    box.setBusy(true);
    await models.tried;
    if (stopping !== mine) return;
    draw();
    asked.textContent = text;
    asked.hidden = false;
    announce("All stages are writing.");
    const options = sampling(); // one seed for all
    await Promise.all(STAGES.filter(modelOf).map((stage) => answer(stage, text, options, mine.signal)));
    if (stopping !== mine) return;
    stopping = null;
    box.setBusy(false);
    announce(views.map((v) => `${stageLabel(v.reply.model.split(":").at(-1))}: ${textOf(v.reply)}`).join(". "));
  }

  async function answer(stage, text, options, signal) {
    const model = modelOf(stage);
    const reply = newReply(model.id, options.seed);
    const documents = stage === "pretrain" && plain.checked; // it knows no end of a reply, and the API's limit for texts is 16
    const maxTokens = options.max_tokens ?? (documents ? 100 : undefined);
    const shown = new ReplyView(reply, { named: false, limits: { maxTokens, context: model.sprout.context } });
    views.push(shown);
    columns.querySelector(`[data-stage="${stage}"]`).replaceWith(column(stage, shown.element));
    const common = { model: model.id, ...options };
    if (documents) return generate(reply, COMPLETIONS, { ...common, prompt: text, max_tokens: maxTokens }, signal, () => shown.update());
    const messages = [{ role: "user", content: text }];
    if (system().trim()) messages.unshift({ role: "system", content: system() });
    return generate(reply, CHAT, { ...common, messages, house_tools: models.toolsOf(model.id) }, signal, () => shown.update());
  }

  function stop() {
    stopping?.abort();
    stopping = null;
    box.setBusy(false);
  }

  return { stop, focus: () => box.focus() };
}
