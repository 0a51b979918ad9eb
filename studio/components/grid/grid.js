// The first part of the body of js_on_load: element, trigger, props and watch are given. Prompts, names and messages go
// in by textContent and setAttribute only. This part keeps what the page knows of the grid and talks to the server.
const root = element.querySelector(".seed-grid");
const KEPT = "noise-projection-studio.grid";
const LOOK = 1000;   // milliseconds between two looks at a grid that goes on
const LOST = 8000;   // after so long without an answer the question is asked again
const CONTROLS = { sort: "seed", worst: false, filter: "all", size: "m", words: true, view: "cells" };

let held = null;     // what the server said last of the grid that is open
let cells = new Map();
let base = 0, other = 1;
let askedAt = 0, seenAt = 0;
let problem = "";
let shown = { ...CONTROLS };
let chosen = false;  // this very moment somebody chose from a list of the bar
let current = [0, 0]; // row and column of the cell that has the keyboard

function remember(id) {
  try { if (id) localStorage.setItem(KEPT, JSON.stringify(id)); else localStorage.removeItem(KEPT); } catch { /* a browser that keeps nothing */ }
  const here = new URL(location.href);
  if (id && here.searchParams.get("grid") && here.searchParams.get("grid") !== id) {
    here.searchParams.set("grid", id);  // the address goes on saying what is shown
    history.replaceState(null, "", here);
  }
}

function remembered() {
  const linked = new URLSearchParams(location.search).get("grid");
  if (linked) return linked;
  try { const id = JSON.parse(localStorage.getItem(KEPT)); return typeof id === "string" ? id : ""; } catch { return ""; }
}

const on = () => held && (held.state === "running" || held.state === "queued");
const at = (row, column) => cells.get(row * held.variants.length + column);
const variants = () => (held ? held.variants : []);
const known = (value) => value !== null && value !== undefined;

function have() {
  const found = {};
  for (const [place, cell] of cells) found[place] = cell.stamp;
  return found;
}

const facts = (more) => ({ grid: held ? held.grid : "", have: have(), base, other, ...more });

function ask(id) {
  askedAt = Date.now();
  trigger("more", { ...facts(), ...(id === undefined ? {} : { grid: id, have: {}, fresh: true }) });
}

// Asks while there is something to learn; a page that is not looked at asks nothing.
function look() {
  if (!root.isConnected) return clearInterval(timer);
  const visible = root.offsetParent !== null && !document.hidden;
  const back = visible && !seenAt;
  seenAt = visible ? Date.now() : 0;
  if (!visible || !held || !held.grid) return;
  if (askedAt && Date.now() - askedAt < LOST) return;
  if (on() || back || cells.size < held.done || held.looking || askedAt) ask();
}

function receive() {
  const value = props.value;
  if (!value || !value.at) return;
  root.dataset.known = "yes";
  if (!value.grid) {
    held = null; cells = new Map(); askedAt = 0; problem = value.problem || "";
    if (problem) remember("");
    return draw();
  }
  if (held && held.grid !== value.grid && !value.opened) return;  // the answer for a grid that was left
  if (held && held.grid === value.grid && value.at < held.at) return;
  const fresh = !held || held.grid !== value.grid;
  if (fresh) {
    cells = new Map(); images.clear(); current = [0, 0];
    shown = { ...CONTROLS, size: shown.size, words: shown.words };
    [base, other] = [0, Math.min(value.first, value.variants.length - 1)];
    remember(value.grid);
  }
  askedAt = 0; problem = "";
  const words = value.words.length || fresh ? value.words : held.words;
  const change = value.change && value.base === base && value.other === other ? value.change : fresh ? null : held.change;
  const detector = value.base === base && value.other === other ? value.detector : fresh ? null : held.detector;
  held = { ...value, words, change, detector };
  for (const cell of value.cells) cells.set(cell.place, cell);
  root.dataset.grid = held.grid;
  draw(fresh);
  if (value.more || (change !== value.change && value.change)) ask();
}

function compare(which, index) {
  if (which === "base") base = index; else other = index;
  held.change = held.detector = null;
  draw();
  ask();
}

// ---- the head: what was asked, how far it is, what can be done with it

const STATES = { queued: "now", running: "now", done: "good", failed: "bad", interrupted: "bad", stopped: "" };

function timeLeft(seconds) {
  if (!known(seconds) || seconds <= 0) return "";
  return seconds < 90 ? `, about ${Math.max(1, Math.round(seconds))} s left` : `, about ${Math.round(seconds / 60)} min left`;
}

