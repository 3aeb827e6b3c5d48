// Compare Videos shows its videos in step: over each other with a wipe, or side by side, with the numbers of the frame.
import { app } from "../../../../scripts/app.js";
import { api } from "../../../../scripts/api.js";
import { addPanel, chain, element, keepEvents } from "../nodes.js";
import { frameAt, measured, strip, tiles, timeOf } from "./steps.js";

const NODE = "SpacetimeCompareVideos";
const HEIGHT = 250;
const STYLE = `
.spacetime-compare { display: flex; flex-direction: column; gap: 4px; width: 100%; height: 100%; box-sizing: border-box;
  padding: 4px; border-radius: 6px; background: var(--comfy-input-bg, #222); color: var(--input-text, #ddd);
  font: 11px/1.3 sans-serif; overflow: hidden; }
.spacetime-compare .stage { position: relative; flex: 1; min-height: 160px; display: grid; gap: 2px; }
.spacetime-compare figure { margin: 0; min-height: 0; min-width: 0; position: relative; overflow: hidden; }
.spacetime-compare video { width: 100%; height: 100%; object-fit: contain; display: block; image-rendering: pixelated; }
.spacetime-compare .wipe figure { position: absolute; inset: 0; }
.spacetime-compare figcaption { position: absolute; top: 2px; left: 2px; padding: 0 4px; border-radius: 3px;
  background: rgb(0 0 0 / 60%); color: #fff; }
.spacetime-compare .wipe figure:last-child figcaption { left: auto; right: 2px; }
.spacetime-compare .row { display: flex; gap: 6px; align-items: center; }
.spacetime-compare input { flex: 1; min-width: 0; }
.spacetime-compare button { background: var(--comfy-menu-bg, #333); color: inherit; border: 1px solid var(--border-color, #555);
  border-radius: 4px; padding: 1px 8px; font: inherit; cursor: pointer; }
.spacetime-compare output { white-space: nowrap; overflow: hidden; text-overflow: ellipsis; min-height: 1.3em; }
`;

const slider = (ariaLabel, value) => element("input", { type: "range", min: 0, max: 1000, value, ariaLabel });

function build() {
  const parts = {
    stage: element("div", { className: "stage wipe" }),
    says: element("output", { textContent: "The videos appear after a run." }),
    play: element("button", { type: "button", textContent: "Play", disabled: true }),
    way: element("button", { type: "button", textContent: "Side by side", disabled: true }),
    time: slider("Frame", 0),
    wipe: slider("Where the wipe stands", 500),
  };
  const panel = element(
    "div",
    { className: "spacetime-compare", role: "group", ariaLabel: "Videos in step" },
    element("style", { textContent: STYLE }),
    parts.stage,
    element("div", { className: "row" }, parts.play, parts.time),
    element("div", { className: "row" }, parts.way, parts.wipe),
    parts.says,
  );
  keepEvents(panel);
  return { panel, ...parts, videos: [], measures: [], fps: 12, count: 1, frame: 0, timer: null };
}

function arrange(view) {
  const { stage, videos, wipe, way } = view;
  const wiping = stage.classList.contains("wipe");
  way.textContent = wiping ? "Side by side" : "Wipe";
  wipe.disabled = !wiping;
  stage.style.gridTemplateColumns = wiping ? "1fr" : `repeat(${tiles(videos.length)[0]}, minmax(0, 1fr))`;
  videos.forEach((video, i) => {
    video.parentElement.style.clipPath = wiping ? strip(i, videos.length, wipe.value / 1000) : "none";
  });
}

function go(view, frame) {
  view.frame = Math.max(0, Math.min(view.count - 1, frame));
  for (const video of view.videos) video.currentTime = timeOf(view.frame, view.fps);
  view.time.value = view.count > 1 ? (view.frame / (view.count - 1)) * 1000 : 0;
  view.panel.dataset.frame = view.frame;
  view.says.textContent = [`frame ${view.frame + 1} of ${view.count}`, measured(view.measures, view.frame)].filter((text) => text).join(" · ");
}

function playing(view, on) {
  clearInterval(view.timer);
  // steps, not players that run by themselves: those drift apart
  const next = () => (view.panel.isConnected ? go(view, (view.frame + 1) % view.count) : playing(view, false));
  view.timer = on ? setInterval(next, 1000 / view.fps) : null;
  view.play.textContent = on ? "Pause" : "Play";
}

function show(view, { spacetime_videos: shown, spacetime_measures: measures = [] }) {
  playing(view, false);
  view.videos = shown.map(({ filename, subfolder, type, name }) => {
    const src = api.apiURL(`/view?${new URLSearchParams({ filename, subfolder, type })}`);
    return element("video", { src, muted: true, playsInline: true, preload: "auto", ariaLabel: name });
  });
  const figures = view.videos.map((video, i) => element("figure", {}, video, element("figcaption", { textContent: shown[i].name })));
  view.stage.replaceChildren(...figures);
  Object.assign(view, { measures, fps: shown[0].fps });
  view.play.disabled = view.way.disabled = false;
  view.panel.dataset.videos = view.videos.length;
  const known = () => {
    view.count = Math.max(1, ...view.videos.map(({ duration, readyState }) => (readyState ? Math.round(duration * view.fps) : 1)));
    go(view, Math.min(view.frame, view.count - 1));
  };
  for (const video of view.videos) video.addEventListener("loadedmetadata", known);
  arrange(view);
}

function listen(view) {
  view.play.addEventListener("click", () => playing(view, !view.timer));
  view.way.addEventListener("click", () => (view.stage.classList.toggle("wipe"), arrange(view)));
  view.wipe.addEventListener("input", () => arrange(view));
  view.time.addEventListener("input", () => {
    playing(view, false);
    go(view, frameAt((view.time.value / 1000) * ((view.count - 1) / view.fps), view.fps, view.count));
  });
  view.time.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
    if (!step) return;
    event.preventDefault(); // one frame, not a thousandth
    playing(view, false);
    go(view, view.frame + step);
  });
}

app.registerExtension({
  name: "spacetime.compare",
  nodeCreated(node) {
    if (node.comfyClass !== NODE) return;
    const view = build();
    listen(view);
    addPanel(node, "videos", view.panel, HEIGHT);
    chain(node, "onExecuted", (output) => output?.spacetime_videos?.length && show(view, output));
    node.setSize([Math.max(node.size[0], 300), node.computeSize()[1]]);
  },
});
