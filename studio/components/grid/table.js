// The second part: the cells, seeds down and variants across, and the keys that move between them.
const word = (index) => held.words.find((entry) => entry.index === index);
const images = new Map();
const WHOSE = "The scores are the VLM's, or your corrections.";
const tiny = (gain) => Math.abs(gain) < 0.05;

function arrow(gain) {
  if (!known(gain)) return "";
  return tiny(gain) ? "= 0" : `${gain > 0 ? "▲ +" : "▼ −"}${Math.abs(gain).toFixed(1)}`;
}

const way = (gain) => (tiny(gain) ? "same" : gain > 0 ? "up" : "down");
const total = (row, column) => at(row, column)?.total ?? null;

function gainOf(row, column = other) {
  const [before, after] = [total(row, base), total(row, column)];
  return column === base || before === null || after === null ? null : after - before;
}

// How one cell is told from the base of its row: words that fell through the mark, and words that rose over it.
function crossed(row, column) {
  const before = at(row, base), after = at(row, column);
  const found = { broken: [], mended: [] };
  if (!before || !after || column === base) return found;
  for (const { index, text } of held.words) {
    const [then, now] = [before.scores[index], after.scores[index]];
    if (!known(then) || !known(now)) continue;
    if (then >= held.holds && now < held.holds) found.broken.push(text);
    if (then < held.holds && now >= held.holds) found.mended.push(text);
  }
  return found;
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

// The mean of a column over the seeds that it and the base both have, so that it is told from the base as the line
// above tells it; over its own where they have none together.
function mean(column) {
  const average = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const own = held.seeds.map((_, row) => row).filter((row) => known(total(row, column)));
  const both = own.filter((row) => known(total(row, base)));
  const rows = both.length ? both : own;
  if (!rows.length) return null;
  const gains = column === base ? [] : both.map((row) => gainOf(row, column));
  return { value: average(rows.map((row) => total(row, column))), gain: gains.length ? average(gains) : null, seeds: rows.length };
}

function heading() {
  const line = make("div", "sg-row sg-heads");
  line.setAttribute("role", "row");
  const corner = make("div", "sg-corner", "seed");
  corner.setAttribute("role", "columnheader");
  line.append(corner);
  variants().forEach((variant, column) => {
    const node = make("div", "sg-column");
    node.setAttribute("role", "columnheader");
    node.append(make("b", "", variant.name));
    const found = mean(column);
    if (found) {
      const about = make("span", "sg-mean", `mean ${found.value.toFixed(1)}`);
      about.title = WHOSE;
      if (known(found.gain)) about.append(" ", make("i", `ws-${way(found.gain)}`, arrow(found.gain)));
      if (found.seeds < held.seeds.length) about.append(` over ${found.seeds} of ${held.seeds.length} seeds`);
      node.append(about);
    }
    line.append(node);
  });
  return line;
}

function words(cell, before) {
  const box = make("span", "sg-words");
  box.title = WHOSE;
  for (const { index, text } of held.words) {
    const score = cell.scores[index];
    const node = make("span", `sg-word${known(score) ? "" : " sg-none"}`);
    if (known(score)) node.style.setProperty("--score", score / 9);
    node.append(make("span", "", text), make("b", "", known(score) ? score : "–"));
    const then = before?.scores[index];
    if (known(then) && known(score) && then !== score) node.append(make("i", score > then ? "ws-up" : "ws-down", score > then ? "▲" : "▼"));
    if (cell.corrected.includes(index)) node.append(make("i", "", "✎"));
    box.append(node);
  }
  return box;
}

function told(row, column, cell) {
  const who = `Seed ${held.seeds[row]}, ${variants()[column].name}`;
  if (!cell) return `${who}: not made yet`;
  const gain = gainOf(row, column), { broken, mended } = crossed(row, column);
  const parts = [known(cell.total) ? `mean score ${cell.total.toFixed(1)} of 9` : "not scored yet"];
  if (known(gain)) parts.push(`${tiny(gain) ? "as good as" : `${Math.abs(gain).toFixed(1)} ${gain > 0 ? "more" : "less"} than`} ${variants()[base].name}`);
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
    image = make("img");
    image.alt = "";
    image.src = cell.picture;
    images.set(key, image);
  }
  return image;
}

function cellNode(row, column) {
  const cell = at(row, column);
  const node = make("div", `sg-cell${cell ? "" : " sg-wait"}`);
  node.setAttribute("role", "gridcell");
  node.setAttribute("aria-label", told(row, column, cell));
  node.tabIndex = row === current[0] && column === current[1] ? 0 : -1;
  Object.assign(node.dataset, { row, column, seed: held.seeds[row] });
  if (!cell) {
    node.append(make("span", "sg-blank", on() ? "" : "not made"));
    return node;
  }
  node.dataset.sample = cell.sample;
  if (cell.picture) {
    node.append(thumb(cell));
  } else node.append(make("span", "sg-blank", "The file of this image is gone."));
  const line = make("span", "sg-total");
  line.title = WHOSE;
  line.append(make("b", "", known(cell.total) ? cell.total.toFixed(1) : "…"));
  const gain = gainOf(row, column), { broken, mended } = crossed(row, column);
  if (known(gain)) line.append(make("i", `ws-${way(gain)}`, arrow(gain)));
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
  box.setAttribute("role", "grid");
  box.setAttribute("aria-label", "Images, a row a seed, a column a way to make it. Arrows move, Enter opens.");
  // The page scrolls down, the cells scroll sideways: the heads stand outside of what scrolls, so that they stick to the
  // page, and follow it.
  const top = make("div", "sg-top"), scroll = make("div", "sg-scroll"), grid = make("div", "sg-grid");
  for (const part of [top, scroll]) part.setAttribute("role", "rowgroup");
  grid.setAttribute("role", "presentation");
  top.append(heading());
  scroll.append(grid);
  scroll.addEventListener("scroll", () => { top.scrollLeft = scroll.scrollLeft; });
  for (const row of rows) {
    const line = make("div", "sg-row");
    line.setAttribute("role", "row");
    const name = make("div", "sg-seed");
    name.setAttribute("role", "rowheader");
    name.append(make("b", "", held.seeds[row]));
    const gain = gainOf(row);
    if (known(gain) && variants().length > 1) name.append(make("i", `ws-${way(gain)}`, arrow(gain)));
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
  if (event.ctrlKey || event.metaKey || event.altKey) return;
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
