// Properties of the scores by which nodes are offered in each other's place.
import assert from "node:assert/strict";
import test from "node:test";
import { load } from "./load.mjs";

const { accepts, allows, fit, kinship, likeness, pairSlots, ranked } = await load("swap/fit.js");

const socket = (name, type, more = {}) => ({ name, type, widget: false, optional: false, ...more });
const setting = (name, type, more = {}) => ({ name, type, widget: true, optional: false, ...more });
const made = (type, inputs, outputs, more = {}) => ({ type, title: type, category: "a/b", ends: false, inputs, outputs, ...more });
const all = (node) => ({ inputs: node.inputs.flatMap((slot, i) => (slot.widget ? [] : [i])), outputs: [...node.outputs.keys()] });
const none = { inputs: [], outputs: [] };

const guider = made("Guider", [socket("model", "MODEL"), socket("positive", "CONDITIONING"), setting("cfg", "FLOAT")], [socket("guider", "GUIDER")]);

test("a node fits itself with a score of 1 and needs nothing", () => {
  const found = fit(guider, guider, all(guider));
  assert.equal(found.score, 1);
  assert.deepEqual(found.missing, []);
});

test("types meet where they share one, a wildcard only itself", () => {
  assert.ok(accepts("IMAGE,VIDEO", "VIDEO") && accepts("video", "IMAGE, VIDEO") && accepts("*", "*"));
  assert.ok(!accepts("IMAGE", "LATENT") && !accepts("*", "LATENT") && !accepts("LATENT", "*"));
});

test("likeness is symmetric, and best for equal slots", () => {
  const slots = [socket("a", "MODEL"), socket("A", "MODEL"), socket("b", "MODEL"), socket("a", "MODEL,VAE"), setting("a", "INT"), socket("a", "INT")];
  for (const a of slots) for (const b of slots) {
    assert.equal(likeness(a, b), likeness(b, a));
    assert.ok(likeness(a, b) <= likeness(a, a));
  }
  assert.equal(likeness(setting("a", "INT"), socket("a", "INT")), 0);
});

test("slots of equal name find each other whatever their order, and each is used once", () => {
  const names = ["x", "y", "z"].map((name) => socket(name, "LATENT"));
  for (const order of [[0, 1, 2], [2, 0, 1], [1, 2, 0]]) {
    const pairs = pairSlots(names, order.map((i) => names[i]));
    assert.deepEqual(pairs.map(([i, k]) => [i, order[k]]), [[0, 0], [1, 1], [2, 2]]);
  }
  assert.deepEqual(pairSlots([socket("x", "LATENT"), socket("y", "LATENT")], [socket("z", "LATENT")]), [[0, 0]]);
});

test("a linked slot takes the place before one that is free", () => {
  assert.deepEqual(pairSlots([socket("x", "LATENT"), socket("y", "LATENT")], [socket("z", "LATENT")], [1]), [[1, 0]]);
});

test("no link is lost: without a place for it the node does not fit", () => {
  const poorer = made("Basic", [socket("model", "MODEL")], [socket("guider", "GUIDER")]);
  assert.equal(fit(guider, poorer, all(guider)), null);
  assert.ok(fit(guider, poorer, { inputs: [0], outputs: [0] }));
  const linkedSetting = { inputs: [2], outputs: [0] };
  assert.equal(fit(guider, made("B", [setting("strength", "FLOAT")], guider.outputs), linkedSetting), null);
});

test("a node without links needs a place for all of its sockets", () => {
  assert.equal(fit(guider, made("B", [], guider.outputs), none), null);
  assert.ok(fit(guider, made("B", guider.inputs, guider.outputs), none));
});

test("where a graph ends, it ends after a swap", () => {
  const save = made("Save", [socket("video", "VIDEO")], [], { ends: true });
  assert.equal(fit(save, made("Split", save.inputs, []), all(save)), null);
  assert.ok(fit(save, { ...save, type: "Other" }, all(save)));
});

test("what a node needs besides is named, and so is a list without a choice", () => {
  const more = made("M", [...guider.inputs, socket("vae", "VAE"), socket("mask", "MASK", { optional: true }), setting("file", "COMBO", { choices: [] })], guider.outputs);
  assert.deepEqual(fit(guider, more, all(guider)).missing, [{ name: "vae", type: "VAE" }, { name: "file", type: "COMBO" }]);
});

test("each likeness counts: names, settings, category, and having nothing over", () => {
  const score = (node) => fit(guider, node, all(guider)).score;
  const renamed = made("R", [socket("net", "MODEL"), ...guider.inputs.slice(1)], guider.outputs);
  const bare = made("S", guider.inputs.slice(0, 2), guider.outputs);
  const far = made("F", guider.inputs, guider.outputs, { category: "c" });
  const wide = made("W", guider.inputs, [...guider.outputs, socket("text", "STRING")]);
  for (const node of [renamed, bare, far, wide]) assert.ok(score(node) < 1 && score(node) > 0, node.type);
  assert.equal(kinship("a/b/c", "a/b/d"), 2 / 3);
  assert.equal(kinship("a", "b"), 0);
});

test("ranked: what lacks nothing first, then by score; what can be taken from the graph is not lacking", () => {
  const near = made("Near", guider.inputs, guider.outputs);
  const far = made("Far", guider.inputs, guider.outputs, { category: "z" });
  const needy = made("Needy", [...guider.inputs, socket("vae", "VAE")], guider.outputs);
  const order = (sources) => ranked([{ node: guider, linked: all(guider), sources }], [far, needy, near, guider]);
  assert.deepEqual(order(() => null).map(({ type }) => type), ["Near", "Far", "Needy"]);
  assert.deepEqual(order(() => null).at(-1).lacks, ["vae"]);
  assert.deepEqual(order(() => [1, 0]).map(({ lacks }) => lacks.length), [0, 0, 0]);
});

test("for several nodes only what fits each of them is offered", () => {
  const other = made("Other", [socket("model", "MODEL")], [socket("model", "MODEL")]);
  const places = [guider, other].map((node) => ({ node, linked: all(node) }));
  assert.deepEqual(ranked(places, [guider, other, made("Both", guider.inputs, [...guider.outputs, ...other.outputs])]).map(({ type }) => type), ["Both"]);
});

test("values are taken over where the new setting allows them", () => {
  assert.ok(allows({ type: "INT", min: 1, max: 9 }, 9) && !allows({ type: "INT", min: 1, max: 9 }, 10) && !allows({ type: "INT" }, 1.5));
  assert.ok(allows({ type: "FLOAT" }, 2) && !allows({ type: "FLOAT" }, "2"));
  assert.ok(allows({ type: "COMBO", choices: ["a"] }, "a") && !allows({ type: "COMBO", choices: ["a"] }, "b"));
  assert.ok(allows({ type: "STRING" }, "") && !allows({ type: "BOOLEAN" }, "yes"));
});
