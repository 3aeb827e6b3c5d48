"""Load a checkpoint of ours as core objects."""

from __future__ import annotations

from comfy_api.latest import io

from ..models.precision import DTYPES
from ..models.published.names import FAMILIES
from .host import folders, messages
from .schema import Node, schema

DTYPE_CHOICES = ["auto", *DTYPES]
DTYPE_TOOLTIP = (
    "Number format the transformer computes in. auto takes bf16 where the hardware has matrix units for it (GPUs, and "
    "CPUs with AMX), else fp32. fp32 is exact and slower."
)
FORMS = ["full", "few steps"]
GUIDED = ["all", "first three"]


class LoadCheckpoint(Node):
    """Checkpoint file -> MODEL, CLIP, VAE."""

    FILES = frozenset({"checkpoint"})

    @classmethod
    def define_schema(cls) -> io.Schema:
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
            rarely=["dtype"],
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
                    tooltip=DTYPE_TOOLTIP,
                ),
                io.Combo.Input(
                    "form",
                    options=FORMS,
                    default=FORMS[0],
                    optional=True,
                    tooltip=(
                        "few steps: the model as it was taught to work in a few steps without guidance (Distill DiT), "
                        "where the file holds that form as well. Scheduler and Guider, left to the model, follow."
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
    def execute(cls, checkpoint: str, dtype: str, form: str = FORMS[0]) -> io.NodeOutput:
        """Read the file and build the three objects."""
        from .host.checkpoint import load_objects, trained_on
        from .host.model.recommended import recommended

        model, text_encoder, vae = load_objects(checkpoint, dtype, few_steps=form == FORMS[1])
        known, best = trained_on(model), recommended(model)
        said = [known.text()] if known else []
        said += [f"recommended: {best.text()}"] if best else []
        if said:
            messages.show_text(cls, "\n".join(said))
        return io.NodeOutput(model, text_encoder, vae)

    @classmethod
    def fingerprint_inputs(cls, checkpoint: str, dtype: str, form: str = FORMS[0]) -> str:
        """Load again when the file has changed (a training run overwrites it)."""
        stat = folders.checkpoint_path(checkpoint).stat()
        return f"{checkpoint}:{dtype}:{form}:{stat.st_mtime_ns}:{stat.st_size}"


class LoadDiT(Node):
    """File of a published transformer -> MODEL."""

    FILES = frozenset({"file"})

    @classmethod
    def define_schema(cls) -> io.Schema:
        from .host.model.published import published_names

        names = published_names()
        return schema(
            node_id="SpacetimeLoadDiT",
            display_name="Load DiT",
            category="Spacetime/loaders",
            description=(
                "Loads the weights of the papers' own transformers: DiT and SiT (images by class), Latte (video by "
                "class, or Latte-1 by text). The MODEL works with core's samplers and with the nodes here. Autoencoder "
                "and text encoder come from core's Load VAE and Load CLIP; the node says which belong to it."
            ),
            search_aliases=["load dit", "load sit", "load latte", "facebook dit", "imagenet", "published checkpoint"],
            rarely=["guided_channels", "dtype"],
            inputs=[
                io.Combo.Input(
                    "file",
                    options=names,
                    default=names[0],
                    tooltip=(
                        "Weights as published: .safetensors, or .pt, .pth, .bin, of which only the tensors are read. "
                        "They lie in ComfyUI's models/diffusion_models folder."
                    ),
                ),
                io.Combo.Input(
                    "family",
                    options=["auto", *FAMILIES],
                    default="auto",
                    tooltip="auto reads it from the file. DiT and SiT look alike: SiT is taken where the name says so.",
                ),
                io.Combo.Input(
                    "guided_channels",
                    options=GUIDED,
                    default=GUIDED[0],
                    tooltip=(
                        "Latent channels that guidance (cfg) works on. The papers' samples of DiT and SiT guided the "
                        "first three of four; all is the usual way."
                    ),
                ),
                io.Combo.Input("dtype", options=DTYPE_CHOICES, default="auto", tooltip=DTYPE_TOOLTIP),
            ],
            outputs=[io.Model.Output(display_name="model", tooltip="Ask it for a class (Class Label) or a text.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, file: str, family: str, guided_channels: str, dtype: str) -> io.NodeOutput:
        """Read the file, recognise it and build the MODEL."""
        from .host.model.published import load_published

        model, published = load_published(file, family, dtype, all_channels=guided_channels == GUIDED[0])
        messages.show_text(cls, published.describe())
        return io.NodeOutput(model)

    @classmethod
    def fingerprint_inputs(cls, file: str, family: str, guided_channels: str, dtype: str) -> str:
        """Load again when the file has changed."""
        from .host.model.published import published_path

        stat = published_path(file).stat()
        return f"{file}:{family}:{guided_channels}:{dtype}:{stat.st_mtime_ns}:{stat.st_size}"


NODES: list[type[io.ComfyNode]] = [LoadCheckpoint, LoadDiT]
