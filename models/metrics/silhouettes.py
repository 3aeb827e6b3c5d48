"""Tell the toy world's shapes from their outlines.

All outlines are convex, so three numbers are enough: width over height of the box, the part of the box that is filled, and
the width near the top over the width near the bottom.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .segmentation import Blob


def describe(mask: NDArray[np.bool_]) -> tuple[float, float, float]:
    """Aspect (width / height), fill and taper (top width / bottom width) of a silhouette cut out of its box."""
    height, width = mask.shape
    rows = mask.sum(axis=1) / width
    # a sixth of the height in from either end
    top, bottom = (float(rows[round(at * (height - 1))]) for at in (0.17, 0.8))
    return width / height, float(mask.mean()), top / max(bottom, 1e-6)


def shape_of_mask(mask: NDArray[np.bool_]) -> str:
    """The shape whose outline this is."""
    aspect, fill, taper = describe(mask)
    if taper < 0.6 and fill < 0.72:
        return "cone"
    if aspect < 0.82 and fill > 0.8:
        return "cylinder"
    if fill < 0.83 and 0.8 < aspect < 1.25:
        return "ball"
    return "cube" if aspect >= 0.82 else "cylinder"


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
        and not any(_close(blob, other) for other in blobs[blob.frame] if other is not blob)
    ]
    votes = Counter(shape_of_mask(blob.mask) for blob in whole or seen)
    return votes.most_common(1)[0][0]


def _close(a: Blob, b: Blob, margin: int = 2) -> bool:
    return (
        a.box[0] - margin < b.box[2]
        and b.box[0] - margin < a.box[2]
        and a.box[1] - margin < b.box[3]
        and b.box[1] - margin < a.box[3]
    )
