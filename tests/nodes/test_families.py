"""Every family of video models that the host has, through our nodes: patches, exact steps, tasks, guiders, masks."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from comfyui_spacetime.tools.bench import exactness, families
from comfyui_spacetime.tools.bench.families import FAMILIES, latent

pytestmark = pytest.mark.usefixtures("comfy_host", "one_thread")
STEPS = 3
EACH = 4  # frames of a latent: what the tasks here are told
UNLIKE_FLOW = {"cosmos 1", "cogvideox", "cosmos predict 2"}  # they count noise otherwise, which our solvers refuse


@pytest.fixture(autouse=True)
def as_the_host_runs(monkeypatch):
    from comfyui_spacetime.nodes.host import messages

    monkeypatch.setattr(messages, "show_text", lambda *_: None)
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module", autouse=True)
def forget():
    yield
    families.family_model.cache_clear()


@pytest.fixture(params=FAMILIES)
def name(request, comfy_host) -> str:
    """A family; one that this host lacks is skipped, with that reason."""
    why = families.lacking(request.param)
    if why:
        pytest.skip(why)
    return request.param


def sampled(name: str, given: dict[str, Any], model: Any = None, sampler: str = "euler") -> torch.Tensor:
    """One run of core's sampler."""
    guider = families.guider(name, model=model)
    return exactness.core_run(guider, exactness.sampler(sampler), exactness.schedule(guider, STEPS), given)[0]


def test_core_takes_the_file_for_its_family(name):
    assert type(families.family_model(name).model.model_config).__name__ == FAMILIES[name].kind


