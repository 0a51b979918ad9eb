// The last part: the whole is drawn anew for each answer, but where it was scrolled to and what had the focus stay.
function focused() {
  const node = root.contains(document.activeElement) ? document.activeElement : null;
  if (!node) return null;
  if (node.dataset.column) return `.sg-cell[data-row="${node.dataset.row}"][data-column="${node.dataset.column}"]`;
  if (node.dataset.name) return `select[data-name="${node.dataset.name}"]`;
  if (node.dataset.key) return `[data-key="${node.dataset.key}"]`;
  return node.dataset.point ? `[data-point="${node.dataset.point}"]` : null;
}

let pressed = false; // a finger is down: what it is on stays where it is
let late = false;
const ROOM = 330;  // pixels that the figures need

function parts() {
  if (!held) return problem ? [note(problem, true)] : [];
  const body = shown.view === "paired" ? paired() : shown.view === "words" ? changes() : beside(table());
  return [head(), tools(), ...(variants().length > 1 ? [summary()] : []), body];
}

// Where few columns leave room, the figures stand beside the images.
function beside(cells) {
  const box = make("div", "sg-body");
  box.append(cells);
  const least = { s: 112, m: 172, l: 264 }[shown.size], room = root.clientWidth - 110 - variants().length * least * 1.3;
  if (variants().length < 2 || room < ROOM) return box;  // there from the first on, so that nothing moves when it fills
  const aside = make("aside", "sg-aside");
  aside.setAttribute("aria-label", "What the images say together");
  aside.append(paired(320), changes());
  box.append(aside);
  return box;
}

function draw(fresh) {
  late = pressed && !fresh;
  if (late) return;
  const focus = focused(), slides = [".sg-does", ".sg-tools", ".sg-scroll"];
  const slid = slides.map((name) => (fresh ? 0 : root.querySelector(name)?.scrollLeft ?? 0));
  root.classList.toggle("sg-open", Boolean(held));
  const next = parts(), now = [...root.children];
  // what is the same stays, and so does a list that is being chosen from
  next.forEach((node, i) => {
    if (!now[i]) root.append(node);
    else if (!fresh && now[i].matches(".sg-tools") && node.matches(".sg-tools") && now[i].contains(document.activeElement) && document.activeElement.tagName === "SELECT" && !chosen) return;
    else if (!now[i].isEqualNode(node)) { now[i].replaceWith(node); hideCard(); }
  });
  now.slice(next.length).forEach((node) => node.remove());
  slides.forEach((name, i) => { const node = root.querySelector(name); if (node) node.scrollLeft = slid[i]; });
  if (focus && !root.contains(document.activeElement)) root.querySelector(focus)?.focus({ preventScroll: true });
}

// a click comes after the finger is up: what it asks for is drawn at once
root.addEventListener("click", () => { pressed = false; }, true);
root.addEventListener("pointerdown", () => { pressed = true; });
for (const end of ["pointerup", "pointercancel"]) document.addEventListener(end, () => {
  // the click comes after this
  setTimeout(() => { pressed = false; if (late) draw(); }, 0);
});

// The viewer asks for the image above, below or beside the one that it shows.
function step(event) {
  if (!root.isConnected) return document.removeEventListener("seeds:step", step);
  if (!held || root.offsetParent === null) return;
  const before = current.join();
  move(event.detail.down, event.detail.across);
  if (current.join() !== before) open(...current);
}

document.addEventListener("seeds:step", step);
const timer = setInterval(look, LOOK);
let wide = 0;
new ResizeObserver(() => {
  if (Math.abs(root.clientWidth - wide) < 8) return;
  wide = root.clientWidth;
  if (held && wide) draw();
}).observe(root);
watch("value", receive);
receive();
if (!held) ask(remembered());
