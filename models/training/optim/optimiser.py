"""Optimiser: Muon on the hidden matrices, AdamW on everything else, over fp32 master weights.

Muon: Jordan et al. 2024, kellerjordan.github.io/posts/muon, with the RMS-matched scale 0.2 sqrt(max(rows, columns)) of
arXiv 2502.16982, so that one learning rate serves both. The model itself may be bf16: each step updates the fp32
masters and copies them back. Where the parameters are split among workers, the tensors here are this worker's parts,
and a `Layout` does what has to be done together: the gradient's norm and Muon's whole matrices.

On a GPU a small model's step is as long as it has kernels, so parameters are updated in bunches, each by the same few
(torch's foreach functions). On CPUs those are loops, and the numbers are the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite, prod

import torch
from torch import Tensor, nn

from .clipping import GradientClipping
from .layout import Layout

UNREAD = 64  # steps of a GPU whose norms nobody has asked for: then they are read all the same
BUNCH = 1 << 26  # parameters in a bunch: what is made on the way to an update takes a few times 4 bytes of each


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
        self,
        model: nn.Module,
        *,
        learning_rate: float,
        weight_decay: float = 0.01,
        muon: bool = True,
        betas: tuple[float, float] = (0.9, 0.95),
        momentum: float = 0.95,
        max_norm: float = 1.0,
        clip_deviations: float = 0.0,
        layout: Layout | None = None,
    ) -> None:
        self.layout = layout or Layout()
        self.parameters = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self.named = dict(self.parameters)
        self.masters = {name: self.layout.local(p.detach()).float().clone() for name, p in self.parameters}
        self.muon = {name for name, p in self.parameters if muon and is_hidden_matrix(name, p)}
        self.first = {name: torch.zeros_like(master) for name, master in self.masters.items()}
        self.second = {name: torch.zeros_like(m) for name, m in self.masters.items() if name not in self.muon}
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.betas, self.momentum = betas, momentum
        self.clipping = GradientClipping(
            max_norm, clip_deviations, next((m.device for m in self.masters.values()), None)
        )
        self.steps = 0
        self.unread: list[tuple[int, list[Tensor]]] = []  # step, its norm and its loss
        self.last = (float("nan"), float("nan"))  # the norm and loss that were read last

    @torch.no_grad()
    def step(self, scale: float = 1.0, loss: Tensor | None = None) -> Tensor:
        """One update at learning_rate * scale. Returns the gradient norm before clipping; clears the gradients.

        ValueError when the norm, or the loss that it is the gradient of, is not finite; nothing has changed then. On a
        GPU, which is not waited for, `check` says so later.
        """
        found = {name: self.layout.local(p.grad) for name, p in self.parameters if p.grad is not None}
        lengths = torch.stack(torch._foreach_norm(list(found.values()), 2, dtype=torch.float32))
        norm = self.layout.total(lengths.square().sum()).sqrt()
        self.unread.append((self.steps, [norm] if loss is None else [norm, loss.detach()]))
        if norm.device.type == "cpu" or len(self.unread) == UNREAD:
            self.check()
        shrink = self.clipping.factor(norm)
        self.steps += 1
        for names in self._bunches(list(found)):
            gradients = torch._foreach_mul(in_dtypes([found[name] for name in names], [torch.float32]), shrink)
            make = self._muon if names[0] in self.muon else self._adam
            self._apply(names, make(names, list(gradients)), self.learning_rate * scale)
        for _, parameter in self.parameters:
            parameter.grad = None
        return norm

    def _bunches(self, names: Sequence[str]) -> Iterator[list[str]]:
        """Parameters that are updated together, either by Muon or by Adam, matrices of a shape side by side.

        The same ones for all workers.
        """
        shapes = {name: self.layout.shape(name, self.masters[name]) for name in names}
        bunch: list[str] = []
        held = 0
        for name in sorted(names, key=lambda name: (name in self.muon, tuple(shapes[name]))):
            size = prod(shapes[name])
            if bunch and (held + size > BUNCH * self.layout.workers or (name in self.muon) != (bunch[0] in self.muon)):
                yield bunch
                bunch, held = [], 0
            bunch.append(name)
            held += size
        if bunch:
            yield bunch

    def check(self) -> tuple[float, float]:
        """Norm and loss of the last step as numbers, nan for a loss that was not given. A GPU is waited for once.

        ValueError when one of them, or of the steps since this was asked last, is not finite: what has been learned
        since is lost then, and must not be kept.
        """
        unread, self.unread = self.unread, []
        found = iter(numbers([scalar for _, scalars in unread for scalar in scalars]))
        for step, scalars in unread:
            values = dict(zip(("gradient", "loss"), [next(found) for _ in scalars], strict=False))
            for name, value in reversed(values.items()):  # a gradient may be broken by a finite loss
                if not isfinite(value):
                    raise ValueError(
                        f"the {name} became {value} at step {step}: lower --learning-rate; the last checkpoint is kept"
                    )
            self.last = values["gradient"], values.get("loss", float("nan"))
        return self.last

    def _apply(self, names: Sequence[str], updates: list[Tensor], rate: float) -> None:
        parameters, masters = [self.named[name] for name in names], [self.masters[name] for name in names]
        decayed = [master for parameter, master in zip(parameters, masters, strict=True) if parameter.ndim >= 2]
        if decayed:
            torch._foreach_mul_(decayed, 1 - rate * self.weight_decay)
        torch._foreach_add_(masters, updates, alpha=-rate)
        torch._foreach_copy_([self.layout.local(parameter) for parameter in parameters], masters)

    def _muon(self, names: Sequence[str], gradients: list[Tensor]) -> list[Tensor]:
        buffers = [self.first[name] for name in names]
        torch._foreach_lerp_(buffers, gradients, 1 - self.momentum)
        nesterov = torch._foreach_lerp(gradients, buffers, self.momentum)
        matrices = in_dtypes(list(nesterov), [self.named[name].dtype for name in names])
        directions = dict(self.layout.orthogonalised(zip(names, matrices, strict=True)))
        updates = in_dtypes([directions[name] for name in names], [torch.float32])
        shapes = [self.layout.shape(name, directions[name]) for name in names]
        matched = [0.2 * max(rows, prod(columns)) ** 0.5 for rows, *columns in shapes]
        return list(torch._foreach_mul(updates, matched))

    def _adam(self, names: Sequence[str], gradients: list[Tensor]) -> list[Tensor]:
        beta1, beta2 = self.betas
        first, second = [self.first[name] for name in names], [self.second[name] for name in names]
        torch._foreach_lerp_(first, gradients, 1 - beta1)
        torch._foreach_lerp_(second, torch._foreach_mul(gradients, gradients), 1 - beta2)
        lengths = torch._foreach_div(second, 1 - beta2**self.steps)
        torch._foreach_sqrt_(lengths)
        torch._foreach_add_(lengths, 1e-8)
        updates = torch._foreach_div(first, 1 - beta1**self.steps)
        torch._foreach_div_(updates, lengths)
        return list(updates)

    def state(self) -> dict[str, Tensor]:
        """Masters and moments by name, and the statistic of the gradient's norm. ValueError as in `check`."""
        self.check()
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


