"""Nodes that cover each other are moved apart, whatever lies where, and groups go with what they hold."""

import copy
import random

import pytest

from comfyui_spacetime.tools.layout import GAP, Box, make_room, overlaps


def graph_of(boxes: dict[int, Box], frames: list[list[int]]) -> dict:
    """A graph with a node for each box and a group around each list of nodes."""
    nodes = [{"id": key, "pos": [box.left, box.top + 30]} for key, box in boxes.items()]
    held = [Box.around(boxes[key] for key in frame) for frame in frames]
    bounding = [[b.left - 10, b.top - 40, b.right - b.left + 20, b.bottom - b.top + 50] for b in held]
    return {"nodes": nodes, "groups": [{"bounding": one} for one in bounding]}


def grown(boxes: dict[int, Box], by: dict[int, float]) -> dict[int, Box]:
    """The same nodes, drawn taller."""
    return {key: Box(b.left, b.top, b.right, b.bottom + by.get(key, 0)) for key, b in boxes.items()}


def after(graph: dict, boxes: dict[int, Box]) -> dict[int, Box]:
    """Where the boxes are once the nodes have been moved."""
    places = {node["id"]: node["pos"] for node in graph["nodes"]}
    return {k: b.moved(places[k][0] - b.left, places[k][1] - 30 - b.top) for k, b in boxes.items()}


def columns(count: int, rows: int) -> dict[int, Box]:
    return {
        c * rows + r: Box(c * 300, r * 200, c * 300 + 280, r * 200 + 180) for c in range(count) for r in range(rows)
    }


@pytest.mark.parametrize("seed", range(20))
def test_whatever_grows_nothing_is_covered_and_the_order_stays(seed):
    chance = random.Random(seed)
    plain = columns(4, 4)
    graph = graph_of(plain, [[0, 1], [4, 5], [8, 9, 10], [14, 15]])
    boxes = grown(plain, {key: chance.choice([0, 0, 60, 190]) for key in plain})
    make_room(graph, boxes)
    now = after(graph, boxes)
    assert not overlaps(now, GAP - 1)
    for a, b in ((0, 1), (1, 2), (5, 6), (14, 15)):
        assert now[a].top < now[b].top, "what stood below stays below"
    assert [now[r].left for r in range(4)] == [0] * 4, "columns stay columns"
    frames = [Box(x, y, x + w, y + h) for x, y, w, h in (one["bounding"] for one in graph["groups"])]
    for frame, members in zip(frames, [[0, 1], [4, 5], [8, 9, 10], [14, 15]], strict=True):
        inside = [k for k, b in now.items() if min(frame.overlap(b)) > 0]
        assert inside == members, "a group holds what it held, whole"
        assert all(frame.left <= now[k].left and frame.bottom >= now[k].bottom for k in members)


def test_what_has_room_stays_where_it_is():
    plain = columns(3, 3)
    graph = graph_of(plain, [[0, 1]])
    before = copy.deepcopy(graph)
    assert not make_room(graph, plain)
    assert graph == before


def test_neighbours_that_grow_wider_move_aside():
    boxes = {1: Box(0, 0, 320, 100), 2: Box(300, 0, 580, 100)}
    graph = graph_of(boxes, [])
    assert make_room(graph, boxes)
    assert after(graph, boxes)[2].left == 320 + GAP
    assert after(graph, boxes)[2].top == 0
