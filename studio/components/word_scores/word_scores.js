// What a person does with the chips: by key, by mouse and by finger. Every part has its keys in KEYS, shown by "?".
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

function button(text, classes, name, press, key) {
  const node = make("button", classes, text);
  node.type = "button";
  node.title = key ? `${name} (${key})` : name;
  // what is read out is what is seen: only a digit and a sign need another name
  if (!/[a-z]/i.test(text)) node.setAttribute("aria-label", node.title);
  if (key) {
    node.append(make("kbd", "ws-kbd", key));
    node.lastChild.setAttribute("aria-hidden", "true");
    node.setAttribute("aria-keyshortcuts", key === "⏎" ? "Enter" : key);
  }
  node.addEventListener("click", press);
  return node;
}

function build() {
  root.classList.add("ws-editable");
  root.replaceChildren(...Object.values(part));
  const box = part.actions;
  const state = make("span", "ws-state");
  state.setAttribute("role", "status");
  const main = make("div", "ws-main");
  main.append(
    button("Nothing wrong", "ws-button ws-good", "Nothing wrong: confirm all shown scores, submit and go on", clean, "n"),
    button("Done, next", "ws-button ws-primary", "Submit these scores and show the next image", () => leave("submit"), "⏎"),
  );
  const more = make("div", "ws-more");
  more.append(
    button("Accept all", "ws-button", "Accept all shown scores as yours", accept, "a"),
    button("Undo", "ws-button", "Undo your last step, on earlier images too", undo, "u"),
    button("Skip", "ws-button", "Show another image without submitting this one", () => leave("skip"), "s"),
    button("Flag", "ws-button", "Flag this image with a reason", () => form("flag"), "f"),
    button("Note", "ws-button", "Write a note on this image", () => form("note"), "m"),
    button("Keys", "ws-button ws-free", "Show the keys", toggleHelp, "?"),
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
  const box = make("div", "studio-notice");
  box.append(make("span", "", locked));
  part.lock.append(box);
  if (login) part.lock.append(button("Sign in", "ws-button ws-primary", "Sign in with Hugging Face", () => outside("#login")));
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
  part.pad.setAttribute("role", "group");
  part.pad.setAttribute("aria-label", word ? `Score for ${word.text}` : "Score");
  const keys = [];
  for (let digit = 0; digit <= 9; digit++) {
    const node = button(digit, "ws-key", `${digit} of 9`, () => set(digit));
    node.style.setProperty("--score", digit / 9);
    if (word && word.score === digit) node.setAttribute("aria-pressed", "true");
    keys.push(node);
  }
  keys.push(button("⌫", "ws-key ws-clear", "Take your score back (Delete)", clear));
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
  if (said("flag")) line("⚑ Flagged", said("flag"), button("Take back", "ws-button ws-small", "Take the flag back", unflag));
  for (const flag of item.flags || []) line(`⚑ ${flag.who}`, flag.text);
  if (said("note") && open !== "note") line("✎ Note", said("note"), button("Edit", "ws-button ws-small", "Edit the note", () => form("note")));
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
  step({ kind: "set", word: word.index, score: digit });
  if (!stay) current = Math.min(current + 1, targets().length - 1);
  after();
}

function clear() {
  const word = targets()[current];
  if (!word || waiting || refused()) return;
  put(word, null);
  step({ kind: "clear", word: word.index });
  after();
}

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
  const own = make("input", "ws-text");
  own.maxLength = 200;
  own.placeholder = "Another reason";
  own.setAttribute("aria-label", "Another reason");
  if (!REASONS.includes(said("flag"))) own.value = said("flag");
  const reasons = make("div", "ws-more");
  REASONS.forEach((text, i) => reasons.append(button(text, "ws-button", text, () => flag(text), String(i + 1))));
  const row = make("div", "ws-line");
  row.append(own, button("Flag", "ws-button ws-primary", "Flag with this reason", () => flag(own.value)));
  if (said("flag")) row.append(button("Take back", "ws-button", "Take the flag back", unflag));
  row.append(button("Cancel", "ws-button", "Leave without a flag (Escape)", leaveForm));
  part.form.replaceChildren(make("p", "ws-title", "What is wrong with this image or its prompt?"), reasons, row);
  own.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    event.stopPropagation();  // the form closes: further up the key would mean to submit
    flag(own.value);
  });
  reasons.firstChild.focus();
}

function noteForm() {
  const text = make("textarea", "ws-text");
  text.maxLength = 2000;
  text.rows = 3;
  text.setAttribute("aria-label", "Note on this image");
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
  row.append(make("span", "ws-hint", "Kept as you type."), button("Close", "ws-button", "Close the note (Escape or Ctrl+Enter)", leaveForm));
  part.form.replaceChildren(make("p", "ws-title", "Your note on this image"), text, row);
  text.focus();
}

function flush() {
  clearTimeout(typed);
  const text = open === "note" ? part.form.querySelector("textarea") : null;
  if (text && text.value.trim() !== said("note").trim()) remarked("note", text.value);
}

// -- keys

function pressed(event) {
  const key = event.key;
  if (part.form.contains(event.target)) {
    const digit = Number(key);
    if (key === "Escape") leaveForm();
    else if (open === "flag" && event.target.tagName !== "INPUT" && digit >= 1 && digit <= REASONS.length) flag(REASONS[digit - 1]);
    else return;
  } else if ((event.ctrlKey || event.metaKey) && key.toLowerCase() === "z" && !event.shiftKey) undo();
  else if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  else if (/^[0-9]$/.test(key)) set(Number(key));
  else if (key === "?") toggleHelp();
  else if (key === "u") undo();
  else if (key === "s") leave("skip");
  else if (key === "a") accept();
  else if (key === "n") clean();
  else if (key === "f") form("flag");
  else if (key === "m") form("note");
  else if (key === "b") outside("#blind input");
  else if (key === "g") outside("#guidelines summary");
  else if (key === "Delete" || key === "Backspace") clear();
  else if (key === "Escape" && !part.help.hidden) toggleHelp();
  else if (event.target.tagName === "BUTTON") return;
  else if (key === "ArrowRight") editor.go(current + 1);
  else if (key === "ArrowLeft") editor.go(current - 1);
  else if (key === "Home") editor.go(0);
  else if (key === "End") editor.go(targets().length - 1);
  else if (key === "ArrowUp") set(Math.min(9, (targets()[current].score ?? -1) + 1), true);
  else if (key === "ArrowDown") set(Math.max(0, (targets()[current].score ?? 1) - 1), true);
  else if (key === "Enter") leave("submit");
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
