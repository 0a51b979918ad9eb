// A button and what it does. Its text is its name; a sign or nothing is no text, and gets a name for those who hear it.
function button(text, classes, name, press) {
  const node = make("button", classes, text);
  node.type = "button";
  if (name) node.title = name;
  if (name && !/[\p{L}\p{N}]/u.test(text)) node.setAttribute("aria-label", name);
  node.addEventListener("click", press);
  return node;
}
