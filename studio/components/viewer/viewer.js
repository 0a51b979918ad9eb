// A dialog over the page with one or two pictures. Prompts and names go in by textContent only.
const root = element.querySelector(".pair-viewer");
const MODES = [["side", "Side by side"], ["slider", "Slider"], ["flip", "Flip"], ["difference", "Difference"]];
const ZOOMS = [1, 1.5, 2, 3, 4, 6, 8];

let shown = null;    // the value that is open
let mode = "side";
let zoom = 1;
let cut = 50;        // where the slider's line stands, in percent
let flipped = false; // the other picture is held up
let gain = 4;        // by which a difference is made visible

const dialog = modal(root, "pv", "Two images", receive, () => { shown = null; });
const named = (node) => node.getAttribute("aria-label") || node.title;
const both = () => Boolean(shown?.right);

function picture(side) {
  if (!side.picture) return make("span", "pv-gone", "The file of this image is gone.");
  const image = make("img", "pv-image", null, { alt: `${side.name}, seed ${side.seed}`, src: side.picture, draggable: "false" });
  // small renders are enlarged as they are, without a blur that would hide what differs
  image.addEventListener("load", () => image.classList.toggle("pv-crisp", image.clientWidth > 2.5 * image.naturalWidth && zoom > 1));
  return image;
}

function bar() {
  const box = make("div", "pv-bar");
  const title = make("div", "pv-title");
  title.append(make("b", "", `Seed ${shown.left.seed}`), make("span", "pv-prompt", shown.prompt));
  const modes = segments("How to look", both() ? MODES.map(([key, text], i) => [key, text, `${text} (${i + 1})`]) : [], mode, choose);
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
  ends.append(button("✕", "sg-button", "Close (Escape)", () => dialog.close()));
  box.append(title, modes, near, ends);
  return box;
}

function about(side) {
  const box = make("section", "pv-about");
  const head = make("p", "pv-name");
  head.append(make("b", "", side.name), make("span", "", known(side.total) ? `mean score ${side.total.toFixed(1)} of 9` : "not scored yet"), make("span", "pv-made", side.made));
  const words = make("p", "sg-words");
  for (const { text, score, change } of side.words) {
    const node = wordTag(text, score, ...(change ? [make("i", `ws-${tone(change)}`, arrow(change))] : []));
    node.title = WHOSE;
    words.append(node);
  }
  const leave = (event) => () => { dialog.close(); trigger(event, { sample: side.sample }); };
  const does = make("p", "pv-does");
  does.append(
    button("Annotate this", "sg-button", `Correct the words of ${side.name} in Annotate`, leave("annotate")),
    button("Use settings", "sg-button", "Put this image's prompt, seed and settings into the form", leave("reuse")),
    button("Use seed", "sg-button", "Put this seed alone into the form", leave("reseed")),
    button("Copy link", "sg-button", "Copy a link that opens this image", (event) => copyLink(event.currentTarget, "sample", side.sample)),
  );
  if (side.picture) {
    does.append(make("a", "sg-button", "PNG", {
      href: side.picture, download: side.file, title: "Download this image with its parameters in it",
      "aria-label": `Download ${side.name} as PNG with its parameters`,
    }));
  }
  box.append(head, words);
  if (side.detector) box.append(make("p", "sg-detector", side.detector));
  box.append(does);
  return box;
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
  const body = make("div", `pv-stage pv-${both() ? mode : "one"}`, null, { "aria-label": "The images", tabindex: "0" });
  body.style.setProperty("--zoom", zoom);
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

// ---- the ways to look at two pictures, and the keys.
function labelled(part, name) {
  const box = make("figure", "pv-frame");
  box.append(part, make("figcaption", "", name));
  return box;
}

function side(body) {
  body.append(labelled(picture(shown.left), shown.left.name));
  if (both()) body.append(labelled(picture(shown.right), shown.right.name));
}

function ranged(min, max, value, name) {
  return make("input", "pv-range", null, { type: "range", min, max, step: 1, value, "aria-label": name });
}

function slider(body) {
  const frame = make("div", "pv-frame pv-over");
  const top = picture(shown.left), line = make("i", "pv-line");
  const range = ranged(0, 100, cut, `How much of ${shown.left.name} is shown, the rest is ${shown.right.name}`);
  top.classList.add("pv-top");
  const place = (value) => { cut = Math.max(0, Math.min(100, value)); frame.style.setProperty("--cut", `${cut}%`); range.value = cut; };
  range.addEventListener("input", () => place(Number(range.value)));
  const drag = (event) => {
    const box = frame.getBoundingClientRect();
    place((100 * (event.clientX - box.left)) / box.width);
  };
  frame.addEventListener("pointerdown", (event) => { frame.setPointerCapture(event.pointerId); drag(event); event.preventDefault(); });
  frame.addEventListener("pointermove", (event) => { if (frame.hasPointerCapture(event.pointerId)) drag(event); });
  frame.append(picture(shown.right), top, line, tag(shown.left.name, "left"), tag(shown.right.name, "right"));
  place(cut);
  body.append(frame, range);
}

const tag = (text, place) => make("span", `pv-tag pv-${place}`, text);

function flip(body) {
  const frame = make("div", "pv-frame pv-over"), top = picture(shown.right);
  top.classList.add("pv-other");
  frame.append(picture(shown.left), top, make("span", "pv-tag pv-left", ""));
  const hold = button("Hold to flip", "sg-button sg-primary pv-hold", "Hold to see the other image (Space)", () => {});
  for (const node of [frame, hold]) {
    node.addEventListener("pointerdown", (event) => { node.setPointerCapture(event.pointerId); turn(true); event.preventDefault(); });
    for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) node.addEventListener(end, () => turn(false));
    node.addEventListener("contextmenu", (event) => event.preventDefault());
  }
  body.append(frame, hold);
  turn(flipped, body);
}

