// The noise schedule as a curve on the Scheduler node.
// While settings change the curve comes from the pack's own server route, so there is one set of formulas;
// after a run it is what the run used (only then is an automatic shift known).
import { app } from "../../../scripts/app.js";
import { addPanel, chain, element } from "./nodes.js";
import { api } from "../../../scripts/api.js";

const NODE = "SpacetimeScheduler";
const MODEL = "model"; // the input whose settings are taken where steps or shift are 0
const SETTINGS = ["schedule", "steps", "shift_rule", "shift", "denoise", "sigma_max"];
const WIDTH = 200;
const HEIGHT = 100;
const MARGIN = 5;
const SVG = "http://www.w3.org/2000/svg";
const PANEL =
  "display:flex;flex-direction:column;width:100%;height:100%;box-sizing:border-box;overflow:hidden;" +
  "background:var(--comfy-input-bg,#222);border-radius:6px;padding:2px 4px;";
const NOTE =
  "font:10px/14px sans-serif;height:14px;color:var(--descrip-text,#999);white-space:nowrap;" +
  "overflow:hidden;text-overflow:ellipsis;";

function svg(tag, attributes, parent) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  parent?.appendChild(made);
  return made;
}

function point(sigmas, index) {
  const x = MARGIN + (index / Math.max(sigmas.length - 1, 1)) * (WIDTH - 2 * MARGIN);
  const y = MARGIN + (1 - sigmas[index]) * (HEIGHT - 2 * MARGIN);
  return [x, y];
}

function makePanel() {
  const panel = element("div", { className: "spacetime-curve", style: PANEL });
  const described = { role: "img", "aria-label": "Noise levels of the steps" };
  const drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", ...described }, panel);
  drawing.style.cssText = "flex:1;min-height:0;width:100%;";
  const note = element("div", { style: NOTE });
  panel.append(note);
  return { panel, drawing, note };
}

function draw(view, sigmas, text) {
  const { drawing, note } = view;
  drawing.replaceChildren();
  view.panel.dataset.points = sigmas.length;
  const thin = { "vector-effect": "non-scaling-stroke", fill: "none" };
  for (const level of [0, 0.5, 1]) {
    const y = MARGIN + (1 - level) * (HEIGHT - 2 * MARGIN);
    svg("path", { ...thin, d: `M0 ${y}H${WIDTH}`, stroke: "currentColor", "stroke-opacity": 0.15 }, drawing);
  }
  note.textContent = note.title = text;
  const ends = sigmas.length > 1 ? `: ${sigmas.length - 1} steps from ${sigmas[0].toPrecision(3)} to ${sigmas.at(-1).toPrecision(3)}` : "";
  drawing.setAttribute("aria-label", `Noise levels of the steps${ends}`);
  if (sigmas.length < 2) return;
  const points = sigmas.map((_, index) => point(sigmas, index));
  const line = points.map(([x, y]) => `${x.toFixed(2)},${y.toFixed(2)}`).join(" ");
  const [left, right] = [points[0][0], points.at(-1)[0]];
  const floor = HEIGHT - MARGIN;
  svg("polygon", { points: `${left},${floor} ${line} ${right},${floor}`, fill: "#8ab4f8", "fill-opacity": 0.15 }, drawing);
  svg("polyline", { ...thin, points: line, stroke: "#8ab4f8", "stroke-width": 1.5 }, drawing);
  if (points.length > 60) return;
  // round dots in a stretched drawing: strokes without length keep their width
  const dots = points.map(([x, y]) => `M${x.toFixed(2)} ${y.toFixed(2)}h0`).join("");
  const dot = { ...thin, d: dots, stroke: "#dbe8ff", "stroke-width": 4, "stroke-linecap": "round" };
  const mark = svg("path", dot, drawing);
  svg("title", {}, mark).textContent = sigmas.map((sigma, i) => `${i}: ${sigma.toFixed(4)}`).join("\n");
}

function describe(sigmas) {
  return sigmas.length ? `${sigmas.length - 1} steps · sigma ${sigmas[0].toFixed(3)} to ${sigmas.at(-1).toFixed(3)}` : "no steps";
}

function settingsOf(node) {
  const values = {};
  for (const name of SETTINGS) {
    const index = node.inputs?.findIndex((input) => input.widget?.name === name) ?? -1;
    if (index >= 0 && node.isInputConnected(index)) return { linked: name };
    values[name] = node.widgets?.find((widget) => widget.name === name)?.value;
  }
  return { values };
}

function hasModel(node) {
  const index = node.inputs?.findIndex((input) => input.name === MODEL) ?? -1;
  return index >= 0 && node.isInputConnected(index);
}

function keyOf(values) {
  return values.map(String).join(" ");
}

async function preview(node, view) {
  const turn = (view.turn = (view.turn ?? 0) + 1);
  const { values, linked } = settingsOf(node);
  if (view.run && !linked && keyOf(Object.values(values)) === view.run.key) return draw(view, view.run.sigmas, view.run.text);
  if (linked) return draw(view, [], `${linked} is linked: the curve appears after a run`);
  const { shift_rule: rule, ...query } = values;
  if (rule !== "fixed") return draw(view, [], `${rule}: the curve appears after a run`);
  if ((!query.steps || !query.shift) && hasModel(node)) {
    return draw(view, [], "settings of the model: the curve appears after a run");
  }
  try {
    const response = await api.fetchApi(`/spacetime/sigmas?${new URLSearchParams(query)}`);
    const answer = await response.json();
    if (turn !== view.turn) return; // a newer question is on its way
    draw(view, answer.sigmas ?? [], answer.error ?? [describe(answer.sigmas), answer.note].filter(Boolean).join(" · "));
  } catch {
    if (turn === view.turn) draw(view, [], "the curve appears after a run");
  }
}

app.registerExtension({
  name: "spacetime.schedulerCurve",
  nodeCreated(node) {
    if (node.comfyClass !== NODE) return;
    const view = makePanel();
    let timer;
    const later = () => {
      clearTimeout(timer);
      timer = setTimeout(() => preview(node, view), 80);
    };
    addPanel(node, "curve", view.panel, 90);
    for (const name of SETTINGS) {
      const source = node.widgets?.find((each) => each.name === name);
      if (source) chain(source, "callback", later);
    }
    chain(node, "onConfigure", later);
    chain(node, "onConnectionsChange", (type, index) => {
      if (node.inputs?.[index]?.name === MODEL) view.run = null; // what ran may have been another model
      later();
    });
    chain(node, "onExecuted", (output) => {
      if (!output?.spacetime_curve) return;
      clearTimeout(timer);
      view.turn = (view.turn ?? 0) + 1;
      const sigmas = output.spacetime_curve;
      const text = `${describe(sigmas)} · ${output.spacetime_note?.[0] ?? ""}`;
      view.run = { key: keyOf(output.spacetime_settings ?? []), sigmas, text };
      draw(view, sigmas, text);
    });
    node.setSize([Math.max(node.size[0], 260), node.computeSize()[1]]);
    later();
  },
});
