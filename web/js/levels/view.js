// Paint Levels: a map of what may change in a clip and how far, painted with a brush and along time. It is stored as
// text in the node's own setting, which is an ordinary text input for everybody else (links, other tools, the API).
import { app } from "../../../../scripts/app.js";
import { addPanel, chain, element, endStep, keepEvents } from "../nodes.js";
import { levelColour } from "../patches/cells.js";
import { WHOLE, brush, cellAt, describe, empty, format, frames, mean, on, parse } from "./map.js";

const NODE = "SpacetimePaintLevels";
const INPUT = "levels_map";
const KEY = "spacetime_levels";
const HEIGHT = 300;
const STYLE = `
.spacetime-levels { box-sizing: border-box; width: 100%; height: 100%; display: flex; flex-direction: column; gap: 4px; padding: 4px 8px;
  color: var(--input-text, #ddd); font: 12px/1.3 sans-serif; }
.spacetime-levels canvas { display: block; width: 100%; min-height: 0; image-rendering: pixelated; cursor: crosshair;
  background: var(--comfy-input-bg, #333); touch-action: none; }
.spacetime-levels canvas:focus-visible { outline: 2px solid var(--p-primary-color, #6af); }
.spacetime-levels .frame { flex: 1; object-fit: contain; }
.spacetime-levels .time { height: 28px; flex: none; }
.spacetime-levels .row { display: flex; gap: 6px; align-items: center; flex: none; }
.spacetime-levels input[type=range] { flex: 1; min-width: 0; }
.spacetime-levels select, .spacetime-levels button { background: var(--comfy-input-bg, #333); color: inherit;
  border: 1px solid var(--border-color, #555); border-radius: 4px; padding: 1px 6px; font: inherit; }
.spacetime-levels p { margin: 0; height: 1.3em; overflow: hidden; flex: none; }
`;

function build() {
  const painted = "Levels of a latent frame: arrow keys move, Enter paints";
  const frame = element("canvas", { className: "frame", tabIndex: 0, role: "application", ariaLabel: painted });
  const time = element("canvas", { className: "time", role: "img", ariaLabel: "Levels over time: drag to paint whole frames" });
  const at = element("input", { type: "range", min: 0, max: 8, value: 0, ariaLabel: "Latent frame" });
  const level = element("input", { type: "range", min: 0, max: WHOLE, step: 5, value: WHOLE, ariaLabel: "Level to paint, in percent" });
  const shown = element("output");
  const wide = element("select", { ariaLabel: "Brush, in cells" }, ...[1, 3, 5].map((n) => element("option", { value: n, textContent: `${n} x ${n}` })));
  const all = element("input", { type: "checkbox" });
  const whole = element("button", { type: "button", textContent: "Whole frame" });
  const clear = element("button", { type: "button", textContent: "Clear" });
  const says = element("p", { ariaLive: "polite" });
  const panel = element(
    "div", { className: "spacetime-levels" }, element("style", { textContent: STYLE }), frame, time,
    element("div", { className: "row" }, element("span", { textContent: "Frame" }), at),
    element("div", { className: "row" }, element("span", { textContent: "Level" }), level, shown, wide),
    element("div", { className: "row" }, element("label", {}, all, " all frames"), whole, clear), says,
  );
  return { panel, frame, time, at, level, shown, wide, all, whole, clear, says };
}

function draw(view) {
  const { map, frame, time, at, level, shown, says, cell } = view;
  const [count, rows, columns] = map.size;
  at.max = count - 1;
  const now = Math.min(Number(at.value), count - 1);
  const cells = map.levels.subarray(now * rows * columns, (now + 1) * rows * columns);
  fill(frame, columns, rows, (k) => levelColour((255 * cells[k]) / WHOLE));
  fill(time, count, 1, (k) => levelColour((255 * mean(map, k)) / WHOLE));
  mark(frame, cell[1], cell[0]);
  mark(time, now, 0);
  shown.textContent = `${level.value} %`;
  says.textContent = describe(map, now, cell);
  frame.dataset.frame = now;
}

const SIDE = 16; // pixels of the drawing for a cell, whatever size it is shown in

function fill(canvas, columns, rows, colour) {
  Object.assign(canvas, { width: columns * SIDE, height: rows * SIDE });
  const context = canvas.getContext("2d");
  for (let k = 0; k < columns * rows; k++) {
    context.fillStyle = `rgb(${colour(k).join(" ")})`;
    context.fillRect((k % columns) * SIDE, Math.floor(k / columns) * SIDE, SIDE - 1, SIDE - 1);
  }
}

