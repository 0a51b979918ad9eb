// The chips, and how they are corrected. editable is a constant that WordScores sets; read-only chips get this script as
// far as the line "corrections" below. Prompt text only goes through textContent and setAttribute, so a word is never
// markup, a template or a script.
const root = element.querySelector(".word-scores");
const editor = {};  // what the chips call where they can be corrected
let sample = "";
let words = [];
let current = 0;    // index into the chips that carry a score

// The digit is the most likely score, the mean is of the expected ones: where the two part, the chip says so.
const differs = (word) => !word.hidden && !known(word.human) && known(word.score) && known(word.expected) && Math.abs(word.expected - word.score) >= 0.5;

function described(word) {
  const parts = [];
  if (word.hidden) parts.push("the VLM's score is hidden until you give yours");
  else if (!known(word.score)) parts.push("no score yet");
  else parts.push(`${word.score} of 9`);
  if (differs(word)) parts.push(`expected ${word.expected.toFixed(1)}`);
  if (known(word.human)) {
    parts.push(word.by ? `corrected by ${word.by}` : "corrected");
    if (known(word.vlm)) parts.push(`the VLM says ${word.vlm}`);
  }
  for (const other of word.others || []) parts.push(`${other.who} says ${other.score} since`);
  if (known(word.calibrated)) parts.push(`calibrated ${word.calibrated}`);
  const by = word.change_by ? `, by ${word.change_by}` : "";
  if (word.change) parts.push(`${tone(word.change)} ${Math.abs(word.change)} from the first image${by}`);
  else if (word.change === 0) parts.push(`as in the first image${by}`);
  if (word.seen === false) parts.push("past the part of the prompt that the model reads");
  if (word.known === false) parts.push("the model does not know this word");
  if (word.kind === "extra") parts.push("about the whole image: 9 where it shows nothing that the prompt does not ask for, no repeats, no artefacts");
  return parts.join(", ");
}

function chip(word, position) {
  const has = known(word.score);
  const node = make(editable ? "div" : "li", word.kind === "extra" ? "ws-chip ws-extra" : "ws-chip");
  if (has) {
    node.style.setProperty("--score", word.score / 9);
    node.dataset.score = word.score;
  } else {
    node.classList.add("ws-empty");
  }
  const bar = make("span", "ws-bar", null, { "aria-hidden": "true" });
  bar.append(make("i"));
  const body = make("span", "ws-body");
  body.append(make("span", "ws-word", word.text));
  const marks = make("span", "ws-marks");
  if (word.seen === false) marks.append(make("em", "ws-mark", "not read"));
  else if (word.known === false) marks.append(make("em", "ws-mark", "unknown word"));
  if (known(word.human) && known(word.vlm))
    marks.append(make("em", word.vlm === word.human ? "ws-mark" : "ws-mark ws-vlm", `VLM ${word.vlm}`));
  if (word.hidden) marks.append(make("em", "ws-mark", "VLM hidden"));
  for (const other of word.others || []) marks.append(make("em", "ws-mark ws-other", `${other.who} says ${other.score} since`));
  if (marks.childNodes.length) body.append(marks);
  node.append(bar, body, make("b", "ws-digit", has ? word.score : word.hidden ? "?" : "–"));
  if (known(word.change)) node.append(make("span", `ws-change ws-${tone(word.change)}`, arrow(word.change)));
  if (word.seen === false || word.known === false) node.classList.add("ws-doubt");
  if (known(word.human)) node.classList.add("ws-corrected");
  if (differs(word)) node.classList.add("ws-spread");
  const says = described(word);
  node.title = `${word.text}: ${says}`;
  if (editable) {
    const spin = { role: "spinbutton", "aria-label": word.text, "aria-valuemin": 0, "aria-valuemax": 9, "aria-valuetext": says };
    attribute(node, { ...spin, ...(has && { "aria-valuenow": word.score }), ...(editor.locked && { "aria-readonly": "true" }) });
    node.tabIndex = position === current ? 0 : -1;
    if (position === current) node.classList.add("ws-current");
    node.addEventListener("click", () => editor.go(position));
    node.addEventListener("focus", () => { if (current !== position) editor.go(position); });
  } else {
    node.setAttribute("aria-label", `${word.text}: ${says}`);
  }
  return node;
}