function turn(held, body = dialog.querySelector(".pv-stage")) {
  flipped = held;
  const frame = body?.querySelector(".pv-over"), name = frame?.querySelector(".pv-tag");
  if (!name) return;
  frame.classList.toggle("pv-flipped", held);
  name.textContent = held ? shown.right.name : shown.left.name;
}

// How much each pixel differs, the largest of its three colours, made visible by a factor.
function difference(body) {
  if (!shown.left.picture || !shown.right.picture) return side(body);
  const canvas = make("canvas", "pv-image", null, { role: "img" }), said = make("p", "pv-said", "…", { role: "status" });
  const range = ranged(1, 16, gain, "How many times the difference is enlarged");
  const label = make("label", "pv-gain");
  label.append("Enlarged ", make("b", "", `${gain}×`), range);
  range.addEventListener("input", () => { gain = Number(range.value); label.querySelector("b").textContent = `${gain}×`; paint(); });
  const frame = labelled(canvas, "light: differs, dark: the same");
  body.append(frame, label, said);
  const images = [shown.left, shown.right].map(({ picture }) => Object.assign(new Image(), { src: picture }));
  let pixels = null;
  const paint = () => {
    if (!pixels) return;
    const context = canvas.getContext("2d"), out = context.createImageData(canvas.width, canvas.height);
    for (let i = 0; i < pixels.length; i++) {
      const light = Math.min(255, pixels[i] * gain);
      out.data.set([light, light, light, 255], 4 * i);
    }
    context.putImageData(out, 0, 0);
  };
  Promise.all(images.map((image) => image.decode())).then(() => {
    const [width, height] = [images[0].naturalWidth, images[0].naturalHeight];
    if (images[1].naturalWidth !== width || images[1].naturalHeight !== height) {
      said.textContent = "The two images differ in size: look at them side by side.";
      return frame.remove();
    }
    Object.assign(canvas, { width, height });
    const [first, second] = images.map((image) => {
      const context = Object.assign(document.createElement("canvas"), { width, height }).getContext("2d");
      context.drawImage(image, 0, 0);
      return context.getImageData(0, 0, width, height).data;
    });
    pixels = new Uint8Array(width * height);
    let sum = 0, many = 0;
    for (let i = 0; i < pixels.length; i++) {
      const at = 4 * i;
      pixels[i] = Math.max(Math.abs(first[at] - second[at]), Math.abs(first[at + 1] - second[at + 1]), Math.abs(first[at + 2] - second[at + 2]));
      sum += pixels[i];
      if (pixels[i] > 16) many++;
    }
    const mean = (sum / pixels.length).toFixed(1), share = Math.round((100 * many) / pixels.length);
    said.textContent = sum ? `Mean difference ${mean} of 255; ${share} % of the pixels differ by more than 16.` : "The two images are the same, pixel for pixel.";
    canvas.setAttribute("aria-label", said.textContent);
    paint();
  }).catch(() => { said.textContent = "An image could not be read."; });
}

function keys(event) {
  if (modified(event) || !shown) return;
  const onRange = event.target.type === "range", onButton = /^(BUTTON|A)$/.test(event.target.tagName);
  const sliding = both() && mode === "slider", line = dialog.querySelector(".pv-range");
  const number = "1234".indexOf(event.key);
  if (event.key === " " && both() && !(onButton && !event.target.classList.contains("pv-hold"))) {
    if (mode !== "flip") choose("flip");
    if (!event.repeat) turn(true);
  } else if (number >= 0 && both()) choose(MODES[number][0]);
  else if (event.key === "+" || event.key === "=") closer(1);
  else if (event.key === "-") closer(-1);
  else if (onRange) return;
  else if ((event.key === "ArrowLeft" || event.key === "ArrowRight") && sliding) {
    line.value = Number(line.value) + (event.key === "ArrowLeft" ? -4 : 4);
    line.dispatchEvent(new Event("input"));
  } else if (event.key.startsWith("Arrow") && shown.steps && zoom === 1) {
    const way = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    ask(...way);
  } else return;
  event.preventDefault();
}

dialog.addEventListener("keydown", keys);
dialog.addEventListener("keyup", (event) => { if (event.key === " " && flipped) { turn(false); event.preventDefault(); } });
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });

function receive(value, opens) {
  shown = value;
  flipped = false;
  if (opens) { zoom = 1; dialog.showModal(); }
  draw();
}

dialog.receive();
