// Pick Runs shows the sheet of the Explore Seeds before it: a click on a video picks its run, in the widget `pick`.
import { app } from "../../../../scripts/app.js";
import { api } from "../../../../scripts/api.js";
import { addPanel, chain, element, endStep, keepEvents } from "../nodes.js";
import { picked, toggled } from "./numbers.js";

const [EXPLORE, PICK, KEY] = ["SpacetimeExploreSeeds", "SpacetimePickRuns", "spacetime_sheet"];
const HEIGHT = 190;
const STYLE = `
.spacetime-picks { position: relative; box-sizing: border-box; width: 100%; height: 100%; min-height: ${HEIGHT}px;
  border-radius: 6px; background: var(--comfy-input-bg, #222); color: var(--input-text, #ddd); font: 12px/1.3 sans-serif;
  display: grid; place-items: center; overflow: hidden; container-type: size; }
.spacetime-picks .sheet { position: relative; display: grid; aspect-ratio: var(--shape); width: min(100cqw, 100cqh * var(--shape)); }
.spacetime-picks img { position: absolute; inset: 0; width: 100%; height: 100%; }
.spacetime-picks button { position: relative; margin: 0; padding: 0; border: 3px solid transparent; border-radius: 4px;
  background: none; color: #fff; cursor: pointer; font: bold 12px sans-serif; text-align: right; vertical-align: top; }
.spacetime-picks button:hover { border-color: rgb(255 255 255 / 50%); }
.spacetime-picks button:focus-visible { outline: 2px solid #4a9eff; outline-offset: -2px; }
.spacetime-picks button[aria-pressed=true] { border-color: #ffc83d; }
.spacetime-picks button span { position: absolute; top: 0; right: 0; padding: 0 5px; border-radius: 0 0 0 4px; background: #ffc83d; color: #222; }
`;

/** The Explore Seeds that a Pick Runs gets its runs from, also over reroutes. */
function exploreOf(node) {
  let before = node.getInputNode?.(0);
  for (let i = 0; before && before.comfyClass !== EXPLORE && i < 20; i++) before = before.type === "Reroute" ? before.getInputNode(0) : null;
  return before;
}

function mark(view) {
  const chosen = picked(String(view.widget.value ?? ""), view.buttons.length) ?? [];
  view.buttons.forEach((button, i) => {
    const place = chosen.indexOf(i + 1);
    button.setAttribute("aria-pressed", place >= 0);
    button.replaceChildren(...(place < 0 ? [] : [element("span", { textContent: `✓ ${i + 1}` })]));
  });
}

function show(node) {
  const view = node.spacetimePicks;
  const sheet = exploreOf(node)?.spacetimeSheet;
  if (sheet === view.sheet) return;
  view.sheet = sheet;
  view.buttons = [];
  if (!sheet) return view.stage.replaceChildren(view.hint);
  const { filename, subfolder, type, columns, rows, seeds } = sheet;
  const picture = element("img", { alt: "", src: api.apiURL(`/view?${new URLSearchParams({ filename, subfolder, type })}`) });
  const stage = element("div", { className: "sheet" }, picture);
  picture.addEventListener("load", () => stage.style.setProperty("--shape", picture.naturalWidth / picture.naturalHeight));
  stage.style.setProperty("--shape", columns / rows);
  stage.style.gridTemplate = `repeat(${rows}, minmax(0, 1fr)) / repeat(${columns}, minmax(0, 1fr))`;
  view.buttons = seeds.map((seed, i) => {
    const title = `Run ${i + 1}, seed ${seed}`;
    const button = element("button", { type: "button", title, ariaLabel: title });
    button.addEventListener("click", () => {
      view.widget.value = toggled(String(view.widget.value ?? ""), i + 1, seeds.length);
      view.widget.callback?.(view.widget.value);
      mark(view);
      node.setDirtyCanvas(true, true);
      endStep();
    });
    return button;
  });
  stage.append(...view.buttons);
  view.stage.replaceChildren(stage);
  mark(view);
}

function pickingOn(node) {
  const hint = element("span", { textContent: "The sheet of Explore Seeds appears here after a run." });
  const stage = element("div", { className: "spacetime-picks", role: "group", ariaLabel: "Pick runs" }, hint);
  const panel = element("div", { style: "width:100%;height:100%;" }, element("style", { textContent: STYLE }), stage);
  keepEvents(stage);
  const widget = node.widgets.find(({ name }) => name === "pick");
  const view = (node.spacetimePicks = { stage, hint, widget, buttons: [], sheet: null });
  chain(widget, "callback", () => mark(view)); // what is typed is seen too
  chain(node, "onConfigure", () => setTimeout(() => (show(node), mark(view))));
  chain(node, "onConnectionsChange", () => setTimeout(() => show(node)));
  addPanel(node, "spacetime_picks", panel, HEIGHT);
}

app.registerExtension({
  name: "spacetime.picks",
  nodeCreated(node) {
    if (node.comfyClass === PICK) pickingOn(node);
    if (node.comfyClass !== EXPLORE) return;
    chain(node, "onExecuted", (output) => {
      if (!output?.[KEY]) return;
      node.spacetimeSheet = output[KEY][0];
      for (const other of node.graph?.nodes ?? []) if (other.comfyClass === PICK) show(other);
    });
  },
});