function chipsRow() {
  const row = make(editable ? "div" : "ul", "ws-row", null, { "aria-label": "Word scores, 0 to 9", ...(editable && { role: "group" }) });
  let position = 0;
  for (const word of words) {
    if (word.scored) row.append(chip(word, position++));
    else row.append(make(editable ? "span" : "li", "ws-dim", word.text, { title: `${word.text}: not scored` }));
  }
  return row;
}

let receive = () => {
  const value = props.value || { words: [] };
  sample = value.sample || "";
  words = value.words || [];
  root.dataset.sample = sample;
  root.hidden = !words.length;
  root.replaceChildren();
  if (words.length) root.append(chipsRow());
};

// ---- corrections ----
//
// Delivery: an operation waits here, and in localStorage, until the server says that it is stored. One packet is under
// way at a time and holds what is not acknowledged: nothing overtakes, nothing is lost. A key keeps its number, by which
// the server knows what it has done, and is given up before the server forgets (data/store/receipts.py).
const PACKET = 200;
const AGAIN = 4000, SLOWEST = 20000;   // milliseconds until what was not acknowledged is sent again
const STALE = 30000, WEEKS = 14 * 86400000;
const LEAVING = new Set(["submit", "skip", "clean"]);
const client = Array.from(crypto.getRandomValues(new Uint8Array(12)), (b) => b.toString(16).padStart(2, "0")).join("");

let who = "";        // by whom the item was asked for
let pending = [];    // operations that the server has not acknowledged, each with its sample
let orphans = [];    // those of pages that are gone: {client, operations}
let revision = 0;
let naming = null;   // while another name is on its way, ten seconds at most: {revision} of the last key before it
let former = { who: "", revision: 0, operations: [] };  // the name before this one, and its keys that were under way
let sentAt = 0;      // when the packet under way left; 0: none
let wait = AGAIN;
let waiting = "";    // the kind of an operation that keys wait for: submitted, or going back
let stuck = "";      // why nothing can be stored for now
let note = "";       // a sentence about the last key, and whether it is bad news
let bad = false;
let seen = "";       // the last value that came
let item = {};       // the last one that was drawn
let timer = 0;

const nameOf = (owner, person) => `pending.${owner}.${encodeURIComponent(person)}`;
function save() {
  keep(nameOf(client, who), pending.length ? { client, who, at: Date.now(), operations: pending } : null);
}

// Keys of this tab before a reload, and of tabs that are closed: they are sent under the number that they had.
function adopt() {
  const before = kept("tab", sessionStorage);
  keep("tab", client, sessionStorage);
  let others = 0;
  let names = [];
  try { names = Object.keys(localStorage); } catch { return; }
  for (const name of names.filter((n) => n.startsWith(`${HOME}pending.`)).map((n) => n.slice(HOME.length))) {
    const stored = kept(name);
    const age = Date.now() - (stored?.at ?? 0);
    const operations = Array.isArray(stored?.operations) ? young(stored.operations) : [];
    if (!operations.length || typeof stored.client !== "string" || age > WEEKS) keep(name, null);
    else if (stored.who !== who) others += operations.length;
    else if (stored.client === client) pending = operations;
    else if (stored.client === before || age > STALE) orphans.push({ client: stored.client, who, operations });
  }
  if (others) note = `${others} ${others === 1 ? "key" : "keys"} typed under another name wait in this browser: go by that name again to store them.`;
}

function young(operations) {
  return operations.filter((o) => Date.now() - (o.at ?? Date.now()) < WEEKS);
}

function giveUp() {
  const before = unsent();
  pending = young(pending);
  for (const orphan of orphans) orphan.operations = young(orphan.operations);
  const gone = before - unsent();
  if (gone) [note, bad] = [`${gone} ${gone === 1 ? "key" : "keys"} could not be stored for two weeks, and will not be: look at what is shown.`, true];
  if (gone) save();
}

