"""A rolling window: what the model is shown, that steps are those of the solvers, that a stream can be cut anywhere."""

from itertools import islice

import pytest
import torch
from torch import Tensor

from comfyui_spacetime.models import solvers
from comfyui_spacetime.models.geometry import OURS
from comfyui_spacetime.models.rolling import Rolling, Window, ladder, opened, shares_of, step_down, stream, turn
from comfyui_spacetime.models.schedules import sigmas
from comfyui_spacetime.models.solvers import Solver
from comfyui_spacetime.models.tasks.prompts import check_endless, parse_keys

EULER, SDE = Solver(name="euler"), Solver(name="euler_sde")
SHAPE = (1, 4, 0, 2, 3)


def rolling(window: int = 6, context: int = 2, steps: int = 8, solver: Solver = SDE, seed: int = 0) -> Rolling:
    return Rolling.within(window, context, sigmas("linear", steps, shift=2.0), solver, seed)


class Watching:
    """Stands in for a model: predicts 0.7 of what it sees, and remembers the levels that it was shown."""

    def __init__(self) -> None:
        self.levels: list[list[float]] = []

    def __call__(self, window: Window):
        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            assert sigma.shape == (1, x.shape[2]) == (1, window.length)
            self.levels.append(sigma[0].tolist())
            return 0.7 * x

        return denoise


def latents(how: Rolling, count: int, window: Window | None = None) -> tuple[list[Tensor], Window]:
    start = window or opened(how, torch.zeros(SHAPE))
    made = list(islice(stream(how, start, Watching()), count))
    return [latent for latent, _ in made], made[-1][1]


def test_levels_rise_from_front_to_back_and_each_latent_goes_down_the_whole_schedule():
    how, model = rolling(), Watching()
    list(islice(stream(how, opened(how, torch.zeros(SHAPE)), model), 6))
    first, later = model.levels[: how.steps], model.levels[how.steps :]
    assert first[0] == [1.0] * how.open  # all is noise
    assert len(later) == 5 * how.each  # calls of the model for each latent
    for shown in model.levels:
        known, opening = [x for x in shown if x == 0], [x for x in shown if x > 0]
        assert shown == known + opening
        assert opening == sorted(opening)
        assert len(known) <= how.context
    # a latent that enters after the first turn: one place further in front after each turn
    way = [levels[-1 - turns] for turns in range(how.open) for levels in later[turns * how.each :][: how.each]]
    assert way == pytest.approx(how.levels[:-1])


def test_memory_and_calls_do_not_grow():
    how = rolling()
    model = Watching()
    windows = [window for _, window in islice(stream(how, opened(how, torch.zeros(SHAPE)), model), 30)]
    assert {window.length for window in windows[2:]} == {6}
    assert [window.first for window in windows] == list(range(1, 31))
    assert len(model.levels) == how.steps + 29 * how.each


@pytest.mark.parametrize("solver", [EULER, SDE])
def test_a_stream_cut_anywhere_goes_on_to_the_bit(solver):
    how = rolling(solver=solver)
    whole, _ = latents(how, 9)
    for cut in (1, 2, 5):
        begin, window = latents(how, cut)
        rest, _ = latents(how, 9 - cut, window)
        for one, other in zip(whole, begin + rest, strict=True):
            assert torch.equal(one, other)


def test_seeds_differ_and_neighbouring_seeds_share_no_noise():
    made = [torch.cat(latents(rolling(seed=seed), 8)[0], dim=2) for seed in (0, 0, 1)]
    assert torch.equal(made[0], made[1])
    for shift in range(4):
        assert not torch.isclose(made[0][:, :, shift:], made[2][:, :, : 8 - shift]).any()


