// The second part: the ways to look at two pictures, and the keys.
function labelled(part, name) {
  const box = make("figure", "pv-frame");
  box.append(part, make("figcaption", "", name));
  return box;
}

function side(body) {
  body.append(labelled(picture(shown.left), shown.left.name));
  if (both()) body.append(labelled(picture(shown.right), shown.right.name));
}

function slider(body) {
  const frame = make("div", "pv-frame pv-over");
  const top = picture(shown.left), line = make("i", "pv-line"), range = make("input");
  top.classList.add("pv-top");
  Object.assign(range, { type: "range", min: 0, max: 100, step: 1, value: cut, className: "pv-range" });
  range.setAttribute("aria-label", `How much of ${shown.left.name} is shown, the rest is ${shown.right.name}`);
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
  const canvas = make("canvas", "pv-image"), said = make("p", "pv-said", "…");
  canvas.setAttribute("role", "img");
  said.setAttribute("role", "status");
  const range = make("input");
  Object.assign(range, { type: "range", min: 1, max: 16, step: 1, value: gain, className: "pv-range" });
  range.setAttribute("aria-label", "How many times the difference is enlarged");
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
  if (event.ctrlKey || event.metaKey || event.altKey || !shown) return;
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
dialog.addEventListener("click", (event) => { if (event.target === dialog) shut(); });
dialog.addEventListener("cancel", (event) => { event.preventDefault(); shut(); });

// The browser gives the focus back to where it came from; from cell to cell the keyboard goes along.
function shut() {
  const cell = document.querySelector(".sg-cell[tabindex='0']");
  const back = cell && (!opener?.isConnected || opener.classList.contains("sg-cell")) ? cell : opener;
  dialog.close();
  shown = null;
  dialog.replaceChildren();
  back?.focus({ preventScroll: true });
}

let drawn = 0;
function receive() {
  const value = props.value;
  if (!value || !value.at || value.at <= drawn) return;
  drawn = value.at;
  shown = value;
  flipped = false;
  if (!dialog.open) { opener = document.activeElement; zoom = 1; dialog.showModal(); }
  draw();
}

watch("value", receive);
receive();
