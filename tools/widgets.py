"""Which saved value of a node belongs to which of its inputs: the editor stores a bare list, in widget order."""

from typing import Any

from .terminal import Trouble

BASIC = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
# what the editor adds after a widget whose value it may change by itself after each run
CONTROLS = {"fixed", "increment", "decrement", "randomize", "increment-wrap"}


def widget_values(node: dict[str, Any], info: dict[str, Any]) -> dict[str, Any]:
    """The values of a node's widgets by input name; a widget without a saved value keeps its default."""
    specs = input_specs(info)
    saved = node.get("widgets_values") or []
    at = positions(node, info)
    values = {name: saved[at[name]] if name in at else default_of(specs[name]) for name in shown_widgets(node, specs)}
    return {name: value for name, value in values.items() if name in at or value is not None}


def positions(node: dict[str, Any], info: dict[str, Any]) -> dict[str, Any]:
    """Where in `widgets_values` each widget's value stands: an index, or its name where a pack saves a dictionary."""
    specs = input_specs(info)
    saved = node.get("widgets_values") or []
    widgets = shown_widgets(node, specs)
    if isinstance(saved, dict):
        return {name: name for name in widgets if name in saved}
    found: dict[str, Any] = {}
    index = 0
    for name in widgets:
        if index >= len(saved):
            break
        found[name] = index
        index += 1 + count_extras(specs[name], name, saved[index + 1 :])
    return found


def shown_widgets(node: dict[str, Any], specs: dict[str, Any]) -> list[str]:
    """The inputs that a node shows as fields, in order."""
    shown = {one["widget"]["name"] for one in node.get("inputs") or [] if one.get("widget")}
    return [name for name, spec in specs.items() if is_widget(spec) or name in shown]


def count_extras(spec: Any, name: str, rest: list[Any]) -> int:
    """How many values after a widget's own are the editor's additions: a seed's control, an upload button."""
    options = options_of(spec)
    controlled = options.get("control_after_generate") or (kind_of(spec) == "INT" and name in ("seed", "noise_seed"))
    extras = 0
    if controlled and rest and isinstance(rest[0], str) and rest[0] in CONTROLS:
        extras = 2 if kind_of(spec) == "COMBO" and len(rest) > 1 else 1  # a list also has a filter
    uploads = any(options.get(key) for key in ("image_upload", "animated_image_upload", "video_upload", "audio_upload"))
    if uploads and extras < len(rest) and rest[extras] in ("image", "video", "audio", "upload"):
        extras += 1
    return extras


def input_specs(info: dict[str, Any]) -> dict[str, Any]:
    """Every visible input of a node class with its specification, in the order of the editor."""
    declared = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
    order = info.get("input_order") or {}
    names = [*order.get("required", []), *order.get("optional", [])]
    return {name: declared[name] for name in names if name in declared} | declared


def is_widget(spec: Any) -> bool:
    """Whether the editor shows an input as a field rather than as a socket only."""
    options = options_of(spec)
    return bool(kind_of(spec) in BASIC or options.get("widgetType")) and not options.get("forceInput")


def kind_of(spec: Any) -> str:
    """An input's type; the old way of writing a choice is a list in place of the type."""
    return "COMBO" if isinstance(spec[0], list) else str(spec[0])


def options_of(spec: Any) -> dict[str, Any]:
    """The second half of an input's specification."""
    return spec[1] if len(spec) > 1 and isinstance(spec[1], dict) else {}


def choices_of(spec: Any) -> list[Any]:
    """What may be chosen for a choice."""
    return spec[0] if isinstance(spec[0], list) else options_of(spec).get("options", [])


def default_of(spec: Any) -> Any:
    """What the editor shows for a fresh node, or None where it has nothing to show."""
    options = options_of(spec)
    if "default" in options:
        return options["default"]
    if kind_of(spec) == "COMBO":
        return next(iter(choices_of(spec)), None)
    return {"INT": 0, "FLOAT": 0.0, "STRING": "", "BOOLEAN": False}.get(kind_of(spec))


def parse_as(text: str, spec: Any, where: str) -> Any:
    """A value typed at the terminal, as the type that the input wants."""
    kind = kind_of(spec)
    try:
        if kind == "INT":
            return int(text)
        if kind == "FLOAT":
            return float(text)
    except ValueError:
        raise Trouble(f"{where} wants a number, not {text!r}.") from None
    if kind == "BOOLEAN":
        if text.lower() not in ("true", "false", "1", "0", "yes", "no", "on", "off"):
            raise Trouble(f"{where} wants true or false, not {text!r}.")
        return text.lower() in ("true", "1", "yes", "on")
    if kind == "COMBO":
        return next((choice for choice in choices_of(spec) if str(choice) == text), text)
    return text
