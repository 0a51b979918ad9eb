// Prompts, names and messages go in by textContent and setAttribute only. First what the page knows of the grid, and its
// talk with the server; then the head, the bar, the cells and the figures; last what draws the whole.
const root = element.querySelector(".seed-grid");
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
  keep("grid", id || null);
  const here = new URL(location.href);
  if (id && here.searchParams.get("grid") && here.searchParams.get("grid") !== id) {
    here.searchParams.set("grid", id);  // the address goes on saying what is shown
    history.replaceState(null, "", here);
  }
}

function remembered() {
  const id = new URLSearchParams(location.search).get("grid") || kept("grid");
  return typeof id === "string" ? id : "";
}

const on = () => held && (held.state === "running" || held.state === "queued");
const at = (row, column) => cells.get(row * held.variants.length + column);
const variants = () => (held ? held.variants : []);

function have() {
  const stamps = {};
  for (const [place, cell] of cells) stamps[place] = cell.stamp;
  return stamps;
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
  if (!on() && variants().length > 1 && held.done > 1) {
    does.append(button("Blind vote", "sg-button", "Vote between two columns without knowing which is which", () => trigger("vote", facts())));
    does.lastChild.disabled = Boolean(held.votes);  // then the reason stands below it
  }
  does.append(
    button("Use settings", "sg-button", "Put this grid's prompt, seeds and settings into the form", () => trigger("reuse", facts())),
    button("Copy link", "sg-button sg-copy", "Copy a link to this grid", (event) => copyLink(event.currentTarget, "grid", held.grid)),
  );
  if (held.done) does.append(button("Zip", "sg-button", "Download all images with their settings as a zip", () => trigger("pack", facts())));
  title.append(does);
  box.append(title);
  if (held.made) box.append(make("p", "quiet sg-made", held.made));
  if (does.querySelector(":disabled")) box.append(make("p", "quiet sg-barred", held.votes));
  if (on()) box.append(progress());
  else if (held.message) box.append(note(held.message, held.state !== "done" && held.state !== "stopped"));
  return box;
}

function progress() {
  const box = make("div", "sg-progress");
  const share = Math.round((100 * held.done) / Math.max(1, held.total));
  const bar = make("div", "progress", null, {
    role: "progressbar", "aria-label": "Images made", "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": share,
  });
  const done = make("i");
  done.style.width = `${share}%`;
  bar.append(done);
  const words = held.state === "queued" ? "Waiting for other work to end" : `${held.done} of ${held.total} images${timeLeft(held.left)}`;
  box.append(bar, make("p", "progress-words", held.message ? `${words}. ${held.message}` : words));
  return box;
}

const note = (text, bad) => make("div", `studio-notice${bad ? " problem" : ""}`, text, { role: bad ? "alert" : "status" });

// ---- the bar over the cells: what is looked at and in which order