// Another name is another person: what was typed since it was given is theirs.
function goBy(name) {
  const after = pending.filter((o) => naming && o.revision > naming.revision);
  pending = pending.filter((o) => !after.includes(o));
  save();
  former = { who, revision: naming?.revision ?? revision, operations: pending };
  pending = []; orphans = []; sentAt = 0; naming = null; who = name;
  steps = after.flatMap((o) => ({ clean: [{ kind: "" }, { kind: "" }], undo: [], flag: [], unflag: [], note: [] })[o.kind] ?? [{ kind: "" }]);
  if (who) adopt();
  pending.push(...after.map((o) => ({ ...o, revision: ++revision })));
  save();
}

// Keys that come now wait for the name, and the name for those before it: their answers may change the image.
addEventListener("studio-naming", (event) => {
  const mine = (naming = { revision }), began = Date.now();
  setTimeout(() => { if (naming === mine) named(); }, 10000);
  event.detail.waits = new Promise((done) => {
    const look = () => (!sentAt && !due().length) || Date.now() - began > 5000 ? done() : setTimeout(look, 20);
    look();
  });
});
addEventListener("studio-named", (event) => {
  if (event.detail === who) named();  // else the words of the new name are on their way
});

// What may leave by now.
function due() {
  return naming ? pending.filter((o) => o.revision <= naming.revision) : pending;
}

function named() {
  naming = null;
  send(Boolean(sentAt));
}

function say(operation) {
  note = "";
  pending.push({ revision: ++revision, at: Date.now(), sample, ...operation });
  awaited();
  save();
  send();
}

function awaited() {
  waiting = pending.findLast((o) => LEAVING.has(o.kind) || o.kind === "undo")?.kind ?? "";
  root.classList.toggle("ws-leaving", LEAVING.has(waiting));
}

function batch() {
  giveUp();
  const from = orphans.find((o) => o.operations.length && o.who === who) ?? { client, operations: due() };
  if (!from.operations.length) return null;
  // a step back starts from what is shown when it leaves, for the step before it may have led elsewhere
  const live = from.client === client;
  const place = (o) => (live && o.kind === "undo" ? sample : o.sample);
  const first = place(from.operations[0]);
  const operations = [];
  for (const o of from.operations.slice(0, PACKET)) {
    if (place(o) !== first) break;
    operations.push({ ...o });
  }
  // what this page needs anew: all of it where a digit uncovers more, or others have changed the words
  const all = item.blind || !item.mark || (item.words || []).some((word) => word.others?.length);
  return { client: from.client, sample: first, shown: sample, opened: item.opened ?? null, mark: live && !all ? item.mark : "", operations };
}

function send(again) {
  if (sentAt && !again) return status();
  const packet = batch();
  if (!packet) return status();
  const mine = (sentAt = Date.now());
  if (packet.client === client) save();
  const digits = packet.operations.every((o) => o.kind === "set" || o.kind === "clear");
  trigger(digits && packet.sample === packet.shown ? "digit" : "edit", packet);
  status();
  setTimeout(() => {
    if (sentAt !== mine) return;
    wait = Math.min(SLOWEST, wait * 1.5);
    send(true);
  }, wait);
  setTimeout(() => { if (sentAt === mine) status(); }, 1500);
}

// Digits that are stored now become part of what the server says; it answers all else with the words.
function fold(ack) {
  for (const o of pending) {
    if (o.sample !== sample || o.revision > ack.revision || o.kind !== "set") continue;
    const word = (item.words || []).find((w) => w.index === o.word);
    if (word) put(word, o.score);
  }
}

function acknowledge(ack) {
  const left = (operations) => operations.filter((o) => o.revision > ack.revision);
  if (ack.client === client) {
    pending = left(pending);
    save();
  } else for (const orphan of orphans) if (orphan.client === ack.client) {
    orphan.operations = left(orphan.operations);
    const more = orphan.operations.length;
    keep(nameOf(orphan.client, who), more ? { ...orphan, at: Date.now() - STALE } : null);
  }
  sentAt = 0;
  const earlier = bad ? note : ""; // what this page has said since that key stays until the next one
  note = ack.error || ack.says || earlier;
  bad = Boolean(ack.error || (!ack.says && earlier));
  stuck = ack.retry ? ack.error : "";
  if (stuck) note = "";
  else wait = AGAIN;
}

