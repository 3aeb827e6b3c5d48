"""Room between the nodes of a workflow, for every way of drawing them: Nodes 2.0 draws taller than the classic canvas.

Where two nodes come too close, everything below (or right of) the second one moves on, so columns stay aligned, and
groups are drawn anew around what they held.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from typing import Any

GAP = 16  # pixels between any two nodes
MOST_MOVES = 2000


@dataclass(frozen=True)
class Box:
    """A rectangle on the canvas."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: "Box", gap: float = 0) -> tuple[float, float]:
        """How far two come nearer than the gap, across and down; both are above 0 where they do."""
        across = min(self.right, other.right) - max(self.left, other.left) + gap
        down = min(self.bottom, other.bottom) - max(self.top, other.top) + gap
        return across, down

    def moved(self, x: float, y: float) -> "Box":
        """The same one elsewhere."""
        return Box(self.left + x, self.top + y, self.right + x, self.bottom + y)

    @classmethod
    def around(cls, boxes: Iterable["Box"]) -> "Box":
        """The smallest one that holds all of them."""
        edges = list(zip(*((box.left, box.top, box.right, box.bottom) for box in boxes), strict=True))
        return cls(min(edges[0]), min(edges[1]), max(edges[2]), max(edges[3]))


@dataclass
class Group:
    """A group: the nodes that it holds and how far its frame is from them, left, top, right and bottom."""

    data: dict[str, Any]
    members: list[int]
    padding: tuple[float, float, float, float]

    def box(self, boxes: dict[int, Box]) -> Box:
        """Its frame around the nodes as they are now."""
        held, (left, top, right, bottom) = Box.around(boxes[key] for key in self.members), self.padding
        return Box(held.left - left, held.top - top, held.right + right, held.bottom + bottom)


def overlaps(boxes: dict[int, Box], gap: float = 0) -> list[tuple[int, int]]:
    """Pairs of nodes that cover each other, or come nearer than a gap."""
    return [
        (a, b) for (a, one), (b, other) in combinations(sorted(boxes.items()), 2) if min(one.overlap(other, gap)) > 0
    ]


def make_room(graph: dict[str, Any], boxes: dict[int, Box]) -> bool:
    """Move the nodes of a graph (as it is saved) so that their boxes keep apart; whether anything was moved.

    boxes: what each node takes up where it is now, in all ways of drawing it together.
    """
    groups = groups_of(graph, boxes)
    before, boxes = boxes, dict(boxes)
    for _ in range(MOST_MOVES):
        found = first_conflict(boxes, groups)
        if found is None:
            break
        push(boxes, *found)
    moved = boxes != before
    if moved:
        for node in graph["nodes"]:
            old, new = before[node["id"]], boxes[node["id"]]
            node["pos"] = [round(node["pos"][0] + new.left - old.left), round(node["pos"][1] + new.top - old.top)]
        for group in groups:
            box = group.box(boxes)
            group.data["bounding"] = [round(v) for v in (box.left, box.top, box.right - box.left, box.bottom - box.top)]
    return moved


def groups_of(graph: dict[str, Any], boxes: dict[int, Box]) -> list[Group]:
    """The groups of a graph that hold nodes; a node belongs to the group in which its title is."""
    found = []
    for data in graph.get("groups", []):
        x, y, width, height = data["bounding"]
        members = [
            node["id"]
            for node in graph["nodes"]
            if x <= node["pos"][0] <= x + width and y <= node["pos"][1] <= y + height
        ]
        if members:
            # its lower edge was drawn for the classic canvas: only a frame's width is kept below what is taller
            held = Box.around(boxes[key] for key in members)
            left, top = held.left - x, held.top - y
            found.append(Group(data, members, (left, top, max(left, x + width - held.right), left)))
    return found


Conflict = tuple[Box, Box]


def first_conflict(boxes: dict[int, Box], groups: list[Group]) -> Conflict | None:
    """What comes too near and has to give way, the highest first: nodes, groups, and nodes in the way of a group."""
    pairs = [(boxes[a], boxes[b]) for a, b in overlaps(boxes, GAP)]
    frames = [(group, group.box(boxes)) for group in groups]
    for (one, first), (other, second) in combinations(frames, 2):
        if min(first.overlap(second)) > 0 and not set(one.members) & set(other.members):
            pairs.append((first, second))
    for group, frame in frames:
        strangers = (box for key, box in boxes.items() if key not in group.members)
        pairs += [(frame, box) for box in strangers if min(frame.overlap(box)) > 0]
    ordered = [sorted(pair, key=lambda box: (box.top + box.left, box.top)) for pair in pairs]
    return min(((a, b) for a, b in ordered), key=lambda pair: pair[1].top, default=None)


def push(boxes: dict[int, Box], first: Box, second: Box) -> None:
    """Move everything that begins where the second begins, or after it, along the shorter way out."""
    across, down = first.overlap(second, GAP)
    if across < down:
        first, second = sorted((first, second), key=lambda box: box.left)
        for key, box in boxes.items():
            if box.left >= second.left:
                boxes[key] = box.moved(first.right + GAP - second.left, 0)
    else:
        first, second = sorted((first, second), key=lambda box: box.top)
        for key, box in boxes.items():
            if box.top >= second.top:
                boxes[key] = box.moved(0, first.bottom + GAP - second.top)