function choice(name, options, value, change) {
  const box = make("label", "sg-choice");
  const list = make("select");
  list.append(...options.map(([value, text]) => make("option", "", text, { value })));
  list.value = String(value);
  list.dataset.name = name;
  list.addEventListener("change", () => { chosen = true; change(list.value); chosen = false; });
  box.append(make("span", "", name), list);
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

// ---- the cells, seeds down and variants across, and the keys that move between them.
const images = new Map();
const gained = (gain) => make("i", `ws-${tone(gain, 1)}`, arrow(gain, 1));
const total = (row, column) => at(row, column)?.total ?? null;

function gainOf(row, column = other) {
  const [before, after] = [total(row, base), total(row, column)];
  return column === base || before === null || after === null ? null : after - before;
}

// How one cell differs from the base of its row: words that fell below the mark, and words that rose above it.
function crossed(row, column) {
  const before = at(row, base), after = at(row, column);
  const words = { broken: [], mended: [] };
  if (!before || !after || column === base) return words;
  for (const { index, text } of held.words) {
    const [then, now] = [before.scores[index], after.scores[index]];
    if (!known(then) || !known(now)) continue;
    if (then >= held.holds && now < held.holds) words.broken.push(text);
    if (then < held.holds && now >= held.holds) words.mended.push(text);
  }
  return words;
}

// The rows in the order and choice of the bar; what is not known yet comes last.
function order() {
  const rows = held.seeds.map((_, i) => i);
  const picked = shown.filter === "all" || !held.change ? rows
    : rows.filter((row) => held.change[shown.filter].includes(held.seeds[row]));
  const index = Number(shown.sort.slice(5));
  if (shown.sort === "seed") return picked;
  const value = {
    total: (row) => total(row, other),
    gain: (row) => gainOf(row),
  }[shown.sort] ?? ((row) => at(row, other)?.scores[index] ?? null);
  const turn = shown.worst ? 1 : -1;
  return picked.sort((a, b) => known(value(b)) - known(value(a)) || turn * (value(a) - value(b)) || a - b);
}

// The mean of a column over the seeds that it and the base both have, so that it agrees with the line above; over all
// of its seeds where they share none.
function mean(column) {
  const average = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const scored = held.seeds.map((_, row) => row).filter((row) => known(total(row, column)));
  const both = scored.filter((row) => known(total(row, base)));
  const rows = both.length ? both : scored;
  if (!rows.length) return null;
  const gains = column === base ? [] : both.map((row) => gainOf(row, column));
  return { value: average(rows.map((row) => total(row, column))), gain: gains.length ? average(gains) : null, seeds: rows.length };
}

function heading() {
  const line = make("div", "sg-row sg-heads", null, { role: "row" });
  line.append(make("div", "sg-corner", "seed", { role: "columnheader" }));
  variants().forEach((variant, column) => {
    const node = make("div", "sg-column", null, { role: "columnheader" });
    node.append(make("b", "", variant.name));
    const average = mean(column);
    if (average) {
      const about = make("span", "sg-mean", `mean ${average.value.toFixed(1)}`, { title: WHOSE });
      if (known(average.gain)) about.append(" ", gained(average.gain));
      if (average.seeds < held.seeds.length) about.append(` over ${average.seeds} of ${held.seeds.length} seeds`);
      node.append(about);
    }
    line.append(node);
  });
  return line;
}

function words(cell, before) {
  const box = make("span", "sg-words", null, { title: WHOSE });
  for (const { index, text } of held.words) {
    const score = cell.scores[index], then = before?.scores[index], node = wordTag(text, score);
    if (known(then) && known(score) && then !== score) node.append(make("i", score > then ? "ws-up" : "ws-down", score > then ? "▲" : "▼"));
    if (cell.corrected.includes(index)) node.append(make("i", "", "✎"));
    box.append(node);
  }
  return box;
}

function described(row, column, cell) {
  const who = `Seed ${held.seeds[row]}, ${variants()[column].name}`;
  if (!cell) return `${who}: not made yet`;
  const gain = gainOf(row, column), { broken, mended } = crossed(row, column);
  const parts = [known(cell.total) ? `mean score ${cell.total.toFixed(1)} of 9` : "not scored yet"];
  if (known(gain)) parts.push(`${tone(gain, 1) === "same" ? "as good as" : `${Math.abs(gain).toFixed(1)} ${gain > 0 ? "more" : "less"} than`} ${variants()[base].name}`);
  parts.push(...held.words.map(({ index, text }) => `${text} ${cell.scores[index] ?? "unknown"}`));
  if (broken.length) parts.push(`broken: ${broken.join(", ")}`);
  if (mended.length) parts.push(`mended: ${mended.join(", ")}`);
  if (cell.chosen) parts.push(`noise of seed ${cell.chosen}`);
  if (cell.detector) parts.push(cell.detector);
  return `${who}: ${parts.join(", ")}`;
}

// One element a picture, moved from the old drawing to the new: it is decoded once.
function thumb(cell) {
  const key = `${cell.place} ${cell.sample}`;  // a sample may stand in two cells
  let image = images.get(key);
  if (!image) {
    image = make("img", "", null, { alt: "", src: cell.picture });
    images.set(key, image);
  }
  return image;
}

function cellNode(row, column) {
  const cell = at(row, column);
  const node = make("div", `sg-cell${cell ? "" : " sg-wait"}`, null, { role: "gridcell", "aria-label": described(row, column, cell) });
  node.tabIndex = row === current[0] && column === current[1] ? 0 : -1;
  Object.assign(node.dataset, { row, column, seed: held.seeds[row] });
  if (!cell) {
    node.append(make("span", "sg-blank", on() ? "" : "not made"));
    return node;
  }
  node.dataset.sample = cell.sample;
  node.append(cell.picture ? thumb(cell) : make("span", "sg-blank", "The file of this image is gone."));
  const line = make("span", "sg-total", null, { title: WHOSE });
  line.append(make("b", "", known(cell.total) ? cell.total.toFixed(1) : "…"));
  const gain = gainOf(row, column), { broken, mended } = crossed(row, column);
  if (known(gain)) line.append(gained(gain));
  if (broken.length) line.append(make("em", "sg-broken", `${broken.length} broken`));
  if (mended.length) line.append(make("em", "sg-mended", `${mended.length} mended`));
  node.append(line);
  if (shown.words) node.append(words(cell, column === base ? null : at(row, base)));
  if (cell.detector) node.append(make("span", "sg-detector", cell.detector));
  if (cell.chosen) node.append(make("span", "sg-detector", cell.chosen === held.seeds[row] ? "Noise: its own was the best" : `Noise: that of seed ${cell.chosen}`));
  node.addEventListener("click", () => { current = [row, column]; open(row, column); });
  node.addEventListener("focus", () => mark(row, column));
  return node;
}

// A cell is looked at beside the base of its row, the base beside what it is compared with; one alone by itself.
function open(row, column) {
  const cell = at(row, column);
  if (!cell) return;
  const beside = at(row, column === base ? other : base);
  const pair = !beside || beside === cell ? [cell, cell] : column === base ? [cell, beside] : [beside, cell];
  trigger("open", facts({ left: pair[0].sample, right: pair[1].sample, have: {} }));
}

function mark(row, column) {
  for (const node of root.querySelectorAll(".sg-cell[tabindex='0']")) node.tabIndex = -1;
  current = [row, column];
  const node = root.querySelector(`.sg-cell[data-row="${row}"][data-column="${column}"]`);
  if (node) node.tabIndex = 0;
  return node;
}

function table() {
  const rows = order();
  const box = make("div", `sg-table sg-${shown.size}`);
  box.style.setProperty("--columns", variants().length);
  if (!rows.length) {
    box.append(make("p", "quiet sg-nothing", on() ? "No seed yet; more are on their way." : `No seed is ${shown.filter} between these two.`));
    return box;
  }
  if (!rows.includes(current[0])) current = [rows[0], 0];
  attribute(box, { role: "grid", "aria-label": "Images, a row a seed, a column a way to make it. Arrows move, Enter opens." });
  // The page scrolls down, the cells scroll sideways: the heads stand outside of what scrolls, so that they stick to the
  // page, and follow it.
  const top = make("div", "sg-top", null, { role: "rowgroup" }), scroll = make("div", "sg-scroll", null, { role: "rowgroup" });
  const grid = make("div", "sg-grid", null, { role: "presentation" });
  top.append(heading());
  scroll.append(grid);
  scroll.addEventListener("scroll", () => { top.scrollLeft = scroll.scrollLeft; });
  for (const row of rows) {
    const line = make("div", "sg-row", null, { role: "row" }), name = make("div", "sg-seed", null, { role: "rowheader" });
    name.append(make("b", "", held.seeds[row]));
    const gain = gainOf(row);
    if (known(gain) && variants().length > 1) name.append(gained(gain));
    line.append(name, ...variants().map((_, column) => cellNode(row, column)));
    grid.append(line);
  }
  box.addEventListener("keydown", keys);
  box.append(top, scroll);
  return box;
}

function move(down, across) {
  const rows = order();
  const place = Math.max(0, Math.min(rows.length - 1, rows.indexOf(current[0]) + down));
  const column = Math.max(0, Math.min(variants().length - 1, current[1] + across));
  return mark(rows[place], column);
}

function keys(event) {
  if (modified(event)) return;
  const far = 1e6;
  const step = { ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1],
    Home: [0, -far], End: [0, far], PageDown: [5, 0], PageUp: [-5, 0] }[event.key];
  if (step) {
    const node = move(...step);
    node?.focus({ preventScroll: true });
    node?.scrollIntoView({ block: "nearest", inline: "nearest" });
  } else if (event.key === "Enter" || event.key === " ") open(...current);
  else return;
  event.preventDefault();
}