function retry() {
  setTimeout(() => { if (stuck && !sentAt) send(); }, wait);
  wait = Math.min(SLOWEST, wait * 1.5);
}

function unsent() {
  return pending.length + orphans.reduce((count, o) => count + (o.who === who ? o.operations.length : 0), 0);
}

function status() {
  const node = root.querySelector(".ws-state");
  if (!node) return;
  const count = unsent();
  const late = count && sentAt && (Date.now() - sentAt > 1400 || wait > AGAIN);
  const keys = `${count} ${count === 1 ? "key" : "keys"}`;
  const waits = stuck ? `Not saved yet: ${stuck} Trying again…`
    : late ? `Not saved yet: ${keys} kept in this browser, trying again…` : "";
  node.textContent = waits || note || (count ? "Saving…" : revision ? "Saved ✓" : "");
  node.classList.toggle("ws-alert", Boolean(waits || (note && bad)));
  node.dataset.pending = count;
}

// What this page has typed and the server has not stored yet, over what the server says.
function overlaid(value) {
  const shown = (value.words || []).map((word) => ({ ...word }));
  for (const o of pending) {
    if (o.sample !== sample) continue;
    for (const word of shown) {
      if ((o.kind === "set" || o.kind === "clear") && word.index === o.word) put(word, o.score ?? null);
      if ((o.kind === "accept" || o.kind === "clean") && word.scored && !word.hidden && word.score !== null) put(word, word.score);
    }
  }
  return shown;
}

function put(word, score) {
  word.human = score;
  word.by = score !== null ? who : null;
  if (score !== null) word.hidden = false;
  word.score = score ?? word.vlm ?? null;
}

receive = () => {
  const value = props.value || { words: [] };
  const stamp = JSON.stringify(value);
  if (stamp === seen) return;
  // a look at what others do is late where another image, or a newer key, has come meanwhile
  if ("looked" in value && (value.sample !== sample || value.looked !== revision || unsent())) return;
  seen = stamp;
  const ack = value.ack && (value.ack.client === client || orphans.some((o) => o.client === value.ack.client)) ? value.ack : null;
  // the answer to a key of the name before this one says nothing of this one
  if (!value.keep && value.ack?.client === client && value.ack.revision <= former.revision && (value.who || "") === former.who) {
    former.operations = former.operations.filter((o) => o.revision > value.ack.revision);
    return keep(nameOf(client, former.who), former.operations.length ? { client, who: former.who, at: Date.now(), operations: former.operations } : null);
  }
  if (!value.keep && (value.who || "") !== who) goBy(value.who || "");
  const same = value.same && ack && value.sample === sample;
  if (same && ack.client === client) fold(ack);
  if (ack) acknowledge(ack);
  if (same) {
    item.mark = value.mark;
    awaited();
    send();
    status();
    return rest(1000);
  }
  if (value.same) { status(); return send(); }  // another image was opened meanwhile
  if (value.keep) { retry(); return status(); }  // nothing could be stored: what is shown stays as it is
  const other = (value.sample || "") !== sample;
  // the answer for an image that is no longer open: another one was opened while the keys were under way
  if (other && ack && sample && !(ack.moved && ack.shown === sample)) { status(); return send(); }
  if (other) { editor.close(); current = 0; if (!ack) note = ""; }
  sample = value.sample || "";
  item = value;
  awaited();
  words = overlaid(value);
  if (ack?.word !== undefined && ack.word !== null) current = words.filter((w) => w.scored).findIndex((w) => w.index === ack.word);
  current = Math.max(0, Math.min(current, words.filter((w) => w.scored).length - 1));
  editor.draw(false);
  send();
  status();
  if (other) editor.welcome();
  rest(other ? 200 : 1000);
};

// A pause in which the server may count.
function rest(after) {
  clearTimeout(timer);
  timer = setTimeout(() => { if (!unsent()) trigger("rested", { sample }); }, after);
}

