// The page as a whole: puts the parts in their places, follows the address (#chat, #compare, #grow), and waits for the
// server where there is none. Read dom.js first, then api.js, stream.js, reply.js, tree.js, chat.js.

import "./login.js";
import { closeCard } from "./card.js";
import { chatView } from "./chat.js";
import { compareView } from "./compare.js";
import { conversationList, exchangeButtons } from "./conversations.js";
import { h, icon } from "./dom.js";
import { growView } from "./grow.js";
import { inside } from "./inside.js";
import { models } from "./models.js";
import { settingsDrawer } from "./settings.js";
import * as store from "./store.js";

const at = (id) => document.getElementById(id);
const NAMES = { chat: "Chat", compare: "Side by side", grow: "Watch it grow" };

let drawList = () => {};
const chat = chatView(at("view-chat"), () => drawList());
const compare = compareView(at("view-compare"), () => chat.system.get());
const grow = growView(at("view-grow"));
drawList = conversationList(at("side"), {
  current: chat.current,
  choose(id) {
    chat.choose(id);
    openSide(false);
  },
});
const drawer = settingsDrawer(chat.system, exchangeButtons(() => drawList()));
document.body.append(drawer.element);

/** Shows the view that the address names. */
function route() {
  const asked = location.hash.slice(1);
  const name = asked in NAMES ? asked : "chat";
  for (const view of Object.keys(NAMES)) at(`view-${view}`).hidden = view !== name;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.view === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.body.dataset.view = name;
  document.title = `${NAMES[name]} – Sprout`;
  grow.show(name === "grow");
  closeCard(); // of a token in the view before
  openSide(false);
}

function openSide(open) {
  at("side").classList.toggle("open", open);
  at("open-side").setAttribute("aria-expanded", String(open));
}

function buttons() {
  at("open-side").append(icon("menu"));
  at("open-side").addEventListener("click", () => openSide(!at("side").classList.contains("open")));
  at("open-settings").append(icon("sliders"));
  at("open-settings").addEventListener("click", () => drawer.open());
  at("inside").append(icon("inside"), h("span", {}, "Look inside"));
  at("inside").addEventListener("click", () => inside.set(!inside.on));
  inside.listen((on) => at("inside").setAttribute("aria-pressed", String(on)));
  at("theme").addEventListener("click", () => window.switchTheme());
  const themed = () => {
    const dark = document.documentElement.dataset.theme === "dark";
    at("theme").replaceChildren(icon(dark ? "sun" : "moon"));
    at("theme").setAttribute("aria-pressed", String(dark));
  };
  document.addEventListener("theme", themed);
  themed();
  at("skip").addEventListener("click", (event) => { // the address is taken by the views
    event.preventDefault();
    at("main").focus();
  });
}

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || document.querySelector("dialog[open], :popover-open")) return;
  if (at("side").classList.contains("open")) { openSide(false); at("open-side").focus(); return; }
  if (document.body.dataset.view === "chat") chat.stop();
  if (document.body.dataset.view === "compare") compare.stop();
});
document.addEventListener("pointerdown", (event) => {
  if (!event.target.closest("#side, #open-side, .menu")) openSide(false);
});

/** Asks for the models until the server answers. */
async function connect() {
  for (;;) {
    try {
      await models.load();
      at("banner").hidden = true;
      break;
    } catch (error) {
      const again = h("button", { class: "link", type: "button" }, "Try again");
      const pressed = new Promise((resolve) => again.addEventListener("click", resolve));
      at("banner").replaceChildren(error.message, " ", again);
      at("banner").hidden = false;
      await Promise.race([pressed, new Promise((wake) => setTimeout(wake, 4000))]);
    }
  }
  document.querySelector('nav a[data-view="grow"]').hidden = !(await grow.exists().catch(() => false));
}

buttons();
addEventListener("hashchange", route);
await store.loadAll();
route();
chat.begin();
drawList();
connect();