// ---- the figures: what the cells say together. All numbers come from the server; a form goes with every colour.
const SVG = "http://www.w3.org/2000/svg";
let card = null; // the two images of the point under the mouse

function drawn(tag, attributes, text) {
  const node = attribute(document.createElementNS(SVG, tag), attributes);
  if (text !== undefined) node.textContent = String(text);
  return node;
}

function signed(value) {
  const size = Math.abs(value).toFixed(2);
  return Number(size) ? `${value > 0 ? "+" : "−"}${size}` : size;  // no zero has a sign
}

// Up or down only where the interval leaves 0 out; else these seeds do not tell.
const clear = (figure) => (known(figure.low) && figure.low > 0 ? "up" : known(figure.high) && figure.high < 0 ? "down" : "same");
const span = (figure) => (known(figure?.low) && known(figure?.high) ? ` (${signed(figure.low)} to ${signed(figure.high)})` : "");

// How many seeds are better, the same and worse.
const tally = (better, same, worse) => [["up", "▲", "better", better], ["same", "=", "same", same], ["down", "▼", "worse", worse]];
const counted = (parts) => parts.flatMap(([tone, sign, name, count], i) => [i ? ", " : "", make("span", `ws-${tone}`, `${sign} ${count} ${name}`)]);

// Better, same, worse, and the mean gain with its interval.
function summary() {
  const change = held.change, box = make("div", "sg-summary");
  const pair = [variants()[other].name, variants()[base].name];
  if (!change || !change.points.length) {
    box.append(make("p", "quiet", on() || askedAt ? `As soon as a seed has both, ${pair[0]} is compared with ${pair[1]} here.` : `No seed has scored images of both ${pair[0]} and ${pair[1]}.`));
    return box;
  }
  const parts = tally(change.wins, change.ties, change.losses), bar = make("div", "sg-record", null, { "aria-hidden": "true" });
  for (const [tone, , , count] of parts) {
    if (!count) continue;
    const piece = make("i", `sg-${tone}`);
    piece.style.flexGrow = count;
    bar.append(piece);
  }
  const words = make("p", "sg-verdict");
  words.append(make("span", "sg-whose", `${whose()}: `), make("b", "", pair[0]), " against ", make("b", "", pair[1]), ": ", ...counted(parts));
  if (known(change.won?.low)) words.append("; better on ", make("b", "", percent(change.won.estimate)), ` (${Math.round(100 * change.won.low)} to ${percent(change.won.high)})`);
  if (known(change.gain?.estimate)) {
    words.append(known(change.won?.low) ? ", gain " : "; gain ", make("b", "", signed(change.gain.estimate)), span(change.gain));
    if (known(change.gain.low) && change.gain.low <= 0 && change.gain.high >= 0) words.append(make("span", "sg-unsure", " The gain's interval holds 0: these seeds do not tell which is better."));
  }
  box.append(words, bar);
  if (held.detector) box.append(detected(held.detector));
  return box;
}

