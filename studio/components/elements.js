// What the scripts of several components begin with: an element whose text is text and nothing else.
function make(tag, classes, text) {
  const node = document.createElement(tag);
  if (classes) node.className = classes;
  if (text !== undefined && text !== null) node.textContent = String(text);
  return node;
}
