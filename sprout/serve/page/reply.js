// What a reply is, as plain data that can be stored: the text and tool calls it is made of, every token with how likely it
// was, and how fast it came. `take` adds a chunk of the stream; drawing it is replyview.js's business.

/**
 * @typedef {{type: "text", text: string}} TextPart
 * @typedef {{type: "call", name: string|null, arguments: string, result: string|null}} CallPart  name null: malformed
 * @typedef {{token: string, bytes: number[], logprob: number, id: number, top_logprobs: Object[]}} Token
 * @typedef {Object} Reply
 * @property {string} model
 * @property {number|null} seed
 * @property {(TextPart|CallPart)[]} parts
 * @property {(Token|{result: string})[]} tokens  what the model chose, and where tools put their results
 * @property {string|null} finish  "stop", "length", "context", "call", "cancelled"; null while it is written
 * @property {{tokens: number, seconds: number, first_seconds: number, tokens_per_s: number}|null} stats
 * @property {{kind: string, message: string, retryAfter: number}|null} error
 */

/** @returns {Reply} */
export function newReply(model, seed) {
  return { model, seed, parts: [], tokens: [], finish: null, stats: null, error: null };
}

/** Adds a chunk of the stream (of either API: `delta.content` of a chat, `text` of a completion). */
export function take(reply, chunk) {
  const choice = chunk.choices?.[0];
  const text = choice?.delta?.content ?? choice?.text;
  if (text) addText(reply, text);
  const logprobs = choice?.logprobs?.content;
  if (Array.isArray(logprobs)) reply.tokens.push(...logprobs);
  const ours = chunk.sprout;
  if (ours && "call" in ours) {
    const call = ours.call ?? { name: null, arguments: ours.raw ?? "" };
    reply.parts.push({ type: "call", name: call.name, arguments: call.arguments, result: null });
  }
  if (ours && "result" in ours) {
    const open = reply.parts.findLast((part) => part.type === "call" && part.result === null);
    if (open) open.result = ours.result;
    reply.tokens.push({ result: ours.result });
  }
  if (choice?.finish_reason) reply.finish = ours?.finish ?? choice.finish_reason;
  if (ours?.tokens_per_s !== undefined) {
    const { tokens, seconds, first_seconds, tokens_per_s } = ours;
    reply.stats = { tokens, seconds, first_seconds, tokens_per_s };
  }
}

function addText(reply, text) {
  const last = reply.parts.at(-1);
  if (last?.type === "text") last.text += text;
  else reply.parts.push({ type: "text", text });
}

/** All that it says, without the tools. */
export function textOf(reply) {
  return reply.parts.filter((part) => part.type === "text").map((part) => part.text.trim()).join("\n\n");
}

/** The reply as messages of the API, to be sent with the next turn. A call that was malformed or has no result is left out. */
export function messagesOf(reply) {
  const messages = [];
  let text = "";
  for (const [i, part] of reply.parts.entries()) {
    if (part.type === "text") text += part.text;
    else if (part.name !== null && part.result !== null) {
      const call = { id: `call_${i}`, type: "function", function: { name: part.name, arguments: part.arguments } };
      messages.push({ role: "assistant", content: text, tool_calls: [call] });
      messages.push({ role: "tool", tool_call_id: call.id, content: part.result });
      text = "";
    }
  }
  if (text.trim()) messages.push({ role: "assistant", content: text });
  return messages;
}

/** Figures of a reply that was stopped, for which the server sends none. `started` and `first` are in milliseconds. */
export function ownStats(reply, started, first, now) {
  const tokens = reply.tokens.filter((token) => !("result" in token)).length;
  const seconds = (now - started) / 1000;
  if (!tokens || !first) return null;
  return { tokens, seconds, first_seconds: (first - started) / 1000, tokens_per_s: tokens / seconds };
}