// Whose opinion the scores of the two columns are.
function whose() {
  const corrected = [...cells.values()].some((cell) => cell.corrected.length && [base, other].includes(cell.place % variants().length));
  return corrected ? "By the VLM and your corrections" : "By the VLM";
}

// The detector's opinion of the same two columns, where the prompt is of its world.
function detected(compared) {
  const line = make("p", "sg-verdict sg-by-detector", "By the detector: ");
  line.append(...counted(tally(compared.better, compared.same, compared.worse)));
  if (compared.seeds < held.seeds.length) line.append(`, over ${compared.seeds} of ${held.seeds.length} seeds`);
  line.title = "More, as many or fewer words hold; “nothing else” is one of them. The detector looks at colours, shapes and places, and has nothing learned.";
  return line;
}

function hideCard() {
  card?.remove();
  card = null;
}

function showCard(node, point) {
  hideCard();
  card = make("div", "sg-card");
  const gain = point.other - point.base;
  card.append(make("b", "", `Seed ${point.seed}`), make("span", `ws-${tone(gain, 1)}`, arrow(gain, 1)));
  const pair = make("div", "sg-card-pair");
  for (const [sample, column, value] of [[point.base_sample, base, point.base], [point.other_sample, other, point.other]]) {
    const side = make("figure"), cell = [...cells.values()].find((one) => one.sample === sample);
    if (cell?.picture) side.append(make("img", "", null, { alt: "", src: cell.picture }));
    side.append(make("figcaption", "", `${variants()[column].name}  ${value.toFixed(1)}`));
    pair.append(side);
  }
  card.append(pair);
  document.body.append(card);
  const [point_at, size] = [node.getBoundingClientRect(), card.getBoundingClientRect()];
  const left = Math.min(Math.max(4, point_at.left + point_at.width / 2 - size.width / 2), innerWidth - size.width - 4);
  const over = point_at.top - size.height - 6;
  card.style.left = `${left}px`;
  card.style.top = `${over > 0 ? over : point_at.bottom + 6}px`;
}