// A light look: has somebody else, or this person in another tab, changed what is shown?
function look() {
  if (!sample || unsent() || editor.busy() || document.visibilityState !== "visible" || !root.offsetParent) return;
  trigger("look", { sample, opened: item.opened ?? null, mark: item.mark ?? "", revision, locked: editor.locked });
}
setInterval(look, 8000);
addEventListener("focus", look);
document.addEventListener("visibilitychange", look);
addEventListener("online", () => { if (unsent()) { wait = AGAIN; send(true); } });

// ---- undo. The server goes back over scores, submits and skips, also after a reload; over flags and notes this page
// goes back itself, as long as it is open.
let steps = []; // of this page, the last at the end: {sample, kind, before}; kind "" for what the server undoes

function undo() {
  if (!words.length || LEAVING.has(waiting) || refused()) return;
  flush();
  const last = steps.pop();
  if (!last?.kind) return say({ kind: "undo" });
  if (last.sample !== sample) return undo();  // another image was opened since: it stays as it is
  if (open === last.kind) shut();
  remark(last.kind, last.before);
  remarks();
  note = `${last.kind === "flag" ? "The flag" : "The note"} is as it was before.`;
  status();
}

// A step that the server undoes.
function step(operation) {
  steps.push({ kind: "" });
  say(operation);
}

// A flag or a note: the store keeps it beside the scores, so the page itself goes back over it, while it is open.
function remark(kind, text) {
  say(kind === "flag" && !text ? { kind: "unflag" } : { kind, text });
}

function remarked(kind, text) {
  const last = steps.at(-1);
  const same = kind === "note" && last?.kind === kind && last.sample === sample;  // a note is one step, however long it takes
  if (!same) steps.push({ kind, sample, before: said(kind) });
  remark(kind, text);
}

// ---- what a person does with the chips: by key, by mouse and by finger. Every part has its keys in KEYS, shown by "?".
const KEYS = [
  ["0 – 9", "set the score of the marked word and go to the next"],
  ["← →", "go to the word before or after; Home and End to the first and last"],
  ["↑ ↓", "one more, one less"],
  ["Delete", "take your score of this word back"],
  ["a", "accept all scores that are shown: they become yours"],
  ["n", "nothing wrong: confirm all, submit and go on"],
  ["Enter", "submit these scores and show the next image"],
  ["s", "skip this image"],
  ["u, Ctrl+Z", "undo your last step, and the one before that, on earlier images too"],
  ["f", "flag this image, with a reason"],
  ["m", "write a note on this image"],
  ["b", "blind mode: hide the VLM's scores until you have given yours"],
  ["g", "guidelines: what the scores mean"],
  ["?", "show or hide these keys"],
];
const REASONS = ["The image is broken", "The prompt makes no sense", "I cannot tell", "Not fit to be shown"];
const part = Object.fromEntries(["lock", "chips", "pad", "mean", "remarks", "actions", "form", "help"].map((name) => [name, make("div", `ws-${name}`)]));
const MEAN = "The mean over the words and “nothing else” of your score where there is one, else of the expected score of the VLM's ten probabilities.";
let open = "";        // the form that is open: flag or note
let warned = "";      // the sample whose unseen words were named once
let typed = 0;        // the timer of a note that is being written
editor.locked = "";   // why this visitor may not write

const targets = () => words.filter((word) => word.scored);
const nodes = () => Array.from(part.chips.querySelectorAll("[role=spinbutton]"));
const focusChip = () => nodes()[current]?.focus({ preventScroll: true });

// A button on which its key stands. What is read out is what is seen: only a digit and a sign need another name.
function keyed(text, classes, name, press, key) {
  const node = button(text, classes, key ? `${name} (${key})` : name, press);
  if (!/[a-z]/i.test(text)) node.setAttribute("aria-label", node.title);
  if (key) {
    node.append(make("kbd", "ws-kbd", key, { "aria-hidden": "true" }));
    node.setAttribute("aria-keyshortcuts", key === "⏎" ? "Enter" : key);
  }
  return node;
}

