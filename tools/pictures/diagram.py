"""A workflow drawn from its file: what stands for it where nobody can run it without a large model."""

from typing import Any

from PIL import Image, ImageDraw

SCALE = 3  # drawn larger and scaled down, for smooth lines
BACKGROUND, NODE, HEAD, TEXT, LINK = (30, 32, 38), (58, 62, 72), (84, 92, 108), (228, 230, 234), (112, 168, 214)
LEAST = 200  # pixels of height
TITLE = 26  # pixels above a node


def diagram(workflow: dict[str, Any], width: int) -> Image.Image:
    """Groups, nodes and links of a workflow in the editor's format."""
    boxes = [group["bounding"] for group in workflow["groups"]]
    left, top = min(box[0] for box in boxes), min(box[1] for box in boxes)
    right, bottom = max(box[0] + box[2] for box in boxes), max(box[1] + box[3] for box in boxes)
    zoom = SCALE * width / (right - left)
    height = max(round((bottom - top) * zoom), SCALE * LEAST)
    image = Image.new("RGB", (SCALE * width, height), BACKGROUND)
    draw = ImageDraw.Draw(image)

    def place(x: float, y: float) -> tuple[float, float]:
        return (x - left) * zoom, (y - top) * zoom

    for group in workflow["groups"]:
        x, y, wide, high = group["bounding"]
        draw.rectangle((*place(x + 4, y + 4), *place(x + wide - 4, y + high - 4)), outline=group["color"], width=4)
        draw.text(place(x + 16, y + 12), group["title"], fill=group["color"], font_size=28 * zoom)
    nodes = {node["id"]: node for node in workflow["nodes"]}
    for _, source, _, target, *_ in workflow["links"]:
        _link(draw, nodes[source], nodes[target], place)
    for node in workflow["nodes"]:
        (x, y), (wide, high) = node["pos"], node["size"]
        draw.rectangle((*place(x, y - TITLE), *place(x + wide, y + high)), fill=NODE)
        draw.rectangle((*place(x, y - TITLE), *place(x + wide, y)), fill=HEAD)
        name = node.get("title") or node["type"].removeprefix("Spacetime")
        draw.text(place(x + 10, y - TITLE + 1), name, fill=TEXT, font_size=21 * zoom)
    return image.resize((width, round(image.height / SCALE)), Image.Resampling.LANCZOS)


def _link(draw: ImageDraw.ImageDraw, source: dict[str, Any], target: dict[str, Any], place: Any) -> None:
    """A curve from the right side of one node to the left side of another."""
    begin = place(source["pos"][0] + source["size"][0], source["pos"][1] + 14)
    end = place(target["pos"][0], target["pos"][1] + 14)
    bend = max(60.0, abs(end[0] - begin[0]) / 2)
    points = []
    for index in range(25):
        t = index / 24
        weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
        xs, ys = (begin[0], begin[0] + bend, end[0] - bend, end[0]), (begin[1], begin[1], end[1], end[1])
        points.append(tuple(sum(w * v for w, v in zip(weights, values, strict=True)) for values in (xs, ys)))
    draw.line(points, fill=LINK, width=4)
