// A map of change levels as it is painted.
import assert from "node:assert/strict";
import test from "node:test";
import { load } from "./load.mjs";

const { brush, cellAt, describe, empty, format, frames, mean, on, parse } = await load("levels/map.js");

test("nothing painted is an empty text, and a map is its text and back", () => {
  assert.equal(format(empty()), "");
  const map = empty([2, 2, 3]);
  brush(map, 1, [0, 2], 1, 35);
  assert.deepEqual(parse(format(map)), map);
});

test("what is no map is null", () => {
  for (const text of ["{", "[]", '{"size":[1,1,2],"levels":"AA=="}', '{"size":[1,1,1],"levels":"/w=="}']) assert.equal(parse(text), null);
});

test("a brush stays inside of the frame, and may go through all frames", () => {
  const map = empty([2, 3, 3]);
  brush(map, 0, [0, 0], 3, 50);
  assert.deepEqual([...map.levels.subarray(0, 9)], [50, 50, 0, 50, 50, 0, 0, 0, 0]);
  assert.equal(mean(map, 1), 0);
  brush(map, -1, [2, 2], 1, 100);
  assert.deepEqual([map.levels[8], map.levels[17]], [100, 100]);
});

test("whole frames are painted in either order", () => {
  const map = empty([4, 1, 2]);
  frames(map, 2, 1, 80);
  assert.deepEqual([0, 1, 2, 3].map((k) => mean(map, k)), [0, 80, 80, 0]);
});

test("a place lies in one cell, and beside the frame in none", () => {
  assert.deepEqual(cellAt(empty([1, 2, 4]), 0.99, 0.5), [1, 3]);
  for (const [x, y] of [[-0.01, 0], [1, 0], [0, 1]]) assert.equal(cellAt(empty([1, 2, 4]), x, y), null);
});

test("on the same grid a map stays as it is", () => {
  const map = empty([3, 2, 2]);
  frames(map, 0, 1, 20);
  assert.deepEqual(on(map, [3, 2, 2]), map);
});

test("cells are told in words", () => {
  assert.equal(describe(empty([2, 3, 3]), 1, [2, 0]), "latent frame 2 of 2, row 3, column 1: level 0, known");
});
