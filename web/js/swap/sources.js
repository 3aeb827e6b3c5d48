// Where a node can take a socket from that it needs besides: only where the graph leaves no doubt.
import { accepts } from "./fit.js";

/** The links of a graph. */
export const links = (graph) => [...graph.links.values()];
const same = (a, b) => String(a) === String(b);

function downstream(graph, node) {
  const found = new Set([String(node.id)]);
  const all = links(graph);
  for (let before = -1; before !== found.size; ) {
    before = found.size;
    for (const link of all) if (found.has(String(link.origin_id))) found.add(String(link.target_id));
  }
  return found;
}

function neighbours(graph, node) {
  const all = links(graph);
  const near = all.flatMap((link) => {
    if (same(link.origin_id, node.id)) return [String(link.target_id)];
    return same(link.target_id, node.id) ? [String(link.origin_id)] : [];
  });
  return all.filter((link) => near.includes(String(link.target_id)));
}

/**
 * The output [node, slot] that a socket of `type` of this node can be linked to: the only one in its graph that does
 * not come after it; of several, the one that its neighbours use. Null where that is none, or more than one.
 */
export function sourceOf(node, type) {
  const { graph } = node;
  const after = downstream(graph, node);
  const all = graph.nodes
    .filter((one) => !after.has(String(one.id)) && (one.mode ?? 0) === 0)
    .flatMap((one) => (one.outputs ?? []).flatMap((slot, i) => (accepts(slot.type, type) ? [[one, i]] : [])));
  if (all.length <= 1) return all[0] ?? null;
  const used = neighbours(graph, node);
  const near = all.filter(([one, slot]) =>
    used.some((link) => same(link.origin_id, one.id) && link.origin_slot === slot),
  );
  return near.length === 1 ? near[0] : null;
}
