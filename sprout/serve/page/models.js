// The models that the server has: one for each stage of each run, the last stage first. The list grows while a run grows.

import { listModels } from "./api.js";
import { h } from "./dom.js";

export const STAGES = ["pretrain", "midtrain", "finetune", "reinforce"];
const LABELS = { pretrain: "Base", midtrain: "Midtrained", finetune: "Finetuned", reinforce: "Reinforced", "": "Model" };
export const TAUGHT = {
  pretrain: "has read documents",
  midtrain: "has seen conversations, too",
  finetune: "was shown good replies",
  reinforce: "practised, and was rewarded",
};

export const stageLabel = (stage) => LABELS[stage] ?? stage;

const listeners = new Set();
let asked; // settles `tried`

export const models = {
  /** @type {Object[]} as the server lists them */
  list: [],
  chosen: "",
  switchedOff: new Set(), // names of tools
  /** Settled when the server has been asked for the list once, whatever it said: who is faster than that has to wait. */
  tried: new Promise((settle) => { asked = settle; }),

  async load() {
    try {
      this.list = await listModels();
      if (!this.get(this.chosen)) this.chosen = this.list[0]?.id ?? "";
      for (const listener of listeners) listener();
    } finally {
      asked();
    }
  },
  get(id) {
    return this.list.find((model) => model.id === id);
  },
  choose(id) {
    this.chosen = id;
    for (const listener of listeners) listener();
  },
  /** Calls `listener` now and whenever the list or the choice changes. */
  listen(listener) {
    listeners.add(listener);
    listener();
  },
  /** The names of the tools that a model may use now. */
  toolsOf(id) {
    return (this.get(id)?.sprout.tools ?? []).map((tool) => tool.name).filter((name) => !this.switchedOff.has(name));
  },
};

/** "Reinforced" for "default:reinforce", with the run's name if there are several. */
export function shortName(id) {
  const [run, stage] = id.includes(":") ? id.split(":") : [id, ""];
  const several = new Set(models.list.map((model) => model.sprout.run)).size > 1;
  if (!stage) return run;
  return several ? `${run}, ${stageLabel(stage)}` : stageLabel(stage);
}

/** The select box for run and stage. */
export function picker() {
  const select = h("select", { class: "quiet-select", "aria-label": "Model", title: "Model and stage", onchange: () => models.choose(select.value) });
  select.addEventListener("focus", () => models.load().catch(() => {}));
  let drawn = "";
  models.listen(() => {
    const key = models.list.map((model) => model.id).join();
    if (key !== drawn) select.replaceChildren(...groups());
    drawn = key;
    select.value = models.chosen;
    select.disabled = !models.list.length;
  });
  return select;
}

function groups() {
  const runs = Map.groupBy ? Map.groupBy(models.list, (m) => m.sprout.run) : new Map([["", models.list]]);
  const options = (list) => list.map((m) => h("option", { value: m.id }, m.sprout.stage ? stageLabel(m.sprout.stage) : m.sprout.run));
  if (runs.size === 1) return options(models.list);
  return [...runs].map(([run, list]) => h("optgroup", { label: run }, options(list)));
}

/** Check boxes for the tools of the chosen model. */
export function toolBoxes() {
  const box = h("div", { class: "tool-boxes", role: "group", "aria-label": "Tools" });
  const drawn = new Set();
  models.listen(() => {
    const tools = models.get(models.chosen)?.sprout.tools ?? [];
    for (const tool of tools) {
      if (!drawn.has(tool.name) && tool.default === false) models.switchedOff.add(tool.name);
      drawn.add(tool.name);
    }
    box.hidden = !tools.length;
    if (box.dataset.of === tools.map((tool) => tool.name).join()) return;
    box.dataset.of = tools.map((tool) => tool.name).join();
    box.replaceChildren(...tools.map(toolBox));
  });
  return box;
}

function toolBox(tool) {
  const check = h("input", { type: "checkbox", checked: !models.switchedOff.has(tool.name) });
  check.addEventListener("change", () => {
    models.switchedOff[check.checked ? "delete" : "add"](tool.name);
    models.choose(models.chosen);
  });
  return h("label", { class: "tool-box", title: tool.description }, check, tool.name);
}
