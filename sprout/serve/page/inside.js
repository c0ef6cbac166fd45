// The switch "Look inside": one for the whole page. Every message listens to it.

const listeners = new Set();

export const inside = {
  on: false,
  set(on) {
    this.on = on;
    for (const listener of [...listeners]) listener(on);
  },
  /** @returns a function that ends the listening */
  listen(listener) {
    listeners.add(listener);
    return () => listeners.delete(listener);
  },
};
