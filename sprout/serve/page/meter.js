// How full the context is: all that the model would read if the message were sent now, counted by the server.

import { tokenize } from "./api.js";
import { h } from "./dom.js";
import { models } from "./models.js";

const PAUSE = 500; // ms after the last change

/** @param {() => Object[]} messages  those of the API, with what is being typed */
export function contextMeter(messages) {
  const fill = h("span", {});
  const text = h("span", { class: "meter-text" });
  const element = h("div", { class: "meter", hidden: true, title: "How full the model’s context is" },
    h("span", { class: "meter-bar", role: "meter", "aria-label": "Context used", "aria-valuemin": "0" }, fill), text);
  let timer = 0, asked = 0;

  async function count() {
    const model = models.get(models.chosen), turns = messages(), mine = ++asked;
    if (!model || !turns.length) { element.hidden = true; return; }
    try {
      const { count: used } = await tokenize({ model: model.id, messages: turns, house_tools: models.toolsOf(model.id) });
      if (mine !== asked) return;
      const room = model.sprout.context;
      fill.style.width = `${Math.min(100, (100 * used) / room)}%`;
      element.classList.toggle("full", used > 0.85 * room);
      const bar = element.firstChild;
      bar.setAttribute("aria-valuemax", room);
      bar.setAttribute("aria-valuenow", Math.min(used, room));
      bar.setAttribute("aria-valuetext", `${used} of ${room} tokens`);
      text.textContent = `${used} / ${room}`;
      element.hidden = false;
    } catch {
      if (mine === asked) element.hidden = true;
    }
  }

  return { element, update() { clearTimeout(timer); timer = setTimeout(count, PAUSE); } };
}
