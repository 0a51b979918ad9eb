// Steps back. The server goes back over scores, submits and skips, also after a reload; over flags and notes this page
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
