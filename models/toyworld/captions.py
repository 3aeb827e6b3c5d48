"""Say what a scene shows, in many ways.

Objects are named from left to right in the first frame where no role tells them apart, so a caption determines the
picture. Detailed captions keep one field order: subjects with attributes, actions in time order, background, camera,
style.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from numpy.random import Generator

from . import casual_words as casual
from . import wordings as words
from .world import Body, Scene

_VOWELS = "aeiou"


@dataclass(frozen=True)
class _Vocabulary:
    """Which words to draw from: the training set's, or those kept for tests."""

    colours: Mapping[str, tuple[str, ...]]
    shapes: Mapping[str, tuple[str, ...]]
    templates: Mapping[str, tuple[str, ...]]
    unusual: float  # odds of another word than the plain colour


TRAINING = _Vocabulary(words.COLOUR_WORDS, words.SHAPE_WORDS, words.TEMPLATES, 0.35)
HELD_OUT = _Vocabulary(words.COLOUR_WORDS_HELD_OUT, words.SHAPE_WORDS_HELD_OUT, words.TEMPLATES_HELD_OUT, 1.0)


def short_caption(scene: Scene, rng: Generator) -> str:
    """One phrase that names objects and motion, and sometimes the background: "a red ball bounces to the right"."""
    text = _action(scene, rng, TRAINING)
    chance_floor = 0.15 if scene.floor == "sandy" else 0.6
    chance_sky = 0.15 if scene.sky == "day" else 0.8
    if rng.random() < chance_floor and "floor" not in text:
        text += " " + _pick(rng, words.FLOOR_WORDS[scene.floor])
    if rng.random() < chance_sky:
        text += " " + _pick(rng, words.SKY_WORDS[scene.sky])
    return text + "." if rng.random() < 0.15 else text


def casual_caption(scene: Scene, rng: Generator) -> str:
    """As people type when they try something out: "a ball", "red cone and blue cube", "cube, bouncing, left".

    Attributes and whole objects' colours are left out at random, so a model learns what a word alone asks for.
    """
    bare = [_bare(body, rng) for body in scene.objects]
    form = int(rng.integers(4))
    if form == 0:  # things alone
        articles = rng.random() < 0.6
        return _join([_article(name) if articles else name for name in bare])
    if form == 1:  # key words
        listed = [*bare, *_key_words(scene, rng)]
        return (", " if rng.random() < 0.6 else " ").join(listed)
    if form == 2:  # a sentence whose things have no colour, or not all of them
        return _action(scene, rng, TRAINING, named=[_article(name) for name in bare])
    return _pick(rng, casual.WRAPPINGS).format(_action(scene, rng, TRAINING))


def _bare(body: Body, rng: Generator) -> str:
    """A thing with or without its colour, by a usual name."""
    shape = _pick(rng, words.SHAPE_WORDS[body.shape])
    return f"{body.colour} {shape}" if rng.random() < 0.6 else shape


def _key_words(scene: Scene, rng: Generator) -> list[str]:
    """What happens, in a word or two, and perhaps where to and in which light."""
    kind = "bounce in place" if scene.kind == "bounce" and scene.direction is None else scene.kind
    listed = [_pick(rng, casual.KEY_WORDS[kind])]
    if scene.direction and rng.random() < 0.7:
        listed.append(_pick(rng, (scene.direction, f"to the {scene.direction}")))
    if scene.sky != "day" and rng.random() < 0.5:
        listed.append(scene.sky)
    return listed


def caption_held_out(scene: Scene, rng: Generator) -> str:
    """A wording that training never uses: other sentence, and other words for colours or shapes or both."""
    plain = {name: (name,) for name in words.COLOUR_WORDS}
    familiar = {name: options[:1] for name, options in words.SHAPE_WORDS.items()}
    choice = int(rng.integers(3))
    return _action(
        scene,
        rng,
        _Vocabulary(
            HELD_OUT.colours if choice != 0 else plain,
            HELD_OUT.shapes if choice == 2 else familiar,
            HELD_OUT.templates,
            1.0,
        ),
    )


