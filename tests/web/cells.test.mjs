// Patches as cells of pictures.
import assert from "node:assert/strict";
import test from "node:test";
import { load } from "./load.mjs";

const { bytes, colourOf, describePatch, framesOf, levelColour, patchAt } = await load("patches/cells.js");
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
  const data = { grids, sigma: 0.5, largest: 2, levels: new Uint8Array(28).fill(255), sizes: new Uint8Array(28).fill(51), colours: Uint8Array.from({ length: 84 }, (_, i) => i) };
  assert.equal(describePatch(data, frames, 17), "patch 17: clip 1, latent frame 1, row 1, column 1 · noise level 1 · size 0.4");
  assert.equal(describePatch(data, frames, 27), "patch 27: clip 2, latent frame 0, row 1, column 1 · noise level 1 · size 0.4");
  assert.deepEqual(colourOf("components", data, 2), [6, 7, 8]);
  assert.deepEqual(colourOf("sizes", data, 2), [51, 51, 51]);
});
