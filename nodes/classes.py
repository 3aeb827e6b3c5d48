"""What to generate, by the name of a class that the model was trained with."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .schema import Node, schema


class ClassLabel(Node):
    """MODEL and a class name -> CONDITIONING."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SpacetimeClassLabel",
            display_name="Class Label",
            category="Spacetime/words",
            description=(
                "Asks for a class instead of, or beside, a text. For models of Train DiT with classes on, which took "
                "the names of the clips' folders as classes."
            ),
            search_aliases=["class conditional", "class label", "category", "imagenet label"],
            inputs=[
                io.Model.Input("model", tooltip="A model trained with classes; it knows their names."),
                io.String.Input(
                    "label",
                    default="",
                    tooltip="Name of the class, or its number from 0. Empty is no class, for the negative side.",
                ),
                io.Conditioning.Input(
                    "conditioning",
                    optional=True,
                    tooltip="The text that goes with it (CLIP Text Encode). Needed where the model reads text too.",
                ),
            ],
            outputs=[io.Conditioning.Output(display_name="conditioning", tooltip="For KSampler or Guider.")],
        )

    @classmethod
    def execute(cls, model: Any, label: str, conditioning: Any = None) -> io.NodeOutput:
        """Mark the conditioning with the class."""
        from .host.model.model import labelled

        return io.NodeOutput(labelled(model, label, conditioning))


NODES: list[type[io.ComfyNode]] = [ClassLabel]
