"""Solvers: known solutions, order of convergence, agreement with diffusers, and single steps against a whole run."""

import io
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from comfyui_spacetime.models import schedules
from comfyui_spacetime.models.solvers import SOLVERS, STOCHASTIC, Solver, SolverState, sample, start, step

MEAN, STD = 0.7, 0.4
VARIANTS = [
    *(Solver(name=name) for name in SOLVERS if name != "unipc"),
    *(Solver(name="unipc", order=order) for order in (1, 2, 3)),
    *(Solver(name=name, eta=0.0) for name in sorted(STOCHASTIC)),
]
IDS = [f"{solver.name}-{solver.order}-{solver.eta}" for solver in VARIANTS]
each_solver = pytest.mark.parametrize("solver", VARIANTS, ids=IDS)


def gaussian_denoiser(x, sigma):
    """The exact posterior mean of x0 for data N(MEAN, STD^2)."""
    s = sigma.reshape(-1, *([1] * (x.ndim - 1)))
    total = ((1 - s) * STD) ** 2 + s**2
    return MEAN + (1 - s) * STD**2 / total * (x - (1 - s) * MEAN)


def gaussian_solution(x, sigma, sigma_next):
    """Where the probability-flow ODE takes x: every quantile of the marginal stays that quantile."""

    def marginal(s):
        return (1 - s) * MEAN, math.hypot((1 - s) * STD, s)

    (mean, std), (mean_next, std_next) = marginal(sigma), marginal(sigma_next)
    return mean_next + (x - mean) / std * std_next


def toy_denoiser(x, sigma):
    """Nonlinear in x and sigma, as a network is."""
    s = sigma.reshape(-1, *([1] * (x.ndim - 1)))
    return torch.tanh(x * (1 - 0.5 * s) + 0.3 * torch.roll(x, 1, -1)) * (1 - 0.2 * s)


def start_noise(dtype=torch.float32):
    return torch.randn(2, 4, 3, 4, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64).to(dtype)


def seeded(seed=5):
    return torch.Generator().manual_seed(seed)


# --- accuracy ---


@pytest.mark.parametrize(
    ("solver", "order"),
    [
        (Solver(name="euler"), 1),
        (Solver(name="heun"), 2),
        (Solver(name="dpmpp_2m"), 2),
        (Solver(name="unipc", order=1), 2),  # the corrector adds one order
        (Solver(name="unipc", order=2), 3),
        (Solver(name="unipc", order=3), 3),  # its first steps have lower order
    ],
    ids=lambda value: f"{value.name}-{value.order}" if isinstance(value, Solver) else str(value),
)
def test_the_error_falls_with_the_order_of_the_solver(solver, order):
    x = start_noise(torch.float64)
    errors = []
    for steps in (40, 80, 160):
        sigmas = torch.linspace(0.9, 0.1, steps + 1, dtype=torch.float64)
        errors.append((sample(solver, gaussian_denoiser, x, sigmas) - gaussian_solution(x, 0.9, 0.1)).abs().max())
    rates = [math.log2(errors[i] / errors[i + 1]) for i in range(2)]
    assert min(rates) > order - 0.25, f"errors {errors}"


@each_solver
def test_a_run_from_pure_noise_to_clean_is_finite_and_close(solver):
    x = start_noise()
    result = sample(solver, gaussian_denoiser, x, schedules.sigmas("linear", 100, shift=2.0), generator=seeded())
    assert result.isfinite().all()
    if not solver.stochastic:
        torch.testing.assert_close(result, gaussian_solution(x, 1.0, 0.0), rtol=0, atol=0.05)


@each_solver
def test_samples_have_the_mean_and_spread_of_the_data(solver):
    x = torch.randn(1, 40_000, generator=seeded(0))
    result = sample(solver, gaussian_denoiser, x, schedules.sigmas("linear", 200), generator=seeded(1))
    assert float(result.mean()) == pytest.approx(MEAN, abs=0.01)
    assert float(result.std()) == pytest.approx(STD, rel=0.02)


