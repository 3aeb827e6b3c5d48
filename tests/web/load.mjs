// A script of the pack as a module: the browser takes .js as one, Node only .mjs or what a data: address says.
import { readFileSync } from "node:fs";

export function load(name) {
  const text = readFileSync(new URL(`../../web/js/${name}`, import.meta.url), "utf8");
  return import(`data:text/javascript;base64,${Buffer.from(text).toString("base64")}`);
}