def test_a_clip_is_seen_and_stays_as_it_is():
    clip = torch.randn(1, 4, 5, 2, 3, generator=torch.Generator().manual_seed(1))
    how, seen = rolling(), []

    def denoiser_of(window: Window):
        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            seen.append((x.clone(), sigma.clone()))
            return 0.7 * x

        return denoise

    window = opened(how, clip)
    assert window.first == 5
    assert torch.equal(window.latents[:, :, :2], clip[:, :, 3:])
    turn(how, window, denoiser_of(window))
    for x, sigma in seen:
        assert torch.equal(x[:, :, :2], clip[:, :, 3:])
        assert sigma[0, :2].tolist() == [0, 0]


@pytest.mark.parametrize("solver", [EULER, SDE])
@pytest.mark.parametrize("lower", [0.55, 0.0])
def test_a_step_at_one_level_is_that_of_the_solver(solver, lower):
    x = torch.randn(1, 4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    state = solvers.start(x, 0.8, solvers.noise_generator(7))
    expected = solvers.step(solver, state, lambda x, _: 0.5 * x, lower).x
    noise = torch.randn(x.shape, generator=solvers.noise_generator(7))
    eta = solver.eta if solver.stochastic else 0.0
    made = step_down(x, 0.5 * x, torch.full((3,), 0.8), torch.full((3,), lower), noise, eta)
    torch.testing.assert_close(made, expected)


@pytest.mark.parametrize(
    ("steps", "window", "context", "expected"),
    [
        (24, 9, 3, (24, 6)),
        (4, 9, 3, (4, 4)),
        (8, 6, 2, (8, 4)),
        (7, 9, 3, (6, 6)),
        (1, 4, 1, (1, 1)),
        (30, 9, 1, (30, 6)),
    ],
)
def test_steps_are_shared_evenly(steps, window, context, expected):
    how = rolling(window, context, steps)
    assert (how.steps, how.open) == expected
    assert how.open + how.context == window
    assert how.levels[0] == 1
    assert how.levels[-1] == 0


def test_a_schedule_of_another_length_keeps_its_curve():
    curve = sigmas("linear", 8, shift=2.0)
    assert ladder(curve, 4) == tuple(curve.tolist())
    finer = ladder(curve, 16)
    assert finer[::2] == pytest.approx(curve.tolist())


@pytest.mark.parametrize(
    ("how", "says"),
    [
        (lambda: rolling(3, 3), "none to denoise"),
        (lambda: rolling(solver=Solver(name="unipc")), "unipc cannot"),
        (lambda: Rolling.within(6, 2, torch.tensor([1.0, 0.5]), EULER), "ends in 0"),
        (lambda: Rolling(levels=(1.0, 0.5, 0.0), open=3, context=0), "shared evenly"),
        (lambda: Rolling(levels=(1.0, 1.0, 0.0), open=1, context=0), "must fall"),
        (lambda: check_endless(parse_keys("0-2: a ball", "x")), "holds until the next"),
        (lambda: check_endless(parse_keys("1: a ball", "x")), "begin with a line at 0"),
    ],
)
def test_what_cannot_be_is_one_sentence(how, says):
    with pytest.raises(ValueError, match=says):
        how()


def test_each_latent_of_a_window_has_the_prompt_of_its_time():
    keys = parse_keys("0: one\n1: two\n2: three", "x")
    window = Window(
        torch.zeros(1, 4, 6, 2, 2), known=2, first=4
    )  # latents 2 to 7, whose middles are 6.5, 10.5, ... / 12
    shares = shares_of(window, keys, OURS.grid, 12.0, begin=0, fade=0.0)
    assert {text: share.tolist() for text, share in shares.items()} == {
        "one": [1, 1, 0, 0, 0, 0],
        "two": [0, 0, 1, 1, 1, 0],
        "three": [0, 0, 0, 0, 0, 1],
    }
    after_a_clip = shares_of(window, keys, OURS.grid, 12.0, begin=4, fade=0.0)
    assert after_a_clip["one"].tolist() == [1, 1, 1, 1, 1, 0]
    fading = shares_of(window, keys, OURS.grid, 12.0, begin=0, fade=1.0)
    assert torch.allclose(sum(fading.values()), torch.ones(6))
    assert 0 < fading["two"][1] < 1
