// What swap/fit.js needs to know of nodes, read from the editor's definitions and from nodes of a graph.

const SETTINGS = ["INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COLOR", "CURVE", "BOUNDING_BOX", "WEBCAM"];
const DYNAMIC = /^COMFY_(AUTOGROW|DYNAMICCOMBO|DYNAMICSLOT)/; // slots that come and go: never needed, never paired
const OUTPUTS_ONLY = "COMFY_MATCHTYPE_V3"; // any type, the same at several slots

const known = new WeakMap(); // definition -> description

function inputOf(name, [kind, options = {}], optional) {
  const list = Array.isArray(kind) ? kind : kind === "COMBO" ? options.options : undefined;
  const type = Array.isArray(kind) ? "COMBO" : kind === OUTPUTS_ONLY ? "*" : kind;
  const widget = SETTINGS.includes(type) && !options.forceInput;
  const remote = options.remote || options.image_upload || options.video_upload || options.audio_upload;
  return { name, type, optional, widget, choices: remote ? undefined : list, min: options.min, max: options.max };
}

/** The description of a registered type; null for one that is not offered: deprecated, or asking a service for money. */
export function describeType(type) {
  const definition = window.LiteGraph.registered_node_types[type]?.nodeData;
  if (!definition || definition.deprecated || definition.api_node || definition.dev_only) return null;
  if (!known.has(definition)) known.set(definition, described(type, definition));
  return known.get(definition);
}

function described(type, definition) {
  const inputs = Object.entries({ required: false, optional: true }).flatMap(([group, optional]) =>
    Object.entries(definition.input?.[group] ?? {})
      .filter(([, spec]) => !DYNAMIC.test(spec[0]))
      .map(([name, spec]) => inputOf(name, spec, optional)),
  );
  const outputs = (definition.output ?? []).map((kind, i) => ({
    name: definition.output_name?.[i] ?? String(kind),
    type: Array.isArray(kind) ? "COMBO" : kind === OUTPUTS_ONLY ? "*" : kind,
  }));
  const title = definition.display_name || definition.name || type;
  return { type, title, category: definition.category, ends: !!definition.output_node, inputs, outputs };
}

/** All types that can be offered. */
export function allTypes() {
  return Object.keys(window.LiteGraph.registered_node_types)
    .map(describeType)
    .filter((one) => one);
}

/** A node of a graph: its own slots, with what its definition says of each; and which of them have links. */
export function describeNode(node) {
  const definition = describeType(node.type) ?? { inputs: [], category: "", ends: false };
  const inputs = (node.inputs ?? []).map(({ name, type, widget }) => {
    const said = definition.inputs.find((one) => one.name === name);
    return { ...said, name, type: String(type), widget: !!widget, optional: said?.optional ?? true };
  });
  const outputs = (node.outputs ?? []).map(({ name, type }) => ({ name, type: String(type) }));
  const linked = {
    inputs: inputs.flatMap((_, i) => (node.isInputConnected(i) ? [i] : [])),
    outputs: outputs.flatMap((_, i) => (node.isOutputConnected(i) ? [i] : [])),
  };
  const { category, ends } = definition;
  return { node: { type: node.type, title: node.title, category, ends, inputs, outputs }, linked };
}
