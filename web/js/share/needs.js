// What a workflow was made with against what is here: arithmetic only, without editor, tested by itself.
// A record is {version, weights: [{name, folder, size, sha256, from}]}, as nodes/host/made_with.py describes.

function numbers(version) {
  const parts = String(version).split(/[.+-]/);
  return [0, 1, 2].map((i) => Number.parseInt(parts[i], 10) || 0);
}

/** -1, 0 or 1: whether version a comes before b. */
export function compareVersions(a, b) {
  const [one, two] = [numbers(a), numbers(b)];
  const at = one.findIndex((part, i) => part !== two[i]);
  return at < 0 ? 0 : Math.sign(one[at] - two[at]);
}

/** A size for people: "45 MB". */
export function sizeText(bytes) {
  const [unit, name] = bytes >= 1e9 ? [1e9, "GB"] : bytes >= 1e6 ? [1e6, "MB"] : [1e3, "kB"];
  return `${Number((bytes / unit).toPrecision(2))} ${name}`;
}

function ofWeights(then, now) {
  if (!now) {
    const place = then.folder === "spacetime" ? "Update Spacetime: it comes with the pack" : `Put it into models/${then.folder}`;
    return { kind: "missing", what: `${then.name} (${sizeText(then.size)}) is not here.`, todo: `${place}, then press R.`, from: then.from };
  }
  const known = then.sha256 && now.sha256;
  if (known ? then.sha256 === now.sha256 : then.size === now.size) return null;
  const [a, b] = known ? [then.sha256, now.sha256].map((sum) => sum.slice(0, 10)) : [then.size, now.size].map(sizeText);
  const todo = "Results will differ from the ones it was made for. For the same ones, get the file that it names.";
  return { kind: "differs", what: `${then.name} is another file: ${a} then, ${b} here.`, todo, from: then.from };
}

/**
 * What is missing or differs, and what to do: [{kind: "version" | "nodes" | "missing" | "differs", what, todo, from}].
 * `record` is the workflow's (or undefined), `here` the server's for the same names, `unknown` types of nodes that the
 * editor does not have. Only a version is told that is newer than the one here: older workflows open in newer packs.
 */
export function needs(record, here, unknown = []) {
  const found = [];
  const ours = unknown.filter((type) => String(type).startsWith("Spacetime"));
  const update = "Update Spacetime (git pull in its folder), restart ComfyUI.";
  if (ours.length) found.push({ kind: "nodes", what: `Nodes that this Spacetime does not have: ${ours.join(", ")}.`, todo: update });
  if (!record) return found;
  if (compareVersions(record.version, here.version) > 0) {
    found.push({ kind: "version", what: `Made with Spacetime ${record.version}; here is ${here.version}.`, todo: update });
  }
  const now = new Map(here.weights.map((one) => [one.name, one]));
  for (const then of record.weights ?? []) found.push(ofWeights(then, now.get(then.name)));
  return found.filter((one) => one);
}
