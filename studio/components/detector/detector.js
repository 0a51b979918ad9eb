// Text goes in by textContent only.
const root = element.querySelector(".detector-line");

function receive() {
  root.textContent = props.value?.text || "";
  root.title = props.value?.title || "";
  root.hidden = !root.textContent;
}

watch("value", receive);
receive();
