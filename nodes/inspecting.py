"""What patches look at: the attention of a model between two steps, for the view of patches in the editor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from comfy_api.latest import io

from ..models.patches import Tokens
from ..models.transformer.attended import Attended
from . import sockets
from .host import messages
from .looking import packed, patches_shown
from .schema import Node, schema
from .tokens import CATEGORY, denoised_latent, describe, laid_out

ROUTE = "/spacetime/attention"


class InspectTokens(Node):
    """TOKENS -> the same, and what can be seen of them."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SpacetimeInspectTokens",
            display_name="Inspect Tokens",
            category=CATEGORY,
            description=(
                "Shows the patches between two steps of a run: right-click, Look at the patches. With a guider it asks "
                "the model once what each patch attends to, over space and time, in every block and head; with a VAE "
                "the frames lie under the grid. The tokens go on unchanged, and so does the run."
            ),
            search_aliases=["attention map", "attention weights", "look at patches", "visualize tokens"],
            inputs=[
                sockets.Tokens.Input("tokens", tooltip="Patches before, during or after a run."),
                io.Guider.Input(
                    "guider",
                    optional=True,
                    tooltip="Model and prompt: one more step is made for its attention, and thrown away.",
                ),
                io.Vae.Input("vae", optional=True, tooltip="To see the model's guess of the frames under the patches."),
            ],
            outputs=[sockets.Tokens.Output(display_name="tokens", tooltip="The same tokens.")],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, tokens: Tokens, guider: Any = None, vae: Any = None) -> io.NodeOutput:
        """Look, and hand on."""
        model = getattr(guider, "model_patcher", None)
        found, why = (None, "") if guider is None else _attended(tokens, guider)
        messages.show_text(cls, "\n".join(filter(None, [describe(tokens), why or told(found)])))
        shown = patches_shown(
            tokens,
            model=model,
            vae=vae,
            guess=lambda: denoised_latent(tokens),
            state=lambda: laid_out(tokens),
            attention=described(tokens, found, why),
        )
        return io.NodeOutput(tokens, ui=shown or None)


def _attended(tokens: Tokens, guider: Any) -> tuple[Attended | None, str]:
    from .host.stepping.attending import attended

    return attended(tokens, guider)


def told(found: Attended | None) -> str:
    """For example: attention of 12 blocks, 6 heads."""
    if found is None:
        return ""
    some = "" if len(found.blocks) == found.seen else f" ({len(found.blocks)} of them are kept)"
    return f"attention of {found.seen} blocks{some}, {found.heads} heads"


def described(tokens: Tokens, found: Attended | None, why: str) -> dict[str, Any]:
    """What the editor is told of it: the name to ask by, or why there is nothing to ask."""
    from .host.stepping.attending import kept_look

    if found is None:
        return {"why": why or "connect a guider to Inspect Tokens to see what a patch attends to"}
    return {"look": kept_look(found, tokens.grids), "blocks": list(found.blocks), "heads": found.heads}


def attention_for(query: Mapping[str, str]) -> dict[str, Any]:
    """What the editor asks for when a patch is clicked: its weights as bytes, 255 for the largest, and of each frame.

    ValueError for what is no number, is not there, or is not kept any more.
    """
    from .host.stepping.attending import look_of

    found, grids = look_of(query.get("look", ""))
    block, patch = _number(query, "block"), _number(query, "patch")
    head = None if query.get("head", "mean") == "mean" else _number(query, "head")
    row = found.row(block, patch, head)
    largest = float(row.max())
    sizes = [grid.height * grid.width for grid in grids for _ in range(grid.frames)]
    shares = [float(frame.sum()) for frame in row.split(sizes)]
    return {"weights": packed(row / largest if largest > 0 else row), "largest": largest, "frames": shares}


def _number(query: Mapping[str, str], name: str) -> int:
    text = query.get(name, "")
    if not text.isdecimal() or len(text) > 9:
        raise ValueError(f'{name} is "{text[:20]}": a whole number is wanted')
    return int(text)


messages.serve_json(ROUTE, attention_for)

NODES: list[type[io.ComfyNode]] = [InspectTokens]
