// The question for the server's key (sprout serve --api-key). The server answers with a cookie that this page can't read.

import { login, onKeyWanted } from "./api.js";
import { h } from "./dom.js";

/** Asks until the key fits. */
function ask() {
  return new Promise((resolve) => {
    const field = h("input", { type: "password", id: "key", autocomplete: "current-password" });
    const wrong = h("p", { class: "wrong", role: "alert" });
    const enter = h("button", { class: "button main", type: "button" }, "Unlock");
    const dialog = h("dialog", { class: "login", "aria-labelledby": "login-title" },
      h("h2", { id: "login-title" }, "This server wants a key"),
      h("p", {}, "It was started with --api-key. Whoever started it knows the key."),
      h("label", { for: "key" }, "Key"), field, wrong, enter);
    const submit = async () => {
      enter.disabled = true;
      try {
        await login(field.value);
        done = true;
        dialog.close();
      } catch (error) {
        wrong.textContent = error.message;
        field.select();
      }
      enter.disabled = false;
    };
    let done = false;
    enter.addEventListener("click", submit);
    field.addEventListener("keydown", (event) => { if (event.key === "Enter") submit(); });
    dialog.addEventListener("close", () => {
      if (!done) { dialog.showModal(); return; } // without the key nothing works
      dialog.remove();
      resolve();
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

onKeyWanted(ask);
