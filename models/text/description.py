"""What a video shows, in fields and as one paragraph; and the fields of a text that came without them.

The order is that of the captions that the embedded model was trained on: subjects with their attributes, actions in
the order in which they happen, background, camera, style.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from .camera import mentions_camera
from .faults import SENTENCES

_BACKGROUND = re.compile(
    r"\bback(?:ground|drop)\b|\bsetting\b|\bin the distance\b|\bsurround(?:ed|ings?)\b|\blandscape\b|\bhorizon\b|"
    r"\bthe (?:sky|scene|floor|ground|weather) (?:is|are|has|looks)\b|\bbehind (?:him|her|it|them)\b|\btakes place\b",
    re.IGNORECASE,
)
_STYLE = re.compile(
    r"\b(?:styles?|stylised|stylized|render(?:ing|ed)?|animat(?:ion|ed)|cinematic|photo-?realis\w+|realistic|footage|"
    r"documentary|vintage|monochrome|black[- ]and[- ]white|colou?r (?:palette|grading)|mood|atmosphere|"
    r"depth of field|film grain|(?:soft|warm|evenly|dramatic\w*|natural|low|high)[- ](?:light\w*|lit|key))\b",
    re.IGNORECASE,
)
_OPENERS = re.compile(
    r"^(?:in )?(?:the|this|a|an) (?:short |brief |silent |looping |animated )?(?:video|clip|footage|film|sequence|"
    r"scene|animation|image|picture|photo(?:graph)?)(?: clip)?,? (?:(?:shows|depicts|features|displays|captures|"
    r"presents|portrays|contains|showcases|illustrates|opens with|begins with|starts with|is of)(?: us)?\s+|"
    r"(?:we|you) (?:can )?see\s+|we are shown\s+|(?=there (?:is|are)))|"
    r"^(?:we|you) (?:can )?see\s+|^(?:shown|seen|depicted|visible) (?:here )?(?:is|are)\s+",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a video shows. paragraph: one caption; the other fields say the same in parts, empty where not told."""

    subjects: tuple[str, ...] = ()  # each with its attributes: "a small red ball"
    actions: tuple[str, ...] = ()  # in time order
    background: str = ""
    camera: str = ""
    style: str = ""
    paragraph: str = ""

    def as_json(self) -> str:
        """All fields as JSON text, for people and files."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False)

    @classmethod
    def of_text(cls, text: str) -> Description:
        """A paragraph, its sentences sorted into the fields."""
        text = strip_opener(" ".join(text.split()))
        subjects: list[str] = []
        found: dict[str, list[str]] = {"actions": [], "background": [], "camera": [], "style": []}
        for sentence in sentences(text):
            kind = kind_of(sentence) or ("actions" if subjects else "")
            (found[kind] if kind else subjects).append(sentence)
        return cls(
            subjects=tuple(subjects),
            actions=tuple(found["actions"]),
            background=" ".join(found["background"]),
            camera=" ".join(found["camera"]),
            style=" ".join(found["style"]),
            paragraph=text,
        )

    def composed(self) -> str:
        """A paragraph of the fields, in their order."""
        listed = ", ".join(self.subjects)
        parts = [listed, *self.actions, self.background, self.camera, self.style]
        ended = [part if part[-1] in ".!?" else f"{part}." for part in map(str.strip, parts) if part]
        return " ".join(part[:1].upper() + part[1:] for part in ended)


FIELDS = tuple(entry.name for entry in fields(Description))


def sentences(text: str) -> list[str]:
    """The sentences of a text."""
    return [part for found in SENTENCES.finditer(text) if (part := found.group().strip())]


def kind_of(sentence: str) -> str:
    """The field that a sentence belongs to by its words: camera, background or style; "" for subjects and actions."""
    if re.match(r"(?:the |a )?background\b", sentence, re.IGNORECASE):
        return "background"
    if mentions_camera(sentence):
        return "camera"
    if _STYLE.search(sentence):
        return "style"
    return "background" if _BACKGROUND.search(sentence) else ""


def strip_opener(text: str) -> str:
    """The text without "The video shows" and its kin at the start of its first sentence."""
    shorter = _OPENERS.sub("", text.strip(), count=1)
    return shorter[:1].upper() + shorter[1:]


def still_part(caption: str) -> str:
    """What of a detailed caption a single frame can show: subjects, background and style; "" for a short caption."""
    parts = sentences(caption)
    if len(parts) < 3:
        return ""
    kept = [part for number, part in enumerate(parts) if number == 0 or kind_of(part) in ("background", "style")]
    return " ".join(kept)


def from_fields(found: Mapping[str, object]) -> Description:
    """A description from the object that a language model wrote, whatever shape its values have.

    Lists, texts and objects are taken; unknown entries are left out. ValueError when it holds nothing.
    """
    known = {str(name).strip().lower(): value for name, value in found.items()}
    known.setdefault("paragraph", known.get("caption") or known.get("description") or known.get("summary") or "")
    known.setdefault("subjects", known.get("subject") or "")
    known.setdefault("actions", known.get("action") or known.get("motion") or "")
    lists = {name: _list(known.get(name)) for name in ("subjects", "actions")}
    texts = {name: "; ".join(_list(known.get(name))) for name in ("background", "camera", "style")}
    paragraph = strip_opener(" ".join(_list(known.get("paragraph"))))
    description = Description(**lists, **texts, paragraph=paragraph)  # type: ignore[arg-type]
    described = description.paragraph or description.composed()
    if not described:
        raise ValueError("it has none of the fields that were asked for")
    return Description(**lists, **texts, paragraph=described)  # type: ignore[arg-type]


def _list(value: object) -> tuple[str, ...]:
    """Any JSON value as texts: an object gives its parts joined, attributes before the name."""
    if isinstance(value, Mapping):
        name = " ".join(_list(value.get("name") or value.get("subject") or value.get("object") or ""))
        rest = [text for key, v in value.items() if key not in ("name", "subject", "object") for text in _list(v)]
        joined = f"{name} ({', '.join(rest)})" if name and rest else name or ", ".join(rest)
        return (joined,) if joined else ()
    if isinstance(value, list | tuple):
        return tuple(text for one in value for text in _list(one))
    text = " ".join(str(value).split()) if value is not None and not isinstance(value, bool) else ""
    return (text,) if text else ()
