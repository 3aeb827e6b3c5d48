"""Optimiser: Muon on the hidden matrices, AdamW on everything else, over fp32 master weights.

Muon: Jordan et al. 2024, kellerjordan.github.io/posts/muon, with the RMS-matched scale 0.2 sqrt(max(rows, columns)) of
arXiv 2502.16982, so that one learning rate serves both. The model itself may be bf16: each step updates the fp32
masters and copies them back. Where the parameters are split among workers, the tensors here are this worker's parts,
and a `Layout` does what has to be done together: the gradient's norm and Muon's whole matrices.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite, prod

import torch
from torch import Tensor, nn

from .clipping import GradientClipping
from .layout import Layout


def is_hidden_matrix(name: str, parameter: Tensor) -> bool:
    """Muon's share: matrices inside blocks. Embeddings, heads, modulation, tables and norms go to AdamW."""
    return (
        parameter.ndim >= 2
        and any(part in name for part in ("blocks.", ".coarse.", ".middle.", ".fine."))
        and (not name.endswith("table"))
    )


class Optimiser:
    """Steps a model's parameters. `state()` and `load()` carry everything: a resumed run equals a whole one."""

    def __init__(
        self, model: nn.Module, *, learning_rate: float, weight_decay: float = 0.01, muon: bool = True,
        betas: tuple[float, float] = (0.9, 0.95), momentum: float = 0.95, max_norm: float = 1.0,
        clip_deviations: float = 0.0, layout: Layout | None = None,
    ) -> None:  # fmt: skip
        self.layout = layout or Layout()
        self.parameters = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self.masters = {name: self.layout.local(p.detach()).float().clone() for name, p in self.parameters}
        self.muon = {name for name, p in self.parameters if muon and is_hidden_matrix(name, p)}
        self.first = {name: torch.zeros_like(master) for name, master in self.masters.items()}
        self.second = {name: torch.zeros_like(m) for name, m in self.masters.items() if name not in self.muon}
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.betas, self.momentum = betas, momentum
        self.clipping = GradientClipping(max_norm, clip_deviations)
        self.steps = 0

    @torch.no_grad()
    def step(self, scale: float = 1.0, loss: Tensor | None = None) -> float:
        """One update at learning_rate * scale. Returns the gradient norm before clipping; clears the gradients.

        ValueError when the norm, or the loss that it is the gradient of, is not finite; nothing has changed then. Both
        are read at once, which is all that a step waits for a GPU.
        """
        parameters = dict(self.parameters)
        gradients = {n: self.layout.local(p.grad).float() for n, p in self.parameters if p.grad is not None}
        squares = torch.stack([g.square().sum() for g in gradients.values()]).sum()
        norm = self._read(self.layout.total(squares).sqrt(), loss)
        if not isfinite(norm):  # of a finite loss all the same: it would ruin the weights
            raise ValueError(
                f"the gradient became {norm} at step {self.steps}: lower --learning-rate; the last checkpoint is kept"
            )
        shrink = self.clipping.factor(norm)
        self.steps += 1
        rate = self.learning_rate * scale
        matrices = (
            (name, self._nesterov(name, gradient * shrink).to(parameters[name].dtype))
            for name, gradient in gradients.items()
            if name in self.muon
        )
        for name, direction in self.layout.orthogonalised(matrices):
            rows, *columns = self.layout.shape(name, direction)
            matched = 0.2 * max(rows, prod(columns)) ** 0.5
            self._apply(parameters[name], name, direction.float() * matched, rate)
        for name, gradient in gradients.items():
            if name not in self.muon:
                self._apply(parameters[name], name, self._adam(name, gradient * shrink), rate)
        for parameter in parameters.values():
            parameter.grad = None
        return norm

    def _read(self, norm: Tensor, loss: Tensor | None) -> float:
        """The norm as a number. ValueError when the loss is not finite."""
        if loss is None:
            return float(norm)
        if loss.device == norm.device:
            number, value = torch.stack([norm, loss.detach().to(norm.dtype)]).tolist()
        else:
            number, value = float(norm), float(loss)
        if not isfinite(value):
            raise ValueError(
                f"the loss became {value} at step {self.steps}: lower --learning-rate; the last checkpoint is kept"
            )
        return float(number)

    def _apply(self, parameter: Tensor, name: str, update: Tensor, rate: float) -> None:
        master = self.masters[name]
        if parameter.ndim >= 2:
            master.mul_(1 - rate * self.weight_decay)
        master.add_(update, alpha=-rate)
        self.layout.local(parameter).copy_(master)

    def _nesterov(self, name: str, gradient: Tensor) -> Tensor:
        buffer = self.first[name]
        buffer.lerp_(gradient, 1 - self.momentum)
        return gradient.lerp(buffer, self.momentum)

    def _adam(self, name: str, gradient: Tensor) -> Tensor:
        beta1, beta2 = self.betas
        first, second = self.first[name], self.second[name]
        first.lerp_(gradient, 1 - beta1)
        second.lerp_(gradient.square(), 1 - beta2)
        unbiased = second / (1 - beta2**self.steps)
        return first / (1 - beta1**self.steps) / (unbiased.sqrt() + 1e-8)

    def state(self) -> dict[str, Tensor]:
        """Masters and moments by name, and the statistic of the gradient's norm."""
        named = {"master": self.masters, "first": self.first, "second": self.second}
        split = {f"{kind}.{name}": t for kind, tensors in named.items() for name, t in tensors.items()}
        return split | self.clipping.state()

    @torch.no_grad()
    def load(self, state: dict[str, Tensor], steps: int) -> None:
        """Continue from `state()`; KeyError when it belongs to another model."""
        for key, value in self.state().items():
            value.copy_(state[key])
        for name, parameter in self.parameters:
            self.layout.local(parameter).copy_(self.masters[name])
        self.steps = steps

    def held_bytes(self) -> int:
        """Bytes of parameters and optimiser state in this process."""
        held = [self.layout.local(p.detach()) for _, p in self.parameters] + list(self.state().values())
        return sum(tensor.numel() * tensor.element_size() for tensor in held)


class EMA:
    """Moving average of the master weights with the power-function profile of EDM2 (arXiv 2312.02696, eq. 121).

    The average at step t looks back over a fixed fraction of the whole run: beta_t = (1 - 1/t)^(gamma + 1).
    """

    def __init__(self, weights: dict[str, Tensor], gamma: float = 6.94, layout: Layout | None = None) -> None:
        self.gamma = gamma
        self.layout = layout or Layout()
        self.weights = {name: weight.clone() for name, weight in weights.items()}

    @torch.no_grad()
    def update(self, weights: dict[str, Tensor], step: int) -> None:
        """Take in the weights after `step` >= 1 steps."""
        beta = (1 - 1 / step) ** (self.gamma + 1)
        for name, average in self.weights.items():
            average.lerp_(weights[name], 1 - beta)

    def items(self) -> Iterator[tuple[str, Tensor]]:
        """Names and averages; parts of them where the parameters are split."""
        yield from self.weights.items()

    def whole(self, *, keep: bool = True) -> dict[str, Tensor]:
        """Whole averages by name, in the CPU's memory; {} unless `keep`. All workers must call it."""
        return {name: weight for name, weight in self.layout.whole(self.weights.items()) if keep}


def learning_rate_scale(step: int, total: int, *, warmup: int = 100, decay: float = 0.3) -> float:
    """Warm-up, constant, then linear to zero over the last `decay` of the run (step counts from 0)."""
    return min(1.0, (step + 1) / max(warmup, 1), (total - step) / max(total * decay, 1))
