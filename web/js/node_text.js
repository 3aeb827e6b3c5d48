// What a node says of its run (a caption, what was done), drawn under its widgets in every way of drawing nodes.
// The editor keeps such a text in a widget of its own, for which Nodes 2.0 has no drawing in some releases, and which
// others take away when the run ends. So the texts of our nodes go into a DOM widget of ours, which both ways of drawing
// show and which stays; the editor's is taken away as soon as it is made.
import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";
import { addPanel, element, nodeOf, place } from "./nodes.js";

const NAME = "spacetime_text";
const EDITORS = "$$node-text-preview"; // the editor's name for its own
const STYLE =
  "box-sizing:border-box;width:100%;min-height:56px;max-height:260px;overflow:auto;padding:6px 8px;border-radius:6px;" +
  "background:var(--comfy-input-bg,#222);color:var(--input-text,#ddd);font:12px/1.4 sans-serif;white-space:pre-wrap;" +
  "overflow-wrap:anywhere;user-select:text;cursor:text;";

function addText(node) {
  const panel = element("div", { className: "spacetime-text", style: STYLE });
  // text can be marked and scrolled without moving the node or the canvas
  for (const kind of ["pointerdown", "wheel"]) panel.addEventListener(kind, (event) => event.stopImmediatePropagation());
  return addPanel(node, NAME, panel, 72);
}

function withoutEditors(node) {
  const found = node.widgets?.findIndex((widget) => widget.name === EDITORS) ?? -1;
  if (found < 0) return;
  node.widgets[found].onRemove?.();
  node.widgets.splice(found, 1);
}

function show({ detail: { nodeId, text } }) {
  const node = nodeOf(nodeId);
  if (!text || !node?.comfyClass?.startsWith("Spacetime")) return;
  withoutEditors(node);
  queueMicrotask(() => withoutEditors(node)); // where the editor's listener comes after this one
  const widget = node.widgets?.find((one) => one.name === NAME) ?? addText(node);
  widget.element.textContent = text;
  node.setDirtyCanvas(true, true);
  setTimeout(() => place(node, widget.element), 200);
}

app.registerExtension({
  name: "spacetime.nodeText",
  setup() {
    api.addEventListener("progress_text", show);
  },
});
