// Patches as cells of pictures.
import assert from "node:assert/strict";
import test from "node:test";
import { load } from "./load.mjs";

const { bytes, colourOf, coverOf, describeAttention, describeLevels, describePatch, framesOf, levelColour, levelsOver, patchAt } = await load("patches/cells.js");
const grids = [[2, 3, 4], [1, 2, 2]];
const frames = framesOf(grids);

test("every patch lies in one cell of one frame, in the order of the tokens", () => {
  const seen = frames.flatMap((one) =>
    Array.from({ length: one.height * one.width }, (_, k) =>
      patchAt(one, ((k % one.width) + 0.5) / one.width, (Math.floor(k / one.width) + 0.5) / one.height),
    ),
  );
  assert.deepEqual(seen, [...Array(28).keys()]);
});

test("beside a frame there is no patch", () => {
  for (const [x, y] of [[-0.01, 0.5], [1, 0.5], [0.5, 1], [0.5, -1]]) assert.equal(patchAt(frames[0], x, y), -1);
});

test("bytes are read as they were written", () => assert.deepEqual([...bytes(btoa("\x00\x7f\xff"))], [0, 127, 255]));

test("more noise is brighter, in whole colours", () => {
  const light = Array.from({ length: 256 }, (_, level) => levelColour(level));
  const sum = light.map(([r, g, b]) => 0.299 * r + 0.587 * g + 0.114 * b);
  sum.slice(1).forEach((value, i) => assert.ok(value >= sum[i] - 1));
  assert.ok(light.flat().every((part) => Number.isInteger(part) && part >= 0 && part <= 255));
});

test("a patch is said in words, and coloured by the view", () => {
  const data = { grids, sigma: 0.5, largest: 2, levels: new Uint8Array(28).fill(255), sizes: new Uint8Array(28).fill(51), colours: Uint8Array.from({ length: 84 }, (_, i) => i), patch: [1, 2, 2, 16] };
  assert.equal(describePatch(data, frames, 17), "patch 17: clip 1, latent frame 1, row 1, column 1 · noise level 1 · size 0.4, norm 3.2");
  assert.equal(describePatch(data, frames, 27), "patch 27: clip 2, latent frame 0, row 1, column 1 · noise level 1 · size 0.4, norm 3.2");
  assert.deepEqual(colourOf("components", data, 2), [6, 7, 8]);
  assert.deepEqual(colourOf("sizes", data, 2), [51, 51, 51]);
});

test("of a task it is said what is known, patch by patch, over time and of all", () => {
  const levels = new Uint8Array(28); // the first frame is known, the second made anew, the third halfway
  levels.fill(255, 12, 24);
  levels.fill(51, 24);
  const data = { grids, sigma: null, levels };
  assert.equal(describePatch(data, frames, 0), "patch 0: clip 1, latent frame 0, row 0, column 0 · change level 0, known");
  assert.ok(describePatch(data, frames, 12).endsWith("change level 1, made anew"));
  assert.ok(describePatch(data, frames, 27).endsWith("change level 0.2, may change that far"));
  assert.deepEqual(levelsOver(data, frames), [0, 1, 0.2]);
  assert.equal(describeLevels(data), "42.9 % of the patches are known, 42.9 % are made anew, 14.3 % may change in part");
  levels.fill(0, 12);
  assert.equal(describeLevels(data), "100 % of the patches are known, 0 % are made anew, 0 % may change in part");
});

test("where a patch looks is said: its own frame, and the patch that it looks at most", () => {
  const weights = new Uint8Array(28).fill(10);
  weights[17] = 255;
  const answer = { weights, largest: 0.4, frames: [0.3, 0.6, 0.1] };
  assert.equal(describeAttention(answer, frames, 3), "30 % on its own frame · most on patch 17, latent frame 1: 40 %");
  assert.equal(describeAttention(answer, frames, 17), "60 % on its own frame · most on itself: 40 %");
  assert.equal(describeAttention({ ...answer, largest: 0.12345 }, frames, 27), "10 % on its own frame · most on patch 17, latent frame 1: 12.3 %");
});

test("a weight covers the picture by its root; without an answer nothing is covered", () => {
  const data = { weights: Uint8Array.from([0, 64, 255]) };
  const covers = [0, 1, 2].map((i) => coverOf("attention", data, i, true));
  assert.equal(covers[0], 0);
  assert.ok(Math.abs(covers[1] - covers[2] / 2) < 0.01 && covers[2] === 0.85);
  assert.equal(coverOf("attention", {}, 0, true), 0);
  assert.equal(coverOf("levels", data, 0, true), 0.55);
  for (const view of ["attention", "levels"]) assert.equal(coverOf(view, data, 0, false), 1);
  assert.deepEqual(colourOf("attention", data, 2), levelColour(255));
  assert.deepEqual(colourOf("attention", { weights: null }, 2), levelColour(0));
});
