// The body of js_on_load: element, trigger, props and watch are given. Prompt text only ever goes through
// textContent and setAttribute, so a word is never markup, a template or a script.
const root = element.querySelector(".word-scores");
const editable = Boolean(props.editable);
const client = Array.from(crypto.getRandomValues(new Uint8Array(12)), (b) => b.toString(16).padStart(2, "0")).join("");
const RESEND = 4000;

let sample = "";
let words = [];
let pending = [];   // operations that the server has not acknowledged
let revision = 0;
let sentAt = 0;     // when the packet under way left; 0: none
let leaving = false; // submitted: keys wait for the next item
let current = 0;    // index into the editable chips
let helpOpen = false;
let note = "";
let seen = "";      // the stamp of the last value that was drawn

function make(tag, classes, text) {
  const node = document.createElement(tag);
  if (classes) node.className = classes;
  if (text !== undefined && text !== null) node.textContent = String(text);
  return node;
}

function described(word) {
  const parts = [];
  if (word.score === null || word.score === undefined) parts.push("no score yet");
  else parts.push(`${word.score} of 9`);
  if (word.human !== null && word.human !== undefined) {
    parts.push(word.by ? `corrected by ${word.by}` : "corrected");
    if (word.vlm !== null && word.vlm !== undefined) parts.push(`the VLM says ${word.vlm}`);
  }
  if (word.calibrated !== null && word.calibrated !== undefined) parts.push(`calibrated ${word.calibrated}`);
  if (word.change) parts.push(`${word.change > 0 ? "up" : "down"} ${Math.abs(word.change)} by projection`);
  else if (word.change === 0) parts.push("unchanged by projection");
  if (word.seen === false) parts.push("past the part of the prompt that the model reads");
  if (word.known === false) parts.push("the model does not know this word");
  return parts.join(", ");
}

function chip(word, position) {
  const has = word.score !== null && word.score !== undefined;
  const node = make(editable ? "div" : "li", "ws-chip");
  if (has) {
    node.style.setProperty("--score", word.score / 9);
    node.dataset.score = word.score;
  } else {
    node.classList.add("ws-empty");
  }
  const bar = make("span", "ws-bar");
  bar.append(make("i"));
  bar.setAttribute("aria-hidden", "true");
  const body = make("span", "ws-body");
  body.append(make("span", "ws-word", word.text));
  const marks = make("span", "ws-marks");
  if (word.seen === false) marks.append(make("em", "ws-mark", "not read"));
  else if (word.known === false) marks.append(make("em", "ws-mark", "unknown word"));
  if (word.human !== null && word.human !== undefined && word.vlm !== null && word.vlm !== undefined)
    marks.append(make("em", "ws-mark ws-vlm", `VLM ${word.vlm}`));
  if (marks.childNodes.length) body.append(marks);
  node.append(bar, body, make("b", "ws-digit", has ? word.score : "–"));
  if (word.change !== null && word.change !== undefined) {
    const way = word.change > 0 ? "up" : word.change < 0 ? "down" : "same";
    const sign = word.change > 0 ? `▲ +${word.change}` : word.change < 0 ? `▼ −${-word.change}` : "= 0";
    node.append(make("span", `ws-change ws-${way}`, sign));
  }
  if (word.seen === false || word.known === false) node.classList.add("ws-doubt");
  if (word.human !== null && word.human !== undefined) node.classList.add("ws-corrected");
  const says = described(word);
  node.title = `${word.text}: ${says}`;
  if (editable) {
    node.setAttribute("role", "spinbutton");
    node.setAttribute("aria-label", word.text);
    node.setAttribute("aria-valuemin", "0");
    node.setAttribute("aria-valuemax", "9");
    if (has) node.setAttribute("aria-valuenow", word.score);
    node.setAttribute("aria-valuetext", says);
    node.tabIndex = position === current ? 0 : -1;
    if (position === current) node.classList.add("ws-current");
    node.addEventListener("click", () => go(position));
    node.addEventListener("focus", () => { if (current !== position) go(position); });
  } else {
    node.setAttribute("aria-label", `${word.text}: ${says}`);
  }
  return node;
}

