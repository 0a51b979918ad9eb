// What every component's script begins with. An element's text is text and nothing else.
const known = (value) => value !== null && value !== undefined;

function attribute(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

function make(tag, classes, text, attributes = {}) {
  const node = document.createElement(tag);
  if (classes) node.className = classes;
  if (known(text)) node.textContent = String(text);
  return attribute(node, attributes);
}

// localStorage, or sessionStorage, of the studio; in a browser that keeps nothing all is null.
const HOME = "noise-projection-studio.";
function keep(name, value, place = localStorage) {
  try {
    if (known(value)) place.setItem(HOME + name, JSON.stringify(value));
    else place.removeItem(HOME + name);
  } catch { /* it keeps nothing */ }
}
function kept(name, place = localStorage) {
  try { return JSON.parse(place.getItem(HOME + name)); } catch { return null; }
}

// Calls draw with the value, and again with each that differs from the one before.
function follow(draw) {
  let drawn = "";
  const look = () => {
    const stamp = JSON.stringify(props.value ?? {});
    if (stamp === drawn) return;
    drawn = stamp;
    draw(props.value ?? {});
  };
  watch("value", look);
  look();
}
