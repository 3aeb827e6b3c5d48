// What is said of a workflow that was made with something else.
import assert from "node:assert/strict";
import test from "node:test";
import { load } from "./load.mjs";

const { compareVersions, needs, sizeText } = await load("share/needs.js");
const weight = (more = {}) => ({ name: "a.safetensors", folder: "vae", size: 5e6, sha256: "11", from: "https://x/a", ...more });
const record = (weights, version = "0.2.0") => ({ version, weights });

test("versions are numbers, not texts", () => {
  assert.deepEqual(["0.10.0", "0.9.9", "0.9.9", "1.0", "1.0.0"].map((a, i) => compareVersions(a, ["0.9.0", "0.10.0", "0.9.9", "0.99.9", "1.0"][i])), [1, -1, 0, 1, 0]);
});

test("nothing is said where all is as it was, and of a workflow without a record", () => {
  assert.deepEqual(needs(record([weight()]), record([weight()])), []);
  assert.deepEqual(needs(undefined, record([])), []);
});

test("only a newer version is told: older workflows open in newer packs", () => {
  assert.deepEqual(needs(record([], "0.3.0"), record([])).map(({ kind }) => kind), ["version"]);
  assert.deepEqual(needs(record([], "0.1.0"), record([])), []);
});

test("a missing file is named with its folder, size and address", () => {
  const [found] = needs(record([weight()]), record([]));
  assert.equal(found.kind, "missing");
  assert.match(found.what, /a\.safetensors \(5 MB\)/);
  assert.match(found.todo, /models\/vae/);
  assert.equal(found.from, "https://x/a");
});

test("another file is told by its checksum, or by its size while that is not known", () => {
  const kinds = (now) => needs(record([weight()]), record([now])).map(({ kind }) => kind);
  assert.deepEqual(kinds(weight({ sha256: "22" })), ["differs"]);
  assert.deepEqual(kinds(weight({ sha256: null, size: 6e6 })), ["differs"]);
  assert.deepEqual(kinds(weight({ sha256: null })), []);
});

test("unknown nodes of ours are named, those of others are not ours to explain", () => {
  const found = needs(undefined, record([]), ["SpacetimeFuture", "Other"]);
  assert.equal(found.length, 1);
  assert.match(found[0].what, /SpacetimeFuture\.$/);
});

test("sizes", () => assert.deepEqual([900, 45e6, 13.9e9].map(sizeText), ["0.9 kB", "45 MB", "14 GB"]));
