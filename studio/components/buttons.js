// A button and what it does. Its text is its name; a sign or nothing is no text, and gets a name for those who hear it.
function button(text, classes, name, press) {
  const node = make("button", classes, text, { type: "button" });
  if (name) node.title = name;
  if (name && !/[\p{L}\p{N}]/u.test(text)) node.setAttribute("aria-label", name);
  node.addEventListener("click", press);
  return node;
}

// A row of buttons of which one is pressed. options: [key, text, title] each.
function segments(name, options, value, change) {
  const box = make("div", "sg-segments", null, { role: "group", "aria-label": name });
  for (const [key, text, title] of options) {
    const node = button(text, "", title ?? "", () => change(key));
    node.setAttribute("aria-pressed", String(key === value));
    node.dataset.key = key;
    box.append(node);
  }
  return box;
}

// A change of a score: its direction as a tone (a class), and with its size.
const rounded = (by, digits = 0) => Number(Math.abs(by).toFixed(digits));
const tone = (by, digits) => (rounded(by, digits) ? (by > 0 ? "up" : "down") : "same");
const arrow = (by, digits) => (rounded(by, digits) ? `${by > 0 ? "▲ +" : "▼ −"}${Math.abs(by).toFixed(digits)}` : "= 0");

const WHOSE = "The scores are the VLM's, or your corrections.";
const percent = (share) => `${Math.round(100 * share)} %`;
const modified = (event) => event.ctrlKey || event.metaKey || event.altKey;

// A word with its score, and what is said of it beside that.
function wordTag(text, score, ...marks) {
  const node = make("span", `sg-word${known(score) ? "" : " sg-none"}`);
  if (known(score)) node.style.setProperty("--score", score / 9);
  node.append(make("span", "", text), make("b", "", known(score) ? score : "–"), ...marks);
  return node;
}

// Copies a link to the studio with one parameter, and says so on the button.
async function copyLink(node, name, value) {
  const link = new URL(location.pathname, location.origin);
  link.searchParams.set(name, value);
  try { await navigator.clipboard.writeText(link.href); node.textContent = "Copied ✓"; }
  catch {  // a page in a frame may not write there: the link is given to be copied by hand
    const field = make("input", "sg-link", null, { "aria-label": "The link", readonly: "" });
    field.value = link.href;
    node.after(field);
    field.select();
    field.addEventListener("blur", () => field.remove());
    return;
  }
  setTimeout(() => { node.textContent = "Copy link"; }, 2000);
}
