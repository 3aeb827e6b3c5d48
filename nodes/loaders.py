"""Load a checkpoint of ours as core objects."""

from __future__ import annotations

from comfy_api.latest import io

from ..models.precision import DTYPES
from .host import folders, messages
from .schema import Node, schema

DTYPE_CHOICES = ["auto", *DTYPES]


class LoadCheckpoint(Node):
    """Checkpoint file -> MODEL, CLIP, VAE."""

    FILES = frozenset({"checkpoint"})

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        names = folders.checkpoint_names()
        return schema(
            node_id="SpacetimeLoadCheckpoint",
            display_name="Load Spacetime Checkpoint",
            category="Spacetime/loaders",
            description=(
                "Loads a Spacetime checkpoint: the video transformer (MODEL), its text encoder (CLIP) and its video "
                "VAE. All three are ordinary ComfyUI objects, so core's nodes work on them too."
            ),
            search_aliases=["spacetime model", "video dit", "sora", "text to video model", "load video model"],
            inputs=[
                io.Combo.Input(
                    "checkpoint",
                    options=names,
                    default=names[0],
                    tooltip=(
                        "spacetime-toy comes with the pack. Checkpoints that you have trained appear here when they "
                        "lie in ComfyUI's models/checkpoints or models/diffusion_models folder."
                    ),
                ),
                io.Combo.Input(
                    "dtype",
                    options=DTYPE_CHOICES,
                    default="auto",
                    tooltip=(
                        "Number format the transformer computes in. auto takes bf16 where the hardware has matrix "
                        "units for it (GPUs, and CPUs with AMX), else fp32. fp32 is exact and slower."
                    ),
                ),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="The diffusion transformer."),
                io.Clip.Output(display_name="clip", tooltip="The text encoder, for CLIP Text Encode."),
                io.Vae.Output(display_name="vae", tooltip="The video VAE: 4 frames x 8 x 8 pixels per latent."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, checkpoint: str, dtype: str) -> io.NodeOutput:
        """Read the file and build the three objects."""
        from .host.checkpoint import load_objects, trained_on

        model, clip, vae = load_objects(checkpoint, dtype)
        known = trained_on(model)
        if known is not None:
            messages.show_text(cls, known.text())
        return io.NodeOutput(model, clip, vae)

    @classmethod
    def fingerprint_inputs(cls, checkpoint: str, dtype: str) -> str:
        """Load again when the file has changed (a training run overwrites it)."""
        stat = folders.checkpoint_path(checkpoint).stat()
        return f"{checkpoint}:{dtype}:{stat.st_mtime_ns}:{stat.st_size}"


NODES: list[type[io.ComfyNode]] = [LoadCheckpoint]
