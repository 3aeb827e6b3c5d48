// Which runs are picked, as Python reads it (tests/data/picks.json holds the cases of both).
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { load } from "./load.mjs";

const { picked, toggled } = await load("picks/numbers.js");
const cases = JSON.parse(readFileSync(new URL("../data/picks.json", import.meta.url), "utf8"));

test("texts are read as the node reads them", () => {
  for (const [text, count, numbers] of cases) assert.deepEqual(picked(text, count), numbers, text);
});

test("a click adds a run at the end, another one takes it away", () => {
  assert.equal(toggled("", 3, 4), "3");
  assert.equal(toggled("3", 1, 4), "3, 1");
  assert.equal(toggled("3, 1", 3, 4), "1");
  assert.equal(toggled("all", 2, 3), "1, 3");
  assert.equal(toggled("1 9", 2, 3), "2", "what cannot be read begins anew");
});
