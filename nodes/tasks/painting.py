"""Change levels that are painted over time and space."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ...models.tasks.painting import LevelMap, grid_of, painted, parse_map
from ..host import messages
from ..host.latent import canvas_of, latent_of
from ..schema import schema
from .base import Task
from .inputs import CATEGORY, and_how_it_is_kept, and_still_open

KEY = "spacetime_levels"  # what the painter on the node is told after a run


class PaintLevels(Task):
    """A clip and a map of levels -> the clip with a mask."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SpacetimePaintLevels",
            display_name="Paint Levels",
            category=CATEGORY,
            description=(
                "Paints over time and space what may change in a clip, and how far: 0 is kept, 1 is made anew, between "
                "them the look changes more than what is there. A brush paints patches, a drag along the timeline "
                "whole frames. The map stands in the workflow. For levels between 0 and 1 sample with Change Levels."
            ),
            search_aliases=["noise level map", "paint mask", "video mask editor", "animate mask", "inpaint", "brush"],
            inputs=[
                io.Latent.Input("latent", tooltip="The clip."),
                io.String.Input(
                    "levels_map",
                    display_name="map",
                    default="",
                    tooltip="The painted map as JSON: its size in frames, rows and columns, and a level for each cell.",
                ),
                io.Model.Input(
                    "model", optional=True, tooltip="The cells are then the patches that this model cuts in space."
                ),
            ],
            outputs=[io.Latent.Output(display_name="latent", tooltip="The clip with the map as its mask.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, latent: dict[str, Any], levels_map: str, model: Any = None) -> io.NodeOutput:
        """Lay the map over the clip."""
        from ..host.model.recommended import patch_of
        from ..sampling import usual_patch

        clip, levels = canvas_of(latent), parse_map(levels_map)
        patch = patch_of(model) or usual_patch(clip.latents.shape[1])
        canvas, size = painted(clip, levels, patch), grid_of(clip, patch)
        text = and_still_open(described(levels), clip)
        messages.show_text(cls, text if model is None else and_how_it_is_kept(text, model, canvas))
        return io.NodeOutput(latent_of(canvas), ui={KEY: [{"size": list(size)}]})


def described(levels: LevelMap) -> str:
    """How much of a map may change, and how far."""
    share = sum(level > 0 for level in levels.levels) / len(levels.levels)
    if not share:
        return "nothing is painted, so nothing changes: paint what may"
    between = any(0 < level < 100 for level in levels.levels)
    text = f"{share:.0%} of the clip may change"
    return f"{text}; levels between 0 and 1 have the meaning that Change Levels gives them" if between else text


NODES: list[type[io.ComfyNode]] = [PaintLevels]
