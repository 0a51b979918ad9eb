// The third part: what the cells say together. All numbers come from the server; a form goes with every colour.
const SVG = "http://www.w3.org/2000/svg";
let card = null; // the two images of the point under the mouse

function drawn(tag, attributes, text) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = String(text);
  return node;
}

function signed(value) {
  const size = Math.abs(value).toFixed(2);
  return Number(size) ? `${value > 0 ? "+" : "−"}${size}` : size;  // no zero has a sign
}

// Up or down only where the interval leaves 0 out; else these seeds do not tell.
const clear = (found) => (known(found.low) && found.low > 0 ? "up" : known(found.high) && found.high < 0 ? "down" : "same");
const percent = (value) => Math.round(100 * value);
const span = (found) => (known(found?.low) && known(found?.high) ? ` (${signed(found.low)} to ${signed(found.high)})` : "");

// Better, same, worse, and the mean gain with its interval.
function summary() {
  const change = held.change, box = make("div", "sg-summary");
  const pair = [variants()[other].name, variants()[base].name];
  if (!change || !change.points.length) {
    box.append(make("p", "quiet", on() || askedAt ? `As soon as a seed has both, ${pair[0]} is compared with ${pair[1]} here.` : `No seed has scored images of both ${pair[0]} and ${pair[1]}.`));
    return box;
  }
  const parts = [["up", "▲", "better", change.wins], ["same", "=", "same", change.ties], ["down", "▼", "worse", change.losses]];
  const bar = make("div", "sg-record");
  bar.setAttribute("aria-hidden", "true");
  for (const [tone, , , count] of parts) {
    if (!count) continue;
    const piece = make("i", `sg-${tone}`);
    piece.style.flexGrow = count;
    bar.append(piece);
  }
  const words = make("p", "sg-verdict");
  words.append(make("span", "sg-whose", `${whose()}: `), make("b", "", pair[0]), " against ", make("b", "", pair[1]), ": ");
  parts.forEach(([tone, sign, name, count], i) => words.append(i ? ", " : "", make("span", `ws-${tone}`, `${sign} ${count} ${name}`)));
  if (known(change.won?.low)) words.append("; better on ", make("b", "", `${percent(change.won.estimate)} %`), ` (${percent(change.won.low)} to ${percent(change.won.high)} %)`);
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
function detected(found) {
  const line = make("p", "sg-verdict sg-by-detector", "By the detector: ");
  const parts = [["up", "▲", "better", found.better], ["same", "=", "same", found.same], ["down", "▼", "worse", found.worse]];
  parts.forEach(([tone, sign, name, count], i) => line.append(i ? ", " : "", make("span", `ws-${tone}`, `${sign} ${count} ${name}`)));
  if (found.seeds < held.seeds.length) line.append(`, over ${found.seeds} of ${held.seeds.length} seeds`);
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
  card.append(make("b", "", `Seed ${point.seed}`), make("span", `ws-${way(gain)}`, arrow(gain)));
  const pair = make("div", "sg-card-pair");
  for (const [sample, column, value] of [[point.base_sample, base, point.base], [point.other_sample, other, point.other]]) {
    const side = make("figure"), cell = [...cells.values()].find((one) => one.sample === sample);
    if (cell?.picture) {
      const image = make("img");
      image.alt = "";
      image.src = cell.picture;
      side.append(image);
    }
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
  const gain = point.other - point.base, tone = way(gain);
  const node = drawn("g", {
    transform: `translate(${x} ${y})`, class: `sg-point sg-${tone}`, tabindex: i ? -1 : 0, role: "button", "data-point": i,
    "aria-label": `Seed ${point.seed}: ${variants()[base].name} ${point.base.toFixed(1)}, ${variants()[other].name} ${point.other.toFixed(1)}, ${arrow(gain)}`,
  });
  node.append(drawn("circle", { r: 16, class: "sg-reach" }), drawn("path", { d: SHAPES[tone] }));
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
  const found = held.change?.words ?? [], box = make("div", "sg-plot");
  if (!found.length) {
    box.append(make("p", "quiet sg-nothing", "No word has a score on both images of a seed yet."));
    return box;
  }
  const far = Math.max(1, ...found.flatMap((entry) => [entry.low, entry.high, entry.change].filter(known).map(Math.abs)));
  const place = (value) => `${50 + (45 * value) / far}%`;
  const list = make("ul", "sg-changes");
  list.setAttribute("aria-label", "Mean change of each word");
  for (const entry of found) {
    const tone = clear(entry), line = make("li");
    const track = make("span", "sg-track");
    track.setAttribute("aria-hidden", "true");
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