@pytest.mark.parametrize("name", sorted(STOCHASTIC))
def test_the_noise_level_is_kept_in_the_middle_of_a_stochastic_run(name):
    x = torch.randn(1, 40_000, generator=seeded(0))
    sigmas = schedules.sigmas("linear", 200)[:121]  # stops at 0.4
    result = sample(Solver(name=name), gaussian_denoiser, x, sigmas, generator=seeded(1))
    assert float(result.mean()) == pytest.approx(0.6 * MEAN, abs=0.01)
    assert float(result.std()) == pytest.approx(math.hypot(0.6 * STD, 0.4), rel=0.02)


@pytest.mark.parametrize("name", sorted(STOCHASTIC))
def test_no_fresh_noise_is_euler(name):
    sigmas = schedules.sigmas("cosine", 8)
    quiet = sample(Solver(name=name, eta=0.0), toy_denoiser, start_noise(), sigmas)
    assert torch.equal(quiet, sample(Solver(name="euler"), toy_denoiser, start_noise(), sigmas))


# --- single steps ---


@each_solver
def test_single_steps_equal_a_whole_run_bit_for_bit(solver):
    sigmas = schedules.sigmas("linear", 12, shift=3.0)
    states = []
    whole = sample(
        solver, toy_denoiser, start_noise(), sigmas, callback=lambda _, s: states.append(s), generator=seeded()
    )
    state = start(start_noise(), float(sigmas[0]), seeded())
    for sigma, recorded in zip(sigmas[1:], states, strict=True):
        state = reloaded(step(solver, state, toy_denoiser, float(sigma)))
        assert torch.equal(state.x, recorded.x)
    assert torch.equal(state.x, whole)
    assert state.done
    assert state.step == 12


def reloaded(state: SolverState) -> SolverState:
    """The state after a round trip through a file."""
    fields = {name: getattr(state, name) for name in ("x", "sigma", "step", "denoised", "anchor", "rng")}
    fields["history"] = [tuple(item) for item in state.history]
    file = io.BytesIO()
    torch.save(fields, file)
    file.seek(0)
    fields = torch.load(file, weights_only=True)
    from comfyui_spacetime.models.solvers import Evaluation

    return SolverState(**{**fields, "history": tuple(Evaluation(*item) for item in fields["history"])})


@each_solver
def test_a_state_can_be_branched_and_outlives_an_interrupt(solver):
    sigmas = schedules.sigmas("linear", 6)
    state = start(start_noise(), 1.0, seeded())
    for sigma in sigmas[1:4]:
        state = step(solver, state, toy_denoiser, float(sigma))
    kept = replace(state, x=state.x.clone())

    def interrupted(x, sigma):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        step(solver, state, interrupted, float(sigmas[4]))
    one, two = (step(solver, state, toy_denoiser, float(sigmas[4])) for _ in range(2))
    assert torch.equal(one.x, two.x)
    assert torch.equal(state.x, kept.x)


@each_solver
def test_the_number_of_model_calls(solver):
    calls = []

    def counted(x, sigma):
        calls.append(float(sigma[0]))
        return toy_denoiser(x, sigma)

    sample(solver, counted, start_noise(), schedules.sigmas("linear", 5), generator=seeded())
    assert len(calls) == (9 if solver.name == "heun" else 5)


@each_solver
def test_the_callers_tensors_and_generator_are_left_alone(solver):
    x, sigmas, generator = start_noise(), schedules.sigmas("linear", 5), seeded()
    before = x.clone(), sigmas.clone(), generator.get_state()
    sample(solver, toy_denoiser, x, sigmas, generator=generator)
    assert torch.equal(x, before[0])
    assert torch.equal(sigmas, before[1])
    assert torch.equal(generator.get_state(), before[2])


def test_seeds_decide_the_noise():
    sigmas = schedules.sigmas("linear", 5)
    runs = [
        sample(Solver(name="euler_ancestral"), toy_denoiser, start_noise(), sigmas, generator=seeded(seed))
        for seed in (1, 1, 2)
    ]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_half_precision_is_solved_in_float32():
    seen = set()

    def watching(x, sigma):
        seen.update({x.dtype, sigma.dtype})
        return toy_denoiser(x, sigma).bfloat16()

    result = sample(Solver(name="heun"), watching, start_noise(torch.bfloat16), schedules.sigmas("linear", 3))
    assert seen == {torch.float32}
    assert result.dtype == torch.bfloat16


# --- independent references ---


