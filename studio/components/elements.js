// What every component's script begins with. An element's text is text and nothing else.
const known = (value) => value !== null && value !== undefined;

function make(tag, classes, text) {
  const node = document.createElement(tag);
  if (classes) node.className = classes;
  if (known(text)) node.textContent = String(text);
  return node;
}
