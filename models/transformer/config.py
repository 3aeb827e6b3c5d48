"""What fixes a DiT's weights, and the sizes there are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from ..flow import Prediction
from ..headers import Depth, Heads, Ratio, Side, Width, Within, check_fields


@dataclass(frozen=True, kw_only=True)
class DiTConfig:
    """Everything that fixes the weights' shapes and meaning."""

    in_channels: Width
    hidden_size: Width
    depth: Depth
    num_heads: Heads
    mlp_ratio: Ratio  # inner size of the gated MLP / hidden size; 8/3 costs as much as a plain MLP of ratio 4
    patch: tuple[Side, Side, Side]
    context_dim: Annotated[int, Within(0, 65_536)]  # text features, 0: no text
    num_classes: Annotated[int, Within(0, 1_000_000)]  # class labels, 0: none; label num_classes is "no class"
    prediction: Prediction
    learned_variance: bool  # the head also gives a variance, in a second half of the channels

    def __post_init__(self) -> None:
        check_fields(self)
        if self.hidden_size % self.num_heads or (self.hidden_size // self.num_heads) % 2:
            raise ValueError(f"hidden_size {self.hidden_size} must split into {self.num_heads} heads of even size")

    @property
    def out_channels(self) -> int:
        """Channels of the prediction."""
        return self.in_channels * (2 if self.learned_variance else 1)

    @property
    def inner_size(self) -> int:
        """Rounded to 64: matrix units want it."""
        return -(-int(self.hidden_size * self.mlp_ratio) // 64) * 64


def _preset(hidden_size: int, depth: int, num_heads: int) -> DiTConfig:
    return DiTConfig(
        in_channels=16,
        hidden_size=hidden_size,
        depth=depth,
        num_heads=num_heads,
        mlp_ratio=8 / 3,
        patch=(1, 2, 2),
        context_dim=384,
        num_classes=0,
        prediction="velocity",
        learned_variance=False,
    )


PRESETS: dict[str, DiTConfig] = {
    "test": _preset(hidden_size=32, depth=2, num_heads=2),
    "toy": _preset(hidden_size=256, depth=8, num_heads=4),
    "mini": _preset(hidden_size=320, depth=8, num_heads=5),
    "S": _preset(hidden_size=384, depth=12, num_heads=6),
    "B": _preset(hidden_size=768, depth=12, num_heads=12),
    "L": _preset(hidden_size=1024, depth=24, num_heads=16),
    "XL": _preset(hidden_size=1152, depth=28, num_heads=16),
}
