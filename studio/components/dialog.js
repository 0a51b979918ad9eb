// A dialog over the page. take(value, opens) is given each newer value and shows the dialog; closed() tidies up after it.
// The focus goes back to where it came from; from cell to cell of the grid the keyboard goes along.
function modal(root, classes, name, take, closed) {
  const dialog = make("dialog", classes, null, { "aria-label": name });
  let opener = null, latest = 0;
  const close = dialog.close.bind(dialog);
  dialog.close = () => {  // at once, not in the event "close", which comes later
    const cell = document.querySelector(".sg-cell[tabindex='0']");
    const back = cell && (!opener?.isConnected || opener.matches(".sg-cell")) ? cell : opener;
    close();
    dialog.replaceChildren();
    closed();
    back?.focus({ preventScroll: true });
  };
  dialog.addEventListener("cancel", (event) => { event.preventDefault(); dialog.close(); });
  dialog.receive = () => {
    const value = props.value;
    if (!(value?.at > latest)) return;
    latest = value.at;
    if (!dialog.open) opener = document.activeElement;
    take(value, !dialog.open);
  };
  watch("value", dialog.receive);
  root.append(dialog);
  return dialog;
}