function chipsRow() {
  const row = make(editable ? "div" : "ul", "ws-row");
  row.setAttribute("aria-label", "Word scores, 0 to 9");
  if (editable) row.setAttribute("role", "group");
  let position = 0;
  for (const word of words) {
    if (word.scored) row.append(chip(word, position++));
    else {
      const dim = make(editable ? "span" : "li", "ws-dim", word.text);
      dim.title = `${word.text}: not scored`;
      row.append(dim);
    }
  }
  return row;
}

const targets = () => words.filter((word) => word.scored);
const nodes = () => Array.from(root.querySelectorAll("[role=spinbutton]"));

function draw(focus) {
  const held = focus || (editable && root.contains(document.activeElement) && document.activeElement.getAttribute("role") === "spinbutton");
  root.replaceChildren();
  root.classList.toggle("ws-editable", editable);
  root.dataset.sample = sample;
  if (!words.length) { root.hidden = true; return; }
  root.hidden = false;
  root.append(chipsRow());
  if (editable) root.append(pad(), actions(), help());
  if (held && nodes()[current]) nodes()[current].focus({ preventScroll: true });
}

function button(text, classes, name, press) {
  const node = make("button", classes, text);
  node.type = "button";
  node.setAttribute("aria-label", name);
  node.title = name;
  node.addEventListener("click", press);
  return node;
}

function pad() {
  const box = make("div", "ws-pad");
  const word = targets()[current];
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", word ? `Score for ${word.text}` : "Score");
  for (let digit = 0; digit <= 9; digit++) {
    const node = button(digit, "ws-key", `${digit} of 9`, () => { set(digit); });
    node.style.setProperty("--score", digit / 9);
    if (word && word.score === digit) node.setAttribute("aria-pressed", "true");
    box.append(node);
  }
  box.append(button("⌫", "ws-key ws-clear", "Take my correction back (Delete)", clear));
  return box;
}

function actions() {
  const box = make("div", "ws-actions");
  box.append(
    button("Done, next ⏎", "ws-button ws-primary", "Submit these scores and show the next image (Enter)", () => leave("submit")),
    button("Skip", "ws-button", "Show another image without submitting this one (s)", () => leave("skip")),
    button("Undo", "ws-button", "Undo my last correction (Ctrl+Z or u)", undo),
    button("?", "ws-button ws-round", "Show the keys (?)", toggleHelp),
  );
  const state = make("span", "ws-state");
  state.setAttribute("role", "status");
  box.append(state);
  return box;
}

function help() {
  const box = make("dl", "ws-help");
  box.hidden = !helpOpen;
  for (const [keys, what] of [
    ["0 – 9", "set the score of the marked word and go to the next"],
    ["← →", "go to the word before or after; Home and End to the first and last"],
    ["↑ ↓", "one more, one less"],
    ["Delete", "take my correction of this word back"],
    ["Ctrl+Z or u", "undo my last correction, and the one before that"],
    ["Enter", "submit and show the next image"],
    ["s", "skip this image"],
    ["?", "show or hide these keys"],
  ]) box.append(make("dt", "", keys), make("dd", "", what));
  return box;
}

function status() {
  const node = root.querySelector(".ws-state");
  if (!node) return;
  const late = sentAt && Date.now() - sentAt > RESEND;
  node.textContent = note || (late ? "Not saved yet, trying again…" : pending.length ? "Saving…" : revision ? "Saved ✓" : "");
  node.classList.toggle("ws-alert", Boolean(note) || Boolean(late));
}

function go(position) {
  const count = targets().length;
  if (!count) return;
  current = Math.max(0, Math.min(count - 1, position));
  const list = nodes();
  list.forEach((node, i) => {
    node.tabIndex = i === current ? 0 : -1;
    node.classList.toggle("ws-current", i === current);
  });
  list[current].focus({ preventScroll: true });
  const old = root.querySelector(".ws-pad");
  if (old) old.replaceWith(pad());
}

function put(word, score) {
  word.human = score;
  word.by = null;
  word.score = score !== null ? score : word.vlm ?? null;
}

