"""The pack's texts in other languages: `run.py locales` makes locales/LANGUAGE/*.json of the schemas and scripts.

What is translated stands in locales/LANGUAGE.json, keyed by the English text, so that equal texts share a translation.
A text that is not there is left to the editor, which shows English. Choices of a list have no place in the editor's
files, so they stay English everywhere.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..models.files import read_json, write_json
from .environment import ROOT
from .script_texts import category_texts, command_texts, setting_texts

FOLDER = ROOT / "locales"
# as the editor names them; Portuguese is Brazilian there
LANGUAGES = ("zh", "zh-TW", "ja", "ko", "es", "de", "fr", "ru", "pt-BR")
Texts = dict[str, Any]


def schemas() -> list[Any]:
    """The schemas of all nodes, in this process. ImportError where ComfyUI has not been fetched."""
    from ..nodes import load_nodes

    return [node.define_schema() for node in load_nodes()]


def node_texts(found: list[Any]) -> Texts:
    """The editor's nodeDefs in English: names, descriptions, and names and tooltips of inputs and outputs."""
    return {
        one.node_id: {
            "display_name": one.display_name,
            "description": one.description,
            "inputs": {i.id.replace(".", "_"): _slot(i.display_name or i.id, i.tooltip) for i in one.inputs},
            "outputs": {str(k): _slot(o.display_name or o.id, o.tooltip) for k, o in enumerate(one.outputs)},
        }
        for one in found
    }


def _slot(name: str, tooltip: str | None) -> Texts:
    return {"name": name, "tooltip": tooltip} if tooltip else {"name": name}


def main_texts(found: list[Any]) -> Texts:
    """The editor's other texts in English: the parts of the nodes' categories, and the headings of the settings."""
    parts = sorted({part for one in found for part in one.category.split("/")})
    return {"nodeCategories": {part: part for part in parts}, "settingsCategories": category_texts()}


def english(found: list[Any]) -> Texts:
    """Every file of the editor in English, by its name."""
    return {
        "nodeDefs.json": node_texts(found),
        "main.json": main_texts(found),
        "commands.json": command_texts(),
        "settings.json": setting_texts(),
    }


def sources(texts: Texts, *, tooltips: bool) -> Iterator[str]:
    """Every English text in these; with `tooltips` those alone, else all others."""
    for key, value in texts.items():
        if isinstance(value, dict):
            yield from sources(value, tooltips=tooltips)
        elif (key == "tooltip") == tooltips:
            yield value


def translated(texts: Texts, memory: dict[str, str]) -> Texts:
    """The same tree with what the memory has; texts without a translation are left out."""
    result: Texts = {}
    for key, value in texts.items():
        if isinstance(value, dict):
            if inside := translated(value, memory):
                result[key] = inside
        elif value in memory:
            result[key] = memory[value]
    return result


def memory_of(language: str) -> dict[str, str]:
    """English text -> text in this language."""
    memory: dict[str, str] = read_json(FOLDER / f"{language}.json")
    return memory


def files() -> dict[Path, Texts]:
    """Every file of the editor, as its content should be."""
    source = english(schemas())
    made = {FOLDER / "en" / name: texts for name, texts in source.items()}
    for language in LANGUAGES:
        memory = memory_of(language)
        made |= {FOLDER / language / name: translated(texts, memory) for name, texts in source.items()}
    return made


def missing(language: str, source: Texts, *, tooltips: bool) -> list[str]:
    """English texts of these files that this language lacks."""
    memory = memory_of(language)
    return [text for text in dict.fromkeys(sources(source, tooltips=tooltips)) if text not in memory]


def main() -> int:
    """Write the editor's files, and say what each language lacks."""
    from .in_process import load_host

    if not load_host():
        print("ComfyUI has not been fetched: python3 run.py setup", file=sys.stderr)
        return 1
    for path, texts in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, texts, indent=1)
    source = english(schemas())
    for language in LANGUAGES:
        lacks = [missing(language, source, tooltips=tooltips) for tooltips in (False, True)]
        print(f"{language}: {len(lacks[0])} names and descriptions and {len(lacks[1])} tooltips are English")
    return 0


if __name__ == "__main__":
    sys.exit(main())
