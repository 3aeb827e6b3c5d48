"""A core MODEL that sees a large video tile by tile, in every step."""

from __future__ import annotations

from typing import Any

from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ....models.tasks.tiles import Part, Tiling, in_tiles, taken
from .hosted_dit import CYCLIC, GRIDS
from .text_shares import TextShares

KEY = "spacetime_tiles"


def with_tiles(model: Any, tiling: Tiling) -> Any:
    """A clone of a MODEL that is run on each tile of what it is given, instead of what it had of tiles."""
    patched = model.clone()
    for kind in (WrappersMP.APPLY_MODEL, WrappersMP.PREPARE_SAMPLING):
        patched.remove_wrappers_with_key(kind, KEY)

    def apply_model(
        executor: Any,
        x: Tensor,
        sigma: Tensor,
        c_concat: Any = None,
        c_crossattn: Any = None,
        control: Any = None,
        options: dict[str, Any] | None = None,
        **conds: Any,
    ) -> Any:
        options = options if options is not None else conds.pop("transformer_options", {})
        _check(x, options, tiling)
        if control is not None:
            raise ValueError("a ControlNet sees the whole video, which tiles do not: take it away, or set tile to 0")

        def predict(tile: Tensor, part: Part) -> Tensor:
            own = {name: of_tile(value, x, part) for name, value in conds.items()}
            out: Tensor = executor(tile, sigma, of_tile(c_concat, x, part), c_crossattn, control, options, **own)
            return out

        return in_tiles(x, tiling, predict)

    def prepare_sampling(executor: Any, patcher: Any, shape: Any, *rest: Any, **named: Any) -> Any:
        """The host makes room for what one run of the model takes: that of a tile."""
        return executor(patcher, tiling.largest(shape) if len(shape) == 5 else shape, *rest, **named)

    patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, KEY, apply_model)
    patched.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, KEY, prepare_sampling)
    return patched


def of_tile(value: Any, x: Tensor, part: Part) -> Any:
    """What belongs to a tile of what belongs to all places of x; other things as they are."""
    if isinstance(value, TextShares):
        return value.within(part)
    everywhere = isinstance(value, Tensor) and value.ndim == x.ndim and value.shape[2:] == x.shape[2:]
    return taken(value, part) if everywhere else value


def _check(x: Tensor, options: dict[str, Any], tiling: Tiling) -> None:
    if x.ndim != 5 or options.get(GRIDS):
        raise ValueError("tiles are for one video in a run, without sound and other clips in the same latent")
    if options.get(CYCLIC) and tiling.size[0] < x.shape[2]:
        raise ValueError(
            f"a loop of {x.shape[2]} latents cannot be cut in time into tiles of {tiling.size[0]}: set tile to 0, for "
            "the whole video at once"
        )
