"""The words that captions are made of. Tables whose names end in HELD_OUT are for measuring only, never for training.

In a template: {a} {b} objects with article · {list} all objects · {dir} left or right, {opp} the other one ·
{wall} the wall with article · {rolls} {rolling} what a ball does, other shapes slide · {are} is or are · {s} the verb's
s for one object.
"""

from __future__ import annotations

COLOUR_WORDS: dict[str, tuple[str, ...]] = {
    "red": ("crimson", "scarlet"),
    "green": ("emerald", "lime green"),
    "blue": ("azure", "navy blue"),
    "yellow": ("golden", "lemon yellow"),
    "orange": ("tangerine", "amber"),
    "purple": ("violet", "lilac"),
    "cyan": ("turquoise", "teal"),
    "pink": ("magenta", "rose pink"),
    "white": ("ivory", "snow white"),
}
COLOUR_WORDS_HELD_OUT: dict[str, tuple[str, ...]] = {
    "red": ("ruby red", "cherry red"),
    "green": ("grass green", "jade green"),
    "blue": ("sapphire blue", "cobalt blue"),
    "yellow": ("sunny yellow", "canary yellow"),
    "orange": ("pumpkin orange", "carrot orange"),
    "purple": ("plum purple", "grape purple"),
    "cyan": ("aqua", "cyan blue"),
    "pink": ("bubblegum pink", "hot pink"),
    "white": ("milky white", "chalk white"),
}
SHAPE_WORDS: dict[str, tuple[str, ...]] = {
    "ball": ("ball", "ball", "ball", "sphere"),
    "cube": ("cube", "cube", "cube", "box", "block"),
    "cone": ("cone",),
    "cylinder": ("cylinder",),
}
SHAPE_WORDS_HELD_OUT: dict[str, tuple[str, ...]] = {
    "ball": ("round ball", "orb"),
    "cube": ("square box", "cubic block"),
    "cone": ("pointed cone", "cone shape"),
    "cylinder": ("upright cylinder", "cylinder shape"),
}
BIG, SMALL = ("big", "large"), ("small", "little")

