// Cells go in by textContent only. caption is a constant that Table sets.
const root = element.querySelector(".table-root");
let drawn = "";
const named = () => props.value?.caption || caption;

function cell(tag, content) {
  const { text, tone } = content !== null && typeof content === "object" ? content : { text: content, tone: "" };
  if (!tone || tone === "number") return make(tag, tone, text);
  const node = make(tag);
  node.append(make("span", `badge ${["good", "bad", "now"].includes(tone) ? tone : ""}`, text));
  return node;
}

function draw() {
  const value = props.value ?? { head: [], rows: [] };
  const stamp = JSON.stringify(value);
  if (stamp === drawn) return;
  drawn = stamp;
  const held = root.contains(document.activeElement) ? document.activeElement.closest("tr")?.dataset.key : "";
  const top = root.scrollTop;
  root.replaceChildren();
  if (!value.rows || !value.rows.length) {
    root.append(make("p", "quiet", value.empty));
    return;
  }
  const table = make("table", "plain");
  if (named()) table.createCaption().textContent = named();
  const head = table.createTHead().insertRow();
  for (const title of value.head) {
    const node = cell("th", title);
    node.scope = "col";
    head.append(node);
  }
  const body = table.createTBody();
  for (const { key, cells } of value.rows) {
    const line = body.insertRow();
    for (const content of cells) line.append(cell("td", content));
    if (!key) continue;
    line.dataset.key = key;
    line.className = "pickable";
    if (key === value.chosen) line.setAttribute("aria-current", "true");
    // a button in the first cell is what the keyboard and a screen reader find; the mouse has the whole row
    const says = Array.from(line.cells, (one) => one.textContent).filter(Boolean).join(", ");
    const open = make("button", "row-button");
    open.type = "button";
    open.setAttribute("aria-label", says);
    const shown = line.cells[0];
    open.append(...shown.childNodes);
    shown.append(open);
    line.addEventListener("click", () => trigger("pick", { key }));
  }
  root.append(table);
  root.scrollTop = top;
  if (held) root.querySelector(`tr[data-key="${CSS.escape(held)}"] .row-button`)?.focus({ preventScroll: true });
}

// a table that is wider than its place is scrolled by the arrow keys too, and fades where more of it is
function reach() {
  root.classList.toggle("more-left", root.scrollLeft > 2);
  root.classList.toggle("more-right", root.scrollLeft + root.clientWidth < root.scrollWidth - 2);
  if (root.scrollWidth > root.clientWidth + 1) {
    root.tabIndex = 0;
    root.setAttribute("role", "region");
    root.setAttribute("aria-label", named() || "table");
  } else {
    root.removeAttribute("tabindex");
    root.removeAttribute("role");
    root.removeAttribute("aria-label");
  }
}

new ResizeObserver(reach).observe(root);
root.addEventListener("scroll", reach, { passive: true });
watch("value", () => { draw(); reach(); });
draw();
reach();
