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


class HostedClassTransformer(ClassTransformer):
    """DiT, SiT and Latte with classes, behind core's call."""

    def __init__(
        self, *, published: Published, dtype: torch.dtype, device: Any = None, operations: Any = torch.nn
    ) -> None:
        assert isinstance(published.config, ClassConfig)
        super().__init__(published.config, operations, device=device, dtype=dtype)
        self.dtype = dtype

    def forward(self, x: Tensor, t: Tensor, context: Tensor | None = None, **given: Any) -> Tensor:  # type: ignore[override]
        """x (B, C, H, W) or (B, C, T, H, W), t (B,) in the model's own time -> its answer with x's axes."""
        return call(self, self._answer, x, t, context, given)

    def _answer(
        self, x: Tensor, t: Tensor, _: Any, options: dict[str, Any], class_labels: Tensor | None = None, **_more: Any
    ) -> Tensor:
        labels = None if class_labels is None else class_labels.reshape(-1)
        return super().forward(x, t, labels, attention=kernel(x.device, options), transformer_options=options)


class HostedTextTransformer(TextTransformer):
    """Latte-1, behind core's call."""

    def __init__(
        self, *, published: Published, dtype: torch.dtype, device: Any = None, operations: Any = torch.nn
    ) -> None:
        assert isinstance(published.config, LatteConfig)
        super().__init__(published.config, operations, device=device, dtype=dtype)
        self.dtype = dtype

    def forward(self, x: Tensor, t: Tensor, context: Tensor | None = None, **given: Any) -> Tensor:  # type: ignore[override]
        """x (B, C, T, H, W), t (B,) in the model's own time -> its answer. ValueError without a text."""
        return call(self, self._answer, x, t, context, given)

    def _answer(
        self,
        x: Tensor,
        t: Tensor,
        context: Tensor | None,
        options: dict[str, Any],
        context_mask: Tensor | None = None,
        **_more: Any,
    ) -> Tensor:
        if context is None:
            raise ValueError("Latte-1 reads a text: connect CLIP Text Encode, with T5-XXL from Load CLIP (type pixart)")
        mask = None if context_mask is None else context_mask[..., 0] > 0.5
        shared: dict[str, Any] = {"attention": kernel(x.device, options), "transformer_options": options}
        return super().forward(x, t, context, mask, **shared)


class HostedOpenSora(OpenSoraTransformer):
    """Open-Sora 1.2, behind core's call."""

    def __init__(
        self, *, published: Published, dtype: torch.dtype, device: Any = None, operations: Any = torch.nn
    ) -> None:
        assert isinstance(published.config, OpenSoraConfig)
        super().__init__(published.config, operations, device=device, dtype=dtype)
        self.dtype = dtype

    def forward(self, x: Tensor, t: Tensor, context: Tensor | None = None, **given: Any) -> Tensor:  # type: ignore[override]
        """x (B, C, T, H, W), t (B,) in thousandths -> its answer. ValueError without a text."""
        return call(self, self._answer, x, t, context, given)

    def text_or_none(self, context: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Text features (1, L, E) and their mask; for zeros (Conditioning Zero Out) what it learned as "no text"."""
        if context.any():
            return context, mask
        nothing = self.y_embedder.y_embedding[None].to(context)
        return nothing, nothing.new_ones((1, nothing.shape[1], 1))

    def _answer(
        self,
        x: Tensor,
        t: Tensor,
        context: Tensor | None,
        options: dict[str, Any],
        context_mask: Tensor | None = None,
        fps: Tensor | None = None,
        **_more: Any,
    ) -> Tensor:
        if context is None:
            raise ValueError(
                "Open-Sora reads a text: connect CLIP Text Encode, with T5-XXL from Load CLIP (type pixart)"
            )
        mask = None if context_mask is None else context_mask[..., 0] > 0.5
        shared: dict[str, Any] = {"attention": kernel(x.device, options), "transformer_options": options}
        return super().forward(x, t, context, mask, fps, **shared)


HOSTED: dict[type, type[torch.nn.Module]] = {
    ClassConfig: HostedClassTransformer,
    LatteConfig: HostedTextTransformer,
    OpenSoraConfig: HostedOpenSora,
}
