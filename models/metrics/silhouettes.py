"""Tell the toy world's shapes from their outlines.

Three numbers are enough: width over height of the box, how much of the outline it shares with the ellipse in that box
(intersection over union), and the width near the top over the width near the bottom.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .segmentation import Blob, close


def describe(mask: NDArray[np.bool_]) -> tuple[float, float, float]:
    """Aspect (width / height), roundness and taper (top width / bottom width) of a silhouette cut out of its box."""
    height, width = mask.shape
    x = (np.arange(width) + 0.5) / width * 2 - 1
    y = (np.arange(height) + 0.5) / height * 2 - 1
    ellipse = x[None, :] ** 2 + y[:, None] ** 2 <= 1
    roundness = float((mask & ellipse).sum() / (mask | ellipse).sum())
    rows = mask.sum(axis=1)
    top, bottom = (float(rows[round(at * (height - 1))]) for at in (0.17, 0.8))
    return width / height, roundness, top / max(bottom, 1e-6)


def shape_of_mask(mask: NDArray[np.bool_]) -> str:
    """The shape whose outline this is. The limits lie midway between the shapes' own spreads, seen from any side."""
    aspect, roundness, taper = describe(mask)
    if taper < 0.55 and roundness < 0.78:
        return "cone"
    if roundness > 0.913:
        return "ball"
    return "cylinder" if aspect < 0.78 else "cube"


def shape_of(track: Sequence[Blob | None], blobs: Sequence[Sequence[Blob]], size: tuple[int, ...]) -> str | None:
    """The shape seen most often where the object is whole: inside the picture, clear of others, not half hidden."""
    seen = [blob for blob in track if blob is not None]
    if not seen:
        return None
    usual = float(np.median([blob.area for blob in seen]))
    whole = [
        blob
        for blob in seen
        if blob.area > 0.7 * usual
        and not blob.touches(size[0], size[1])
        and not any(close(blob, other, 2) for other in blobs[blob.frame] if other is not blob)
    ]
    votes = Counter(shape_of_mask(blob.mask) for blob in whole or seen)
    return votes.most_common(1)[0][0]
