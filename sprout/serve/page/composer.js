// Where one writes: a text field that grows with the text. Enter sends, Shift+Enter begins a new line. While a reply is
// being written the button stops it (and so does Escape, see app.js).

import { h, icon } from "./dom.js";

/**
 * @param {{label: string, send: (text: string) => void, stop: () => void, type?: (text: string) => void, below?: Node[]}} options
 */
export function composer({ label, send, stop, type = () => {}, below = [] }) {
  let busy = false;
  const field = h("textarea", { rows: "1", "aria-label": label, placeholder: label, enterkeyhint: "send" });
  const button = h("button", { class: "send", type: "button" });
  const fit = () => {
    field.style.height = "auto";
    field.style.height = `${Math.min(field.scrollHeight, 220)}px`;
  };
  const paint = () => {
    button.replaceChildren(icon(busy ? "stop" : "send"));
    button.setAttribute("aria-label", busy ? "Stop" : "Send");
    button.title = busy ? "Stop (Esc)" : "Send (Enter)";
    button.disabled = !busy && !field.value.trim();
  };
  const submit = () => {
    const text = field.value.trim();
    if (busy || !text) return;
    set("");
    send(text);
  };
  const set = (text) => {
    field.value = text;
    fit();
    paint();
    type(text);
  };
  field.addEventListener("input", () => set(field.value));
  field.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return; // isComposing: Enter chooses a letter
    event.preventDefault();
    submit();
  });
  button.addEventListener("click", () => (busy ? stop() : submit()));
  paint();
  return {
    element: h("div", { class: "composer" }, h("div", { class: "composer-field" }, field, button), h("div", { class: "composer-below" }, below)),
    set,
    text: () => field.value,
    focus: () => field.focus(),
    setBusy(now) { busy = now; paint(); },
  };
}
