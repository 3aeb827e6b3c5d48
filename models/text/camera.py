"""Which camera moves a text asks for, and whether it speaks of the camera at all."""

from __future__ import annotations

import re

from .reading import fold

# move -> pattern over folded text; English first, then the other languages' usual words
# move -> pattern over folded text; English first, then the other languages' usual words
_MOVES = {
    "static": r"(?:static|fixed|locked|stationary|motionless|still) (?:camera|shot|view)|tripod|"
    r"camera (?:is|stays|remains) (?:static|still|fixed|steady|locked)|camera (?:does not|doesn't|never) move|"
    r"(?:statische|feste|ruhige) kamera|camara (?:fija|estatica)|camera (?:fixe|statique)|plan fixe|"
    r"固定镜头|静止镜头|镜头(?:固定|静止)",
    "pan": r"\bpan(?:s|ning|ned)?\b|kameraschwenk|\bschwenkt\b|paneo|\bpanoramique\b|镜头(?:平移|横移|摇)",
    "tilt": r"\btilt(?:s|ing)?(?: shot| up| down)",
    "zoom": r"\bzoom(?:s|ing|t)?\b|变焦|推近|镜头(?:推进|拉远)",
    "orbit": r"camera\W+(?:\w+\W+)?(?:orbits?|circles?|rotates?|flies around|moves around)|orbiting camera|"
    r"camera orbit|kamera (?:um)?kreist|camara (?:orbita|gira)|camera tourne autour|镜头环绕",
    "dolly": r"\bdoll(?:y|ies|ying)\b|camera (?:pushes|pulls) (?:in|out|back)|\bpush-in\b|kamerafahrt|\btravelling\b",
    "track": r"\btracking shot\b|camera (?:tracks|follows|trails|travels)|kamera folgt|camara sigue|camera suit|"
    r"镜头跟随|跟拍",
    "crane": r"\bcrane shot\b|camera (?:rises|lifts|ascends|descends)",
    "handheld": r"\bhand-?held\b|\bshaky\b",
    "aerial": r"\baerial\b|\bdrone (?:shot|view|footage)\b|\bbird's[- ]eye\b|luftaufnahme|航拍|鸟瞰",
}
_COMPILED = {move: re.compile(pattern) for move, pattern in _MOVES.items()}
_MENTIONS = re.compile(
    r"\bcamera\b|\bkamera|\bcamara\b|镜头|\bshots?\b|\bview(?:point|ed)?\b|\bclose-?up\b|\bwide[- ]angle\b|\bpov\b|"
    r"\bfirst[- ]person\b|\btime-?lapse\b|\bhyperlapse\b|\bslow[- ]motion\b|\bfootage\b|\bfilmed\b|\blens\b|"
    r"\bperspective\b|\bangle\b|\bdrone\b|\bfpv\b|\bmacro\b|\bfly-?through\b|\bselfie\b|\bzeitlupe\b|"
    r"\bzeitraffer\b|\bnahaufnahme\b|\bplano\b|\bgros plan\b|特写|俯拍|慢动作|延时|视角|航拍"
)


def camera_moves(text: str) -> frozenset[str]:
    """The moves that a text names: static, pan, tilt, zoom, orbit, dolly, track, crane, handheld, aerial."""
    folded = fold(text)
    return frozenset(move for move, pattern in _COMPILED.items() if pattern.search(folded))


def mentions_camera(text: str) -> bool:
    """Whether a text says anything about camera, framing or speed of time."""
    return bool(camera_moves(text)) or _MENTIONS.search(fold(text)) is not None


def other_camera_moves(prompt: str, caption: str) -> list[str]:
    """What is wrong when a caption adds a move to the one that the prompt asks for; a prompt without one allows any."""
    asked = camera_moves(prompt)
    extra = camera_moves(caption) - asked
    return [f"it adds another camera move ({', '.join(sorted(extra))})"] if asked and extra else []
