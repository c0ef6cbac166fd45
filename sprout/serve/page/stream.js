// Server-sent events: a reply that is still being written. The server keeps the connection open and sends a line
// "data: {...}" and an empty line for every few tokens, at the end "data: [DONE]".

import { ApiError, call } from "./api.js";

/**
 * Posts `body` to `path` and yields the chunks of the answer as they come.
 * @param {AbortSignal} signal stops it; the server notices that nobody listens and stops as well
 */
export async function* stream(path, body, signal) {
  const response = await call(path, { ...body, stream: true, stream_options: { include_usage: true } }, signal);
  for await (const data of events(response.body, signal)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ApiError("broken", chunk.error.message || "The reply broke off.");
    yield chunk;
  }
  throw new ApiError("away", "The connection broke off in the middle of the reply.");
}

/** The data of each event in a stream of bytes. A line, and even a letter, may be cut anywhere between two reads. */
async function* events(bytes, signal) {
  const reader = bytes.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const lines = (rest + decoder.decode(value, { stream: true })).split(/\r?\n/);
      rest = lines.pop();
      for (const line of lines) if (line.startsWith("data:")) yield line.slice(5).trim();
    }
  } catch (error) {
    if (signal?.aborted || error instanceof ApiError) throw error;
    throw new ApiError("away", "The connection broke off in the middle of the reply.");
  } finally {
    reader.cancel().catch(() => {});
  }
}
