"""Which saved value of a node belongs to which of its inputs: the editor stores a bare list, in widget order."""

from typing import Any

from .terminal import Trouble

BASIC = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
CHOICE_WITH_INPUTS = "COMFY_DYNAMICCOMBO_V3"  # each choice has inputs of its own, which the editor shows below it
# what the editor adds after a widget whose value it may change by itself after each run
CONTROLS = {"fixed", "increment", "decrement", "randomize", "increment-wrap"}


def widget_values(node: dict[str, Any], info: dict[str, Any]) -> dict[str, Any]:
    """The values of a node's widgets by input name; a widget without a saved value keeps its default."""
    saved = node.get("widgets_values") or []
    values = {
        name: default_of(spec) if place is None else saved[place] for name, (spec, place) in fields(node, info).items()
    }
    at = positions(node, info)
    return {name: value for name, value in values.items() if name in at or value is not None}


def positions(node: dict[str, Any], info: dict[str, Any]) -> dict[str, Any]:
    """Where in `widgets_values` each widget's value stands: an index, or its name where a pack saves a dictionary."""
    return {name: place for name, (_, place) in fields(node, info).items() if place is not None}


def fields(node: dict[str, Any], info: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Every widget of a node in the editor's order: its specification and the place of its value, None without one."""
    specs = input_specs(info)
    saved = node.get("widgets_values") or []
    waiting = [(name, specs[name]) for name in shown_widgets(node, specs)]
    found: dict[str, tuple[Any, Any]] = {}
    index = 0
    while waiting:
        name, spec = waiting.pop(0)
        if isinstance(saved, dict):
            place: Any = name if name in saved else None
        else:
            place = index if index < len(saved) else None
        found[name] = spec, place
        if place is not None:
            index += 0 if isinstance(saved, dict) else 1 + count_extras(spec, name, saved[index + 1 :])
            waiting[:0] = opened(name, spec, saved[place])
    return found


def opened(name: str, spec: Any, value: Any) -> list[tuple[str, Any]]:
    """The widgets that follow one whose choice brings its own along, as `mode.steps`."""
    if kind_of(spec) != CHOICE_WITH_INPUTS:
        return []
    chosen = [option for option in options_of(spec).get("options", []) if option.get("key") == value]
    inner = [specs for option in chosen for specs in input_specs({"input": option.get("inputs") or {}}).items()]
    return [(f"{name}.{key}", one) for key, one in inner if is_widget(one) or kind_of(one) == CHOICE_WITH_INPUTS]


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


def specs_for(info: dict[str, Any], inputs: dict[str, Any]) -> dict[str, Any]:
    """The same with the inputs that its choices bring along, by the values that they have in a prompt."""
    specs = input_specs(info)
    waiting = list(specs.items())
    while waiting:
        name, spec = waiting.pop()
        brought = opened(name, spec, inputs.get(name))
        specs |= dict(brought)
        waiting += brought
    return specs


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
