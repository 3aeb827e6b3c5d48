"""Change inputs of a prompt by name: `--set NODE.INPUT=VALUE`, where NODE is an id, a title or a class."""

import copy
from typing import Any

from .terminal import Trouble
from .widgets import parse_as, positions, specs_for
from .workflow import Prompt, is_link


def apply_settings(prompt: Prompt, settings: list[str], object_info: dict[str, Any]) -> None:
    """Apply `NODE.INPUT=VALUE` texts to the prompt, in order."""
    for setting in settings:
        target, equals, text = setting.partition("=")
        if not equals or "." not in target:
            raise Trouble(f"--set wants NODE.INPUT=VALUE, not {setting!r}.")
        key, name = split_target(prompt, target)
        set_input(prompt, key, name, text, object_info)


def set_input(prompt: Prompt, key: str, name: str, value: Any, object_info: dict[str, Any]) -> None:
    """Set one input of one node; a text is read as the type that the input wants. Replaces a connection."""
    node = prompt[key]
    if node["class_type"] not in object_info:
        raise Trouble(f"This ComfyUI does not have the node {node['class_type']} of the workflow.")
    specs = specs_for(object_info[node["class_type"]], node["inputs"])
    # inputs that grow with a choice ("resize.width") are not declared under their full name
    if name not in specs and name not in node["inputs"]:
        raise Trouble(f"{node['class_type']} has no input {name!r}; it has {', '.join(specs)}.")
    if isinstance(value, str) and name in specs:
        value = parse_as(value, specs[name], f"{node['class_type']}.{name}")
    node["inputs"][name] = {"__value__": value} if isinstance(value, list) else value


def mirror(workflow: Any, prompt: Prompt, object_info: dict[str, Any]) -> Any:
    """The editor's workflow with the prompt's values written into its fields.

    It travels inside the files that are made, so that one that is dropped on the editor shows what was really run.
    None for a workflow in the API format.
    """
    if not isinstance(workflow, dict) or "nodes" not in workflow:
        return None
    workflow = copy.deepcopy(workflow)
    for node in workflow["nodes"]:
        made = prompt.get(str(node["id"]))
        if made is None:
            continue
        for name, at in positions(node, object_info[node["type"]]).items():
            value = made["inputs"].get(name)
            if value is not None and not is_link(value):
                node["widgets_values"][at] = value["__value__"] if isinstance(value, dict) else value
    return workflow


def split_target(prompt: Prompt, target: str) -> tuple[str, str]:
    """NODE and INPUT of a text; titles and inputs may hold dots themselves, so every dot is tried."""
    for at in [i for i, letter in enumerate(target) if letter == "."]:
        found = find_nodes(prompt, target[:at])
        if len(found) > 1:
            raise Trouble(f"{target[:at]!r} names {len(found)} nodes ({', '.join(found)}): use the id of one.")
        if found:
            return found[0], target[at + 1 :]
    raise Trouble(f"No node {target.partition('.')[0]!r} in this workflow; it has {describe(prompt)}.")


def find_nodes(prompt: Prompt, name: str) -> list[str]:
    """Ids of the nodes that a name means: an id, else a title, else a class, whatever the case of the letters."""
    if name in prompt:
        return [name]
    lower = name.lower()
    titled = [key for key, node in prompt.items() if title_of(node).lower() == lower]
    return titled or [key for key, node in prompt.items() if node["class_type"].lower() == lower]


def title_of(node: dict[str, Any]) -> str:
    """A node's title as the workflow has it, or nothing."""
    return (node.get("_meta") or {}).get("title") or ""


def describe(prompt: Prompt) -> str:
    """The nodes of a prompt in a few words."""
    return ", ".join(f"{key} ({node['class_type']})" for key, node in prompt.items())
