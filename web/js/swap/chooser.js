// A list to choose from, with a field that narrows it: by keyboard, by mouse, and for screen readers.
import { element } from "../nodes.js";

const STYLE = `
.spacetime-chooser { width: 30rem; max-width: 92vw; padding: 0; border: 1px solid var(--border-color, #555);
  border-radius: 8px; background: var(--comfy-menu-bg, #222); color: var(--input-text, #ddd); font: 14px/1.4 sans-serif; }
.spacetime-chooser::backdrop { background: rgb(0 0 0 / 40%); }
.spacetime-chooser form { display: flex; flex-direction: column; gap: 8px; padding: 12px; margin: 0; }
.spacetime-chooser h2 { font-size: 15px; font-weight: 600; margin: 0; overflow-wrap: anywhere; }
.spacetime-chooser input { padding: 6px 8px; border: 1px solid var(--border-color, #555); border-radius: 6px;
  background: var(--comfy-input-bg, #333); color: inherit; font: inherit; }
.spacetime-chooser ul { list-style: none; margin: 0; padding: 0; height: 20rem; max-height: 60vh; overflow: auto; }
.spacetime-chooser li { padding: 5px 8px; border-radius: 6px; cursor: pointer; }
.spacetime-chooser li[aria-selected="true"] { background: #1d4ed8; color: #fff; }
`;

function build(titles) {
  const list = element("ul", { id: "spacetime-choices", role: "listbox", ariaLabel: "Nodes that fit, best first" });
  const field = element("input", { type: "search", placeholder: "Search", autocomplete: "off", role: "combobox" });
  const says = { "aria-controls": list.id, "aria-expanded": "true", "aria-autocomplete": "list", "aria-label": "Search" };
  for (const [name, value] of Object.entries(says)) field.setAttribute(name, value);
  const heading = element("h2", { id: "spacetime-chooser-title", textContent: `Swap ${[...new Set(titles)].join(", ")} for` });
  const form = element("form", { method: "dialog" }, heading, field, list);
  const dialog = element("dialog", { className: "spacetime-chooser" }, element("style", { textContent: STYLE }), form);
  dialog.setAttribute("aria-labelledby", heading.id);
  return { dialog, field, list };
}

/** Let the person choose one of these ({label}); null where they close the list. */
export function chooseFrom(all, titles) {
  const { dialog, field, list } = build(titles);
  let [shown, at] = [all, 0];
  return new Promise((resolve) => {
    let chosen = null;
    const choose = (one) => ((chosen = one ?? null), dialog.close());
    const mark = (index) => {
      at = Math.max(0, Math.min(shown.length - 1, index));
      [...list.children].forEach((row, i) => row.setAttribute("aria-selected", String(i === at)));
      list.children[at]?.scrollIntoView({ block: "nearest" });
      field.setAttribute("aria-activedescendant", shown.length ? `spacetime-choice-${at}` : "");
    };
    const narrow = () => {
      const words = field.value.toLowerCase().split(/\s+/);
      shown = all.filter(({ label, type }) => words.every((word) => `${label} ${type}`.toLowerCase().includes(word)));
      const row = (one, i) =>
        element("li", { id: `spacetime-choice-${i}`, role: "option", textContent: one.label, onclick: () => choose(one) });
      list.replaceChildren(...shown.map(row));
      mark(0);
    };
    field.addEventListener("input", narrow);
    dialog.addEventListener("keydown", (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10 }[event.key];
      if (step) mark(at + step);
      if (event.key === "Enter") choose(shown[at]);
      if (step || event.key === "Enter") event.preventDefault();
      event.stopPropagation(); // the editor has keys of its own
    });
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close()); // beside the list
    dialog.addEventListener("close", () => (dialog.remove(), resolve(chosen)));
    document.body.append(dialog);
    narrow();
    dialog.showModal();
    field.focus();
  });
}
