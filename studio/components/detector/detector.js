// The body of js_on_load: element, trigger, props and watch are given. Text goes in by textContent only.
const root = element.querySelector(".detector-line");

function receive() {
  root.textContent = props.value?.text || "";
  root.title = props.value?.title || "";
  root.hidden = !root.textContent;
}

watch("value", receive);
receive();