document.addEventListener("scroll", hideCard, true);

const SHAPES = { up: "M0,-8 L7.5,5.5 L-7.5,5.5 Z", down: "M0,8 L7.5,-5.5 L-7.5,-5.5 Z", same: "M-6,-3 H6 V3 H-6 Z" };

// A point a seed: across the total without, up the total with. Over the line the second is better.
function paired(size = 480) {
  const box = make("div", "sg-plot"), points = held.change?.points ?? [];
  if (!points.length) {
    box.append(make("p", "quiet sg-nothing", "No seed has both images scored yet."));
    return box;
  }
  const all = points.flatMap((point) => [point.base, point.other]);
  let [low, high] = [Math.floor(Math.min(...all)), Math.ceil(Math.max(...all))];
  if (high - low < 2) [low, high] = [Math.max(0, low - 1), Math.min(9, high + 1)];
  const edge = 46, scale = (value) => ((value - low) / (high - low)) * (size - edge - 16);
  const x = (value) => edge + scale(value), y = (value) => size - edge - scale(value);
  const svg = drawn("svg", { viewBox: `0 0 ${size} ${size}`, class: "sg-paired", role: "group", "aria-label": `Totals of ${variants()[base].name} and ${variants()[other].name}, a point a seed` });
  for (let value = low; value <= high; value++) {
    svg.append(
      drawn("line", { x1: x(value), x2: x(value), y1: y(low), y2: y(high), class: "sg-rule" }),
      drawn("line", { x1: x(low), x2: x(high), y1: y(value), y2: y(value), class: "sg-rule" }),
      drawn("text", { x: x(value), y: y(low) + 20, "text-anchor": "middle" }, value),
      drawn("text", { x: x(low) - 10, y: y(value) + 4, "text-anchor": "end" }, value),
    );
  }
  svg.append(
    drawn("line", { x1: x(low), y1: y(low), x2: x(high), y2: y(high), class: "sg-equal" }),
    drawn("text", { x: (x(low) + x(high)) / 2, y: size - 6, "text-anchor": "middle", class: "sg-axis" }, `mean score, ${variants()[base].name}`),
    drawn("text", { transform: `translate(13 ${(y(low) + y(high)) / 2}) rotate(-90)`, "text-anchor": "middle", class: "sg-axis" }, `mean score, ${variants()[other].name}`),
    drawn("text", { x: x(low) + 8, y: y(high) + 16, class: "sg-corner-word" }, "▲ better"),
    drawn("text", { x: x(high) - 6, y: y(low) - 10, "text-anchor": "end", class: "sg-corner-word" }, "▼ worse"),
  );
  points.forEach((point, i) => svg.append(dot(point, i, x(point.base), y(point.other))));
  svg.addEventListener("keydown", pointKeys);
  box.append(svg, make("p", "quiet", "A point is a seed. Point at one to see its two images; click it, or press Enter, to open them."));
  return box;
}

