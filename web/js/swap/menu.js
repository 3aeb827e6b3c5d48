// "Swap for…": on a node's menu, in the toolbox of a selection, and by Ctrl+Alt+W.
import { app } from "../../../../scripts/app.js";
import { ranked } from "./fit.js";
import { allTypes, describeNode } from "./describe.js";
import { links, sourceOf } from "./sources.js";
import { swap } from "./replace.js";

const COMMAND = "Spacetime.Swap";
const LISTED = "Spacetime.Swap.Listed"; // setting: nodes in the menu, which cannot be searched; others behind "More"
const USUAL = 8;
const OURS = "Spacetime";

const isNode = (item) => !!item?.comfyClass && !item.subgraph;
const isOurs = (type) => String(type).startsWith(OURS);

function selectedNodes() {
  return [...(app.canvas.selectedItems ?? Object.values(app.canvas.selected_nodes ?? {}))].filter(isNode);
}

/** Whether a node is ours, or linked to one of ours. */
function meetsOurs(node) {
  const ends = links(node.graph)
    .filter((link) => [link.origin_id, link.target_id].some((id) => String(id) === String(node.id)))
    .flatMap((link) => [link.origin_id, link.target_id]);
  return [node, ...ends.map((id) => node.graph.getNodeById(id))].some((one) => isOurs(one?.comfyClass));
}

/** What these nodes can be swapped for, best first; nothing where they have nothing to do with nodes of ours. */
export function choices(nodes) {
  const places = nodes.map((node) => ({ ...describeNode(node), sources: (type) => sourceOf(node, type) }));
  const found = places.length ? ranked(places, allTypes()) : [];
  const fitting = found.some(({ type, lacks }) => isOurs(type) && !lacks.length);
  return fitting || nodes.some(meetsOurs) ? found : [];
}

function tell(severity, summary, detail) {
  app.extensionManager.toast.add({ severity, summary, detail, life: 6000 });
}

async function perform(nodes, { type, title }) {
  try {
    const done = await swap(nodes, type);
    const say = (what, names) => (names.length ? [`${what} ${[...new Set(names)].join(", ")}`] : []);
    const notes = [
      ...say("linked", done.flatMap((one) => one.linked)),
      ...say("still to be linked:", done.flatMap((one) => one.open)),
      ...say("values that it does not take, and has its own for:", done.flatMap((one) => one.refused)),
    ];
    if (notes.length) tell(done.some((one) => one.open.length) ? "warn" : "info", title, notes.join("; "));
  } catch (error) {
    tell("error", `Swap for ${title}`, error.message);
  }
}

/** The node as a line of a menu, with what it lacks. */
export const line = ({ title, lacks }) => (lacks.length ? `${title} (needs ${lacks.join(", ")})` : title);

async function choose(nodes) {
  const found = choices(nodes);
  if (!found.length) return tell("info", "Swap for…", "No node fits in the place of what is selected.");
  const { chooseFrom } = await import("./chooser.js");
  const chosen = await chooseFrom(found.map((one) => ({ ...one, label: line(one) })), nodes.map((node) => node.title));
  if (chosen) perform(nodes, chosen);
}

function entries(node) {
  const selected = selectedNodes();
  const nodes = selected.includes(node) ? selected : [node];
  const found = choices(nodes);
  if (!found.length) return [];
  const listed = app.extensionManager.setting.get(LISTED) ?? USUAL;
  const best = found.filter(({ lacks }) => !lacks.length).slice(0, listed);
  const options = best.map((one) => ({ content: one.title, callback: () => perform(nodes, one) }));
  if (found.length > best.length) {
    options.push({ content: `More (${found.length - best.length})…`, callback: () => choose(nodes) });
  }
  const content = nodes.length > 1 ? `Swap ${nodes.length} nodes for…` : "Swap for…";
  return [null, { content, has_submenu: true, submenu: { options } }];
}

app.registerExtension({
  name: "spacetime.swap",
  commands: [
    {
      id: COMMAND,
      label: "Swap the selected nodes for…",
      icon: "pi pi-arrow-right-arrow-left",
      function: () => choose(selectedNodes()),
    },
  ],
  keybindings: [{ commandId: COMMAND, combo: { key: "w", ctrl: true, alt: true } }],
  settings: [
    {
      id: LISTED,
      category: ["Spacetime", "Swap for…", "Listed"],
      name: "Nodes that the menu lists",
      tooltip: "The others that fit stand in a list with a search, behind More.",
      type: "slider",
      attrs: { min: 0, max: 20, step: 1 },
      defaultValue: USUAL,
    },
  ],
  getNodeMenuItems: (node) => (isNode(node) ? entries(node) : []),
  getSelectionToolboxCommands: (item) => (isNode(item) && item.graph && meetsOurs(item) ? [COMMAND] : []),
});
