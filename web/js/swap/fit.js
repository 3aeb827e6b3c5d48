// Which nodes can stand in for another one, and how well: arithmetic only, without editor, tested by itself.
//
// A node is described as {type, title, category, ends, inputs, outputs}, where `ends` says that a graph may end in it;
// a slot as {name, type}, an input also with `widget` (it is a setting), `optional`, and for lists `choices`. A type may
// name several: "IMAGE,VIDEO".

const WORTH = { sockets: 4, settings: 3, family: 2, lean: 1 }; // parts of a score, which is their weighted mean
const EXACT = 1;
const OVERLAP = 0.8; // one of several types
const OTHER_NAME = 0.85;

const typesOf = (type) => String(type).toUpperCase().split(",").map((one) => one.trim());

/** Whether something of one type can be linked to something of the other. "*" fits only itself: it says nothing. */
export function accepts(a, b) {
  const others = typesOf(b);
  return typesOf(a).some((one) => others.includes(one));
}

/** How like two slots are, 0 (cannot be linked alike) to 1. */
export function likeness(a, b) {
  if (!accepts(a.type, b.type) || !!a.widget !== !!b.widget) return 0;
  const types = typesOf(a.type).join() === typesOf(b.type).join() ? EXACT : OVERLAP;
  return types * (sameName(a, b) ? 1 : OTHER_NAME);
}

const sameName = (a, b) => String(a.name).toLowerCase() === String(b.name).toLowerCase();

/**
 * Pairs [index of old, index of fresh] of slots, each used once. Those of equal name come first, then the first that
 * is free. A setting is only ever paired with one of its own name. Slots of `old` that are `first` (linked) choose first.
 */
export function pairSlots(old, fresh, first = []) {
  const used = new Set();
  const pairs = new Map();
  const take = (i, suits) => {
    const found = fresh.findIndex((slot, k) => !used.has(k) && likeness(old[i], slot) && suits(slot));
    if (found >= 0) used.add(found), pairs.set(i, found);
  };
  const order = [...first, ...old.keys()].filter((i, at, all) => all.indexOf(i) === at);
  for (const i of order) take(i, (other) => sameName(other, old[i]));
  for (const i of order) pairs.has(i) || old[i].widget || take(i, () => true);
  return [...pairs].sort((a, b) => a[0] - b[0]);
}

/** Which slots must find a place: what is linked; of a node without links its sockets, those that it can do without aside. */
export function needed(node, linked) {
  const any = linked.inputs.length + linked.outputs.length > 0;
  const sockets = node.inputs.flatMap((slot, i) => (slot.widget || slot.optional ? [] : [i]));
  return any ? linked : { inputs: sockets, outputs: node.outputs.map((_, i) => i) };
}

const share = (part, whole) => (whole ? part / whole : 1);

/** How much of two categories ("a/b/c") is the same from the left, 0 to 1. */
export function kinship(a, b) {
  const [one, two] = [a, b].map((text) => String(text ?? "").split("/"));
  let same = 0;
  while (same < Math.min(one.length, two.length) && one[same] === two[same]) same++;
  return same / Math.max(one.length, two.length);
}

function socketShare(old, fresh, pairs) {
  const sockets = old.flatMap((slot, i) => (slot.widget ? [] : [i]));
  const worth = pairs.reduce((sum, [i, k]) => sum + (old[i].widget ? 0 : likeness(old[i], fresh[k])), 0);
  return [worth, sockets.length];
}

/**
 * How well `fresh` stands in for `old`, of which the slots in `linked` ({inputs, outputs}: indices) have links; null
 * where a link would be lost. `score` is 0 to 1, `missing` names what it needs besides: sockets ({name, type}) and
 * lists without a choice ({name, type: "COMBO"}).
 */
export function fit(old, fresh, linked) {
  if (old.ends && !fresh.ends) return null; // the graph would have no end
  const inputs = pairSlots(old.inputs, fresh.inputs, linked.inputs);
  const outputs = pairSlots(old.outputs, fresh.outputs, linked.outputs);
  const need = needed(old, linked);
  const covers = (pairs, indices) => indices.every((i) => pairs.some(([one]) => one === i));
  if (!covers(inputs, need.inputs) || !covers(outputs, need.outputs)) return null;
  if (!inputs.some(([i]) => !old.inputs[i].widget) && !outputs.length) return null; // they have only settings in common

  const given = new Set(inputs.filter(([i]) => linked.inputs.includes(i)).map(([, k]) => k));
  const missing = fresh.inputs.filter((slot, k) =>
    slot.widget ? slot.choices?.length === 0 && !slot.optional : !slot.optional && !given.has(k),
  );
  const settings = (node) => node.inputs.filter((slot) => slot.widget).length;
  const kept = inputs.filter(([i]) => old.inputs[i].widget).length;
  const [inWorth, inCount] = socketShare(old.inputs, fresh.inputs, inputs);
  const [outWorth, outCount] = socketShare(old.outputs, fresh.outputs, outputs);
  const extra = fresh.outputs.length - outputs.length + missing.length;
  const parts = {
    sockets: share(inWorth + outWorth, inCount + outCount),
    settings: share(kept, Math.max(settings(old), settings(fresh))),
    family: kinship(old.category, fresh.category),
    lean: 1 / (1 + extra),
  };
  const total = Object.values(WORTH).reduce((a, b) => a + b);
  const score = Object.entries(WORTH).reduce((sum, [name, worth]) => sum + worth * parts[name], 0) / total;
  return { type: fresh.type, title: fresh.title, score, missing: missing.map(({ name, type }) => ({ name, type })) };
}

/**
 * The nodes of `all` that fit every one of `places` ([{node, linked, sources}]), best first: those that lack nothing
 * before those that do. `sources(type)` says whether the graph has one obvious place to take a missing socket from.
 */
export function ranked(places, all) {
  const own = new Set(places.map(({ node }) => node.type));
  const found = [];
  for (const fresh of all) {
    if (own.size === 1 && own.has(fresh.type)) continue;
    const fits = places.map(({ node, linked }) => fit(node, fresh, linked));
    if (fits.some((one) => one === null)) continue;
    const lacks = fits.flatMap(({ missing }, i) => missing.filter(({ type }) => !places[i].sources?.(type)));
    const score = fits.reduce((sum, one) => sum + one.score, 0) / fits.length;
    found.push({ type: fresh.type, title: fresh.title, score, lacks: [...new Set(lacks.map(({ name }) => name))] });
  }
  return found.sort((a, b) => a.lacks.length - b.lacks.length || b.score - a.score || (a.title < b.title ? -1 : 1));
}

/** Whether a setting's value can be taken over by a setting that is described by `slot`. */
export function allows(slot, value) {
  if (slot.choices) return slot.choices.includes(value);
  if (slot.type === "INT" && !Number.isInteger(value)) return false;
  if (slot.type === "INT" || slot.type === "FLOAT") {
    return typeof value === "number" && value >= (slot.min ?? -Infinity) && value <= (slot.max ?? Infinity);
  }
  return slot.type === "BOOLEAN" ? typeof value === "boolean" : typeof value === "string";
}