function build() {
  root.classList.add("ws-editable");
  root.replaceChildren(...Object.values(part));
  const box = part.actions;
  const state = make("span", "ws-state", null, { role: "status" });
  const main = make("div", "ws-main");
  main.append(
    keyed("Nothing wrong", "ws-button ws-good", "Nothing wrong: confirm all shown scores, submit and go on", clean, "n"),
    keyed("Done, next", "ws-button ws-primary", "Submit these scores and show the next image", () => leave("submit"), "⏎"),
  );
  const more = make("div", "ws-more");
  more.append(
    keyed("Accept all", "ws-button", "Accept all shown scores as yours", accept, "a"),
    keyed("Undo", "ws-button", "Undo your last step, on earlier images too", undo, "u"),
    keyed("Skip", "ws-button", "Show another image without submitting this one", () => leave("skip"), "s"),
    keyed("Flag", "ws-button", "Flag this image with a reason", () => form("flag"), "f"),
    keyed("Note", "ws-button", "Write a note on this image", () => form("note"), "m"),
    keyed("Keys", "ws-button ws-free", "Show the keys", toggleHelp, "?"),
  );
  box.append(main, more, state);
  const list = make("dl");
  for (const [keys, what] of KEYS) list.append(make("dt", "", keys), make("dd", "", what));
  part.help.append(list);
  part.help.hidden = part.form.hidden = true;
}

// Where this visitor may not write, what would is off, and the reason stands above the words. An answer that says nothing
// of it leaves it as it is.
function lock() {
  const { locked = editor.locked, login } = item;
  if (locked === editor.locked) return;
  editor.locked = locked;
  root.classList.toggle("ws-locked", Boolean(locked));
  for (const node of part.actions.querySelectorAll("button:not(.ws-free)")) node.setAttribute("aria-disabled", String(Boolean(locked)));
  part.lock.replaceChildren();
  if (!locked) return;
  part.lock.append(make("div", "studio-notice", locked));
  if (login) part.lock.append(keyed("Sign in", "ws-button ws-primary", "Sign in with Hugging Face", () => outside("#login")));
}

// Said once, however many keys are pressed.
function refused() {
  if (editor.locked && note !== editor.locked) complain(editor.locked);
  return Boolean(editor.locked);
}

editor.draw = (focus) => {
  const held = focus || part.chips.contains(document.activeElement);
  root.dataset.sample = sample;
  root.hidden = !words.length;
  lock();
  part.chips.replaceChildren(chipsRow());
  part.pad.replaceChildren(...pad());
  part.mean.textContent = mean();
  part.mean.title = MEAN;
  remarks();
  if (held) focusChip();
};

// As the server counts it, and at once: "" where a score is hidden or none is known.
function mean() {
  const values = targets().map((word) => word.human ?? word.expected).filter(known);
  if (!values.length || targets().some((word) => word.hidden)) return "";
  return `Mean score ${(values.reduce((sum, value) => sum + value, 0) / values.length).toFixed(1)} of 9`;
}

function pad() {
  const word = targets()[current];
  attribute(part.pad, { role: "group", "aria-label": word ? `Score for ${word.text}` : "Score" });
  const keys = [];
  for (let digit = 0; digit <= 9; digit++) {
    const node = keyed(digit, "ws-key", `${digit} of 9`, () => set(digit));
    node.style.setProperty("--score", digit / 9);
    if (word && word.score === digit) node.setAttribute("aria-pressed", "true");
    keys.push(node);
  }
  keys.push(keyed("⌫", "ws-key ws-clear", "Take your score back (Delete)", clear));
  if (editor.locked) for (const node of keys) node.setAttribute("aria-disabled", "true");
  return keys;
}

// The flag and the note that stand, with what was said just now and is not stored yet.
function said(kind) {
  const last = pending.findLast((o) => o.sample === sample && (o.kind === kind || (kind === "flag" && o.kind === "unflag")));
  return last ? (last.kind === "unflag" ? "" : last.text) : item[kind] || "";
}

