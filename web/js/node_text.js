// What a node says of its run (a caption, what was done), drawn under its widgets in Nodes 2.0 too.
// The editor keeps such a text in a component widget, for which Nodes 2.0 has no drawing: it takes the place up and stays
// empty. Here our nodes get a DOM widget of the same name, which both ways of drawing show; the editor then writes
// later texts into that one by itself. In the classic editor its own widget is left as it is.
import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";

const NAME = "$$node-text-preview"; // the editor's name for it
const STYLE =
  "box-sizing:border-box;width:100%;min-height:56px;max-height:260px;overflow:auto;padding:6px 8px;border-radius:6px;" +
  "background:var(--comfy-input-bg,#222);color:var(--input-text,#ddd);font:12px/1.4 sans-serif;white-space:pre-wrap;" +
  "overflow-wrap:anywhere;user-select:text;cursor:text;";

function isOurs(widget) {
  return widget?.element?.classList.contains("spacetime-text");
}

function addText(node) {
  const panel = document.createElement("div");
  panel.className = "spacetime-text";
  panel.style.cssText = STYLE;
  // text can be marked and scrolled without moving the node or the canvas
  for (const kind of ["pointerdown", "wheel"]) panel.addEventListener(kind, (event) => event.stopPropagation());
  const widget = node.addDOMWidget(NAME, "spacetime_text", panel, {
    serialize: false,
    hideOnZoom: false,
    getMinHeight: () => 72,
    getValue: () => panel.textContent,
    setValue: (value) => {
      panel.textContent = String(value ?? "");
    },
  });
  widget.serialize = false; // neither in the file nor in the prompt
  return widget;
}

function nodeOf(id) {
  // "2:1" is node 1 in the subgraph of node 2
  let graph = app.rootGraph ?? app.graph;
  let node = null;
  for (const part of String(id).split(":")) {
    node = graph?.getNodeById(part) ?? graph?.getNodeById(Number(part));
    graph = node?.subgraph;
  }
  return node;
}

function show({ detail: { nodeId, text } }) {
  const node = nodeOf(nodeId);
  if (!text || !node?.comfyClass?.startsWith("Spacetime") || !app.ui.settings.getSettingValue("Comfy.VueNodes.Enabled")) return;
  const found = node.widgets?.findIndex((widget) => widget.name === NAME) ?? -1;
  if (found >= 0 && !isOurs(node.widgets[found])) {
    node.widgets[found].onRemove?.();
    node.widgets.splice(found, 1);
  }
  const widget = node.widgets?.find(isOurs) ?? addText(node);
  widget.value = text;
  setTimeout(() => place(node, widget.element), 200);
}

function place(node, panel) {
  // where a link to a node was made or cut, the editor draws the widgets that it had at that time, and no later ones
  if (panel.isConnected) return;
  const row = document.createElement("div");
  row.className = "lg-node-widget";
  row.style.cssText = "padding-left:12px;display:flex;";
  row.appendChild(panel);
  document.querySelector(`[data-node-id="${node.id}"] .lg-node-widgets`)?.appendChild(row);
}

app.registerExtension({
  name: "spacetime.nodeText",
  setup() {
    // after the editor's own listener, or before it: either way one widget is left, and it is ours
    api.addEventListener("progress_text", show);
  },
});
