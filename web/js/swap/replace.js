// Put a node of another type in a node's place: links, place, size, colour, title and values of equal name stay.
import { app } from "../../../../scripts/app.js";
import { allows, pairSlots } from "./fit.js";
import { describeNode, describeType } from "./describe.js";
import { links, sourceOf } from "./sources.js";

const INSIDE = -10; // id of a subgraph's own inputs, as the origin of links
const OUTSIDE = -20; // and of its outputs, as their target
const SETTLE = [100, 3000]; // ms for which sizes stay before they count as settled, and at most
const LOOKS = ["color", "bgcolor", "boxcolor", "shape", "mode"];


function linksOf(node) {
  const own = (key) => links(node.graph).filter((link) => String(link[key]) === String(node.id));
  const copy = ({ origin_id, origin_slot, target_id, target_slot, parentId }) =>
    ({ origin_id, origin_slot, target_id, target_slot, parentId });
  return { into: own("target_id").map(copy), from: own("origin_id").map(copy) };
}

/** Throws where `fresh` has no slot for a link of the node. */
function planned(node, fresh) {
  const [old, next] = [describeNode(node), describeNode(fresh)];
  const inputs = new Map(pairSlots(old.node.inputs, next.node.inputs, old.linked.inputs));
  const outputs = new Map(pairSlots(old.node.outputs, next.node.outputs, old.linked.outputs));
  const lost = [
    ...old.linked.inputs.filter((i) => !inputs.has(i)).map((i) => old.node.inputs[i].name),
    ...old.linked.outputs.filter((i) => !outputs.has(i)).map((i) => old.node.outputs[i].name),
  ];
  if (lost.length) throw new Error(`${fresh.title} has no place for the link of ${lost.join(", ")}`);
  return { inputs, outputs };
}

function takeLooks(node, fresh) {
  for (const name of LOOKS) if (node[name] !== undefined) fresh[name] = node[name];
  fresh.flags = { ...node.flags };
  if (node.title !== (node.constructor.title ?? node.type)) fresh.title = node.title;
}

/** Values of equal name; the names of those that the new setting does not allow, which keeps its own. */
function takeValues(node, fresh) {
  const described = describeType(fresh.type)?.inputs ?? [];
  const refused = [];
  for (const widget of node.widgets ?? []) {
    const target = fresh.widgets?.find((one) => one.name === widget.name);
    if (!target || widget.type === "button" || widget.serialize === false) continue;
    const slot = described.find((one) => one.name === widget.name) ?? { type: "COMBO", choices: target.options?.values };
    if (!allows(slot, widget.value)) refused.push(widget.name);
    else if (target.value !== widget.value) {
      target.value = widget.value;
      target.callback?.(widget.value, app.canvas, fresh);
    }
  }
  return refused;
}

function connect(graph, known, fresh, { inputs, outputs }) {
  for (const { origin_id, origin_slot, target_slot, parentId } of known.into) {
    const slot = inputs.get(target_slot);
    if (Number(origin_id) === INSIDE) graph.inputs[origin_slot].connect(fresh.inputs[slot], fresh, parentId);
    else graph.getNodeById(origin_id).connect(origin_slot, fresh, slot, parentId);
  }
  for (const { origin_slot, target_id, target_slot, parentId } of known.from) {
    const slot = outputs.get(origin_slot);
    if (Number(target_id) === OUTSIDE) graph.outputs[target_slot].connect(fresh.outputs[slot], fresh, parentId);
    else fresh.connect(slot, graph.getNodeById(target_id), target_slot, parentId);
  }
}

/** Sockets that are needed besides are linked where the graph leaves no doubt. What was linked, and what is open. */
function connectMissing(fresh) {
  const told = { linked: [], open: [] };
  describeNode(fresh).node.inputs.forEach((slot, i) => {
    if (slot.widget || slot.optional || fresh.isInputConnected(i)) return;
    const source = sourceOf(fresh, slot.type);
    source?.[0].connect(source[1], fresh, i);
    if (source) told.linked.push(`${slot.name} to ${source[0].title}`);
    else told.open.push(slot.name);
  });
  return told;
}

function replaceOne(node, type) {
  const { graph, id } = node;
  const fresh = window.LiteGraph.createNode(type);
  if (!fresh) throw new Error(`this ComfyUI has no node ${type}`);
  const plan = planned(node, fresh);
  const known = linksOf(node);
  const [place, size] = [[...node.pos], [...node.size]];
  takeLooks(node, fresh);
  fresh.pos = place;
  // cut them one by one first: removing a node would take the reroutes of its outputs along
  for (const { target_id, target_slot } of known.from) graph.getNodeById(target_id)?.disconnectInput(target_slot, true);
  graph.remove(node);
  fresh.id = id;
  graph.add(fresh);
  const refused = takeValues(node, fresh);
  connect(graph, known, fresh, plan);
  const told = connectMissing(fresh);
  const [width, height] = fresh.computeSize();
  fresh.setSize([Math.max(size[0], width), Math.max(size[1], height)]);
  if (app.nodeOutputs) delete app.nodeOutputs[id]; // what the old one showed
  return { node: fresh, place, refused, ...told };
}

/** Nodes 2.0 sizes a node after it was added: outside of the swap that would be a step of its own to undo. */
async function settled(done) {
  const [quiet, most] = SETTLE;
  const sizes = () => JSON.stringify(done.map(({ node }) => [[...node.pos], [...node.size]]));
  let before = "";
  for (let time = 0; time < most && before !== sizes(); time += quiet) {
    // some releases put a node where another one with its id stood in a workflow that was open before
    for (const { node, place } of done) if (node.pos.some((at, i) => Math.abs(at - place[i]) > 1)) node.pos = place;
    before = sizes();
    await new Promise((resolve) => setTimeout(resolve, quiet));
  }
}

/**
 * Put nodes of `type` in the places of these nodes, as one step that can be undone. For each: the new node, the values
 * that it `refused`, and the sockets that were `linked` besides or are `open`. Nothing is changed where one of them
 * would lose a link: an Error says which.
 */
export async function swap(nodes, type) {
  const probe = window.LiteGraph.createNode(type);
  if (!probe) throw new Error(`this ComfyUI has no node ${type}`);
  for (const node of nodes) planned(node, probe);
  app.canvas.emitBeforeChange();
  try {
    const done = nodes.map((node) => replaceOne(node, type));
    app.canvas.deselectAll?.();
    for (const { node } of done) app.canvas.select?.(node) ?? app.canvas.selectNode?.(node, true);
    if (window.LiteGraph.vueNodesMode) await settled(done);
    return done;
  } finally {
    app.canvas.emitAfterChange();
    app.canvas.setDirty(true, true);
  }
}
