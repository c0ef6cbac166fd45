// The list of conversations at the side: choose, begin, rename, take along, delete (which can be undone for a while).

import { h, icon, iconButton, toast } from "./dom.js";
import { download, fileName, fromJson, toJson, toMarkdown } from "./exchange.js";
import * as store from "./store.js";

/**
 * @param {HTMLElement} side
 * @param {{current: () => string, choose: (id: string|null) => void}} chat  null begins a new one
 * @returns {() => void} draws the list anew
 */
export function conversationList(side, chat) {
  const list = h("ul", { class: "conversations" });
  const menu = h("div", { class: "menu", popover: "auto", "aria-label": "What to do with the conversation" });
  const fresh = h("button", { class: "new-chat", type: "button", onclick: () => chat.choose(null) }, icon("plus"), "New chat");
  side.append(fresh, h("h2", { class: "side-title" }, "Conversations"), list, menu);

  function draw() {
    const all = store.all();
    list.replaceChildren(...all.map(item));
    if (!all.length) list.append(h("li", { class: "hint" }, "They stay in this browser."));
  }

  function item(conversation) {
    const now = conversation.id === chat.current();
    const pick = h("button", { class: "pick", type: "button", "aria-current": now ? "true" : undefined, onclick: () => chat.choose(conversation.id) }, conversation.title);
    const more = iconButton("dots", `More about ${conversation.title}`, () => openMenu(more, conversation));
    return h("li", { class: now ? "now" : "", dataset: { id: conversation.id } }, pick, more);
  }

  function openMenu(button, conversation) {
    const act = (name, what) => h("button", { type: "button", onclick: () => { menu.hidePopover(); what(); } }, name);
    menu.replaceChildren(
      act("Rename", () => rename(conversation)),
      act("Export as JSON", () => download(fileName(conversation.title, "json"), toJson([conversation]), "application/json")),
      act("Export as Markdown", () => download(fileName(conversation.title, "md"), toMarkdown(conversation), "text/markdown")),
      act("Delete", () => remove(conversation)),
    );
    menu.showPopover();
    const spot = button.getBoundingClientRect(), { width, height } = menu.getBoundingClientRect();
    menu.style.left = `${Math.max(8, Math.min(spot.left, innerWidth - width - 8))}px`;
    menu.style.top = `${Math.min(spot.bottom + 4, innerHeight - height - 8)}px`;
    menu.firstChild.focus();
  }

  function rename(conversation) {
    const row = list.querySelector(`[data-id="${conversation.id}"]`);
    const field = h("input", { class: "rename", "aria-label": "New name", value: conversation.title, maxlength: "200" });
    let closed = false;
    const close = async (keep) => {
      if (closed) return;
      closed = true;
      if (keep && field.value.trim()) conversation.title = field.value.trim();
      await store.save(conversation);
      draw();
      list.querySelector(`[data-id="${conversation.id}"] .pick`)?.focus();
    };
    field.addEventListener("keydown", (event) => {
      if (event.key === "Enter") close(true);
      if (event.key === "Escape") { event.stopPropagation(); close(false); }
    });
    field.addEventListener("blur", () => close(true));
    row.replaceChildren(field);
    field.select();
  }

  async function remove(conversation) {
    await store.remove(conversation.id);
    if (conversation.id === chat.current()) chat.choose(null);
    draw();
    fresh.focus();
    toast(`“${conversation.title}” was deleted.`, "Undo", async () => { await store.save(conversation); draw(); });
  }

  return draw;
}

/** Buttons for the settings: all conversations to a file, and from one. */
export function exchangeButtons(changed) {
  const file = h("input", { type: "file", accept: ".json,application/json", class: "hidden-text", tabindex: "-1", "aria-label": "File with conversations" });
  file.addEventListener("change", async () => {
    try {
      const found = fromJson(await file.files[0].text());
      for (const conversation of found) await store.save(conversation);
      toast(`${found.length} ${found.length === 1 ? "conversation" : "conversations"} imported.`);
      changed();
    } catch (error) {
      toast(error.message);
    }
    file.value = "";
  });
  const exportAll = () => download("sprout-conversations.json", toJson(store.all()), "application/json");
  return h("div", { class: "field exchange" }, h("h3", {}, "Conversations"),
    h("button", { class: "button", type: "button", onclick: exportAll }, "Export all"),
    h("button", { class: "button", type: "button", onclick: () => file.click() }, "Import"), file);
}
