// A page that is loaded while a training run goes on, or after it, has missed what the node showed: fetch it.
// The picture of a run lies in its folder; it is handed to the editor as if the node had just sent it, so that both
// ways of drawing nodes show it where they show results.
import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";

const NODES = ["SpacetimeTrainVAE", "SpacetimeTrainDiT"];

async function restore(node) {
  if (node.graph !== (app.rootGraph ?? app.graph) || app.nodeOutputs?.[node.id]) return; // or it has something to show
  const name = node.widgets?.find((widget) => widget.name === "name")?.value;
  if (!name) return;
  try {
    const response = await api.fetchApi(`/spacetime/run?${new URLSearchParams({ name })}`);
    if (!response.ok) return;
    const output = await response.json();
    if (!output.images || app.nodeOutputs?.[node.id]) return;
    const id = String(node.id);
    api.dispatchCustomEvent("executed", { node: id, display_node: id, output, prompt_id: "" });
    node.setDirtyCanvas(true, true); // the classic canvas draws only when told to
  } catch {
    // no server, no picture
  }
}

app.registerExtension({
  name: "spacetime.trainingProgress",
  loadedGraphNode(node) {
    // after the workflow is in place: loading it clears what nodes show
    if (NODES.includes(node.comfyClass)) setTimeout(() => restore(node), 300);
  },
});
