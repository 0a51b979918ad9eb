// A button and what it does. Its text is its name; a sign or nothing is no text, and gets a name for those who hear it.
function button(text, classes, name, press) {
  const node = make("button", classes, text);
  node.type = "button";
  if (name) node.title = name;
  if (name && !/[\p{L}\p{N}]/u.test(text)) node.setAttribute("aria-label", name);
  node.addEventListener("click", press);
  return node;
}

// Copies a link to the studio with one parameter, and says so on the button.
async function copyLink(node, name, value) {
  const link = new URL(location.pathname, location.origin);
  link.searchParams.set(name, value);
  try { await navigator.clipboard.writeText(link.href); node.textContent = "Copied ✓"; }
  catch {  // a page in a frame may not write there: the link is given to be copied by hand
    const field = make("input", "sg-link");
    Object.assign(field, { readOnly: true, value: link.href });
    field.setAttribute("aria-label", "The link");
    node.after(field);
    field.select();
    field.addEventListener("blur", () => field.remove());
    return;
  }
  setTimeout(() => { node.textContent = "Copy link"; }, 2000);
}
