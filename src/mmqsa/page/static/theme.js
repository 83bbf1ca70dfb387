"use strict";
// Dark or light: as the system says, or as the reader chose last.

(() => {
  const root = document.documentElement, button = document.getElementById("theme");
  const read = () => { try { return localStorage.getItem("mmqsa-theme"); } catch { return null; } };
  const set = (theme) => {
    root.dataset.theme = theme;
    button.textContent = theme === "dark" ? "Light" : "Dark";
  };
  set(read() ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"));
  button.addEventListener("click", () => {
    set(root.dataset.theme === "dark" ? "light" : "dark");
    try { localStorage.setItem("mmqsa-theme", root.dataset.theme); } catch { /* kept for this visit */ }
  });
})();
