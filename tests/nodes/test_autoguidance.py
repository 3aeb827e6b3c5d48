"""A model guided by a worse one equals the formula, in single steps too, and with the early model of a run."""

import pytest
import torch

pytestmark = pytest.mark.usefixtures("comfy_host", "one_thread")

LATENT = (1, 16, 3, 4, 6)


def conditioning(seed):
    text = torch.randn(1, 4, 384, generator=torch.Generator().manual_seed(seed))
    return [[text, {"attention_mask": torch.ones(1, 4, dtype=torch.long)}]]


def guider(model, weak, scale=2.0, **settings):
    from comfyui_spacetime.models.guidance import Guidance
    from comfyui_spacetime.nodes.host.sampling import make_guider

    return make_guider(model, conditioning(1), None, Guidance(scale=scale, **settings), weak)


def run(one):
    import comfy.samplers

    noise = torch.randn(LATENT, generator=torch.Generator().manual_seed(3))
    sigmas = torch.tensor([1.0, 0.7, 0.4, 0.0])
    return one.sample(noise, torch.zeros(LATENT), comfy.samplers.ksampler("euler"), sigmas, seed=7, disable_pbar=True)


@pytest.fixture(scope="module")
def pair(comfy_host):
    """A model of ours and a weak one."""
    from comfyui_spacetime.tools.bench.tiny_models import tiny_spacetime

    return tiny_spacetime(0), tiny_spacetime(1)


def alone(patcher, x, sigma):
    text = conditioning(1)[0][0]
    network = patcher.model.diffusion_model
    with torch.no_grad():
        return x - sigma * network(x, torch.tensor([sigma]), context=text, context_mask=torch.ones(1, 4, 1))


def test_autoguidance_is_the_formula_of_the_paper(pair):
    strong, weak = pair
    found = run(guider(strong, weak))
    x = torch.randn(LATENT, generator=torch.Generator().manual_seed(3))
    for sigma, following in ((1.0, 0.7), (0.7, 0.4), (0.4, 0.0)):
        better, worse = alone(strong, x, sigma), alone(weak, x, sigma)
        denoised = worse + 2.0 * (better - worse)
        x = denoised + following / sigma * (x - denoised)
    torch.testing.assert_close(found, x, rtol=1e-4, atol=1e-4)
    assert (found - run(guider(strong, weak, scale=1.0))).abs().max() > 0.01


def test_it_acts_in_its_interval_only_and_needs_no_negative_prompt(pair):
    strong, weak = pair
    off = run(guider(strong, weak, start=0.99, end=1.0))
    torch.testing.assert_close(off, run(guider(strong, weak, scale=1.0)), rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="connect `negative`"):
        guider(strong, None)


def test_single_steps_equal_the_whole_run(pair):
    from comfyui_spacetime.tools.bench import exactness

    one = guider(*pair)
    sigmas, sampler = exactness.schedule(one, 3), exactness.sampler("euler")
    latent = {"samples": torch.zeros(LATENT)}
    whole = exactness.core_run(one, sampler, sigmas, latent)
    assert exactness.same(exactness.stepped(one, sampler, sigmas, latent), whole)


def test_the_same_model_or_another_family_is_refused(pair):
    from comfyui_spacetime.tools.bench import tiny_models

    strong, _ = pair
    with pytest.raises(ValueError, match="one and the same"):
        guider(strong, strong.clone())
    with pytest.raises(ValueError, match="of another kind"):
        guider(strong, tiny_models.model("wan"))


def test_the_early_model_of_a_run_guides_its_result(tmp_path):
    from comfyui_spacetime.models.checkpoints import load_checkpoint
    from comfyui_spacetime.nodes.host.model.model import build_model
    from comfyui_spacetime.tests.models.test_training_batches import train, write_cache

    (tmp_path / "cache").mkdir()
    train(write_cache(tmp_path / "cache"), tmp_path / "run", steps=6, early=0.3)
    files = [load_checkpoint(tmp_path / "run" / f"{name}.safetensors") for name in ("dit", "early")]
    models = [build_model(file.dit_config, file.dit_state, file.meta, "fp32") for file in files]
    guided, plain = run(guider(*models)), run(guider(*models, scale=1.0))
    assert torch.isfinite(guided).all()
    assert not torch.equal(guided, plain)