def run_diffusers(scheduler, x, sigmas):
    """Drive a diffusers scheduler over our schedule with the toy model as a velocity model."""
    if hasattr(scheduler, "model_outputs"):
        scheduler.set_timesteps(len(sigmas) - 1)
    scheduler.sigmas = sigmas.clone()
    scheduler.timesteps = torch.arange(len(sigmas) - 1, 0, -1).float() * 10
    scheduler.num_inference_steps = len(sigmas) - 1
    for i, timestep in enumerate(scheduler.timesteps):
        sigma = sigmas[i].expand(x.shape[0])
        velocity = (x - toy_denoiser(x, sigma)) / sigmas[i]
        x = scheduler.step(velocity, timestep, x, return_dict=False)[0]
    return x


def below_one(steps=12):
    return schedules.sigmas("linear", steps, shift=2.0, sigma_max=0.99)


def test_euler_equals_diffusers():
    from diffusers import FlowMatchEulerDiscreteScheduler

    reference = run_diffusers(FlowMatchEulerDiscreteScheduler(), start_noise(), below_one())
    ours = sample(Solver(name="euler"), toy_denoiser, start_noise(), below_one())
    torch.testing.assert_close(ours, reference, rtol=0, atol=2e-6)


def test_heun_equals_diffusers():
    from diffusers import FlowMatchHeunDiscreteScheduler

    sigmas, x = below_one(), start_noise()
    scheduler = FlowMatchHeunDiscreteScheduler()
    # each level but the first and last is visited twice: predictor, corrector
    levels = [sigmas[0], *(s for sigma in sigmas[1:-1] for s in (sigma, sigma)), sigmas[-1]]
    scheduler.sigmas = torch.stack(levels)
    scheduler.timesteps = torch.arange(len(levels) - 1, 0, -1).float()
    scheduler._step_index, scheduler.prev_derivative, scheduler.dt, scheduler.sample = 0, None, None, None
    for i, timestep in enumerate(scheduler.timesteps):
        sigma = scheduler.sigmas[i].expand(x.shape[0])
        velocity = (x - toy_denoiser(x, sigma)) / scheduler.sigmas[i]
        x = scheduler.step(velocity, timestep, x, return_dict=False)[0]
    ours = sample(Solver(name="heun"), toy_denoiser, start_noise(), sigmas)
    torch.testing.assert_close(ours, x, rtol=0, atol=5e-6)


def test_dpmpp_2m_equals_diffusers():
    from diffusers import DPMSolverMultistepScheduler

    scheduler = DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, solver_order=2, lower_order_final=True
    )
    reference = run_diffusers(scheduler, start_noise(), below_one())
    ours = sample(Solver(name="dpmpp_2m"), toy_denoiser, start_noise(), below_one())
    torch.testing.assert_close(ours, reference, rtol=0, atol=5e-6)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_unipc_equals_diffusers(order):
    from diffusers import UniPCMultistepScheduler

    # a schedule that stops above 0 for order 3: diffusers lowers the order of the last two steps, ours of the last
    sigmas = below_one() if order < 3 else below_one()[:-1]
    scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction",
        use_flow_sigmas=True,
        solver_order=order,
        solver_type="bh2",
        lower_order_final=order < 3,
    )
    reference = run_diffusers(scheduler, start_noise(), sigmas)
    ours = sample(Solver(name="unipc", order=order), toy_denoiser, start_noise(), sigmas)
    torch.testing.assert_close(ours, reference, rtol=0, atol=2e-5)


# --- errors ---


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "rk45"}, "unknown solver 'rk45'.*euler"),
        ({"name": "unipc", "order": 4}, "order 4"),
        ({"name": "euler_sde", "eta": -1.0}, "eta -1.0"),
        ({"name": "euler_sde", "s_noise": np.nan}, "s_noise nan"),
    ],
)
def test_settings_out_of_range_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        Solver(**settings)


def test_steps_must_go_down_from_a_valid_level():
    with pytest.raises(ValueError, match="starts at a sigma above 0 and up to 1, not 14"):
        start(start_noise(), 14.6)
    with pytest.raises(ValueError, match="must go down"):
        step(Solver(name="euler"), start(start_noise(), 0.5), toy_denoiser, 0.5)
    with pytest.raises(ValueError, match="euler_sde draws noise"):
        sample(Solver(name="euler_sde"), toy_denoiser, start_noise(), schedules.sigmas("linear", 2))
