// A button on the running node, where that can be ended early: what it has made by then is its result.
import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";
import { addPanel, element, keepEvents, place, visibleNodeOf } from "./nodes.js";

const NAME = "spacetime_stop";
const HEIGHT = 28;
const STYLE =
  `height:${HEIGHT}px;width:100%;border:1px solid var(--border-color,#555);border-radius:6px;cursor:pointer;` +
  "background:var(--comfy-input-bg,#222);color:var(--input-text,#ddd);font:12px sans-serif;";

function build(node) {
  const title = "End it now and go on with what it has made";
  const button = element("button", { type: "button", className: "spacetime-stop", style: STYLE, title });
  keepEvents(button);
  setTimeout(() => place(node, button), 200);
  return addPanel(node, NAME, button, HEIGHT);
}

function show({ detail: { prompt_id, node_id, running } }) {
  const node = visibleNodeOf(node_id);
  if (!node?.addDOMWidget) return;
  const button = (node.widgets?.find((one) => one.name === NAME) ?? build(node)).element;
  const run = running ? prompt_id : "";
  if (button.dataset.run === run) return;
  button.dataset.run = run;
  button.disabled = !running;
  button.textContent = "Stop here";
  button.onclick = () => {
    button.disabled = true;
    button.textContent = "Stopping…";
    api.fetchApi(`/spacetime/stop?${new URLSearchParams({ prompt_id, node_id })}`, { method: "POST" });
  };
}

app.registerExtension({
  name: "spacetime.stopHere",
  setup() {
    api.addEventListener("spacetime.stoppable", show);
  },
});