TEMPLATES: dict[str, tuple[str, ...]] = {
    "bounce": (
        "{a} bounces to the {dir}",
        "{a} is bouncing to the {dir}",
        "{a} bounces across the floor to the {dir}",
        "{a} hops to the {dir}",
        "{a} bounces from the {opp} to the {dir}",
        "{a} bounces {dir}",
        "{a} comes bouncing in from the {opp}",
        "{a} hops across from {opp} to {dir}",
        "bouncing {dir}, {a} crosses the floor",
        "{a} bounces up and down while moving {dir}",
    ),
    "bounce in place": (
        "{a} bounces up and down",
        "{a} bounces in place",
        "{a} hops up and down on the spot",
        "{a} keeps bouncing on the floor",
        "{a} is bouncing on the same spot",
        "{a} jumps up and down",
        "{a} bounces straight up and down",
        "{a} bounces on the floor again and again",
    ),
    "fall": (
        "{a} falls to the floor",
        "{a} drops to the floor",
        "{a} is falling down",
        "{a} falls from above and lands on the floor",
        "{a} drops down onto the floor",
        "{a} falls out of the sky",
        "{a} is dropped and hits the ground",
        "{a} drops from above",
        "{a} falls down to the ground",
    ),
    "roll": (
        "{a} {rolls} to the {dir}",
        "{a} {rolls} across the floor to the {dir}",
        "{a} is {rolling} to the {dir}",
        "{a} {rolls} from the {opp} to the {dir}",
        "{a} moves to the {dir}",
        "{a} moves along the floor to the {dir}",
        "{a} {rolls} {dir}",
        "{a} travels from {opp} to {dir}",
        "{a} comes in from the {opp} and {rolls} to the {dir}",
    ),
    "collide": (
        "{a} and {b} collide",
        "{a} and {b} hit each other and bounce apart",
        "{a} crashes into {b}",
        "{a} and {b} move together and collide",
        "{a} from the left collides with {b} from the right",
        "{a} and {b} bump into each other",
        "{a} runs into {b}",
        "{a} and {b} meet in the middle and bounce back",
        "a collision of {a} and {b}",
        "{a} bumps into {b} and they move apart",
    ),
    "hide": (
        "{a} {rolls} {dir} behind {wall} and comes out",
        "{a} passes behind {wall} to the {dir}",
        "{a} moves {dir} and disappears behind {wall}, then comes out again",
        "{a} {rolls} to the {dir} behind {wall} and re-emerges",
        "{a} goes behind {wall} and comes out on the {dir}",
        "{a} is hidden by {wall} while it {rolls} to the {dir}",
        "moving {dir}, {a} vanishes behind {wall} and reappears",
        "{a} {rolls} from {opp} to {dir} behind {wall}",
    ),
    "orbit": (
        "the camera orbits around {list}",
        "the camera circles around {list}",
        "a camera orbit around {list}",
        "{list}, the camera moves around them in a circle",
        "the camera flies around {list}",
        "the camera rotates around {list}",
        "orbiting camera, {list} standing still",
        "the view turns around {list}",
        "{list}, seen by a camera that orbits",
    ),
    "pan": (
        "the camera pans to the {dir} past {list}",
        "the camera moves to the {dir}, {list} on the floor",
        "the camera tracks {dir} past {list}",
        "{list}, the camera pans {dir}",
        "the camera slides to the {dir} in front of {list}",
        "{list} {are} filmed by a camera that moves {dir}",
        "panning {dir} past {list}",
        "the camera travels {dir} along {list}",
    ),
    "circle": (
        "{a} circles around {b}",
        "{a} moves in a circle around {b}",
        "{a} goes around {b}",
        "{a} orbits {b}",
        "{a} runs around {b} in a circle",
        "{a} is circling {b}",
        "{b} with {a} going around it",
        "{a} travels around {b}",
        "{a} revolves around {b}",
    ),
    "still": (
        "{list}",
        "{list} standing on the floor",
        "{list} stand{s} still",
        "there {are} {list}",
        "{list} on a checkered floor",
        "{list}, nothing moves",
        "{list} {are} resting on the floor",
        "a still scene with {list}",
        "{list} without any motion",
    ),
    "spin": (
        "{a} spins in place",
        "{a} rotates in place",
        "{a} is spinning",
        "{a} turns around on the spot",
        "{a} rotates slowly",
        "{a} spins around its own axis",
        "{a} is rotating on the floor",
        "{a} spins on the spot",
    ),
}
TEMPLATES_HELD_OUT: dict[str, tuple[str, ...]] = {
    "bounce": ("we see {a} that bounces along towards the {dir} side", "watch {a} hop its way over to the {dir}"),
    "bounce in place": ("watch {a} that hops and hops without going anywhere",),
    "fall": ("gravity pulls {a} down until it rests on the ground", "from high up {a} plunges to the floor"),
    "roll": ("we see {a} that makes its way to the {dir} side", "{a} starts on the {opp} and ends up on the {dir}"),
    "collide": ("an impact: {a} smashes against {b}", "{a} and {b} head for each other and knock together"),
    "hide": (
        "for a moment {wall} conceals {a} that heads {dir}",
        "{a} slips out of sight behind {wall} and shows up again on the {dir}",
    ),
    "orbit": ("the viewpoint sweeps all around {list}", "we fly in an arc around {list}"),
    "pan": ("a sideways camera move to the {dir} shows {list}", "the camera drifts {dir}, passing {list}"),
    "circle": ("round and round {b} goes {a}", "{a} keeps running rings around {b}"),
    "still": ("a quiet picture of {list}", "we see {list} that just stand{s} there"),
    "spin": ("{a} twirls about itself", "like a top, {a} keeps whirling round"),
}
BESIDE = {
    "bounce": ("past {b}", "next to {b}", "in front of {b}", "and there is {b}"),
    "roll": ("past {b}", "in front of {b}", "passing {b}"),
    "fall": ("next to {b}", "beside {b}", "near {b}"),
    "spin": ("next to {b}", "beside {b}", "near {b}"),
}
FLOOR_WORDS: dict[str, tuple[str, ...]] = {
    "sandy": ("on a sandy checkered floor", "on a beige floor"),
    "gray": ("on a gray checkered floor", "on a gray floor"),
    "dark": ("on a dark checkered floor", "on a dark floor"),
}
SKY_WORDS: dict[str, tuple[str, ...]] = {
    "day": ("in daylight", "under a blue sky", "by day"),
    "sunset": ("at sunset", "in the evening light", "under an orange sky"),
    "night": ("at night", "under a dark night sky", "in the dark of night"),
}
FLOOR_SENTENCES: dict[str, str] = {
    "sandy": "a sandy checkered floor",
    "gray": "a gray checkered floor",
    "dark": "a dark checkered floor",
}
SKY_SENTENCES: dict[str, tuple[str, ...]] = {
    "day": ("under a clear blue sky by day", "in bright daylight"),
    "sunset": ("under an orange sunset sky", "in the warm light of sunset"),
    "night": ("under a dark night sky", "at night, in dim bluish light"),
}
STYLES = (
    "Clean 3D rendering with soft shadows.",
    "Simple computer animation with smooth shading.",
    "A tidy 3D animation, evenly lit.",
    "Minimal 3D render with soft light.",
)