function mark(canvas, column, row) {
  const context = canvas.getContext("2d");
  context.strokeStyle = "#fff";
  context.lineWidth = 2;
  context.strokeRect(column * SIDE + 1, row * SIDE + 1, SIDE - 3, SIDE - 3);
}

/** Where the pointer is on a drawing that keeps its shape inside of its box. */
function placeIn(canvas, { clientX, clientY }, stretched) {
  const box = canvas.getBoundingClientRect();
  const scale = Math.min(box.width / canvas.width, box.height / canvas.height);
  const [width, height] = stretched ? [box.width, box.height] : [canvas.width * scale, canvas.height * scale];
  return [(clientX - box.left - (box.width - width) / 2) / width, (clientY - box.top - (box.height - height) / 2) / height];
}

function strokes(canvas, paint, done) {
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    event.stopPropagation(); // the node stays where it is
    event.preventDefault();
    canvas.focus({ preventScroll: true });
    canvas.setPointerCapture(event.pointerId);
    paint(event, true);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!canvas.hasPointerCapture(event.pointerId)) return;
    event.stopPropagation();
    paint(event, false);
  });
  for (const end of ["pointerup", "pointercancel"])
    canvas.addEventListener(end, (event) => {
      if (!canvas.hasPointerCapture(event.pointerId)) return;
      canvas.releasePointerCapture(event.pointerId);
      done();
    });
}

function addPainter(node) {
  const text = node.widgets?.find((widget) => widget.name === INPUT);
  if (!text) return;
  text.hidden = true;
  const view = { ...build(), map: parse(text.value ?? "") ?? empty(), cell: [0, 0] };
  const store = () => {
    text.value = format(view.map);
    text.callback?.(text.value);
    endStep(); // each stroke is one
  };
  const level = () => Number(view.level.value);
  const frame = () => (view.all.checked ? -1 : Number(view.at.value));
  let from = 0;
  strokes(view.frame, (event) => {
    const cell = cellAt(view.map, ...placeIn(view.frame, event, false));
    if (!cell) return;
    view.cell = cell;
    brush(view.map, frame(), cell, Number(view.wide.value), level());
    draw(view);
  }, store);
  strokes(view.time, (event, begins) => {
    const count = view.map.size[0];
    const to = Math.max(0, Math.min(count - 1, Math.floor(placeIn(view.time, event, true)[0] * count)));
    if (begins) from = to;
    view.at.value = to;
    frames(view.map, from, to, level());
    draw(view);
  }, store);
  listen(view, node, { store, level, frame });
  view.reload = () => {
    const stored = parse(text.value ?? "") ?? empty();
    const size = node.spacetimeGrid ?? stored.size;
    view.map = size.join() === stored.size.join() ? stored : on(stored, size);
    view.cell = [0, 0];
    draw(view);
  };
  addPanel(node, "spacetime_levels", view.panel, HEIGHT); // the map stands in the text alone
  node.setSize([Math.max(node.size[0], 300), node.size[1]]);
  draw(view);
  return view;
}

function listen(view, node, { store, level, frame }) {
  view.at.addEventListener("input", () => draw(view));
  view.level.addEventListener("input", () => draw(view));
  view.whole.addEventListener("click", () => {
    const [count] = view.map.size;
    frames(view.map, Math.max(0, frame()), frame() < 0 ? count - 1 : frame(), level());
    draw(view);
    store();
  });
  view.clear.addEventListener("click", () => {
    view.map.levels.fill(0);
    draw(view);
    store();
  });
  view.frame.addEventListener("keydown", (event) => {
    const [down, across] = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key] ?? [0, 0];
    const paints = event.key === "Enter" || event.key === " ";
    if (!down && !across && !paints) return;
    event.preventDefault();
    const [, rows, columns] = view.map.size;
    view.cell = [Math.max(0, Math.min(rows - 1, view.cell[0] + down)), Math.max(0, Math.min(columns - 1, view.cell[1] + across))];
    if (paints) brush(view.map, frame(), view.cell, Number(view.wide.value), level());
    draw(view);
    if (paints) store();
  });
  keepEvents(view.panel);
}

app.registerExtension({
  name: "spacetime.levels",
  nodeCreated(node) {
    if (node.comfyClass !== NODE) return;
    const view = addPainter(node);
    if (!view) return;
    chain(node, "onConfigure", () => view.reload());
    chain(node, "onExecuted", (output) => {
      const told = output?.[KEY]?.[0];
      if (!told) return;
      node.spacetimeGrid = told.size;
      view.reload();
    });
  },
});
