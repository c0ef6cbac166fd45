// Where conversations live: in this browser, in its database IndexedDB (localStorage would be full after a few dozen, since
// every token is kept with its alternatives). Without a database, as in some private windows, they last as long as the page.

const NAME = "sprout", TABLE = "conversations";
const memory = new Map(); // id -> conversation: one object for each, so that a reply goes on while another one is shown
let database;

function open() {
  database ??= new Promise((resolve) => {
    let request;
    try { request = indexedDB.open(NAME, 1); } catch { return resolve(null); }
    request.onupgradeneeded = () => request.result.createObjectStore(TABLE, { keyPath: "id" });
    request.onsuccess = () => resolve(request.result);
    request.onerror = request.onblocked = () => resolve(null);
  });
  return database;
}

async function ask(mode, what) {
  const base = await open();
  if (!base) return undefined;
  return new Promise((resolve, reject) => {
    const deal = base.transaction(TABLE, mode);
    const request = what(deal.objectStore(TABLE));
    deal.oncomplete = () => resolve(request.result);
    deal.onerror = deal.onabort = () => reject(deal.error);
  });
}

/** Reads everything once, when the page begins. */
export async function loadAll() {
  const stored = (await ask("readonly", (table) => table.getAll()).catch(() => null)) ?? [];
  for (const conversation of stored) memory.set(conversation.id, conversation);
}

/** The newest first. */
export const all = () => [...memory.values()].sort((a, b) => b.updated - a.updated);
export const get = (id) => memory.get(id);

export async function save(conversation) {
  memory.set(conversation.id, conversation);
  await ask("readwrite", (table) => table.put(conversation)).catch(() => {}); // full or forbidden: it stays in memory
}

export async function remove(id) {
  memory.delete(id);
  await ask("readwrite", (table) => table.delete(id)).catch(() => {});
}
