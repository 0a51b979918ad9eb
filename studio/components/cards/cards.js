// Texts go in by textContent only. caption is a constant that Cards sets.
const root = element.querySelector(".cards-root");
let drawn = "";

function card({ key, image, title, about, mark, badges }) {
  const item = make("li"), open = make("button", "card"), frame = make("span", "card-frame");
  open.type = "button";
  open.dataset.key = key;
  if (typeof image === "string" && image.startsWith("data:image/webp;base64,")) {
    const picture = make("img");
    picture.src = image;
    picture.alt = "";
    picture.loading = "lazy";
    frame.append(picture);
  } else frame.append(make("span", "card-gone", "The file is gone"));
  open.append(frame);
  if (mark) open.append(make("span", "card-mark", mark));
  open.append(make("span", "card-title", title), make("span", "card-about", about));
  if (badges && badges.length) {
    const line = make("span", "card-badges");
    for (const badge of badges) {
      const tone = ["good", "bad", "now"].includes(badge.tone) ? badge.tone : "";
      line.append(make("span", `badge ${tone}`, badge.text));
    }
    open.append(line);
  }
  open.addEventListener("click", () => trigger("pick", { key }));
  item.append(open);
  return item;
}

function draw() {
  const value = props.value ?? { cards: [] };
  const stamp = JSON.stringify(value);
  if (stamp === drawn) return;
  drawn = stamp;
  root.replaceChildren();
  if (!value.cards || !value.cards.length) {
    root.append(make("p", "cards-empty", value.empty));
    return;
  }
  const list = make("ul", "cards");
  if (caption) list.setAttribute("aria-label", caption);
  list.append(...value.cards.map(card));
  root.append(list);
}

watch("value", draw);
draw();
