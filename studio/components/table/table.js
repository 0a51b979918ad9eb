// Cells go in by textContent only. caption is a constant that Table sets.
const root = element.querySelector(".table-root");
const named = () => props.value?.caption || caption;

function cell(tag, content) {
  const { text, tone } = content !== null && typeof content === "object" ? content : { text: content, tone: "" };
  if (!tone || tone === "number") return make(tag, tone, text);
  const node = make(tag);
  node.append(make("span", `badge ${["good", "bad", "now"].includes(tone) ? tone : ""}`, text));
  return node;
}

function draw({ head = [], rows = [], empty, chosen }) {
  const held = root.contains(document.activeElement) ? document.activeElement.closest("tr")?.dataset.key : "";
  const top = root.scrollTop;
  if (!rows.length) return root.replaceChildren(make("p", "quiet", empty));
  const table = make("table", "plain");
  if (named()) table.createCaption().textContent = named();
  const heads = table.createTHead().insertRow();
  for (const title of head) {
    const node = cell("th", title);
    node.scope = "col";
    heads.append(node);
  }
  const body = table.createTBody();
  for (const { key, cells } of rows) {
    const line = body.insertRow();
    for (const content of cells) line.append(cell("td", content));
    if (!key) continue;
    line.dataset.key = key;
    line.className = "pickable";
    if (key === chosen) line.setAttribute("aria-current", "true");
    // a button in the first cell is what the keyboard and a screen reader find; the mouse has the whole row
    const says = Array.from(line.cells, (one) => one.textContent).filter(Boolean).join(", ");
    const open = make("button", "row-button", null, { type: "button", "aria-label": says });
    open.append(...line.cells[0].childNodes);
    line.cells[0].append(open);
    line.addEventListener("click", () => trigger("pick", { key }));
  }
  root.replaceChildren(table);
  root.scrollTop = top;
  if (held) root.querySelector(`tr[data-key="${CSS.escape(held)}"] .row-button`)?.focus({ preventScroll: true });
}

// a table that is wider than its place is scrolled by the arrow keys too, and fades where more of it is
function reach() {
  root.classList.toggle("more-left", root.scrollLeft > 2);
  root.classList.toggle("more-right", root.scrollLeft + root.clientWidth < root.scrollWidth - 2);
  const wide = root.scrollWidth > root.clientWidth + 1;
  for (const [name, value] of [["tabindex", "0"], ["role", "region"], ["aria-label", named() || "table"]])
    if (wide) root.setAttribute(name, value); else root.removeAttribute(name);
}

new ResizeObserver(reach).observe(root);
root.addEventListener("scroll", reach, { passive: true });
follow((value) => { draw(value); reach(); });
