"""Repetition: a video that starts again is told from one that goes on, and from one that stands still."""

import numpy as np
import pytest

from comfyui_spacetime.models.metrics.repetition import repetition


def moving(count: int, period: float) -> np.ndarray:
    """A soft spot that goes to and fro."""
    x = np.arange(64)[None, None, :, None]
    centre = 32 + 24 * np.sin(2 * np.pi * np.arange(count) / period)[:, None, None, None]
    return np.broadcast_to(255 * np.exp(-((x - centre) ** 2) / 50), (count, 8, 64, 3)).astype(np.uint8)


def test_a_video_that_starts_again_stands_out():
    once = moving(32, 57.3)
    assert repetition(np.concatenate([once, once])) > 0.95
    assert repetition(moving(64, 400.0)) < 0.6
    assert repetition(np.repeat(once[:1], 64, axis=0)) == 0.0
    with pytest.raises(ValueError, match="16 or more"):
        repetition(once[:15])
