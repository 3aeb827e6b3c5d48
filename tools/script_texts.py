"""The texts that the pack's scripts register with the editor: labels of commands, names and tooltips of settings.

They are read from the scripts' source, where each stands as a plain string in the form that the other scripts have
(`commands: [` and `settings: [` of an extension, an object per entry, a line per field); a test says when one does not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..models.files import parsed_json, read_text
from .environment import ROOT

SCRIPTS = ROOT / "web" / "js"
LIST = re.compile(r"^  (commands|settings): \[\n(.*?)^  \],$", re.M | re.S)
ENTRY = re.compile(r"^    \{\n(.*?)^    \},$", re.M | re.S)
FIELD = re.compile(r"^      (id|label|name|tooltip|category): (.+),(?: //.*)?$", re.M)
CONSTANT = re.compile(r'^const (\w+) = ("[^"]*");', re.M)


def scripts() -> list[Path]:
    """All scripts that the browser gets."""
    return sorted(SCRIPTS.rglob("*.js"))


def entries(script: Path, kind: str) -> Iterator[dict[str, Any]]:
    """The fields with texts of every command or setting (`kind`, as the editor calls the list) of a script."""
    text = read_text(script)
    constants = dict(CONSTANT.findall(text))
    for name, inside in LIST.findall(text):
        for entry in ENTRY.findall(inside) if name == kind else ():
            yield {field: parsed_json(constants.get(value, value), script) for field, value in FIELD.findall(entry)}


def _key(identifier: str) -> str:
    return identifier.replace(".", "_")  # as the editor looks it up


def command_texts() -> dict[str, Any]:
    """The editor's commands in English: a label each."""
    found = (one for script in scripts() for one in entries(script, "commands"))
    return {_key(one["id"]): {"label": one["label"]} for one in found}


def setting_texts() -> dict[str, Any]:
    """The editor's settings in English: a name and a tooltip each."""
    found = (one for script in scripts() for one in entries(script, "settings"))
    return {_key(one["id"]): {part: one[part] for part in ("name", "tooltip") if part in one} for one in found}


def category_texts() -> dict[str, str]:
    """The headings of the settings in English: the first two parts of their categories are shown."""
    found = (one for script in scripts() for one in entries(script, "settings"))
    return {_key(part): part for one in found for part in one.get("category", [])[:2]}
