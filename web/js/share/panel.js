// What an opened workflow needs and does not find here, in one panel; and what it was made with, in the workflow.
import { app } from "../../../../scripts/app.js";
import { api } from "../../../../scripts/api.js";
import { element } from "../nodes.js";
import { needs, sizeText } from "./needs.js";

const KEY = "spacetime"; // of the record in a workflow's extra
const TAB = "spacetime-needs";
const COMMAND = "Spacetime.Needs";
const TELL = "Spacetime.Share.Tell"; // setting
const FILE = /\.(safetensors|sft|ckpt|pt|pth|bin|gguf)$/i;
const STYLE = "box-sizing:border-box;padding:12px;font:13px/1.5 sans-serif;color:var(--input-text,#ddd);overflow-wrap:anywhere;";
const ITEM = "margin:0 0 12px;padding:8px;border-radius:6px;background:var(--comfy-input-bg,#333);";
const LINK = "display:block;color:var(--p-primary-color,#8ab4f8);";

const state = { record: undefined, found: [], told: "", element: null };
const graph = () => app.rootGraph ?? app.graph;

async function ask(names) {
  const response = await api.fetchApi(`/spacetime/made_with?${new URLSearchParams({ names: JSON.stringify(names) })}`);
  if (!response.ok) throw new Error(response.statusText);
  return response.json();
}

function finding({ what, todo, from }) {
  const item = element("li", { style: ITEM }, element("strong", { style: "display:block;" }, what), todo);
  if (/^https?:/.test(from ?? "")) item.append(element("a", { style: LINK, href: from, target: "_blank", rel: "noreferrer" }, from));
  return item;
}

function draw() {
  const { element: root, record, found } = state;
  if (!root) return;
  const list = element("ul", { style: "list-style:none;margin:12px 0;padding:0;" }, ...found.map(finding));
  const made = record ? `Made with Spacetime ${record.version}.` : "This workflow does not say what it was made with: run it once.";
  const weights = (record?.weights ?? []).map(({ name, size, sha256 }) =>
    element("li", {}, `${name}, ${sizeText(size)}${sha256 ? `, sha256 ${sha256.slice(0, 10)}` : ""}`),
  );
  const style = "margin:6px 0 0 16px;padding:0;color:var(--descrip-text,#999);";
  const nothing = element("p", { style: "margin:6px 0;" }, record ? "Nothing is missing." : "");
  root.replaceChildren(element("div", {}, made), found.length ? list : nothing, element("ul", { style }, ...weights));
  root.dataset.found = found.length;
}

async function look(unknown) {
  const record = graph()?.extra?.[KEY];
  try {
    const here = await ask((record?.weights ?? []).map(({ name }) => name));
    Object.assign(state, { record, found: needs(record, here, unknown) });
  } catch {
    return; // no server, or one without this question
  }
  draw();
  const told = JSON.stringify(state.found);
  // loading happens for undo and changes of tabs as well: the same is said once
  if (state.found.length && told !== state.told && (app.extensionManager.setting.get(TELL) ?? true)) {
    const detail = `${state.found.map(({ what }) => what).join(" ")} See "Spacetime: what it needs" at the side.`;
    app.extensionManager.toast.add({ severity: "warn", summary: "This workflow was made with something else", detail, life: 10000 });
  }
  state.told = told;
}

/** Keep the record in the open workflow too, so that its file says it; it is no step to undo. */
function remember(record) {
  const root = graph();
  root.extra[KEY] = record;
  const tracker = app.extensionManager.workflow?.activeWorkflow?.changeTracker;
  if (tracker?.activeState) tracker.activeState.extra = { ...tracker.activeState.extra, [KEY]: structuredClone(record) };
  Object.assign(state, { record, found: [] });
  draw();
}

const inside = (root) => root.nodes.flatMap((node) => (node.subgraph ? inside(node.subgraph) : [node]));

function isWeights(node, { name, value }) {
  const ours = name === "checkpoint" && node.comfyClass?.startsWith("Spacetime");
  return typeof value === "string" && (ours || FILE.test(value));
}

async function afterRun() {
  const nodes = inside(graph());
  if (!nodes.some((node) => node.comfyClass?.startsWith("Spacetime"))) return;
  const widgets = nodes.flatMap((node) => (node.widgets ?? []).filter((widget) => isWeights(node, widget)));
  const names = [...new Set(widgets.map(({ value }) => value))];
  try {
    const addresses = new Map((graph().extra[KEY]?.weights ?? []).map(({ name, from }) => [name, from]));
    const record = await ask(names);
    for (const one of record.weights) one.from ??= addresses.get(one.name) ?? null;
    remember(record);
  } catch {
    // the run's own files have it
  }
}

app.registerExtension({
  name: "spacetime.share",
  commands: [
    {
      id: COMMAND,
      label: "Spacetime: what this workflow needs",
      icon: "pi pi-list-check",
      function: () => app.extensionManager.sidebarTab.toggleSidebarTab(TAB),
    },
  ],
  settings: [
    {
      id: TELL,
      category: ["Spacetime", "Sharing", "Tell"],
      name: "Say when an opened workflow was made with other versions or weights",
      tooltip: "The side panel lists them in any case.",
      type: "boolean",
      defaultValue: true,
    },
  ],
  setup() {
    app.extensionManager.registerSidebarTab({
      id: TAB,
      icon: "pi pi-list-check",
      title: "Spacetime",
      tooltip: "Spacetime: what it needs",
      type: "custom",
      render: (root) => {
        root.classList.add("spacetime-needs");
        root.style.cssText = STYLE;
        state.element = root;
        draw();
      },
    });
    api.addEventListener("execution_success", afterRun);
  },
  afterConfigureGraph(missing) {
    look((missing ?? []).map((one) => one.type ?? one));
  },
});
