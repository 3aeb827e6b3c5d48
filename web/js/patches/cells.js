// Patches as cells of pictures: arithmetic only, without editor, tested by itself.

/** Bytes of a base64 text. */
export const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

/** Where each latent frame of patches lies among all: [{clip, frame, start, height, width}], clip after clip. */
export function framesOf(grids) {
  let start = 0;
  return grids.flatMap(([frames, height, width], clip) =>
    Array.from({ length: frames }, (_, frame) => {
      const one = { clip, frame, start, height, width };
      start += height * width;
      return one;
    }),
  );
}

/** The index of the patch at a place (0..1 across, 0..1 down) of a frame; -1 beside it. */
export function patchAt({ start, height, width }, across, down) {
  const inside = across >= 0 && across < 1 && down >= 0 && down < 1;
  return inside ? start + Math.floor(down * height) * width + Math.floor(across * width) : -1;
}

/** A level 0..255 as a colour: dark blue for what is known, over violet to yellow for pure noise. */
export function levelColour(level) {
  const t = level / 255;
  return [Math.round(255 * Math.min(1, 1.5 * t)), Math.round(40 + 190 * t * t), Math.round(90 + 120 * t * (1 - t) * 2 - 60 * t * t)];
}

/** Red, green and blue of patch `index` in one of the views "components", "levels", "sizes", "attention". */
export function colourOf(view, data, index) {
  if (view === "components") return [0, 1, 2].map((channel) => data.colours[3 * index + channel]);
  if (view === "sizes") return [data.sizes[index], data.sizes[index], data.sizes[index]];
  return levelColour(view === "levels" ? data.levels[index] : rooted(data.weights?.[index] ?? 0));
}

/** How much of a cell's colour covers the picture under it, 0..1: a weight of attention covers by its size. */
export function coverOf(view, data, index, pictured) {
  if (!pictured) return 1;
  return view === "attention" ? (0.85 * rooted(data.weights?.[index] ?? 0)) / 255 : 0.55;
}

/** 0..255 by its root, so that small weights are seen beside large ones. */
const rooted = (weight) => Math.round(Math.sqrt(weight * 255));

const short = (number) => Number(number.toPrecision(3));
const percent = (share) => `${short(100 * share)} %`;

/** What is said of a patch. */
export function describePatch(data, frames, index) {
  const at = frames.findLast(({ start }) => start <= index);
  const [row, column] = [Math.floor((index - at.start) / at.width), (index - at.start) % at.width];
  const clip = data.grids.length > 1 ? `clip ${at.clip + 1}, ` : "";
  const what = data.sigma === null ? "change level" : "noise level";
  const said = `patch ${index}: ${clip}latent frame ${at.frame}, row ${row}, column ${column} · ${what} ${short(data.levels[index] / 255)}`;
  if (!data.sizes) return `${said}, ${kept(data.levels[index])}`; // of a task, whose patches are still to be made
  const root = (data.sizes[index] / 255) * data.largest;
  return `${said} · size ${short(root)}, norm ${short(root * Math.sqrt(data.patch.reduce((a, b) => a * b)))}`;
}

const kept = (level) => (level === 0 ? "known" : level === 255 ? "made anew" : "may change that far");

/** The mean level of each frame, 0..1. */
export const levelsOver = (data, frames) =>
  frames.map(({ start, height, width }) => data.levels.subarray(start, start + height * width).reduce((a, b) => a + b, 0) / (255 * height * width));

/** How much of a clip is known, and how much is made anew. */
export function describeLevels({ levels }) {
  const share = (test) => percent(levels.filter(test).length / levels.length);
  const [known, anew] = [share((level) => level === 0), share((level) => level === 255)];
  return `${known} of the patches are known, ${anew} are made anew, ${share((level) => level % 255)} may change in part`;
}

/** What is said of where a patch looks: `answer` as the server gives it. */
export function describeAttention(answer, frames, index) {
  const own = frames.findLastIndex(({ start }) => start <= index);
  const most = answer.weights.reduce((best, weight, i) => (weight > answer.weights[best] ? i : best), 0);
  const where = most === index ? "itself" : `patch ${most}, latent frame ${frames.findLast(({ start }) => start <= most).frame}`;
  return `${percent(answer.frames[own])} on its own frame · most on ${where}: ${percent(answer.largest)}`;
}
