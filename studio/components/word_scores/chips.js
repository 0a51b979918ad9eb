// The body of js_on_load: element, trigger, props and watch are given, and editable, which word_scores.py says first.
// Prompt text only ever goes through textContent and setAttribute, so a word is never markup, a template or a script.
// This file draws the chips; for those that can be corrected word_scores_line.js, word_scores_steps.js and
// word_scores_keys.js follow it.
const root = element.querySelector(".word-scores");
const editor = {};  // what the chips call where they can be corrected
let sample = "";
let words = [];
let current = 0;    // index into the chips that carry a score

// The digit is the most likely score, the mean is of the expected ones: where the two part, the chip says so.
const known = (value) => value !== null && value !== undefined;
const parts_from = (word) => !word.hidden && !known(word.human) && known(word.score) && known(word.expected) && Math.abs(word.expected - word.score) >= 0.5;

function described(word) {
  const parts = [];
  if (word.hidden) parts.push("the VLM's score is hidden until you give yours");
  else if (!known(word.score)) parts.push("no score yet");
  else parts.push(`${word.score} of 9`);
  if (parts_from(word)) parts.push(`expected ${word.expected.toFixed(1)}`);
  if (known(word.human)) {
    parts.push(word.by ? `corrected by ${word.by}` : "corrected");
    if (known(word.vlm)) parts.push(`the VLM says ${word.vlm}`);
  }
  for (const other of word.others || []) parts.push(`${other.who} says ${other.score} since`);
  if (known(word.calibrated)) parts.push(`calibrated ${word.calibrated}`);
  const by = word.change_by ? `, by ${word.change_by}` : "";
  if (word.change) parts.push(`${word.change > 0 ? "up" : "down"} ${Math.abs(word.change)} from the first image${by}`);
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
  const bar = make("span", "ws-bar");
  bar.append(make("i"));
  bar.setAttribute("aria-hidden", "true");
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
  if (known(word.change)) {
    const way = word.change > 0 ? "up" : word.change < 0 ? "down" : "same";
    const sign = word.change > 0 ? `▲ +${word.change}` : word.change < 0 ? `▼ −${-word.change}` : "= 0";
    node.append(make("span", `ws-change ws-${way}`, sign));
  }
  if (word.seen === false || word.known === false) node.classList.add("ws-doubt");
  if (known(word.human)) node.classList.add("ws-corrected");
  if (parts_from(word)) node.classList.add("ws-spread");
  const says = described(word);
  node.title = `${word.text}: ${says}`;
  if (editable) {
    node.setAttribute("role", "spinbutton");
    node.setAttribute("aria-label", word.text);
    node.setAttribute("aria-valuemin", "0");
    node.setAttribute("aria-valuemax", "9");
    if (has) node.setAttribute("aria-valuenow", word.score);
    node.setAttribute("aria-valuetext", says);
    if (editor.locked) node.setAttribute("aria-readonly", "true");
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

let receive = () => {
  const value = props.value || { words: [] };
  sample = value.sample || "";
  words = value.words || [];
  root.dataset.sample = sample;
  root.hidden = !words.length;
  root.replaceChildren();
  if (words.length) root.append(chipsRow());
};