def numbers(scalars: Sequence[Tensor]) -> list[float]:
    """Scalars as numbers; each device that they are on is waited for once."""
    found: dict[int, float] = {}
    for device in {scalar.device for scalar in scalars}:
        own = [index for index, scalar in enumerate(scalars) if scalar.device == device]
        found.update(zip(own, torch.stack([scalars[index].float() for index in own]).tolist(), strict=True))
    return [found[index] for index in range(len(scalars))]


def in_dtypes(tensors: Sequence[Tensor], dtypes: Sequence[torch.dtype]) -> list[Tensor]:
    """Tensors in dtypes, one for each or one for all, by few kernels; those that are in theirs are not copied."""
    wanted = list(dtypes) * (len(tensors) if len(dtypes) == 1 else 1)
    made = [
        tensor if tensor.dtype == dtype else torch.empty_like(tensor, dtype=dtype)
        for tensor, dtype in zip(tensors, wanted, strict=True)
    ]
    changed = [(new, old) for new, old in zip(made, tensors, strict=True) if new is not old]
    if changed:
        torch._foreach_copy_([new for new, _ in changed], [old for _, old in changed])
    return made


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
        torch._foreach_lerp_(list(self.weights.values()), [weights[name] for name in self.weights], 1 - beta)

    def items(self) -> Iterator[tuple[str, Tensor]]:
        """Names and averages; parts of them where the parameters are split."""
        yield from self.weights.items()

    def whole(self, *, keep: bool = True) -> dict[str, Tensor]:
        """Whole averages by name, in the CPU's memory; {} unless `keep`. All workers must call it."""
        return {name: weight for name, weight in self.layout.whole(self.weights.items()) if keep}


def learning_rate_scale(
    step: int, total: int, *, warmup: int = 100, decay: float = 0.3, place: int | None = None
) -> float:
    """Warm-up, constant, then linear to zero over the last `decay` of the run (step counts from 0).

    place: where in the whole run this step is, if the clock says otherwise than its number (Pace.at).
    """
    left = total - (step if place is None else place)
    return min(1.0, (step + 1) / max(warmup, 1), left / max(total * decay, 1))
