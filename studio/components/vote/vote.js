// A dialog with two pictures and four answers; the prompt goes in by textContent only. The page does not know which method
// made which picture.
const root = element.querySelector(".blind-vote");
const ANSWERS = [
  ["left", "Left", "1", "←", ["1", "ArrowLeft"]],
  ["tie", "Both the same", "0", "↓", ["0", "ArrowDown"]],
  ["none", "Neither shows it", "9", "↑", ["9", "ArrowUp"]],
  ["right", "Right", "2", "→", ["2", "ArrowRight"]],
];
const RESEND = 5000;  // milliseconds

let shown = null;
let sent = null;   // the vote under way: {round, token, choice}

// The methods are revealed only when it is over; a vote that is left half-way says nothing.
const dialog = modal(root, "bv", "Blind vote", receive, () => { sent = shown = null; });

function head() {
  const box = make("div", "bv-head"), title = make("div", "bv-title");
  title.append(make("span", "quiet", "Which image shows this better?"), make("b", "", shown.prompt));
  box.append(title, button("✕", "sg-button", "Close (Escape); the votes are kept", () => dialog.close()));
  return box;
}

function pair() {
  const box = make("div", "bv-pair");
  for (const side of ["left", "right"]) {
    const node = button("", "bv-side", `The ${side} image is better`, () => cast(side));
    node.append(shown[side] ? make("img", "", null, { alt: `The ${side} image`, src: shown[side], draggable: "false" })
      : make("span", "pv-gone", "The file of this image is gone."));
    node.dataset.side = side;
    box.append(node);
  }
  return box;
}

function answers() {
  const box = make("div", "bv-answers");
  for (const [choice, text, digit, arrow] of ANSWERS) {
    const node = button(text, "sg-button bv-answer", `${text} (${digit} or ${arrow})`, () => cast(choice));
    node.dataset.choice = choice;
    node.append(" ", make("kbd", "", `${digit} ${arrow}`));
    box.append(node);
  }
  return box;
}

function foot() {
  const box = make("div", "bv-foot"), said = shown.total ? `${shown.done} of ${shown.total} pairs voted on` : `${shown.done} voted on`;
  const end = button("Show the result", "sg-button bv-end", "End the vote and say which was which", () => trigger("finish", { token: shown.round }));
  box.append(make("span", "bv-state", said, { role: "status" }), end);
  return box;
}

function result() {
  const { result: counts, done } = shown, [base, other] = counts.names, share = counts.share;
  const box = make("div", "bv-result");
  const clear = known(share?.low) && (share.low > 0.5 || share.high < 0.5);
  const ahead = `${counts.other > counts.base ? other : base} was preferred more often${clear ? "" : ", but that is not clear yet"}`;
  box.append(make("h3", "", !(counts.base + counts.other) ? "No image was preferred yet" : counts.base === counts.other ? "A draw" : ahead));
  const list = make("ul", "bv-counts"), most = Math.max(1, counts.base, counts.other, counts.tie, counts.none);
  for (const [name, count] of [[other, counts.other], [base, counts.base], ["both the same", counts.tie], ["neither", counts.none]]) {
    const line = make("li"), track = make("span", "bv-track", null, { "aria-hidden": "true" }), piece = make("i");
    piece.style.width = `${(100 * count) / most}%`;
    track.append(piece);
    line.append(make("span", "bv-name", name), track, make("b", "", count));
    list.append(line);
  }
  box.append(list);
  if (known(share?.estimate)) {
    const words = make("p", "", `${other} has ${percent(share.estimate)} of the votes, one for both the same counting half`);
    if (known(share.low)) words.append(
      ` (95 % interval ${percent(share.low)} to ${percent(share.high)}). `,
      make("span", "quiet", clear ? "The interval leaves 50 % out: that is hardly chance." : "The interval holds 50 %: more votes are needed to tell."),
    );
    else words.append(".");
    box.append(words);
  }
  box.append(make("p", "quiet", `${shown.over ? "You have voted on every pair. " : ""}${done ? `You voted ${done} time${done === 1 ? "" : "s"} just now. ` : ""}The counts are of all people's votes between these two.`));
  const ends = make("div", "bv-ends");
  ends.append(button("Close", "sg-button sg-primary", "Close (Escape)", () => dialog.close()), ...(shown.over ? [] : [button("Vote on", "sg-button", "Another pair", () => trigger("again", { token: shown.round }))]));
  box.append(ends);
  return box;
}

// A vote goes again until it is answered; the server counts a token once.
function cast(choice) {
  if (sent || !shown?.token) return;
  sent = { token: shown.token, round: shown.round, choice };
  dialog.classList.add("bv-sending");
  for (const node of dialog.querySelectorAll(`[data-choice="${choice}"], [data-side="${choice}"]`)) node.classList.add("bv-chosen");
  send();
}

function send() {
  const mine = sent;
  trigger("cast", mine);
  setTimeout(() => {
    if (sent !== mine || !dialog.open) return;
    dialog.querySelector(".bv-state").textContent = "Not saved yet, trying again…";
    send();
  }, RESEND);
}

dialog.addEventListener("keydown", (event) => {
  if (modified(event) || event.repeat || !shown || shown.result) return;
  const answer = ANSWERS.find(([, , , , keys]) => keys.includes(event.key));
  if (!answer) return;
  cast(answer[0]);
  event.preventDefault();
});

function receive(value, opens) {
  if (opens && !value.begin) return;  // it was closed meanwhile
  sent = null;
  dialog.classList.remove("bv-sending");
  if (value.problem) {
    const said = dialog.querySelector(".bv-state");
    if (said) said.textContent = value.problem;
    return;
  }
  shown = value;
  if (opens) dialog.showModal();
  dialog.replaceChildren(head(), ...(shown.result ? [result()] : [pair(), answers(), foot()]));
  dialog.tabIndex = -1;
  (dialog.querySelector(".bv-result .sg-primary") ?? dialog).focus({ preventScroll: true });
}

dialog.receive();
