// Every question to the server goes through call(): it adds what all of them need and turns whatever goes wrong into an
// ApiError with a sentence that a person can do something with.

/** What went wrong. kind: "away" (no server), "key", "busy", "draining", "refused" (the request), "broken" (the server). */
export class ApiError extends Error {
  constructor(kind, message, { status = 0, retryAfter = 0 } = {}) {
    super(message);
    this.kind = kind;
    this.status = status;
    this.retryAfter = retryAfter; // seconds
  }
}

export const AWAY = "The server does not answer. Is “sprout serve” still running?";

let askForKey = async () => { throw new ApiError("key", "This server wants a key."); };
let asking = null;

/** login.js says here how a person is asked for the key. */
export function onKeyWanted(ask) {
  askForKey = ask;
}

/**
 * Fetches `path`; a body makes it a POST of JSON. Where the server wants a key it is asked for, and the call made again.
 * @returns {Promise<Response>} one that is ok
 */
export async function call(path, body, signal) {
  for (;;) {
    const response = await reach(path, body, signal);
    if (response.ok) return response;
    if (response.status !== 401 || path === "/login") throw await errorOf(response);
    asking ??= askForKey().finally(() => { asking = null; }); // several calls, one question
    await asking;
  }
}

async function reach(path, body, signal) {
  const post = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  try {
    return await fetch(path, body === undefined ? { signal } : { ...post, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("away", AWAY);
  }
}

async function errorOf(response) {
  const { status } = response;
  const said = await response.json().then((plain) => plain.error?.message, () => null);
  const retryAfter = Number(response.headers.get("Retry-After")) || 0;
  if (status === 429) return new ApiError("busy", "The server has too much to do at the moment.", { status, retryAfter: retryAfter || 2 });
  if (status === 503) return new ApiError("draining", "The server is about to stop and takes nothing new.", { status, retryAfter });
  if (status === 413) return new ApiError("refused", "That is more text than the server accepts.", { status });
  if (status === 401) return new ApiError("key", "That key does not fit.", { status });
  return new ApiError(status < 500 ? "refused" : "broken", said || `The server answered with status ${status}.`, { status });
}

const json = async (path, body, signal) => (await call(path, body, signal)).json();

export const listModels = async () => (await json("/v1/models")).data;
export const tokenize = (body, signal) => json("/tokenize", body, signal);
export const renderMarkdown = async (text) => (await json("/render", { text })).html;
export const login = (key) => call("/login", { key });

/** The state of the run that the server stands on, or null if it stands on none. */
export async function growState() {
  try {
    return await json("/grow/state");
  } catch (error) {
    if (error.status === 404) return null;
    throw error;
  }
}
