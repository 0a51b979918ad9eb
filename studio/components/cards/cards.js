// Texts go in by textContent only. caption is a constant that Cards sets.
const root = element.querySelector(".cards-root");

function card({ key, image, title, about, mark, badges = [] }) {
  const item = make("li"), open = make("button", "card", null, { type: "button", "data-key": key }), frame = make("span", "card-frame");
  const drawn = typeof image === "string" && image.startsWith("data:image/webp;base64,");
  frame.append(drawn ? make("img", "", null, { src: image, alt: "", loading: "lazy" }) : make("span", "card-gone", "The file is gone"));
  open.append(frame);
  if (mark) open.append(make("span", "card-mark", mark));
  open.append(make("span", "card-title", title), make("span", "card-about", about));
  if (badges.length) {
    const line = make("span", "card-badges");
    for (const { text, tone } of badges) line.append(make("span", `badge ${["good", "bad", "now"].includes(tone) ? tone : ""}`, text));
    open.append(line);
  }
  open.addEventListener("click", () => trigger("pick", { key }));
  item.append(open);
  return item;
}

follow(({ cards = [], empty }) => {
  if (!cards.length) return root.replaceChildren(make("p", "cards-empty", empty));
  const list = make("ul", "cards", null, caption ? { "aria-label": caption } : {});
  list.append(...cards.map(card));
  root.replaceChildren(list);
});