def detailed_caption(scene: Scene, rng: Generator) -> str:
    """Several sentences in the field order that the model is trained on; 25 to 60 words."""
    names = [_noun(body, rng, TRAINING, sizes=0.6) for body in scene.objects]
    listed = _join([_article(name) for name in names])
    subject = _pick(rng, ("{} on the floor.", "The scene shows {}.", "There {are} {}.", "We see {}."))
    subject = subject.replace("{are}", "is" if len(names) == 1 else "are").replace("{}", listed)
    if scene.kind == "hide":
        subject = subject[:-1] + f" and {_wall(scene)}."
    parts = [
        subject,
        _action(scene, rng, TRAINING, definite=names) + ".",
        f"The background is {words.FLOOR_SENTENCES[scene.floor]} {_pick(rng, words.SKY_SENTENCES[scene.sky])}.",
        _camera_sentence(scene, rng),
        _pick(rng, words.STYLES),
    ]
    return " ".join(part[0].upper() + part[1:] for part in parts)


def _camera_sentence(scene: Scene, rng: Generator) -> str:
    if scene.camera.orbit_rate:
        return "The camera orbits around the scene."
    if scene.camera.track_rate:
        return f"The camera tracks to the {scene.direction}."
    return _pick(rng, ("The camera is static.", "The camera does not move.", "Fixed camera at eye level."))


def _action(
    scene: Scene,
    rng: Generator,
    vocabulary: _Vocabulary,
    definite: Sequence[str] | None = None,
    named: Sequence[str] = (),
) -> str:
    """Fill one template of the scene's kind. definite: names already introduced, so that "the" goes before them.
    named: the things as they are to be called, articles and all."""
    kind = "bounce in place" if scene.kind == "bounce" and scene.direction is None else scene.kind
    text = _pick(rng, vocabulary.templates[kind])
    if not named:
        names = list(definite) if definite is not None else [_noun(body, rng, vocabulary) for body in scene.objects]
        named = [f"the {name}" if definite is not None else _article(name) for name in names]
    if len(named) == 2 and "{b}" not in text and "{a}" in text:
        text += " " + _pick(rng, words.BESIDE[scene.kind])
    ball = scene.objects[0].shape == "ball"
    several = len(named) > 1
    filled = {
        "a": named[0],
        "b": named[1] if several else "",
        "list": _join(named, _pick(rng, (" and ", " and ", " next to ")) if len(named) == 2 else " and "),
        "dir": scene.direction or "",
        "opp": {"left": "right", "right": "left"}.get(scene.direction or "", ""),
        "rolls": "rolls" if ball else "slides",
        "rolling": "rolling" if ball else "sliding",
        "wall": _wall(scene) if definite is None else "the wall",
        "are": "are" if several else "is",
        "s": "" if several else "s",
    }
    text = text.format(**filled)
    return text if several else text.replace("moves around them", "moves around it")


def _noun(body: Body, rng: Generator, vocabulary: _Vocabulary, sizes: float = 0.15) -> str:
    """ "red ball", now and then with its size where that is out of the ordinary."""
    colour = _pick(rng, vocabulary.colours[body.colour]) if rng.random() < vocabulary.unusual else body.colour
    name = f"{colour} {_pick(rng, vocabulary.shapes[body.shape])}"
    if 0.43 <= body.size <= 0.57 or body.motion == "circle" or rng.random() > sizes:
        return name
    return f"{_pick(rng, words.BIG if body.size > 0.5 else words.SMALL)} {name}"


def _wall(scene: Scene) -> str:
    walls = [body.colour for body in scene.bodies if body.shape == "wall"]
    return f"a {walls[0]} wall" if walls else "a wall"


def _article(name: str) -> str:
    return f"{'an' if name[0] in _VOWELS else 'a'} {name}"


def _join(items: Sequence[str], last: str = " and ") -> str:
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + last + items[-1]


def _pick(rng: Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]
