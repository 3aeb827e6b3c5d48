"""Does a video start again? How much more alike it is to itself at one distance in time than at the others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def repetition(frames: NDArray[np.uint8]) -> float:
    """0 where no distance stands out (or nothing moves), 1 where the video repeats itself exactly; frames (F, H, W, 3).

    1 - least / median over the distances from F/4 to 3F/4 of the mean root mean square difference of frames so far
    apart. ValueError for fewer than 16 frames.
    """
    count = len(frames)
    if count < 16:
        raise ValueError(f"{count} frames are too few to see whether they repeat: use 16 or more")
    flat = frames.reshape(count, -1).astype(np.float32)
    differences = np.array(
        [
            np.sqrt(np.square(flat[lag:] - flat[:-lag]).mean(axis=1)).mean()
            for lag in range(count // 4, 3 * count // 4 + 1)
        ]
    )
    usual = float(np.median(differences))
    return 1 - float(differences.min()) / usual if usual > 0 else 0.0
