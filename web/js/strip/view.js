// While a run goes on: the model's guess and the noisy state as two little videos on the node that runs.
import { app } from "../../../../scripts/app.js";
import { api } from "../../../../scripts/api.js";
import { addPanel, element, place, visibleNodeOf } from "../nodes.js";

const NAME = "spacetime_strip";
const EVENT = "spacetime.strip";
const HEIGHT = 124; // of the widget, whatever is shown in it: nothing jumps while a run goes on
const PACE = 120; // milliseconds of a frame
const ROWS = ["The model's guess of the video", "The noisy state"];
const STYLE = `
.spacetime-strip { display: grid; grid-template: 16px minmax(0, 1fr) / minmax(0, 1fr) minmax(0, 1fr); gap: 2px 6px; box-sizing: border-box; width: 100%;
  height: ${HEIGHT}px; padding: 4px; border-radius: 6px; background: var(--comfy-input-bg, #222);
  color: var(--input-text, #ddd); font: 11px/1.3 sans-serif; overflow: hidden; }
.spacetime-strip canvas { width: 100%; height: 100%; min-height: 0; object-fit: contain; image-rendering: pixelated; }
.spacetime-strip span { white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
`;

const still = () => window.matchMedia?.("(prefers-reduced-motion: reduce)").matches;

function build(node) {
  const canvases = ROWS.map((ariaLabel) => element("canvas", { width: 8, height: 8, role: "img", ariaLabel }));
  const [says, noisy] = [element("span"), element("span", { textContent: "noisy state" })];
  const looks = { className: "spacetime-strip", role: "group", ariaLabel: "The run as it goes on" };
  const panel = element("div", looks, element("style", { textContent: STYLE }), says, noisy, ...canvases);
  const view = { panel, canvases, says, picture: null, frame: 0, timer: null, asked: 0 };
  addPanel(node, NAME, panel, HEIGHT).spacetimeStrip = view;
  setTimeout(() => place(node, panel), 200);
  return view;
}

function draw(view) {
  const { picture, detail, canvases } = view;
  canvases.forEach((canvas, row) => {
    if (canvas.width !== detail.width) canvas.width = detail.width;
    if (canvas.height !== detail.height) canvas.height = detail.height;
    const from = [view.frame * detail.width, row * detail.height, detail.width, detail.height];
    canvas.getContext("2d").drawImage(picture, ...from, 0, 0, detail.width, detail.height);
  });
}

function next(view) {
  if (!view.panel.isConnected) return stop(view);
  view.frame = (view.frame + 1) % view.detail.columns;
  draw(view);
}

function stop(view) {
  clearInterval(view.timer);
  view.timer = null;
}

async function show({ detail }) {
  const node = visibleNodeOf(detail.node);
  if (!node?.addDOMWidget) return;
  const view = node.widgets?.find((one) => one.name === NAME)?.spacetimeStrip ?? build(node);
  const asked = ++view.asked;
  const picture = element("img", { src: `data:image/jpeg;base64,${detail.jpeg}` });
  await picture.decode();
  if (asked !== view.asked) return; // a later step was quicker
  Object.assign(view, { picture, detail, frame: Math.min(view.frame, detail.columns - 1) });
  if (still()) view.frame = Math.floor(detail.columns / 2);
  view.says.textContent = `guess · step ${detail.step} of ${detail.total}`;
  Object.assign(view.panel.dataset, { step: detail.step, total: detail.total, frames: detail.columns });
  draw(view);
  if (!view.timer && detail.columns > 1 && !still()) view.timer = setInterval(() => next(view), PACE);
}

app.registerExtension({
  name: "spacetime.strip",
  setup() {
    api.addEventListener(EVENT, show);
  },
});