function dot(point, i, x, y) {
  const gain = point.other - point.base, way = tone(gain, 1);
  const node = drawn("g", {
    transform: `translate(${x} ${y})`, class: `sg-point sg-${way}`, tabindex: i ? -1 : 0, role: "button", "data-point": i,
    "aria-label": `Seed ${point.seed}: ${variants()[base].name} ${point.base.toFixed(1)}, ${variants()[other].name} ${point.other.toFixed(1)}, ${arrow(gain, 1)}`,
  });
  node.append(drawn("circle", { r: 16, class: "sg-reach" }), drawn("path", { d: SHAPES[way] }));
  node.addEventListener("mouseenter", () => showCard(node, point));
  node.addEventListener("mouseleave", hideCard);
  node.addEventListener("focus", () => showCard(node, point));
  node.addEventListener("blur", hideCard);
  node.addEventListener("click", () => openPoint(point));
  return node;
}

function openPoint(point) {
  hideCard();
  current = [held.seeds.indexOf(point.seed), other];
  trigger("open", facts({ left: point.base_sample, right: point.other_sample, have: {} }));
}

function pointKeys(event) {
  const all = [...root.querySelectorAll(".sg-point")], points = held.change.points;
  const here = all.indexOf(document.activeElement);
  if (here < 0) return;
  // the next to the right is the one whose first total is the next higher
  const along = points.map((_, i) => i).sort((a, b) => points[a].base - points[b].base || a - b);
  const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
  if (step) {
    const next = all[along[Math.max(0, Math.min(along.length - 1, along.indexOf(here) + step))]];
    all[here].setAttribute("tabindex", -1);
    next.setAttribute("tabindex", 0);
    next.focus();
  } else if (event.key === "Enter" || event.key === " ") openPoint(points[here]);
  else return;
  event.preventDefault();
}

// The mean change of each word over all seeds, with its interval.
function changes() {
  const words = held.change?.words ?? [], box = make("div", "sg-plot");
  if (!words.length) {
    box.append(make("p", "quiet sg-nothing", "No word has a score on both images of a seed yet."));
    return box;
  }
  const far = Math.max(1, ...words.flatMap((entry) => [entry.low, entry.high, entry.change].filter(known).map(Math.abs)));
  const place = (value) => `${50 + (45 * value) / far}%`;
  const list = make("ul", "sg-changes", null, { "aria-label": "Mean change of each word" });
  for (const entry of words) {
    const tone = clear(entry), line = make("li");
    const track = make("span", "sg-track", null, { "aria-hidden": "true" });
    track.append(make("i", "sg-zero"));
    if (known(entry.low) && known(entry.high)) {
      const reach = make("i", `sg-reach-bar sg-${tone}`);
      reach.style.left = place(entry.low);
      reach.style.width = `calc(${place(entry.high)} - ${place(entry.low)})`;
      track.append(reach);
    }
    const mark = make("i", `sg-mark ws-${tone}`, { up: "▲", down: "▼", same: "■" }[tone]);
    mark.style.left = place(entry.change);
    track.append(mark);
    const value = make("span", "sg-value");
    value.append(make("b", `ws-${tone}`, signed(entry.change)), make("span", "", span(entry)));
    line.append(make("span", "sg-name", entry.word), track, value);
    list.append(line);
  }
  const n = held.change.points.length;
  box.append(list, make("p", "quiet", `Mean change of the score 0 to 9 from ${variants()[base].name} to ${variants()[other].name} over ${n === 1 ? "one seed, which has no interval and does not tell." : `${n} seeds, with its 95 % interval. Where the bar reaches the line, these seeds do not tell.`}`));
  return box;
}

// ---- the whole is drawn anew for each answer, but where it was scrolled to and what had the focus stay.
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
  const aside = make("aside", "sg-aside", null, { "aria-label": "What the images say together" });
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
