// Words go in by textContent only.
const root = element.querySelector(".guide-root");
let began = false;  // seen unfinished on this visit: its end is shown once

function gone() {
  try { return Boolean(localStorage.getItem(`${HOME}guide`)); } catch { return false; }
}
function leave() {
  keep("guide", "gone");
  root.replaceChildren();
  root.hidden = true;
  trigger("dismiss", {});
}

function part(steps, step, at, now) {
  const line = make("li", step.done ? "guide-done" : "", null, at === now ? { "aria-current": "step" } : {});
  const open = make("button", "guide-open", step.title, {
    type: "button", "data-tab": step.tab, "aria-label": `Step ${at + 1} of ${steps.length}: ${step.title}${step.done ? ", done" : ""}`,
  });
  open.addEventListener("click", () => trigger("open", { tab: step.tab }));
  line.append(make("span", "guide-number", step.done ? "✓" : at + 1, { "aria-hidden": "true" }), open, make("p", "guide-says", step.says));
  return line;
}

follow(({ steps = [], now }) => {
  const over = now < 0;
  root.hidden = !steps.length || gone() || (over && !began);
  if (root.hidden) return root.replaceChildren();
  began = true;
  const held = root.contains(document.activeElement) ? document.activeElement.dataset.tab : "";
  const box = make("div", "guide"), list = make("ol"), name = over ? "Done: close the first steps" : "Hide the first steps for good";
  list.append(...steps.map((step, at) => part(steps, step, at, now)));
  const close = make("button", "guide-close", "×", { type: "button", "data-tab": "close", "aria-label": name, title: name });
  close.addEventListener("click", leave);
  box.append(list, close);
  root.replaceChildren(box);
  if (held) root.querySelector(`[data-tab="${CSS.escape(held)}"]`)?.focus({ preventScroll: true });
});
