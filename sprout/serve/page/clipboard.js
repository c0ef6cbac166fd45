// Copying: the clipboard where the browser lets a page write to it, else an invisible text field and the old command.

import { announce, icon, iconButton } from "./dom.js";

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const field = document.createElement("textarea");
    field.value = text;
    field.className = "hidden-text";
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
}

/** A button that copies what `text()` gives, and says so. */
export function copyButton(label, text) {
  const button = iconButton("copy", label, async () => {
    await copy(text());
    announce("Copied");
    button.replaceChildren(icon("check"));
    setTimeout(() => button.replaceChildren(icon("copy")), 1500);
  });
  return button;
}