function remarks() {
  const lines = [];
  const line = (mark, text, ...more) => {
    const node = make("p", "ws-remark");
    node.append(make("b", "", mark), make("span", "", text), ...more);
    lines.push(node);
  };
  if (said("flag")) line("⚑ Flagged", said("flag"), keyed("Take back", "ws-button ws-small", "Take the flag back", unflag));
  for (const flag of item.flags || []) line(`⚑ ${flag.who}`, flag.text);
  if (said("note") && open !== "note") line("✎ Note", said("note"), keyed("Edit", "ws-button ws-small", "Edit the note", () => form("note")));
  part.remarks.replaceChildren(...lines);
}

editor.go = (position) => {
  const count = targets().length;
  if (!count) return;
  current = Math.max(0, Math.min(count - 1, position));
  nodes().forEach((node, i) => {
    node.tabIndex = i === current ? 0 : -1;
    node.classList.toggle("ws-current", i === current);
  });
  focusChip();
  part.pad.replaceChildren(...pad());
};

function after() { editor.draw(true); status(); }
function complain(text) { note = text; bad = true; status(); }

function set(digit, stay) {
  const word = targets()[current];
  if (!word || waiting || refused()) return;
  put(word, digit);
  step(known(digit) ? { kind: "set", word: word.index, score: digit } : { kind: "clear", word: word.index });
  if (!stay) current = Math.min(current + 1, targets().length - 1);
  after();
}

const clear = () => set(null, true);

function accept() {
  const shown = targets().filter((word) => !word.hidden && known(word.score));
  if (waiting || !words.length || refused()) return;
  if (!shown.length) return complain("No score is shown that could be accepted: give yours by a digit.");
  for (const word of shown) put(word, word.score);
  step({ kind: "accept" });
  after();
}

function clean() {
  if (waiting || !words.length || refused()) return;
  if (targets().some((word) => word.hidden)) return complain("Blind mode hides scores that you have not seen: give each word yours, or turn blind mode off (b).");
  const bare = targets().find((word) => !known(word.score));
  if (bare) return complain(`The word “${bare.text}” has no score that could be right: give it one.`);
  flush();
  step({ kind: "clean" });
}

function leave(kind) {
  if (waiting || !words.length || refused()) return;
  const unseen = kind === "submit" ? targets().filter((word) => word.hidden).length : 0;
  if (unseen && warned !== sample) {
    warned = sample;
    const which = unseen === 1 ? "1 word has" : `${unseen} words have`;
    return complain(`${which} no score of yours yet, and blind mode hides the VLM's. Press Done again to go on without.`);
  }
  flush();
  step({ kind });
}

function toggleHelp() {
  part.help.hidden = !part.help.hidden;
  if (!part.help.hidden) part.help.scrollIntoView({ block: "nearest" });
}

function outside(selector) { document.querySelector(selector)?.click(); }

// -- flag and note: forms on the page, never a dialog

editor.busy = () => Boolean(open);
editor.close = () => { flush(); shut(); };

function shut() { clearTimeout(typed); open = ""; part.form.hidden = true; part.form.replaceChildren(); }

function leaveForm() { editor.close(); remarks(); focusChip(); }

function form(kind) {
  if (!words.length || refused()) return;
  if (open === kind) return leaveForm();
  editor.close();
  open = kind;
  part.form.hidden = false;
  (kind === "flag" ? flagForm : noteForm)();
  remarks();
  part.form.scrollIntoView({ block: "nearest" });
}

function flag(text) {
  const reason = text.trim();
  if (!reason) return complain("Say in a few words why you flag this image.");
  remarked("flag", reason.slice(0, 200));
  leaveForm();
}

function unflag() { if (refused()) return; remarked("flag", ""); leaveForm(); }

