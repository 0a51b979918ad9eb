// Words go in by textContent only.
const root = element.querySelector(".guide-root");
const KEY = "noise-projection-studio.guide";
let drawn = "";
let began = false;  // seen unfinished on this visit: its end is shown once

function gone() {
  try { return localStorage.getItem(KEY) === "gone"; } catch { return false; }
}
function leave() {
  try { localStorage.setItem(KEY, "gone"); } catch { /* a browser that keeps nothing */ }
  root.replaceChildren();
  root.hidden = true;
  trigger("dismiss", {});
}

function draw() {
  const value = props.value;
  const steps = value?.steps ?? [];
  const over = steps.length > 0 && value.now < 0;
  if (!steps.length || gone() || (over && !began)) {
    root.hidden = true;
    root.replaceChildren();
    drawn = "";
    return;
  }
  began = true;
  const stamp = JSON.stringify(value);
  if (stamp === drawn) return;
  drawn = stamp;
  const held = root.contains(document.activeElement) ? document.activeElement.dataset.tab : "";
  const box = make("div", "guide");
  const list = make("ol");
  steps.forEach((step, at) => {
    const line = make("li", step.done ? "guide-done" : "");
    if (at === value.now) line.setAttribute("aria-current", "step");
    const number = make("span", "guide-number", step.done ? "✓" : String(at + 1));
    number.setAttribute("aria-hidden", "true");
    const open = make("button", "guide-open", step.title);
    open.type = "button";
    open.dataset.tab = step.tab;
    open.setAttribute("aria-label", `Step ${at + 1} of ${steps.length}: ${step.title}${step.done ? ", done" : ""}`);
    open.addEventListener("click", () => trigger("open", { tab: step.tab }));
    line.append(number, open, make("p", "guide-says", step.says));
    list.append(line);
  });
  const close = make("button", "guide-close", "×");
  close.type = "button";
  close.dataset.tab = "close";
  close.setAttribute("aria-label", over ? "Done: close the first steps" : "Hide the first steps for good");
  close.title = close.getAttribute("aria-label");
  close.addEventListener("click", leave);
  box.append(list, close);
  root.replaceChildren(box);
  root.hidden = false;
  if (held) root.querySelector(`[data-tab="${CSS.escape(held)}"]`)?.focus({ preventScroll: true });
}

watch("value", draw);
draw();
