// Look at the patches: what a run put through a node, patch by patch, with the frames under them and what they look at.
import { app } from "../../../../scripts/app.js";
import { api } from "../../../../scripts/api.js";
import { chain, element } from "../nodes.js";
import { bytes, colourOf, coverOf, describeAttention, describeLevels, describePatch, framesOf, levelsOver, patchAt } from "./cells.js";

const NODES = ["SpacetimePatchify", "SpacetimeForwardDiffusion", "SpacetimeDenoiseStep", "SpacetimeInspectTokens"];
const TASKS = "Spacetime/tasks";
const KEY = "spacetime_patches";
const COMMAND = "Spacetime.Patches";
const TITLE = "Look at the patches…";
const CELL = 24; // pixels of the drawing for a patch, whatever size it is shown in
const [BAR, BARS] = [20, 36]; // width and height of the bars of frames
const VIEWS = { components: "Principal components", levels: "Noise level", sizes: "Size", attention: "Attention" };
const UNDER = { "": "no picture", guess: "the guess", state: "the noisy state" };
const STYLE = `
.spacetime-patches { width: 36rem; max-width: 94vw; padding: 12px; border: 1px solid var(--border-color, #555);
  border-radius: 8px; background: var(--comfy-menu-bg, #222); color: var(--input-text, #ddd); font: 13px/1.4 sans-serif; }
.spacetime-patches::backdrop { background: rgb(0 0 0 / 40%); }
.spacetime-patches h2 { font-size: 15px; margin: 0 0 8px; }
.spacetime-patches canvas { display: block; width: 100%; background: var(--comfy-input-bg, #333); }
.spacetime-patches .grid { height: min(50vh, 26rem); object-fit: contain; image-rendering: pixelated; cursor: crosshair; }
.spacetime-patches .bars { height: ${BARS}px; margin-top: 4px; image-rendering: pixelated; }
.spacetime-patches [hidden] { visibility: hidden; } /* nothing moves when another view is chosen */
.spacetime-patches .row { display: flex; gap: 8px; align-items: center; margin: 8px 0; }
.spacetime-patches label { display: flex; gap: 4px; align-items: center; white-space: nowrap; }
.spacetime-patches input[type=range] { flex: 1; min-width: 4rem; }
.spacetime-patches select, .spacetime-patches button { background: var(--comfy-input-bg, #333); color: inherit;
  border: 1px solid var(--border-color, #555); border-radius: 4px; padding: 2px 8px; font: inherit; }
.spacetime-patches :focus-visible { outline: 2px solid #4a9eff; outline-offset: 1px; }
.spacetime-patches p { margin: 4px 0; min-height: 2.8em; overflow-wrap: anywhere; }
.spacetime-patches p:last-child { min-height: 4.2em; }
`;

/** What the node's last run said of its patches. */
function dataOf(node) {
  const sent = (node.spacetimePatches ?? app.nodeOutputs?.[node.id]?.[KEY])?.[0];
  if (!sent) return null;
  const [levels, sizes, colours] = [sent.levels, sent.sizes, sent.colours].map((text) => text && bytes(text)); // a task sends levels alone
  return { pictures: {}, ...sent, levels, sizes, colours };
}

function explain({ view, data }) {
  if (view === "components") {
    const percent = data.shares.map((share) => `${(100 * share).toFixed(0)} %`).join(", ");
    return `Red, green and blue: the three directions in which the patches differ most (${percent} of the variance).`;
  }
  if (view === "levels") {
    if (!data.sizes) return `Dark is known, yellow is made anew: ${describeLevels(data)}. The bars: how far each frame may change.`;
    const what = data.sigma === null ? "before a run: what may change" : `at sigma ${Number(data.sigma.toPrecision(4))}`;
    return `Dark is known, yellow is noise; ${what}. Grid ${data.grids.map((grid) => grid.join(" x ")).join(" + ")}.`;
  }
  if (view === "sizes") return `White is the largest (root mean square ${Number(data.largest.toPrecision(3))} of the values of a patch).`;
  return data.attention.why ?? "What the chosen patch attends to in one block; brighter is more, by its root. The bars: how much on each frame.";
}

