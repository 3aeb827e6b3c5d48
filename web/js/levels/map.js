// A map of change levels over time and space: arithmetic only, without editor, equal to models/tasks/painting.py.

export const WHOLE = 100; // a level of 1
const FIRST = [9, 6, 6]; // cells before a run has told the clip's own: 33 frames of 96 x 96 pixels here

const count = (size) => size.reduce((a, b) => a * b, 1);
export const empty = (size = FIRST) => ({ size, levels: new Uint8Array(count(size)) });

/** The map in a text; an empty one for an empty text, null for what is none. */
export function parse(text) {
  if (!text.trim()) return empty();
  try {
    const { size, levels } = JSON.parse(text);
    const held = Uint8Array.from(atob(levels), (letter) => letter.charCodeAt(0));
    const whole = size.length === 3 && size.every((one) => Number.isInteger(one) && one > 0);
    return whole && held.length === count(size) && held.every((one) => one <= WHOLE) ? { size, levels: held } : null;
  } catch {
    return null;
  }
}

/** As it stands in a workflow; nothing painted is an empty text. */
export function format({ size, levels }) {
  if (levels.every((one) => one === 0)) return "";
  let letters = "";
  for (const one of levels) letters += String.fromCharCode(one);
  return JSON.stringify({ size, levels: btoa(letters) });
}

/** The same map on another grid: each place has the level of the cell over its middle. */
export function on({ size, levels }, wanted) {
  const [frames, rows, columns] = wanted.map((many, axis) =>
    Array.from({ length: many }, (_, at) => Math.floor(((2 * at + 1) * size[axis]) / (2 * many))),
  );
  const made = empty(wanted);
  let k = 0;
  for (const f of frames) for (const r of rows) for (const c of columns) made.levels[k++] = levels[(f * size[1] + r) * size[2] + c];
  return made;
}

/** The row and column at a place (0..1 across, 0..1 down); null beside the frame. */
export function cellAt({ size: [, rows, columns] }, across, down) {
  const inside = across >= 0 && across < 1 && down >= 0 && down < 1;
  return inside ? [Math.floor(down * rows), Math.floor(across * columns)] : null;
}

/** Paint a square of `wide` cells around a cell, in one frame or (frame -1) in all. */
export function brush({ size: [frames, rows, columns], levels }, frame, [row, column], wide, level) {
  const reach = (wide - 1) / 2;
  for (let f = frame < 0 ? 0 : frame; f < (frame < 0 ? frames : frame + 1); f++)
    for (let r = Math.max(0, row - reach); r <= Math.min(rows - 1, row + reach); r++)
      for (let c = Math.max(0, column - reach); c <= Math.min(columns - 1, column + reach); c++)
        levels[(f * rows + r) * columns + c] = level;
}

/** Paint whole frames, from one to another in either order. */
export function frames({ size: [, rows, columns], levels }, from, to, level) {
  levels.fill(level, Math.min(from, to) * rows * columns, (Math.max(from, to) + 1) * rows * columns);
}

/** The mean level of a frame, 0..WHOLE. */
export function mean({ size: [, rows, columns], levels }, frame) {
  return levels.subarray(frame * rows * columns, (frame + 1) * rows * columns).reduce((a, b) => a + b, 0) / (rows * columns);
}

/** What is said of a cell. */
export function describe({ size: [frames, rows, columns], levels }, frame, [row, column]) {
  const level = levels[(frame * rows + row) * columns + column] / WHOLE;
  const what = level === 0 ? "known" : level === 1 ? "made anew" : "may change that far";
  return `latent frame ${frame + 1} of ${frames}, row ${row + 1}, column ${column + 1}: level ${level}, ${what}`;
}
