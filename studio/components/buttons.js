// A button with a name for those who hear it.
function button(text, classes, name, press) {
  const node = make("button", classes, text);
  node.type = "button";
  if (name) { node.setAttribute("aria-label", name); node.title = name; }
  node.addEventListener("click", press);
  return node;
}