function drawCells({ canvas, data, frames, at, view, under, sprites, chosen }) {
  const { start, height, width } = frames[at];
  Object.assign(canvas, { width: width * CELL, height: height * CELL });
  const context = canvas.getContext("2d");
  const picture = sprites[under];
  if (picture) {
    const { columns, width: wide, height: high } = data.pictures[under];
    const tile = Math.floor(((at + 0.5) * columns) / frames.length);
    context.drawImage(picture, tile * wide, 0, wide, high, 0, 0, canvas.width, canvas.height);
  }
  for (let i = 0; i < height * width; i++) {
    context.globalAlpha = coverOf(view, data, start + i, Boolean(picture));
    context.fillStyle = `rgb(${colourOf(view, data, start + i).join(" ")})`;
    context.fillRect((i % width) * CELL, Math.floor(i / width) * CELL, CELL - 1, CELL - 1);
  }
  context.globalAlpha = 1;
  if (chosen < start || chosen >= start + height * width) return;
  const i = chosen - start;
  context.strokeStyle = "#fff";
  context.lineWidth = 3;
  context.strokeRect((i % width) * CELL + 1, Math.floor(i / width) * CELL + 1, CELL - 3, CELL - 3);
}

function drawBars({ bars, answer, at, frames, view, data }) {
  bars.width = frames.length * BAR;
  bars.height = BARS;
  const shares = view === "levels" ? levelsOver(data, frames) : (answer?.frames ?? []);
  const most = view === "levels" ? 1 : Math.max(...shares, 1e-9);
  bars.ariaLabel = view === "levels" ? "Level of each latent frame" : "Attention on each latent frame";
  const context = bars.getContext("2d");
  shares.forEach((share, frame) => {
    context.fillStyle = frame === at ? "#fc5" : "#97c";
    context.fillRect(frame * BAR + 1, Math.round(BARS * (1 - share / most)), BAR - 2, BARS);
  });
}

function draw(state) {
  const { data, frames, at, view, chosen, answer } = state;
  drawCells(state);
  drawBars(state);
  state.explains.textContent = explain(state);
  const looks = view === "attention" && answer ? `\n${describeAttention(answer, frames, chosen)}` : "";
  state.says.textContent = chosen < 0 ? "Click a patch, or go with the arrow keys." : describePatch(data, frames, chosen) + looks;
  state.where.textContent = `${at + 1} / ${frames.length}`;
  state.asking.hidden = view !== "attention" || !data.attention.look;
  state.bars.hidden = state.asking.hidden && view !== "levels";
  Object.assign(state.canvas.dataset, { frame: at, chosen });
}

/** Ask the server what the chosen patch attends to. */
async function ask(state) {
  const { data, chosen, block, head } = state;
  if (state.view !== "attention" || !data.attention.look || chosen < 0) return;
  const asked = (state.asked = {});
  const query = { look: data.attention.look, block: block.value, head: head.value, patch: chosen };
  const response = await api.fetchApi(`/spacetime/attention?${new URLSearchParams(query)}`);
  const answer = await response.json();
  if (asked !== state.asked) return; // another patch was chosen meanwhile
  if (!response.ok) return (state.says.textContent = answer.error);
  state.answer = { ...answer, weights: bytes(answer.weights) };
  data.weights = state.answer.weights;
  draw(state);
  state.canvas.dataset.asked = Object.values(query).slice(1).join();
}

const choice = (label, options) => {
  const made = element("select", { ariaLabel: label });
  for (const [value, textContent] of options) made.append(element("option", { value, textContent }));
  return made;
};

function build(data) {
  const shown = Object.entries(VIEWS).filter(([view]) => (view === "attention" ? data.attention : view === "levels" || data.sizes));
  const frames = framesOf(data.grids);
  const parts = {
    select: choice("What is shown", shown),
    picture: choice("Picture under the patches", Object.entries(UNDER).filter(([name]) => !name || data.pictures[name])),
    block: choice("Block", (data.attention?.blocks ?? []).map((block) => [block, block])),
    head: choice("Head", [["mean", "all"], ...Array.from({ length: data.attention?.heads ?? 0 }, (_, head) => [head, head])]),
    time: element("input", { type: "range", min: 0, max: frames.length - 1, value: 0, ariaLabel: "Latent frame" }),
    canvas: element("canvas", { className: "grid", tabIndex: 0, role: "img", ariaLabel: "Patches of a latent frame" }),
    bars: element("canvas", { className: "bars", role: "img", ariaLabel: "Attention on each latent frame" }),
    close: element("button", { type: "button", textContent: "Close" }),
    where: element("span"),
    explains: element("p"),
    says: element("p", { ariaLive: "polite", style: "white-space:pre-line" }),
  };
  const named = (text, control) => element("label", { textContent: text }, control);
  const asking = element("div", { className: "row" }, named("Block", parts.block), named("Head", parts.head));
  const dialog = element(
    "dialog", { className: "spacetime-patches", ariaLabel: "Patches" }, element("style", { textContent: STYLE }),
    element("h2", { textContent: "Spacetime patches" }), parts.canvas, parts.bars,
    element("div", { className: "row" }, parts.time, parts.where),
    element("div", { className: "row" }, parts.select, named("over", parts.picture), parts.close), asking, parts.explains, parts.says,
  );
  const under = ["guess", "state"].find((name) => data.pictures[name]) ?? "";
  parts.picture.value = under;
  return { dialog, ...parts, asking, data, frames, at: 0, view: shown[0][0], under, sprites: {}, chosen: -1, answer: null };
}

