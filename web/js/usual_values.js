// Values that a new node begins with: those of the settings, where one is given. Nodes that are loaded, pasted or
// undone keep their own, and so do all that a saved workflow holds.
import { app } from "../../../scripts/app.js";

const ADDRESS = "Spacetime.Usual.Address";
const CLIPS = "Spacetime.Usual.Clips";
const RUNS = "Spacetime.Usual.Runs";
const TRAINED = "Spacetime.Usual.Trained";

/** Another folder of the output folder, with the node's own name for the files. */
const inFolder = (folder, usual) => `${folder.replace(/\/+$/, "")}/${usual.split("/").pop()}`;
const before = (beginning, usual) => beginning + usual;
// the name of a run is the name of its folder
const run = { widget: "name", setting: TRAINED, value: before };
const TAKES = {
  SpacetimeLoadLanguageModel: { widget: "address", setting: ADDRESS },
  SpacetimeClipsFromFolder: { widget: "folder", setting: CLIPS },
  SpacetimeSaveRun: { widget: "filename_prefix", setting: RUNS, value: inFolder },
  SpacetimeTrainVAE: run,
  SpacetimeTrainDiT: run,
  SpacetimeTrainCaptioner: run,
  SpacetimeDistillDiT: run,
};

function begin(node) {
  const { widget, setting, value = (given) => given } = TAKES[node.comfyClass];
  const given = String(app.extensionManager.setting.get(setting) ?? "").trim();
  const target = node.widgets?.find((one) => one.name === widget);
  if (given && target) target.value = value(given, target.value);
}

app.registerExtension({
  name: "spacetime.usual",
  settings: [
    {
      id: ADDRESS,
      category: ["Spacetime", "New nodes", "Address"],
      name: "Address of the language model",
      tooltip: "What a new Load Language Model calls at 'address below', for example http://127.0.0.1:11434/v1. It gets no key.",
      type: "text",
      defaultValue: "",
    },
    {
      id: CLIPS,
      category: ["Spacetime", "New nodes", "Clips"],
      name: "Folder of clips",
      tooltip: "What a new Clips From Folder reads: a folder in ComfyUI's input folder, or one that the node's page names.",
      type: "text",
      defaultValue: "",
    },
    {
      id: RUNS,
      category: ["Spacetime", "New nodes", "Runs"],
      name: "Folder of saved runs",
      tooltip: "Where a new Save Run writes, in ComfyUI's output folder.",
      type: "text",
      defaultValue: "",
    },
    {
      id: TRAINED,
      category: ["Spacetime", "New nodes", "Trained"],
      name: "Beginning of the names of training runs",
      tooltip: "Goes before the name, which is the run's folder, on new nodes that train: letters, digits, _ and -.",
      type: "text",
      defaultValue: "",
    },
  ],
  nodeCreated(node) {
    // a file may lack a value that the node got later: what it is then must not depend on settings
    if (node.comfyClass in TAKES && !app.configuringGraph) begin(node);
  },
});
