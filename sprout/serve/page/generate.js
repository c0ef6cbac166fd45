// Has a reply written: sends the request, adds the chunks to the reply as they come, and notes how it ended, whatever
// happens. Chat and side-by-side both use it.

import { ApiError } from "./api.js";
import { ownStats, take } from "./reply.js";
import { stream } from "./stream.js";

export const CHAT = "/v1/chat/completions";
export const COMPLETIONS = "/v1/completions";

/**
 * Never throws: what went wrong stands in reply.error.
 * @param {import("./reply.js").Reply} reply
 * @param {string} path
 * @param {Object} body
 * @param {AbortSignal} signal
 * @param {() => void} changed  called at most once per picture of the screen
 */
export async function generate(reply, path, body, signal, changed) {
  const started = performance.now();
  let first = 0, drawing = 0;
  const draw = () => { drawing ||= requestAnimationFrame(() => { drawing = 0; changed(); }); };
  const asked = path === CHAT ? { ...body, logprobs: true, top_logprobs: 5 } : body;
  try {
    for await (const chunk of stream(path, asked, signal)) {
      take(reply, chunk);
      if (!first && (reply.tokens.length || reply.parts.length)) first = performance.now();
      draw();
    }
    reply.finish ??= "stop";
  } catch (error) {
    if (signal.aborted) reply.finish = "cancelled";
    else reply.error = { kind: error.kind ?? "broken", message: error.message, retryAfter: error.retryAfter ?? 0 };
    if (!(error instanceof ApiError) && !signal.aborted) console.error(error);
  }
  reply.stats ??= ownStats(reply, started, first, performance.now());
  cancelAnimationFrame(drawing);
  changed();
}
