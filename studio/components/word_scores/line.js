// Every key on its way to the store: an operation waits here, and in localStorage, until the server says that it is
// stored. One packet is under way at a time and holds what is not acknowledged: nothing overtakes, nothing is lost. A key
// keeps its number, by which the server knows what it has done, and is given up before the server forgets (receipts.py).
const HOME = "noise-projection-studio.";
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

function keep(name, value, place = localStorage) {
  try {
    if (value === null) place.removeItem(HOME + name);
    else place.setItem(HOME + name, JSON.stringify(value));
  } catch { /* a browser that keeps nothing */ }
}

function kept(name, place = localStorage) {
  try { return JSON.parse(place.getItem(HOME + name)); } catch { return null; }
}

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
    const found = kept(name);
    const age = Date.now() - (found?.at ?? 0);
    const operations = Array.isArray(found?.operations) ? young(found.operations) : [];
    if (!operations.length || typeof found.client !== "string" || age > WEEKS) keep(name, null);
    else if (found.who !== who) others += operations.length;
    else if (found.client === client) pending = operations;
    else if (found.client === before || age > STALE) orphans.push({ client: found.client, who, operations });
  }
  if (others) note = `${others} ${others === 1 ? "key" : "keys"} typed under another name wait in this browser: go by that name again to store them.`;
}

function young(operations) {
  return operations.filter((o) => Date.now() - (o.at ?? Date.now()) < WEEKS);
}

function giveUp() {
  const before = under_way();
  pending = young(pending);
  for (const orphan of orphans) orphan.operations = young(orphan.operations);
  const gone = before - under_way();
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
  // what this page has to be told anew: all of it where a digit uncovers more, or others have been at the words
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
  const own = bad ? note : ""; // what this page has said since that key stays until the next one
  note = ack.error || ack.says || own;
  bad = Boolean(ack.error || (!ack.says && own));
  stuck = ack.retry ? ack.error : "";
  if (stuck) note = "";
  else wait = AGAIN;
}

function retry() {
  setTimeout(() => { if (stuck && !sentAt) send(); }, wait);
  wait = Math.min(SLOWEST, wait * 1.5);
}

function under_way() {
  return pending.length + orphans.reduce((count, o) => count + (o.who === who ? o.operations.length : 0), 0);
}

function status() {
  const node = root.querySelector(".ws-state");
  if (!node) return;
  const count = under_way();
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
  if ("looked" in value && (value.sample !== sample || value.looked !== revision || under_way())) return;
  seen = stamp;
  const ack = value.ack && (value.ack.client === client || orphans.some((o) => o.client === value.ack.client)) ? value.ack : null;
  // the answer to a key of the name before this one says nothing of this one
  if (!value.keep && value.ack?.client === client && value.ack.revision <= former.revision && (value.who || "") === former.who) {
    former.operations = former.operations.filter((o) => o.revision > value.ack.revision);
    return keep(nameOf(client, former.who), former.operations.length ? { client, who: former.who, at: Date.now(), operations: former.operations } : null);
  }
  if (!value.keep && (value.who || "") !== who) goBy(value.who || "");
  const known_already = value.same && ack && value.sample === sample;
  if (known_already && ack.client === client) fold(ack);
  if (ack) acknowledge(ack);
  if (known_already) {
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
  timer = setTimeout(() => { if (!under_way()) trigger("rested", { sample }); }, after);
}

// A light look: has somebody else, or this person in another tab, changed what is shown?
function look() {
  if (!sample || under_way() || editor.busy() || document.visibilityState !== "visible" || !root.offsetParent) return;
  trigger("look", { sample, opened: item.opened ?? null, mark: item.mark ?? "", revision, locked: editor.locked });
}
setInterval(look, 8000);
addEventListener("focus", look);
document.addEventListener("visibilitychange", look);
addEventListener("online", () => { if (under_way()) { wait = AGAIN; send(true); } });