function head() {
  const box = make("div", "sg-head");
  const title = make("div", "sg-title");
  title.append(make("h3", "sg-prompt", held.prompt), make("span", `badge ${STATES[held.state] ?? ""}`, held.state));
  const does = make("div", "sg-does");
  if (held.tends === false) { /* another person's */ }
  else if (on()) does.append(button("Stop", "sg-button sg-stop", "Stop this grid; the images that are made are kept", () => trigger("halt", facts())));
  else if (held.done < held.total) does.append(button("Go on", "sg-button sg-primary", "Make the images that are missing", () => trigger("go_on", facts())));
  if (!on() && variants().length > 1 && held.done > 1)
    does.append(vote());
  does.append(
    button("Use settings", "sg-button", "Put this grid's prompt, seeds and settings into the form", () => trigger("reuse", facts())),
    button("Copy link", "sg-button sg-copy", "Copy a link to this grid", (event) => copy(event.currentTarget)),
  );
  if (held.done) does.append(button("Zip", "sg-button", "Download all images with their settings as a zip", () => trigger("pack", facts())));
  title.append(does);
  box.append(title);
  if (does.querySelector(":disabled")) box.append(make("p", "quiet sg-barred", held.votes));
  if (on()) box.append(progress());
  else if (held.message) box.append(note(held.message, held.state !== "done" && held.state !== "stopped"));
  return box;
}

// Where this visitor may not vote, the button is off, and why stands below it.
function vote() {
  const node = button("Blind vote", "sg-button", "Vote between two columns without knowing which is which", () => trigger("vote", facts()));
  node.disabled = Boolean(held.votes);
  return node;
}

function progress() {
  const box = make("div", "sg-progress");
  const percent = Math.round((100 * held.done) / Math.max(1, held.total));
  const bar = make("div", "progress");
  for (const [name, value] of [["role", "progressbar"], ["aria-label", "Images made"], ["aria-valuemin", 0], ["aria-valuemax", 100], ["aria-valuenow", percent]])
    bar.setAttribute(name, value);
  const done = make("i");
  done.style.width = `${percent}%`;
  bar.append(done);
  const words = held.state === "queued" ? "Waiting for other work to end" : `${held.done} of ${held.total} images${timeLeft(held.left)}`;
  box.append(bar, make("p", "progress-words", held.message && on() ? `${words}. ${held.message}` : words));
  return box;
}

function note(text, bad) {
  const box = make("div", `studio-notice${bad ? " problem" : ""}`, text);
  box.setAttribute("role", bad ? "alert" : "status");
  return box;
}

async function copy(node) {
  const link = new URL(location.pathname, location.origin);
  link.searchParams.set("grid", held.grid);
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

// ---- the bar over the cells: what is looked at and in which order

function choice(name, options, value, change) {
  const box = make("label", "sg-choice");
  const list = make("select");
  for (const [key, text] of options) {
    const option = make("option", "", text);
    option.value = key;
    list.append(option);
  }
  list.value = String(value);
  list.dataset.name = name;
  list.addEventListener("change", () => { chosen = true; change(list.value); chosen = false; });
  box.append(make("span", "", name), list);
  return box;
}

function segments(name, options, value, change) {
  const box = make("div", "sg-segments");
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", name);
  for (const [key, text, title] of options) {
    const node = button(text, "", title ?? "", () => change(key));
    node.setAttribute("aria-pressed", String(key === value));
    node.dataset.key = key;
    box.append(node);
  }
  return box;
}

function control(name, value) {
  shown[name] = value;
  draw();
}

function tools() {
  const box = make("div", "sg-tools"), names = variants().map((variant, i) => [String(i), variant.name]);
  const pairs = names.length > 1;
  if (pairs) box.append(segments("View", [["cells", "Images"], ["paired", "By seed", "Each seed as a point"], ["words", "By word", "The change of each word"]], shown.view, (key) => control("view", key)));
  if (pairs && names.length > 2) box.append(
    choice("Compare", names, base, (value) => compare("base", Number(value))),
    choice("with", names, other, (value) => compare("other", Number(value))),
  );
  if (shown.view !== "cells") return box;
  const orders = [["seed", "seed"], ["total", "mean score"], ...(pairs ? [["gain", "gain"]] : []), ...held.words.map((word) => [`word ${word.index}`, `“${word.text}”`])];
  box.append(choice("Sort by", orders, shown.sort, (value) => control("sort", value)));
  if (shown.sort !== "seed") {
    const turn = button(shown.worst ? "Worst first" : "Best first", "sg-button", "Turn the order round", () => control("worst", !shown.worst));
    turn.dataset.key = "order";
    box.append(turn);
  }
  if (pairs && held.change) {
    const count = (name) => held.change[name].length;
    box.append(segments("Filter", [
      ["all", "All", "All seeds"],
      ["broken", `▼ Broken ${count("broken")}`, `Seeds on which a word that held (${held.holds} or more) no longer does`],
      ["mended", `▲ Mended ${count("mended")}`, `Seeds on which a word that did not hold now does`],
    ], shown.filter, (key) => control("filter", key)));
  }
  box.append(
    segments("Size", [["s", "S", "Small images"], ["m", "M", "Middle-sized images"], ["l", "L", "Large images"]], shown.size, (key) => control("size", key)),
    segments("Word scores", [["yes", "Scores", "Show or hide the word scores"]], shown.words ? "yes" : "no", () => control("words", !shown.words)),
  );
  return box;
}