function place({ canvas }, { offsetX, offsetY }) {
  // the drawing keeps its shape inside of its box
  const scale = Math.min(canvas.clientWidth / canvas.width, canvas.clientHeight / canvas.height);
  const [left, top] = [(canvas.clientWidth - canvas.width * scale) / 2, (canvas.clientHeight - canvas.height * scale) / 2];
  return [(offsetX - left) / (canvas.width * scale), (offsetY - top) / (canvas.height * scale)];
}

function step(state, key) {
  const { width, start, height } = state.frames[state.at];
  const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -width, ArrowDown: width }[key];
  if (!by) return false;
  const next = state.chosen < start || state.chosen >= start + height * width ? start : state.chosen + by;
  choose(state, Math.max(start, Math.min(start + height * width - 1, next)));
  return true;
}

function choose(state, patch) {
  Object.assign(state, { chosen: patch, answer: null });
  state.data.weights = null;
  draw(state);
  ask(state);
}

function listen(state) {
  const { select, picture, block, head, time, canvas, dialog, close } = state;
  select.addEventListener("change", () => ((state.view = select.value), draw(state), ask(state)));
  picture.addEventListener("change", () => ((state.under = picture.value), draw(state)));
  for (const one of [block, head]) one.addEventListener("change", () => ask(state));
  time.addEventListener("input", () => ((state.at = Number(time.value)), draw(state)));
  canvas.addEventListener("click", (event) => choose(state, patchAt(state.frames[state.at], ...place(state, event))));
  canvas.addEventListener("keydown", (event) => step(state, event.key) && event.preventDefault());
  dialog.addEventListener("keydown", (event) => event.stopPropagation()); // the editor has keys of its own
  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => dialog.remove());
}

async function fetchPictures(state) {
  for (const [name, { jpeg }] of Object.entries(state.data.pictures)) {
    const picture = element("img", { src: `data:image/jpeg;base64,${jpeg}` });
    await picture.decode();
    state.sprites[name] = picture;
  }
  state.dialog.dataset.pictures = Object.keys(state.sprites).join();
  draw(state);
}

function open(node) {
  const data = dataOf(node);
  if (!data) {
    const detail = "Run the workflow, with another seed if nothing has changed: this node shows the patches of its last run.";
    return app.extensionManager.toast.add({ severity: "info", summary: TITLE, detail, life: 6000 });
  }
  const state = build(data);
  listen(state);
  document.body.append(state.dialog);
  draw(state);
  fetchPictures(state);
  state.dialog.showModal();
}

/** Whether a node is a task that leaves something to be generated; one with a guider has sampled it itself. */
function isTask(type) {
  const { category, output, input } = window.LiteGraph.registered_node_types[type]?.nodeData ?? {};
  return category === TASKS && output?.includes("LATENT") && !input?.required?.guider;
}

const suits = (item) => NODES.includes(item?.comfyClass) || isTask(item?.comfyClass);

app.registerExtension({
  name: "spacetime.patches",
  commands: [
    {
      id: COMMAND,
      label: "Look at the patches of the selected node",
      icon: "pi pi-th-large",
      function: () => {
        const node = [...(app.canvas.selectedItems ?? [])].find(suits);
        if (node) return open(node);
        const detail = "Select Patchify, Forward Diffusion, DiT Denoise Step, Inspect Tokens or a task, such as Extend Video.";
        app.extensionManager.toast.add({ severity: "info", summary: TITLE, detail, life: 6000 });
      },
    },
  ],
  keybindings: [{ commandId: COMMAND, combo: { key: "p", ctrl: true, alt: true } }],
  nodeCreated(node) {
    if (!suits(node)) return;
    chain(node, "onExecuted", (output) => output?.[KEY] && (node.spacetimePatches = output[KEY]));
  },
  getNodeMenuItems: (node) => (suits(node) ? [null, { content: TITLE, callback: () => open(node) }] : []),
  getSelectionToolboxCommands: (item) => (suits(item) ? [COMMAND] : []),
});