def test_patchify_knows_patch_and_grid(name):
    from comfyui_spacetime.nodes.tokens import Patchify, Unpatchify

    given = latent(name, masked=True)
    tokens = Patchify.execute(given, 1, 1, 1, families.family_model(name)).result[0]
    assert tokens.patch == FAMILIES[name].patch
    sizes = zip(FAMILIES[name].latent[1:], FAMILIES[name].patch, strict=True)
    assert tuple(tokens.grids[0]) == tuple(size // side for size, side in sizes)
    back = Unpatchify.execute(tokens).result[0]
    assert torch.equal(back["samples"], given["samples"])
    assert torch.equal(back["noise_mask"], given["noise_mask"])


@pytest.mark.parametrize("masked", [False, True], ids=["plain", "mask"])
@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m_sde", "uni_pc", "spacetime unipc"])
def test_single_steps_are_one_run(name, sampler, masked):
    from comfyui_spacetime.nodes.host.model.masks import mask_reading

    guider, chosen, given = families.guider(name), exactness.sampler(sampler), latent(name, masked=masked)
    sigmas = exactness.schedule(guider, STEPS)
    if sampler.startswith("spacetime") and name in UNLIKE_FLOW:
        with pytest.raises(ValueError, match="made for flow models"):
            exactness.stepped(guider, chosen, sigmas, given)
    elif masked and not mask_reading(families.family_model(name)).fits:
        with pytest.raises(ValueError, match="takes known frames as a picture beside the latents"):
            exactness.stepped(guider, chosen, sigmas, given)
    else:
        reference = exactness.core_run(guider, chosen, sigmas, given)
        assert all(bool(torch.isfinite(one).all()) for one in reference)
        for steps in (0, 1):
            assert exactness.same(exactness.stepped(guider, chosen, sigmas, given, steps), reference)


def test_a_picture_beside_the_latents_lets_a_mask_fit(name):
    """Conditioning with a mask of its own, as core's image-to-video nodes of these families make it."""
    from comfyui_spacetime.nodes.host.model.masks import mask_reading

    if mask_reading(families.family_model(name)).fits:
        return
    given = latent(name, masked=True)
    guider = families.guider(name, concat_mask=torch.ones_like(given["noise_mask"]))
    chosen, sigmas = exactness.sampler("euler"), exactness.schedule(guider, STEPS)
    reference = exactness.core_run(guider, chosen, sigmas, given)
    assert exactness.same(exactness.stepped(guider, chosen, sigmas, given), reference)


def tasks(model: Any) -> dict[str, Callable[[dict[str, Any]], tuple[Any, dict[str, Any]]]]:
    """Each task with its settings: a clip -> (MODEL to sample with, LATENT)."""
    from comfyui_spacetime.nodes.tasks.along_time import ConnectVideos, ExtendVideo
    from comfyui_spacetime.nodes.tasks.in_space import FillRegion, Outpaint, RestyleVideo
    from comfyui_spacetime.nodes.tasks.loops import LoopVideo

    hole = torch.zeros(1, 8, 8)
    hole[:, :4] = 1
    gap = lambda one: ConnectVideos.execute(one, one, "gap", 0.5, 0.2, 8.0, EACH).result  # noqa: E731
    blend = lambda one: ConnectVideos.execute(one, one, "blend", 0.5, 0.9, 8.0, EACH, model).result  # noqa: E731
    return {
        "extend forward": lambda one: (model, ExtendVideo.execute(one, "forward", 0.5, 8.0, EACH).result[0]),
        "extend both": lambda one: (model, ExtendVideo.execute(one, "both", 0.5, 8.0, EACH).result[0]),
        "gap": lambda one: (model, gap(one)[0]),
        "blend": lambda one: blend(one)[1::-1],
        "close a loop": lambda one: LoopVideo.execute(model, one, "close clip", 0.5, 8.0, EACH, 0).result[:2],
        "restyle": lambda one: RestyleVideo.execute(model, one, 0.99, 0.0, 0.5, 8.0, "gate", EACH).result,
        "fill": lambda one: (model, FillRegion.execute(one, hole, EACH).result[0]),
        "outpaint": lambda one: (model, Outpaint.execute(one, 16, 0, 0, 0, 0, 8).result[0]),
    }


@pytest.mark.parametrize("task", ["extend forward", "extend both", "gap", "blend", "close a loop", "restyle", "fill",
                                  "outpaint"])  # fmt: skip
def test_every_task_runs_and_what_is_known_stays(name, task):
    """Where a mask does not fit by itself, beside a prompt that brings its own."""
    model, made = tasks(families.family_model(name))[task](latent(name))
    own = {"concat_mask": torch.ones_like(made["noise_mask"])}
    guider = families.guider(name, model=model, **own)
    result = exactness.core_run(guider, exactness.sampler("euler"), exactness.schedule(guider, STEPS), made)[0]
    assert bool(torch.isfinite(result).all())
    known = (made["noise_mask"] == 0).expand_as(result)
    assert bool(known.any())
    torch.testing.assert_close(result[known], made["samples"][known], atol=2e-4, rtol=2e-4)
    assert not torch.allclose(result[~known], made["samples"][~known], atol=1e-2)


def test_extend_far_runs_or_says_why_not(name):
    from comfy_extras.nodes_custom_sampler import Noise_RandomNoise

    from comfyui_spacetime.nodes.host.model.masks import mask_reading
    from comfyui_spacetime.nodes.tasks.long import ExtendFar

    guider, clip = families.guider(name), latent(name)
    settings = (guider, exactness.sampler("euler"), exactness.schedule(guider, 2), Noise_RandomNoise(1), clip)
    lengths = ("forward", 2.0, 1.0, 0.5, 0.3, 8.0, EACH)
    if not mask_reading(families.family_model(name)).fits:
        with pytest.raises(ValueError, match="as a picture beside the latents"):
            ExtendFar.execute(*settings, *lengths)
        return
    made = ExtendFar.execute(*settings, *lengths).result[0]["samples"]
    length = clip["samples"].shape[2]
    assert made.shape[2] == length + 4
    torch.testing.assert_close(made[:, :, :length], clip["samples"], atol=2e-4, rtol=2e-4)


def test_every_guider_runs(name):
    from comfyui_spacetime.models.guidance import MODES
    from comfyui_spacetime.nodes.guidance import Guider

    model, prompts = families.family_model(name), (families.conditioning(name, seed) for seed in (1, 2))
    positive, negative = prompts
    given = latent(name)
    made = []
    for mode in MODES:
        guider = Guider.execute(model, positive, 3.0, mode, "percent", 0, 1, 0.7, 0, 0, 1, negative=negative).result[0]
        sigmas = exactness.schedule(guider, STEPS)
        made.append(exactness.core_run(guider, exactness.sampler("euler"), sigmas, given)[0])
    assert all(bool(torch.isfinite(one).all()) for one in made)
    torch.testing.assert_close(made[0], sampled(name, given))  # plain cfg is core's


def test_masks_are_read_as_the_table_says(name):
    from comfyui_spacetime.nodes.guidance import HistoryGuidance
    from comfyui_spacetime.nodes.host.model.masks import mask_reading, said_of

    model, given = families.family_model(name), latent(name, masked=True)
    assert mask_reading(model).levels == FAMILIES[name].levels
    assert said_of(model, torch.ones(1, 1, 2, 2, 2)) == said_of(model, None) == ""
    if not FAMILIES[name].levels:
        assert "one noise level for the whole video" in said_of(model, given["noise_mask"])
        with pytest.raises(ValueError, match="one noise level for the whole video"):
            HistoryGuidance.execute(model, 0.5)
        return
    assert said_of(model, given["noise_mask"]) == ""
    guided = sampled(name, given, HistoryGuidance.execute(model, 1.0).result[0])
    plain = sampled(name, given)
    assert not torch.allclose(guided, plain, atol=1e-4)
    torch.testing.assert_close(guided[:, :, 0], given["samples"][:, :, 0], atol=2e-4, rtol=2e-4)


def test_what_is_said_of_known_places_is_what_the_network_sees(name):
    """Clean or noised: looked up in what reaches the network at the first step of a run."""
    from comfyui_spacetime.nodes.host.model.masks import mask_reading

    seen: list[torch.Tensor] = []
    model = families.family_model(name).clone()

    def apply_model(executor: Any, x: torch.Tensor, *rest: Any, **named: Any) -> Any:
        seen.append(x.clone())
        return executor(x, *rest, **named)

    import comfy.patcher_extension

    model.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.APPLY_MODEL, "seen", apply_model)
    given = latent(name, masked=True)
    own = {"concat_mask": torch.ones_like(given["noise_mask"])}
    runs = []
    for seed in (1, 2):
        guider = families.guider(name, model=model, **own)
        sigmas = exactness.schedule(guider, STEPS)[:2]
        exactness.core_run(guider, exactness.sampler("euler"), sigmas, given, seed)
        runs.append(seen[-1][:1, :, 0])
    assert torch.equal(*runs) == mask_reading(families.family_model(name)).clean
