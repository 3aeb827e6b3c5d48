"""The adversarial stage of VAE training: a critic that tells true clips from reconstructions, patch by patch.

Hinge loss (Lim and Ye 2017, arXiv 1705.02894) on the scores of space-time patches, so that flicker counts as well as
blur; the VAE's term is scaled so that its gradient at the decoder's last layer is as long as that of the other losses
(Esser et al. 2021, arXiv 2012.09841, eq. 7).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..optim.optimiser import Optimiser

MOST = 1e4  # of the adaptive weight


class Critic(nn.Module):
    """Scores (B, 1, F', H/8, W/8) of pixels (B, 3, F, H, W), each for a patch of 13 x 38 x 38 of them."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv3d(3, width, (3, 4, 4), (1, 2, 2), 1), nn.LeakyReLU(0.2)]
        for stride in (2, 1):
            layers += [
                nn.Conv3d(width, 2 * width, (3, 4, 4), (stride, 2, 2), 1),
                nn.GroupNorm(8, 2 * width),
                nn.LeakyReLU(0.2),
            ]
            width *= 2
        self.layers = nn.Sequential(*layers, nn.Conv3d(width, 1, 3, padding=1))

    def forward(self, video: Tensor) -> Tensor:
        return self.layers(video)


class Adversary:
    """A critic, its optimiser, and the two losses. `state()` and `load()` carry everything, as an optimiser's do."""

    def __init__(self, *, seed: int, learning_rate: float, first_step: int, device: torch.device) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.critic = Critic().to(device)
        self.optimiser = Optimiser(
            self.critic, learning_rate=learning_rate, muon=False, weight_decay=0.0, betas=(0.5, 0.9)
        )
        self.first_step = first_step

    def term(self, video: Tensor, others: Tensor, last: Tensor) -> Tensor:
        """The VAE's loss: reconstructions (B, 3, F, H, W) should score high. `last` is the weight it is balanced at."""
        self.critic.requires_grad_(requires_grad=False)
        fooled = -self.critic(video).mean()
        lengths = [torch.autograd.grad(loss, last, retain_graph=True)[0].float().norm() for loss in (others, fooled)]
        return (lengths[0] / (lengths[1] + 1e-4)).clamp(0, MOST).detach() * fooled

    def learn(self, video: Tensor, true: Tensor, scale: float) -> Tensor:
        """One step of the critic on reconstructions and the clips they are of; returns its hinge loss (2: a guess)."""
        self.critic.requires_grad_(requires_grad=True)
        loss = F.relu(1 - self.critic(true)).mean() + F.relu(1 + self.critic(video.detach())).mean()
        loss.backward()
        self.optimiser.step(scale)
        return loss.detach()

    def state(self) -> dict[str, Tensor]:
        """Weights and moments of the critic."""
        return {f"critic.{name}": value for name, value in self.optimiser.state().items()}

    def load(self, state: dict[str, Tensor], steps: int) -> None:
        """Continue after `steps` steps of the run."""
        ours = {name.removeprefix("critic."): value for name, value in state.items() if name.startswith("critic.")}
        self.optimiser.load(ours, max(0, steps - self.first_step))
