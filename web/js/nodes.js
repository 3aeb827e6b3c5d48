// Nodes by the id that the server gives them.
import { app } from "../../../scripts/app.js";

/** The node of an id such as "2:1", which is node 1 in the subgraph of node 2. */
export function nodeOf(id) {
  let graph = app.rootGraph ?? app.graph;
  let node = null;
  for (const part of String(id).split(":")) {
    node = graph?.getNodeById(part) ?? graph?.getNodeById(Number(part));
    graph = node?.subgraph;
  }
  return node;
}

/** The outermost node of such an id, for what would not be seen in a subgraph that is closed. */
export function visibleNodeOf(id) {
  const node = nodeOf(id);
  return node?.graph && node.graph !== app.canvas.graph ? nodeOf(String(id).split(":")[0]) : node;
}

/** Put a panel that was added after the others where Nodes 2.0 shows it, if it has not found its place by itself. */
export function place(node, panel) {
  // where a link to a node was made or cut, the editor draws the widgets that it had at that time, and no later ones
  if (panel.isConnected || !window.LiteGraph?.vueNodesMode) return;
  const row = document.createElement("div");
  row.className = "lg-node-widget";
  row.style.cssText = "padding-left:12px;display:flex;";
  row.appendChild(panel);
  document.querySelector(`[data-node-id="${node.id}"] .lg-node-widgets`)?.appendChild(row);
}

/** A panel as a widget that is neither in the file nor in the prompt; the node grows where it has to. */
export function addPanel(node, name, panel, height) {
  panel.addEventListener("wheel", (event) => {
    // Nodes 2.0 zooms by itself; the classic canvas has to be told
    if (!window.LiteGraph?.vueNodesMode) app.canvas.processMouseWheel(event);
  });
  const widget = node.addDOMWidget(name, name, panel, {
    serialize: false,
    hideOnZoom: false,
    getMinHeight: () => height,
    getValue: () => "",
    setValue: () => {},
  });
  widget.serialize = false;
  const [wide, high] = node.computeSize();
  node.setSize([Math.max(node.size[0], wide), Math.max(node.size[1], high)]);
  return widget;
}

/** A hand on a panel moves neither its node nor the canvas, and keys are not the editor's. */
export function keepEvents(panel) {
  for (const kind of ["pointerdown", "keydown"]) panel.addEventListener(kind, (event) => event.stopPropagation());
}

/** What was changed until now is one step to undo. */
export function endStep() {
  const tracker = app.extensionManager?.workflow?.activeWorkflow?.changeTracker;
  (tracker?.captureCanvasState ?? tracker?.checkState)?.call(tracker);
}

/** Do something more after one of an object's methods. */
export function chain(object, name, extra) {
  const before = object[name];
  object[name] = function (...given) {
    const result = before?.apply(this, given);
    extra.apply(this, given);
    return result;
  };
}

/** An element with properties and children. */
export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}
