// Videos in step: frames, times, strips.
import assert from "node:assert/strict";
import test from "node:test";
import { load } from "./load.mjs";

const { frameAt, measured, strip, tiles, timeOf } = await load("compare/steps.js");

test("each frame's time shows that frame, at every rate", () => {
  for (const fps of [1, 12, 23.976, 24, 29.97, 60, 120])
    for (let frame = 0; frame < 400; frame++) assert.equal(frameAt(timeOf(frame, fps), fps, 400), frame);
});

test("times outside show the first and the last frame", () => {
  assert.deepEqual([-1, 0, 99].map((time) => frameAt(time, 12, 10)), [0, 0, 9]);
});

test("strips lie side by side and cover the whole width once, wherever the wipe stands", () => {
  const edges = (text) => text.match(/[\d.]+%/g).map(Number.parseFloat);
  for (const count of [2, 3, 4])
    for (const at of [0, 0.2, 0.5, 1]) {
      const all = Array.from({ length: count }, (_, i) => edges(strip(i, count, at)));
      assert.equal(all[0][1], 0);
      assert.equal(all.at(-1)[0], 0);
      all.slice(1).forEach(([, left], i) => assert.ok(Math.abs(left + all[i][0] - 100) < 0.01));
    }
});

test("tiles", () => assert.deepEqual([1, 2, 3, 4].map(tiles), [[1, 1], [2, 1], [2, 2], [2, 2]]));

test("the numbers of a frame, none after a shorter video's end", () => {
  const measures = [{ name: "PSNR", unit: "dB", values: [31.2345, null] }, { name: "SSIM", unit: "", values: [0.9] }];
  assert.equal(measured(measures, 0), "PSNR 31.23 dB · SSIM 0.9");
  assert.equal(measured(measures, 1), "PSNR inf dB");
  assert.equal(measured(measures, 2), "");
});
