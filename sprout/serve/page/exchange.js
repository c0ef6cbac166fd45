// Taking conversations along: as JSON with all branches (which can be read back in), or the shown path as Markdown. A file
// that somebody hands us is not trusted: what is read from it is copied field by field, with new ids.

import { path, newId, ROOT } from "./tree.js";

const KIND = "sprout-conversations";
const LARGEST = 50e6; // bytes

export const toJson = (conversations) => JSON.stringify({ kind: KIND, version: 1, conversations }, null, 1);

/** @param {import("./tree.js").Conversation} conversation */
export function toMarkdown(conversation) {
  const lines = [`# ${conversation.title}`];
  if (conversation.system.trim()) lines.push("## System", conversation.system);
  for (const turn of path(conversation)) {
    if (turn.role === "user") lines.push("## You", turn.text);
    else lines.push(`## ${turn.reply.model}`, ...turn.reply.parts.map(partAsMarkdown));
  }
  return `${lines.join("\n\n")}\n`;
}

function partAsMarkdown(part) {
  if (part.type === "text") return part.text.trim();
  return `> tool call: \`${part.name ?? "malformed"} ${part.arguments}\`\n>\n> result: \`${part.result ?? "none"}\``;
}

/** Lets the browser save a text as a file. */
export function download(name, text, type) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

export const fileName = (title, end) => `${title.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").slice(0, 50) || "chat"}.${end}`;

/**
 * The conversations in a file's text. Throws an Error that says what is wrong with it.
 * @returns {import("./tree.js").Conversation[]}
 */
export function fromJson(text) {
  if (text.length > LARGEST) throw new Error("That file is too large.");
  let plain;
  try { plain = JSON.parse(text); } catch { throw new Error("That file is not JSON."); }
  if (plain?.kind !== KIND || !Array.isArray(plain.conversations)) throw new Error("That file holds no conversations of Sprout.");
  return plain.conversations.map(readConversation);
}

const string = (x) => (typeof x === "string" ? x : "");
const number = (x) => (Number.isFinite(x) ? x : 0);
const list = (x) => (Array.isArray(x) ? x : []);

function readConversation(plain) {
  const ids = new Map([[ROOT, ROOT]]);
  const turns = [];
  for (const turn of list(plain?.turns)) {
    if (!ids.has(turn?.parent) || !["user", "assistant"].includes(turn.role)) continue; // a parent stands before its child
    const id = newId();
    ids.set(string(turn.id), id);
    const said = turn.role === "user" ? { text: string(turn.text) } : { reply: readReply(turn.reply) };
    turns.push({ id, parent: ids.get(turn.parent), role: turn.role, ...said });
  }
  const pick = {};
  for (const [from, to] of Object.entries(plain?.pick ?? {})) if (ids.has(from) && ids.has(to)) pick[ids.get(from)] = ids.get(to);
  const created = number(plain?.created) || Date.now();
  return { id: newId(), title: string(plain?.title).slice(0, 200) || "Imported chat", created, updated: Date.now(), system: string(plain?.system), turns, pick };
}

function readReply(plain) {
  const parts = list(plain?.parts).map((part) => (part?.type === "call"
    ? { type: "call", name: typeof part.name === "string" ? part.name : null, arguments: string(part.arguments), result: typeof part.result === "string" ? part.result : null }
    : { type: "text", text: string(part?.text) }));
  const tokens = list(plain?.tokens).map((token) => (typeof token?.result === "string"
    ? { result: token.result } : { ...readToken(token), top_logprobs: list(token?.top_logprobs).map(readToken) }));
  const s = plain?.stats;
  const stats = s ? { tokens: number(s.tokens), seconds: number(s.seconds), first_seconds: number(s.first_seconds), tokens_per_s: number(s.tokens_per_s) } : null;
  return { model: string(plain?.model), seed: number(plain?.seed), parts, tokens, finish: string(plain?.finish) || "stop", stats, error: null };
}

function readToken(plain) {
  return { token: string(plain?.token), bytes: list(plain?.bytes).map(number), logprob: number(plain?.logprob), id: number(plain?.id) };
}

