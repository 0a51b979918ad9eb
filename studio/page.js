// What the frame of the page does by itself: light or dark, the row of tabs, what is read out, names that Gradio leaves
// out. Runs in the head, before Gradio; it holds nothing that a person wrote.
(() => {
  // The endpoints are a page of their own: Gradio's address for them and its button at the foot lead there, and open it.
  const here = new URL(location.href);
  let opens = here.hash === "#api";
  if (!/\/endpoints\/?$/.test(here.pathname)) {
    const endpoints = new URL("endpoints#api", here);
    if (here.searchParams.get("view") === "api") return location.replace(endpoints);
    addEventListener("click", (event) => {
      if (!event.target.closest?.("footer .show-api")) return;
      event.stopImmediatePropagation();
      location.assign(endpoints);
    }, true);
  } else addEventListener("hashchange", () => { opens = location.hash === "#api"; names(); });
  const KEY = "noise-projection-studio.looks";
  const system = matchMedia("(prefers-color-scheme: dark)");
  const asked = here.searchParams.get("__theme");  // Gradio's own way of asking, for this visit alone

  function chosen() {
    try {
      const kept = localStorage.getItem(KEY);
      return ["light", "dark"].includes(kept) ? kept : "system";
    } catch { return "system"; }
  }
  let looks = ["light", "dark"].includes(asked) ? asked : chosen();

  function dress() {
    const dark = looks === "dark" || (looks === "system" && system.matches);
    if (document.body && document.body.classList.contains("dark") !== dark) document.body.classList.toggle("dark", dark);
    for (const input of document.querySelectorAll(".studio-looks input")) {
      if (input.checked !== (input.value === looks)) input.checked = input.value === looks;
    }
  }

  document.addEventListener("change", (event) => {
    if (!event.target.matches?.(".studio-looks input")) return;
    looks = event.target.value;
    try { localStorage.setItem(KEY, looks); } catch { /* a browser that keeps nothing */ }
    dress();
  });
  system.addEventListener("change", dress);

  // Ctrl+Enter begins what is being written
  const BEGINS = { "#prompt, #seeds": "#run", "#seeds-form": "#seeds-start" };
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    for (const [where, button] of Object.entries(BEGINS)) {
      if (event.target.closest?.(where)) { event.preventDefault(); event.target.blur(); document.querySelector(button)?.click(); return; }
    }
  });
  addEventListener("storage", (event) => { if (event.key === KEY) { looks = chosen(); dress(); } });

  // the row of tabs: which sides have more, and the chosen one in sight
  function edges(row) {
    const rest = row.scrollWidth - row.clientWidth;
    row.classList.toggle("more-left", row.scrollLeft > 4);
    row.classList.toggle("more-right", row.scrollLeft < rest - 4);
  }
  function tabs() {
    const row = document.querySelector("#tabs > .tab-wrapper > .tab-container");
    if (!row) return;
    if (!row.dataset.watched) {
      row.dataset.watched = "yes";
      row.addEventListener("scroll", () => edges(row), { passive: true });
      new ResizeObserver(() => { row.dataset.open = ""; tabs(); edges(row); }).observe(row);
    }
    const open = row.querySelector("[aria-selected=true]");
    if (open && row.dataset.open !== open.id) {
      row.dataset.open = open.id;
      const left = open.offsetLeft - (row.clientWidth - open.offsetWidth) / 2;
      row.scrollTo({ left, behavior: "instant" });
      edges(row);
    }
  }

  function set(node, name, value) {
    if (node.getAttribute(name) !== value) node.setAttribute(name, value);
  }
  function names() {
    const main = document.querySelector(".gradio-container main");
    if (main) { set(main, "id", "main"); set(main, "tabindex", "-1"); }
    for (const node of document.querySelectorAll(".live")) set(node, "aria-live", "polite");
    const endpoints = opens && document.querySelector("footer .show-api");
    if (endpoints) { opens = false; endpoints.click(); }
    for (const image of document.querySelectorAll("footer img")) set(image, "alt", "");
    // an image is a button without a name: it gets its label's
    for (const button of document.querySelectorAll(".image-container > button, .image-frame > button")) {
      const label = button.closest(".block")?.querySelector("[data-testid=block-label]")?.textContent.trim();
      if (!button.textContent.trim()) set(button, "aria-label", label || "The image");
    }
    // Gradio's arrow keys leave the row of tabs alone; ours move along it
    for (const row of document.querySelectorAll(".tab-container[role=tablist]")) {
      if (row.dataset.keys) continue;
      row.dataset.keys = "yes";
      row.addEventListener("keydown", (event) => {
        const all = [...row.querySelectorAll("[role=tab]:not([disabled])")];
        const at = all.indexOf(document.activeElement);
        const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: all.length - 1 }[event.key];
        if (at < 0 || to === undefined) return;
        event.preventDefault();
        all[(to + all.length) % all.length].focus();
      });
    }
  }

  let waiting = false;
  function look() {
    waiting = false;
    dress(); tabs(); names();
  }
  function soon() {
    if (!waiting) { waiting = true; requestAnimationFrame(look); }
  }
  function start() {
    dress();
    new MutationObserver(dress).observe(document.body, { attributes: true, attributeFilter: ["class"] });
    new MutationObserver(soon).observe(document.body, { childList: true, subtree: true, attributes: true, attributeFilter: ["aria-selected"] });
    soon();
  }
  if (document.body) start(); else addEventListener("DOMContentLoaded", start);
})();
