"""Is a caption of a toy-world clip right? The facts that a text states, held against those of the scene.

The texts are read with the tables that the world's captions are made from (toyworld/wordings.py), so any of its
wordings counts; tests/models/test_captioner.py holds this reader against captions whose scene is known. And, for
captions of any clips, how many words two of them share.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from ..toyworld import Scene
from ..toyworld import wordings as words

PROPERTIES = ("colour", "shape", "count", "motion", "direction", "camera", "floor", "sky")
Verdict = dict[str, bool | None]
# kinds whose sentences hold another's come first; "still" fits every sentence
_ORDER = ("pan", "orbit", "hide", "collide", "circle", "bounce", "bounce in place", "fall", "spin", "roll", "still")
_PLACEHOLDERS = {
    "{a}": ".+?",
    "{b}": ".+?",
    "{list}": ".+?",
    "{dir}": "(?P<dir>left|right)",
    "{opp}": "(?P<opp>left|right)",
    "{wall}": "(?:the wall|a (?:brown |gray )?wall)",
    "{rolls}": "(?:rolls|slides)",
    "{rolling}": "(?:rolling|sliding)",
    "{are}": "(?:is|are)",
    "{s}": "s?",
}
_CAMERA = {
    "orbit": r"camera orbits around the scene",
    "pan": r"camera tracks to the (?P<dir>left|right)",
    "static": r"camera is static|camera does not move|fixed camera",
}
_SKIES = {
    "night": r"\bnight\b|dim bluish light",
    "sunset": r"sunset|evening light|orange (?:sunset )?sky",
    "day": r"daylight|\bblue sky\b|\bby day\b",
}
_FLOORS = {"sandy": "sandy|beige", "gray": "gray", "dark": "dark"}
# words that two captions share without saying the same
_STOP = frozenset(
    """
    a an and are at by in is it its of on or that the there this to we with while
    """.split()
)


@dataclass(frozen=True)
class Facts:
    """What a caption states. objects: (colour, shape); None: not stated."""

    objects: frozenset[tuple[str, str]]
    motion: str | None
    direction: str | None
    camera: str | None
    floor: str | None
    sky: str | None


def facts_of_scene(scene: Scene) -> Facts:
    """The truth."""
    camera = "orbit" if scene.camera.orbit_rate else "pan" if scene.camera.track_rate else "static"
    objects = frozenset((body.colour, body.shape) for body in scene.objects)
    return Facts(objects, scene.kind, scene.direction, camera, scene.floor, scene.sky)


def facts_of_text(text: str) -> Facts:
    """What a caption in the toy world's words states."""
    plain = text.lower()
    sentences = [part.strip() for part in re.split(r"[.!?]+(?:\s|$)", plain) if part.strip()]
    camera = next((name for name, pattern in _CAMERA.items() if re.search(pattern, plain)), None)
    motion, direction = _action(sentences)
    return Facts(
        objects=_objects(plain),
        motion=motion,
        direction=direction,
        camera=camera or (motion if motion in ("orbit", "pan") else None),
        floor=next((name for name, p in _FLOORS.items() if re.search(rf"\b(?:{p}) (?:checkered )?floor", plain)), None),
        sky=next((name for name, pattern in _SKIES.items() if re.search(pattern, plain)), None),
    )


def _action(sentences: Sequence[str]) -> tuple[str | None, str | None]:
    """Kind of motion and direction, from the sentence that tells what happens: the second of a detailed caption."""
    told = [s for s in sentences if not any(re.search(f"(?:{p})$", s) for p in _CAMERA.values())]
    told = told[1:2] if len(sentences) > 2 else told[:1]
    for sentence in told:
        for kind in _ORDER:
            for pattern in _templates()[kind]:
                found = pattern.fullmatch(sentence)
                if found:
                    named = found.groupdict()
                    opposite = {"left": "right", "right": "left"}.get(named.get("opp") or "")
                    return kind.removesuffix(" in place"), named.get("dir") or opposite
    return None, None


@cache
def _templates() -> Mapping[str, tuple[re.Pattern[str], ...]]:
    """Each kind's sentences as patterns; more may follow (a bystander, the floor, the light)."""
    found = {}
    for kind in _ORDER:
        patterns = []
        for template in (*words.TEMPLATES[kind], *words.TEMPLATES_HELD_OUT[kind]):
            pattern = re.escape(template).replace(r"\{", "{").replace(r"\}", "}")
            for placeholder, meaning in _PLACEHOLDERS.items():
                pattern = pattern.replace(placeholder, meaning)
            patterns.append(re.compile(pattern.replace(r"around\ them", r"around\ (?:them|it)") + "(?: .*)?"))
        found[kind] = tuple(patterns)
    return found


def _objects(text: str) -> frozenset[tuple[str, str]]:
    colours, shapes = _names()
    pattern = rf"\b({_any(colours)}) ({_any(shapes)})\b"
    return frozenset((colours[colour], shapes[shape]) for colour, shape in re.findall(pattern, text))


@cache
def _names() -> tuple[dict[str, str], dict[str, str]]:
    """Every word for a colour and for a shape, with what it means."""
    tables: list[dict[str, str]] = []
    for usual, unusual in (
        (words.COLOUR_WORDS, words.COLOUR_WORDS_HELD_OUT),
        (words.SHAPE_WORDS, words.SHAPE_WORDS_HELD_OUT),
    ):
        tables.append({name: plain for plain in usual for name in (plain, *usual[plain], *unusual[plain])})
    return tables[0], tables[1]


def _any(names: Mapping[str, str]) -> str:
    return "|".join(sorted(map(re.escape, names), key=len, reverse=True))


def compare(found: Facts, truth: Facts) -> Verdict:
    """Which facts are right; None where there is no such fact to state (no direction, nothing said in the truth)."""
    return {
        "colour": {c for c, _ in found.objects} == {c for c, _ in truth.objects},
        "shape": found.objects == truth.objects,
        "count": len(found.objects) == len(truth.objects),
        "motion": found.motion == truth.motion,
        "direction": found.direction == truth.direction if truth.direction else None,
        "camera": found.camera == truth.camera if truth.camera else None,
        "floor": found.floor == truth.floor if truth.floor else None,
        "sky": found.sky == truth.sky if truth.sky else None,
    }


def share_right(verdicts: Sequence[Verdict], name: str) -> float | None:
    """The part of the verdicts that are right, of those with something to judge; None where there are none."""
    judged = [verdict[name] for verdict in verdicts if verdict[name] is not None]
    return sum(map(bool, judged)) / len(judged) if judged else None


def field_accuracy(verdicts: Sequence[Verdict]) -> float:
    """Mean over the properties of the part that is right."""
    shares = [share for name in PROPERTIES if (share := share_right(verdicts, name)) is not None]
    return sum(shares) / len(shares) if shares else 0.0


def word_overlap(text: str, reference: str) -> float:
    """F1 of the words of two texts, small words left out: 1 when they are the same, in any order."""
    one, other = (Counter(w for w in re.findall(r"\w+", t.lower()) if w not in _STOP) for t in (text, reference))
    shared = sum((one & other).values())
    return 2 * shared / max(sum(one.values()) + sum(other.values()), 1)
