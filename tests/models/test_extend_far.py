"""Window by window: nothing known changes, the length is right, windows do not grow, drift is seen and countered."""

import pytest
import torch
from torch import Tensor

from comfyui_spacetime.models.tasks.canvas import Canvas
from comfyui_spacetime.models.tasks.far import Windows, extend_far
from comfyui_spacetime.models.tasks.statistics import statistics


def clip(num_latents: int = 5) -> Tensor:
    return torch.randn(1, 4, num_latents, 4, 4, generator=torch.Generator().manual_seed(0))


class Counting:
    """Stands in for a model: new latents are noise, drifting away window by window; remembers what it was shown."""

    def __init__(self, drift: float = 0.0) -> None:
        self.seen: list[Canvas] = []
        self.drift = drift

    def __call__(self, canvas: Canvas, index: int) -> Tensor:
        self.seen.append(canvas)
        noise = torch.randn(canvas.latents.shape, generator=torch.Generator().manual_seed(index))
        return torch.where(canvas.change > 0, noise + self.drift * (index + 1), canvas.latents)


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("more", [1, 4, 11, 40])
def test_length_and_known_part(backward, more):
    model, known = Counting(), clip(5)
    windows = Windows(window=9, context=3)
    made = extend_far(known, more, windows, model, backward=backward)
    assert made.latents.shape[2] == 5 + more
    kept = made.latents[:, :, more + 1 :] if backward else made.latents[:, :, :5]
    assert torch.equal(kept, known[:, :, 1:] if backward else known)
    assert len(model.seen) == len(made.drift) == windows.count(more, backward=backward)
    assert max(canvas.latents.shape[2] for canvas in model.seen) <= 9


def test_each_window_is_shown_the_end_of_the_one_before():
    model = Counting()
    made = extend_far(clip(5), 12, Windows(window=9, context=3), model)
    assert torch.equal(model.seen[0].latents[:, :, :3], clip(5)[:, :, 2:])
    assert torch.equal(model.seen[1].latents[:, :, :3], made.latents[:, :, 8:11])
    assert [float(c) for c in model.seen[1].change[0, 0, :, 0, 0]] == [0, 0, 0, 1, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("backward", [False, True])
def test_what_ends_early_is_what_was_asked_for_no_more(backward):
    windows, counts = Windows(window=9, context=3, anchor=0.3), []
    made = extend_far(
        clip(5), 40, windows, Counting(0.5), backward=backward, enough=lambda: counts.append(1) or len(counts) == 3
    )
    short = extend_far(clip(5), 3 * (6 - backward), windows, Counting(0.5), backward=backward)
    assert made.drift == short.drift
    assert torch.equal(made.latents, short.latents)


def test_drift_is_reported_and_an_anchor_holds_it():
    free = extend_far(clip(5), 24, Windows(window=9, context=3), Counting(drift=0.5))
    assert free.drift[-1] > free.drift[0] > 0.2
    held = extend_far(clip(5), 24, Windows(window=9, context=3, anchor=1.0), Counting(drift=0.5))
    mean, std = statistics(clip(5))
    end_mean, end_std = statistics(held.latents[:, :, -6:])
    assert torch.allclose(end_mean, mean, atol=1e-4)
    assert torch.allclose(end_std, std, atol=1e-4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Windows(window=4, context=4), "1 must be known and 1 new"),
        (lambda: Windows(window=4, context=0), "1 must be known"),
        (lambda: Windows(window=4, context=1, anchor=2), "between 0 and 1"),
        (lambda: extend_far(clip(2), 4, Windows(window=9, context=3), Counting()), "shorten the context"),
        (lambda: extend_far(clip(5), 0, Windows(window=9, context=3), Counting()), "1 or more"),
        (lambda: extend_far(clip(9), 4, Windows(window=4, context=3), Counting(), backward=True), "at least 2 new"),
    ],
)
def test_bad_input_gets_a_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()
