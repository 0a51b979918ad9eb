// The body of js_on_load: element, trigger, props and watch are given. Texts go in by textContent only.
const root = element.querySelector(".cards-root");
let drawn = "";

function text(tag, name, content) {
  const node = document.createElement(tag);
  node.className = name;
  node.textContent = String(content ?? "");
  return node;
}

function card({ key, image, title, about, mark, badges }) {
  const item = document.createElement("li");
  const button = document.createElement("button");
  button.type = "button";
  button.className = "card";
  button.dataset.key = key;
  const frame = document.createElement("span");
  frame.className = "card-frame";
  if (typeof image === "string" && image.startsWith("data:image/webp;base64,")) {
    const picture = document.createElement("img");
    picture.src = image;
    picture.alt = "";
    picture.loading = "lazy";
    frame.append(picture);
  } else {
    frame.append(text("span", "card-gone", "The file is gone"));
  }
  button.append(frame);
  if (mark) button.append(text("span", "card-mark", mark));
  button.append(text("span", "card-title", title), text("span", "card-about", about));
  if (badges && badges.length) {
    const line = text("span", "card-badges", "");
    for (const badge of badges) {
      const tone = ["good", "bad", "now"].includes(badge.tone) ? badge.tone : "";
      line.append(text("span", `badge ${tone}`, badge.text));
    }
    button.append(line);
  }
  button.addEventListener("click", () => trigger("pick", { key }));
  item.append(button);
  return item;
}

function draw() {
  const value = props.value ?? { cards: [] };
  const stamp = JSON.stringify(value);
  if (stamp === drawn) return;
  drawn = stamp;
  root.replaceChildren();
  if (!value.cards || !value.cards.length) {
    root.append(text("p", "cards-empty", value.empty));
    return;
  }
  const list = document.createElement("ul");
  list.className = "cards";
  if (caption) list.setAttribute("aria-label", caption);
  list.append(...value.cards.map(card));
  root.append(list);
}

watch("value", draw);
draw();
