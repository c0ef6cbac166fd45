// Light or dark, before anything is drawn (so this is no module: a module would wait, and the page would flash).
// The system decides until somebody presses the switch; pressing it back to the system's choice follows the system again.
(() => {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const wanted = () => {
    try { return localStorage.getItem("sprout.theme"); } catch { return null; }
  };
  const show = () => {
    document.documentElement.dataset.theme = wanted() || (system.matches ? "dark" : "light");
    document.dispatchEvent(new CustomEvent("theme"));
  };
  window.switchTheme = () => {
    const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    try {
      if (next === (system.matches ? "dark" : "light")) localStorage.removeItem("sprout.theme");
      else localStorage.setItem("sprout.theme", next);
    } catch { /* no storage: the choice lasts as long as the page */ }
    show();
    if (document.documentElement.dataset.theme !== next) document.documentElement.dataset.theme = next;
  };
  system.addEventListener("change", show);
  show();
})();
