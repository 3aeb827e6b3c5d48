"""The published networks behind core's call: `diffusion_model(x, t, context=..., transformer_options=...)`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import comfy.patcher_extension
import torch
from torch import Tensor

from ....models.published.dit import ClassConfig, ClassTransformer
from ....models.published.families import Published
from ....models.published.latte import LatteConfig, TextTransformer
from ....models.published.layers import Transformer
from ....models.published.stdit import OpenSoraConfig, OpenSoraTransformer
from .hosted_dit import kernel

Run = Callable[..., Tensor]  # (x (B, C, T, H, W), t, context, transformer_options, **conditions) -> answer


def call(network: torch.nn.Module, run: Run, x: Tensor, t: Tensor, context: Tensor | None, given: Any) -> Tensor:
    """Core's call of a diffusion model, through the wrappers of other nodes; pictures (B, C, H, W) are one frame.

    given: the conditions, and `transformer_options`.
    """
    conditions = dict(given)
    options = conditions.pop("transformer_options", None) or {}
    conditions.pop("control", None)
    wrappers = comfy.patcher_extension.get_all_wrappers(comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL, options)
    executor = comfy.patcher_extension.WrapperExecutor.new_class_executor(run, network, wrappers)
    video = x if x.ndim == 5 else x[:, :, None]
    answer: Tensor = executor.execute(video, t, context, options, **conditions)
    return answer if x.ndim == 5 else answer[:, :, 0]


class Hosted(Transformer):
    """Comes before a published network among the bases of a class, and puts it behind core's call."""

    network: type[Transformer]
    reads = ""  # the name of a model that reads a text

    def __init__(
        self, *, published: Published, dtype: torch.dtype, device: Any = None, operations: Any = torch.nn
    ) -> None:
        super().__init__(published.config, operations, device=device, dtype=dtype)
        self.dtype = dtype

    def forward(self, x: Tensor, t: Tensor, context: Tensor | None = None, **given: Any) -> Tensor:
        """x (B, C, T, H, W), pictures without T, t (B,) in the model's own time -> its answer with x's axes."""
        return call(self, self._answer, x, t, context, given)

    def _answer(
        self,
        x: Tensor,
        t: Tensor,
        context: Tensor | None,
        options: dict[str, Any],
        context_mask: Tensor | None = None,
        **conditions: Any,
    ) -> Tensor:
        given = self.given(context, context_mask, conditions)
        own: Tensor = self.network.forward(
            self, x, t, *given, attention=kernel(x.device, options), transformer_options=options
        )
        return own

    def given(self, context: Tensor | None, mask: Tensor | None, _conditions: dict[str, Any]) -> tuple[Any, ...]:
        """What the network reads beside the latents and the time: a text. ValueError without one."""
        if context is None:
            raise ValueError(
                f"{self.reads} reads a text: connect CLIP Text Encode, with T5-XXL from Load CLIP (type pixart)"
            )
        return context, None if mask is None else mask[..., 0] > 0.5


class HostedClassTransformer(Hosted, ClassTransformer):  # type: ignore[misc]  # called as core calls
    """DiT, SiT and Latte with classes, behind core's call."""

    network = ClassTransformer

    def given(self, _context: Tensor | None, _mask: Tensor | None, conditions: dict[str, Any]) -> tuple[Any, ...]:
        """Class numbers, or nothing."""
        labels = conditions.get("class_labels")
        return (None if labels is None else labels.reshape(-1),)


class HostedTextTransformer(Hosted, TextTransformer):  # type: ignore[misc]  # called as core calls
    """Latte-1, behind core's call."""

    network, reads = TextTransformer, "Latte-1"


class HostedOpenSora(Hosted, OpenSoraTransformer):  # type: ignore[misc]  # called as core calls
    """Open-Sora 1.2, behind core's call."""

    network, reads = OpenSoraTransformer, "Open-Sora"

    def given(self, context: Tensor | None, mask: Tensor | None, conditions: dict[str, Any]) -> tuple[Any, ...]:
        """A text, and frames per second."""
        return *super().given(context, mask, conditions), conditions.get("fps")

    def text_or_none(self, context: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Text features (1, L, E) and their mask; for zeros (Conditioning Zero Out) what it learned as "no text"."""
        if context.any():
            return context, mask
        nothing = self.y_embedder.y_embedding[None].to(context)
        return nothing, nothing.new_ones((1, nothing.shape[1], 1))


HOSTED: dict[type, type[Hosted]] = {
    ClassConfig: HostedClassTransformer,
    LatteConfig: HostedTextTransformer,
    OpenSoraConfig: HostedOpenSora,
}
