// A conversation is a tree of turns: editing a question or asking for another answer grows a branch beside the old one, and
// nothing is lost. What is shown is one path from the root to a leaf; `pick` remembers which child it takes at each fork.

/**
 * @typedef {Object} Turn
 * @property {string} id
 * @property {string} parent  the turn before, or ROOT
 * @property {"user"|"assistant"} role
 * @property {string} [text]  of a user's turn
 * @property {import("./reply.js").Reply} [reply]  of an assistant's
 *
 * @typedef {Object} Conversation
 * @property {string} id
 * @property {string} title
 * @property {number} created
 * @property {number} updated
 * @property {string} system
 * @property {Turn[]} turns  the oldest first
 * @property {Object<string, string>} pick  turn -> the child that is shown
 */
import { messagesOf } from "./reply.js";

export const ROOT = "root";

/** Random, and (unlike crypto.randomUUID) also there on a page that came over plain http from another machine. */
export const newId = () => [...crypto.getRandomValues(new Uint8Array(12))].map((b) => b.toString(16).padStart(2, "0")).join("");

/** @returns {Conversation} */
export function newConversation(system = "") {
  const now = Date.now();
  return { id: newId(), title: "New chat", created: now, updated: now, system, turns: [], pick: {} };
}

export const children = (conversation, id) => conversation.turns.filter((turn) => turn.parent === id);

/** Puts a turn below `parent` and shows it. */
export function addTurn(conversation, parent, turn) {
  const added = { id: newId(), parent, ...turn };
  conversation.turns.push(added);
  conversation.pick[parent] = added.id;
  conversation.updated = Date.now();
  return added;
}

/** The turns that are shown. */
export function path(conversation) {
  const shown = [];
  for (let at = ROOT; ;) {
    const below = children(conversation, at);
    if (!below.length) return shown;
    const next = below.find((turn) => turn.id === conversation.pick[at]) ?? below.at(-1);
    shown.push(next);
    at = next.id;
  }
}

/** Where a turn stands among its siblings: {index, count}. */
export function place(conversation, turn) {
  const all = children(conversation, turn.parent);
  return { index: all.indexOf(turn), count: all.length };
}

/** Shows the sibling `by` places further. */
export function walk(conversation, turn, by) {
  const all = children(conversation, turn.parent);
  const next = all[all.indexOf(turn) + by];
  if (next) conversation.pick[turn.parent] = next.id;
  return next;
}

/** The messages of the API for the path that ends with the turn `last`. */
export function messagesUpTo(conversation, last) {
  const byId = new Map(conversation.turns.map((turn) => [turn.id, turn]));
  const messages = [];
  for (let turn = last; turn; turn = byId.get(turn.parent)) {
    messages.unshift(...(turn.role === "user" ? [{ role: "user", content: turn.text }] : messagesOf(turn.reply)));
  }
  if (conversation.system.trim()) messages.unshift({ role: "system", content: conversation.system });
  return messages;
}

/** A title from the first words said. */
export function titleFrom(text) {
  const line = text.trim().replace(/\s+/g, " ");
  return line.length <= 42 ? line : `${line.slice(0, 40).replace(/\s\S*$/, "")} …`;
}
