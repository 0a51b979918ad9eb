// The first part of the body of js_on_load: element, trigger, props and watch are given. A dialog over the page with one
// or two pictures. Prompts and names go in by textContent only.
const root = element.querySelector(".pair-viewer");
const MODES = [["side", "Side by side"], ["slider", "Slider"], ["flip", "Flip"], ["difference", "Difference"]];
const ZOOMS = [1, 1.5, 2, 3, 4, 6, 8];

let shown = null;    // the value that is open
let mode = "side";
let zoom = 1;
let cut = 50;        // where the slider's line stands, in percent
let flipped = false; // the other picture is held up
let gain = 4;        // by which a difference is made visible
let opener = null;   // what had the focus before

const dialog = make("dialog", "pv");
dialog.setAttribute("aria-label", "Two images");
root.append(dialog);

const known = (value) => value !== null && value !== undefined;
const named = (node) => node.getAttribute("aria-label") || node.title;
const both = () => Boolean(shown?.right);
const tone = (value) => (value > 0 ? "up" : value < 0 ? "down" : "same");
const sign = (value) => (value > 0 ? `▲ +${value}` : value < 0 ? `▼ −${-value}` : "= 0");

function picture(side, name) {
  if (!side.picture) return make("span", "pv-gone", "The file of this image is gone.");
  const image = make("img", "pv-image");
  image.alt = `${name ?? side.name}, seed ${side.seed}`;
  image.src = side.picture;
  image.draggable = false;
  // small renders are enlarged as they are, without a blur that would hide what differs
  image.addEventListener("load", () => image.classList.toggle("pv-crisp", image.clientWidth > 2.5 * image.naturalWidth && zoom > 1));
  return image;
}

function bar() {
  const box = make("div", "pv-bar");
  const title = make("div", "pv-title");
  title.append(make("b", "", `Seed ${shown.left.seed}`), make("span", "pv-prompt", shown.prompt));
  const modes = make("div", "sg-segments");
  modes.setAttribute("role", "group");
  modes.setAttribute("aria-label", "How to look");
  if (both()) MODES.forEach(([key, text], i) => {
    const node = button(text, "", `${text} (${i + 1})`, () => choose(key));
    node.setAttribute("aria-pressed", String(key === mode));
    modes.append(node);
  });
  const near = make("div", "pv-zoom");
  near.append(
    button("−", "sg-button", "Smaller (−)", () => closer(-1)),
    make("span", "pv-scale", `${zoom}×`),
    button("+", "sg-button", "Larger (+)", () => closer(1)),
  );
  const ends = make("div", "pv-ends");
  if (shown.steps) ends.append(
    button("↑", "sg-button", "The seed above (arrow up)", () => ask(-1, 0)),
    button("↓", "sg-button", "The seed below (arrow down)", () => ask(1, 0)),
  );
  ends.append(button("✕", "sg-button", "Close (Escape)", () => shut()));
  box.append(title, modes, near, ends);
  return box;
}

function about(side) {
  const box = make("section", "pv-about");
  const head = make("p", "pv-name");
  head.append(make("b", "", side.name), make("span", "", known(side.total) ? `mean score ${side.total.toFixed(1)} of 9` : "not scored yet"), make("span", "pv-made", side.made));
  const words = make("p", "sg-words");
  for (const { text, score, change } of side.words) {
    const node = make("span", `sg-word${known(score) ? "" : " sg-none"}`);
    if (known(score)) node.style.setProperty("--score", score / 9);
    node.append(make("span", "", text), make("b", "", known(score) ? score : "–"));
    if (change) node.append(make("i", `ws-${tone(change)}`, sign(change)));
    node.title = "The scores are the VLM's, or your corrections.";
    words.append(node);
  }
  const does = make("p", "pv-does");
  does.append(
    button("Annotate this", "sg-button", `Correct the words of ${side.name} in Annotate`, () => { shut(); trigger("annotate", { sample: side.sample }); }),
    button("Use settings", "sg-button", "Put this image's prompt, seed and settings into the form", () => { shut(); trigger("reuse", { sample: side.sample }); }),
    button("Use seed", "sg-button", "Put this seed alone into the form", () => { shut(); trigger("reseed", { sample: side.sample }); }),
    button("Copy link", "sg-button", "Copy a link that opens this image", (event) => copy(event.currentTarget, side)),
  );
  if (side.picture) {
    const link = make("a", "sg-button", "PNG");
    link.href = side.picture;
    link.download = side.file;
    link.title = "Download this image with its parameters in it";
    link.setAttribute("aria-label", `Download ${side.name} as PNG with its parameters`);
    does.append(link);
  }
  box.append(head, words);
  if (side.detector) box.append(make("p", "sg-detector", side.detector));
  box.append(does);
  return box;
}

async function copy(node, side) {
  const link = new URL(location.pathname, location.origin);
  link.searchParams.set("sample", side.sample);
  try { await navigator.clipboard.writeText(link.href); node.textContent = "Copied ✓"; }
  catch {  // a page in a frame may not write there: the link is given to be copied by hand
    const field = make("input", "sg-link");
    Object.assign(field, { readOnly: true, value: link.href });
    field.setAttribute("aria-label", "The link");
    node.after(field);
    field.select();
    field.addEventListener("blur", () => field.remove());
    return;
  }
  setTimeout(() => { node.textContent = "Copy link"; }, 2000);
}

function help() {
  const box = make("p", "pv-keys");
  const keys = [["Esc", "close"], ...(shown.steps ? [["↑ ↓", "seed"], ...(both() && mode === "slider" ? [] : [["← →", "column"]])] : [])];
  if (both()) keys.unshift(["1–4", "how to look"], ["Space", "hold to flip"]);
  if (both() && mode === "slider") keys.push(["← →", "move the line"]);
  keys.push(["+ −", "zoom"]);
  for (const [key, what] of keys) box.append(make("kbd", "", key), ` ${what} `);
  return box;
}

function draw() {
  const focus = dialog.contains(document.activeElement) ? named(document.activeElement) : null;
  const stage = dialog.querySelector(".pv-stage");
  const place = stage ? [stage.scrollLeft, stage.scrollTop] : [0, 0];
  const abouts = make("div", "pv-abouts");
  abouts.append(about(shown.left), ...(both() ? [about(shown.right)] : []));
  const body = make("div", `pv-stage pv-${both() ? mode : "one"}`);
  body.style.setProperty("--zoom", zoom);
  body.tabIndex = 0;
  body.setAttribute("aria-label", "The images");
  ({ side, slider, flip, difference })[both() ? mode : "side"](body);
  dialog.replaceChildren(bar(), body, abouts, help());
  [body.scrollLeft, body.scrollTop] = place;
  const again = [...dialog.querySelectorAll("button, a, input, .pv-stage")].find((node) => named(node) === focus);
  (again ?? body).focus({ preventScroll: true });
}

function choose(next) {
  mode = next;
  flipped = false;
  draw();
}

function closer(way) {
  zoom = ZOOMS[Math.max(0, Math.min(ZOOMS.length - 1, ZOOMS.indexOf(zoom) + way))];
  draw();
}

// the grid knows which image stands above, below and beside this one
const ask = (down, across) => document.dispatchEvent(new CustomEvent("seeds:step", { detail: { down, across } }));