function set(digit, stay) {
  const word = targets()[current];
  if (!word || leaving) return;
  put(word, digit);
  say({ kind: "set", word: word.index, score: digit });
  if (!stay) current = Math.min(current + 1, targets().length - 1);
  draw(true);
  status();
}

function clear() {
  const word = targets()[current];
  if (!word || leaving) return;
  put(word, null);
  say({ kind: "clear", word: word.index });
  draw(true);
  status();
}

function undo() {
  if (!leaving && words.length) say({ kind: "undo" });
}

function leave(kind) {
  if (leaving || !words.length) return;
  leaving = true;
  root.classList.add("ws-leaving");
  say({ kind });
}

function toggleHelp() {
  helpOpen = !helpOpen;
  const box = root.querySelector(".ws-help");
  if (box) box.hidden = !helpOpen;
}

function say(operation) {
  note = "";
  pending.push({ revision: ++revision, ...operation });
  send();
}

// One packet is under way at a time and holds all that is not acknowledged: nothing overtakes, nothing is lost.
function send(again) {
  if (!pending.length || (sentAt && !again)) return status();
  sentAt = Date.now();
  const mine = sentAt;
  trigger("edit", { client, sample, operations: pending.map((operation) => ({ ...operation })) });
  status();
  setTimeout(() => { if (pending.length && sentAt === mine) { status(); send(true); } }, RESEND);
}

function receive() {
  const value = props.value ?? { words: [] };
  const stamp = JSON.stringify(value);
  if (stamp === seen) return;
  seen = stamp;
  const ack = value.ack && value.ack.client === client ? value.ack : null;
  const other = (value.sample || "") !== sample;
  if (ack) {
    pending = pending.filter((operation) => operation.revision > ack.revision);
    sentAt = 0;
    note = ack.error || "";
    // the answer for an image that is no longer open: another one was opened while the keys were under way
    if (other && !ack.left && sample) { status(); return send(); }
  }
  if (other) {
    // keys that were still waiting belong to the image before this one
    if (pending.length && !ack) trigger("edit", { client, sample, operations: pending });
    pending = []; sentAt = 0; current = 0; if (!ack) note = "";
  }
  if (other || ack) { leaving = pending.some((o) => o.kind === "submit" || o.kind === "skip"); }
  root.classList.toggle("ws-leaving", leaving);
  sample = value.sample || "";
  words = (value.words || []).map((word) => ({ ...word }));
  for (const operation of pending) {
    const word = words.find((w) => w.index === operation.word);
    if (word) put(word, operation.kind === "set" ? operation.score : null);
  }
  current = Math.max(0, Math.min(current, targets().length - 1));
  draw(false);
  status();
  send();
  if (editable && other) setTimeout(() => {
    const active = document.activeElement;
    const free = !active || active === document.body || !/^(INPUT|TEXTAREA|SELECT)$/.test(active.tagName);
    if (free && root.offsetParent && nodes()[current]) nodes()[current].focus({ preventScroll: true });
  }, 60);
}

if (editable) root.addEventListener("keydown", (event) => {
  const onChip = event.target.getAttribute("role") === "spinbutton";
  const key = event.key;
  const word = targets()[current];
  if ((event.ctrlKey || event.metaKey) && key.toLowerCase() === "z" && !event.shiftKey) undo();
  else if (event.ctrlKey || event.metaKey || event.altKey) return;
  else if (/^[0-9]$/.test(key)) set(Number(key));
  else if (key === "?") toggleHelp();
  else if (key === "u") undo();
  else if (key === "s") leave("skip");
  else if (key === "Delete" || key === "Backspace") clear();
  else if (!onChip) return;
  else if (key === "ArrowRight") go(current + 1);
  else if (key === "ArrowLeft") go(current - 1);
  else if (key === "Home") go(0);
  else if (key === "End") go(targets().length - 1);
  else if (key === "ArrowUp") set(Math.min(9, (word.score ?? -1) + 1), true);
  else if (key === "ArrowDown") set(Math.max(0, (word.score ?? 1) - 1), true);
  else if (key === "Enter") leave("submit");
  else return;
  event.preventDefault();
  event.stopPropagation();
});

watch("value", receive);
receive();