function flagForm() {
  const reason = make("input", "ws-text", null, { maxlength: 200, placeholder: "Another reason", "aria-label": "Another reason" });
  if (!REASONS.includes(said("flag"))) reason.value = said("flag");
  const reasons = make("div", "ws-more");
  REASONS.forEach((text, i) => reasons.append(keyed(text, "ws-button", text, () => flag(text), String(i + 1))));
  const row = make("div", "ws-line");
  row.append(reason, keyed("Flag", "ws-button ws-primary", "Flag with this reason", () => flag(reason.value)));
  if (said("flag")) row.append(keyed("Take back", "ws-button", "Take the flag back", unflag));
  row.append(keyed("Cancel", "ws-button", "Leave without a flag (Escape)", leaveForm));
  part.form.replaceChildren(make("p", "ws-title", "What is wrong with this image or its prompt?"), reasons, row);
  reason.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    event.stopPropagation();  // the form closes: further up the key would mean to submit
    flag(reason.value);
  });
  reasons.firstChild.focus();
}

function noteForm() {
  const text = make("textarea", "ws-text", null, { maxlength: 2000, rows: 3, "aria-label": "Note on this image" });
  text.value = said("note");
  text.addEventListener("input", () => { clearTimeout(typed); typed = setTimeout(flush, 700); });
  text.addEventListener("blur", flush);
  text.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    event.stopPropagation();  // further up it would mean to submit
    leaveForm();
  });
  const row = make("div", "ws-line");
  row.append(make("span", "ws-hint", "Kept as you type."), keyed("Close", "ws-button", "Close the note (Escape or Ctrl+Enter)", leaveForm));
  part.form.replaceChildren(make("p", "ws-title", "Your note on this image"), text, row);
  text.focus();
}

function flush() {
  clearTimeout(typed);
  const text = open === "note" ? part.form.querySelector("textarea") : null;
  if (text && text.value.trim() !== said("note").trim()) remarked("note", text.value);
}

// -- keys

const ACTS = {
  "?": toggleHelp, u: undo, s: () => leave("skip"), a: accept, n: clean, f: () => form("flag"), m: () => form("note"),
  b: () => outside("#blind input"), g: () => outside("#guidelines summary"), Delete: clear, Backspace: clear,
};
const MOVES = {  // on a button these keys are the button's own
  ArrowRight: () => editor.go(current + 1),
  ArrowLeft: () => editor.go(current - 1),
  Home: () => editor.go(0),
  End: () => editor.go(targets().length - 1),
  ArrowUp: () => set(Math.min(9, (targets()[current].score ?? -1) + 1), true),
  ArrowDown: () => set(Math.max(0, (targets()[current].score ?? 1) - 1), true),
  Enter: () => leave("submit"),
};

function pressed(event) {
  const key = event.key;
  if (part.form.contains(event.target)) {
    const digit = Number(key);
    if (key === "Escape") leaveForm();
    else if (open === "flag" && event.target.tagName !== "INPUT" && digit >= 1 && digit <= REASONS.length) flag(REASONS[digit - 1]);
    else return;
  } else if ((event.ctrlKey || event.metaKey) && key.toLowerCase() === "z" && !event.shiftKey) undo();
  else if (modified(event) || event.isComposing) return;
  else if (/^[0-9]$/.test(key)) set(Number(key));
  else if (Object.hasOwn(ACTS, key)) ACTS[key]();
  else if (key === "Escape" && !part.help.hidden) toggleHelp();
  else if (event.target.tagName !== "BUTTON" && Object.hasOwn(MOVES, key)) MOVES[key]();
  else return;
  event.preventDefault();
  event.stopPropagation();
}
root.addEventListener("keydown", pressed);
// Where nothing on the page has the focus, a key is meant for the words. So are a digit and a letter on a tab, a button
// or a box to tick, which have no use for them: who came by the tab, or from the image made large, types on.
document.addEventListener("keydown", (event) => {
  const { target, key } = event;
  if (!words.length || !root.offsetParent || event.defaultPrevented) return;
  const plain = /^[0-9a-z?]$/.test(key) && (target.matches?.("[type=checkbox], summary") || target.closest?.("button"));
  if (target === document.body || (plain && !root.contains(target))) pressed(event);
});

editor.welcome = () => setTimeout(() => {
  const active = document.activeElement;
  const free = !active || active === document.body || !/^(INPUT|TEXTAREA|SELECT)$/.test(active.tagName);
  if (free && root.offsetParent) focusChip();
}, 60);
build();
