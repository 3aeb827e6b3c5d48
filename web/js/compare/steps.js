// Frames and times of videos that are shown in step: arithmetic only, without editor, tested by itself.

/** The frame that is shown at a time in seconds; the last one stays. */
export const frameAt = (seconds, fps, count) => Math.max(0, Math.min(count - 1, Math.floor(seconds * fps + 1e-6)));

/** A time at which a player surely shows a frame: in its middle. */
export const timeOf = (frame, fps) => (frame + 0.5) / fps;

/** What is drawn of video `index` of `count`: in a wipe all lie over each other and each shows a strip. */
export function strip(index, count, at) {
  const edges = [0, ...Array.from({ length: count - 1 }, (_, i) => (count === 2 ? at : (i + 1 + (at - 0.5)) / count)), 1];
  const [left, right] = [index, index + 1].map((i) => Math.max(0, Math.min(1, edges[i])));
  return `inset(0 ${((1 - right) * 100).toFixed(3)}% 0 ${(left * 100).toFixed(3)}%)`;
}

/** How videos stand side by side: columns and rows. */
export const tiles = (count) => [Math.min(count, 2), Math.ceil(count / 2)];

/** "PSNR 31.2 dB · SSIM 0.94" of one frame; of measures that have no value there, nothing. */
export function measured(measures, frame) {
  return measures
    .filter(({ values }) => frame < values.length)
    .map(({ name, unit, values }) => {
      const value = values[frame];
      const text = typeof value === "number" ? Number(value.toPrecision(4)) : "inf"; // JSON knows no infinity
      return `${name} ${text}${unit ? ` ${unit}` : ""}`;
    })
    .join(" · ");
}
