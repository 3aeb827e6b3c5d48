// Look at the patches: what a run put through Patchify, Forward Diffusion or DiT Denoise Step, patch by patch.
import { app } from "../../../../scripts/app.js";
import { bytes, colourOf, describePatch, framesOf, patchAt } from "./cells.js";

const NODES = ["SpacetimePatchify", "SpacetimeForwardDiffusion", "SpacetimeDenoiseStep"];
const KEY = "spacetime_patches";
const COMMAND = "Spacetime.Patches";
const TITLE = "Look at the patches…";
const CELL = 24; // pixels of the drawing for a patch, whatever size it is shown in
const VIEWS = { components: "Principal components", levels: "Noise level", sizes: "Size" };
const STYLE = `
.spacetime-patches { width: 36rem; max-width: 94vw; padding: 12px; border: 1px solid var(--border-color, #555);
  border-radius: 8px; background: var(--comfy-menu-bg, #222); color: var(--input-text, #ddd); font: 13px/1.4 sans-serif; }
.spacetime-patches::backdrop { background: rgb(0 0 0 / 40%); }
.spacetime-patches h2 { font-size: 15px; margin: 0 0 8px; }
.spacetime-patches canvas { display: block; width: 100%; max-height: 55vh; object-fit: contain; image-rendering: pixelated;
  cursor: crosshair; background: var(--comfy-input-bg, #333); }
.spacetime-patches .row { display: flex; gap: 8px; align-items: center; margin: 8px 0; }
.spacetime-patches input[type=range] { flex: 1; min-width: 0; }
.spacetime-patches select, .spacetime-patches button { background: var(--comfy-input-bg, #333); color: inherit;
  border: 1px solid var(--border-color, #555); border-radius: 4px; padding: 2px 8px; font: inherit; }
.spacetime-patches p { margin: 4px 0; min-height: 1.4em; overflow-wrap: anywhere; }
`;

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** What the node's last run said of its patches. */
function dataOf(node) {
  const sent = (node.spacetimePatches ?? app.nodeOutputs?.[node.id]?.[KEY])?.[0];
  if (!sent) return null;
  return { ...sent, levels: bytes(sent.levels), sizes: bytes(sent.sizes), colours: bytes(sent.colours) };
}

function explain(view, data) {
  const percent = data.shares.map((share) => `${(100 * share).toFixed(0)} %`).join(", ");
  if (view === "components") return `Red, green and blue: the three directions in which the patches differ most (${percent} of the variance).`;
  if (view === "levels") {
    const what = data.sigma === null ? "before a run: what may change" : `at sigma ${Number(data.sigma.toPrecision(4))}`;
    return `Dark is known, yellow is noise; ${what}. Grid ${data.grids.map((grid) => grid.join(" x ")).join(" + ")}.`;
  }
  return `White is the largest (root mean square ${Number(data.largest.toPrecision(3))} of the values of a patch).`;
}

function draw(state) {
  const { canvas, data, frames, at, view, chosen } = state;
  const { start, height, width } = frames[at];
  Object.assign(canvas, { width: width * CELL, height: height * CELL });
  const context = canvas.getContext("2d");
  for (let i = 0; i < height * width; i++) {
    context.fillStyle = `rgb(${colourOf(view, data, start + i).join(" ")})`;
    context.fillRect((i % width) * CELL, Math.floor(i / width) * CELL, CELL - 1, CELL - 1);
  }
  if (chosen >= start && chosen < start + height * width) {
    context.strokeStyle = "#fff";
    context.lineWidth = 3;
    const i = chosen - start;
    context.strokeRect((i % width) * CELL + 1, Math.floor(i / width) * CELL + 1, CELL - 3, CELL - 3);
  }
  state.explains.textContent = explain(view, data);
  state.says.textContent = chosen < 0 ? "Click a patch, or go with the arrow keys." : describePatch(data, frames, chosen);
  state.where.textContent = `${at + 1} / ${frames.length}`;
  canvas.dataset.frame = at;
  canvas.dataset.chosen = chosen;
}

function build(data) {
  const select = element("select", { ariaLabel: "What is shown" });
  for (const [value, textContent] of Object.entries(VIEWS)) select.append(element("option", { value, textContent }));
  const frames = framesOf(data.grids);
  const time = element("input", { type: "range", min: 0, max: frames.length - 1, value: 0, ariaLabel: "Latent frame" });
  const canvas = element("canvas", { tabIndex: 0, ariaLabel: "Patches of a latent frame" });
  canvas.setAttribute("role", "img");
  const [where, explains, says] = [element("span"), element("p"), element("p")];
  says.setAttribute("aria-live", "polite");
  const close = element("button", { type: "button", textContent: "Close" });
  const dialog = element(
    "dialog", { className: "spacetime-patches", ariaLabel: "Patches" }, element("style", { textContent: STYLE }),
    element("h2", { textContent: "Spacetime patches" }), canvas,
    element("div", { className: "row" }, select, time, where, close), explains, says,
  );
  return { dialog, canvas, select, time, where, explains, says, close, data, frames, at: 0, view: "components", chosen: -1 };
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
  state.chosen = Math.max(start, Math.min(start + height * width - 1, next));
  return true;
}

function open(node) {
  const data = dataOf(node);
  if (!data) {
    const detail = "Run the workflow, with another seed if nothing has changed: this node shows the patches of its last run.";
    return app.extensionManager.toast.add({ severity: "info", summary: TITLE, detail, life: 6000 });
  }
  const state = build(data);
  state.select.addEventListener("change", () => ((state.view = state.select.value), draw(state)));
  state.time.addEventListener("input", () => ((state.at = Number(state.time.value)), draw(state)));
  state.canvas.addEventListener("click", (event) => {
    state.chosen = patchAt(state.frames[state.at], ...place(state, event));
    draw(state);
  });
  state.canvas.addEventListener("keydown", (event) => {
    if (!step(state, event.key)) return;
    event.preventDefault();
    draw(state);
  });
  state.dialog.addEventListener("keydown", (event) => event.stopPropagation()); // the editor has keys of its own
  state.close.addEventListener("click", () => state.dialog.close());
  state.dialog.addEventListener("close", () => state.dialog.remove());
  document.body.append(state.dialog);
  draw(state);
  state.dialog.showModal();
}

const suits = (item) => NODES.includes(item?.comfyClass);

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
        const detail = "Select Patchify, Forward Diffusion or DiT Denoise Step.";
        app.extensionManager.toast.add({ severity: "info", summary: TITLE, detail, life: 6000 });
      },
    },
  ],
  keybindings: [{ commandId: COMMAND, combo: { key: "p", ctrl: true, alt: true } }],
  nodeCreated(node) {
    if (!suits(node)) return;
    const before = node.onExecuted;
    node.onExecuted = function (output) {
      before?.call(this, output);
      if (output?.[KEY]) node.spacetimePatches = output[KEY];
    };
  },
  getNodeMenuItems: (node) => (suits(node) ? [null, { content: TITLE, callback: () => open(node) }] : []),
  getSelectionToolboxCommands: (item) => (suits(item) ? [COMMAND] : []),
});
