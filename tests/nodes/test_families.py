"""Every family of video models that the host has, through our nodes: patches, exact steps, tasks, guiders, masks."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from comfyui_spacetime.tools.bench import exactness, families
from comfyui_spacetime.tools.bench.families import FAMILIES, latent

pytestmark = pytest.mark.usefixtures("comfy_host", "one_thread")
STEPS = 3
WITH_SOUND = [name for name, family in FAMILIES.items() if family.sound is not None]
FPS = {"ltx-2": 25.0, "minimax h3": 24.0}  # of pictures with sound; of others it only sets how long half a second is


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


def flat(value: Any) -> torch.Tensor:
    """Latents of core as one tensor, of all their streams."""
    from comfyui_spacetime.nodes.host.stepping.streams import from_core

    return from_core(value)


def picture(value: Any) -> torch.Tensor:
    from comfyui_spacetime.nodes.host.sounding import nested_pair

    return nested_pair(value)[0]


def level_of(made: dict[str, Any]) -> torch.Tensor:
    """The mask of a LATENT, at each of its latents."""
    from comfyui_spacetime.nodes.host.sounding import is_nested, nested

    samples, mask = made["samples"], made["noise_mask"]
    if not is_nested(samples):
        return mask.expand_as(samples)
    pairs = zip(mask.unbind(), samples.unbind(), strict=True)
    return flat(nested([one.expand_as(latents).contiguous() for one, latents in pairs]))


def own_mask(name: str, made: dict[str, Any]) -> dict[str, Any]:
    """What makes a mask fit in families that want one in the conditioning; nothing for others."""
    from comfyui_spacetime.nodes.host.model.masks import mask_reading

    fits = mask_reading(families.family_model(name)).fits
    return {} if fits else {"concat_mask": torch.ones_like(picture(made["noise_mask"]))}


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
    assert len(tokens.streams) == (name in WITH_SOUND)
    back = Unpatchify.execute(tokens).result[0]
    assert torch.equal(flat(back["samples"]), flat(given["samples"]))
    assert torch.equal(level_of(back), level_of(given))


@pytest.mark.parametrize("masked", [False, True], ids=["plain", "mask"])
@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m_sde", "uni_pc", "spacetime unipc"])
def test_single_steps_are_one_run(name, sampler, masked):
    from comfyui_spacetime.nodes.host.model.masks import mask_reading

    guider, chosen, given = families.guider(name), exactness.sampler(sampler), latent(name, masked=masked)
    sigmas = exactness.schedule(guider, STEPS)
    if sampler.startswith("spacetime") and name in families.UNLIKE_FLOW:
        with pytest.raises(ValueError, match="made for flow models"):
            exactness.stepped(guider, chosen, sigmas, given)
    elif masked and not mask_reading(families.family_model(name)).fits:
        with pytest.raises(ValueError, match="takes known frames as a picture beside the latents"):
            exactness.stepped(guider, chosen, sigmas, given)
    else:
        reference = exactness.core_run(guider, chosen, sigmas, given)
        assert all(bool(torch.isfinite(flat(one)).all()) for one in reference)
        for steps in (0, 1):
            assert exactness.same(exactness.stepped(guider, chosen, sigmas, given, steps), reference)


def test_a_picture_beside_the_latents_lets_a_mask_fit(name):
    """Conditioning with a mask of its own, as core's image-to-video nodes of these families make it."""
    from comfyui_spacetime.nodes.host.model.masks import mask_reading

    if mask_reading(families.family_model(name)).fits:
        return
    given = latent(name, masked=True)
    guider = families.guider(name, **own_mask(name, given))
    chosen, sigmas = exactness.sampler("euler"), exactness.schedule(guider, STEPS)
    reference = exactness.core_run(guider, chosen, sigmas, given)
    assert exactness.same(exactness.stepped(guider, chosen, sigmas, given), reference)


def tasks(model: Any, name: str) -> dict[str, Callable[[dict[str, Any]], tuple[Any, dict[str, Any]]]]:
    """Each task with its settings: a clip -> (MODEL to sample with, LATENT)."""
    from comfyui_spacetime.nodes.tasks.along_time import ExtendVideo
    from comfyui_spacetime.nodes.tasks.connect import ConnectVideos
    from comfyui_spacetime.nodes.tasks.in_space import FillRegion, Outpaint, RestyleVideo
    from comfyui_spacetime.nodes.tasks.loops import LoopVideo

    hole = torch.zeros(1, 8, 8)
    hole[:, :4] = 1
    each, fps = (0, FPS[name]) if name in WITH_SOUND else (4, 8.0)
    gap = lambda one: ConnectVideos.execute(one, one, "gap", 0.5, 0.2, fps, each).result  # noqa: E731
    blend = lambda one: ConnectVideos.execute(one, one, "blend", 0.5, 0.9, fps, each, model).result  # noqa: E731
    return {
        "extend forward": lambda one: (model, ExtendVideo.execute(one, "forward", 0.5, fps, each).result[0]),
        "extend both": lambda one: (model, ExtendVideo.execute(one, "both", 0.5, fps, each).result[0]),
        "gap": lambda one: (model, gap(one)[0]),
        "blend": lambda one: blend(one)[1::-1],
        "close a loop": lambda one: LoopVideo.execute(model, one, "close clip", 0.5, fps, each, 0).result[:2],
        "restyle": lambda one: RestyleVideo.execute(model, one, 0.99, 0.0, 0.5, fps, "gate", each).result,
        "fill": lambda one: (model, FillRegion.execute(one, hole, each).result[0]),
        "outpaint": lambda one: (model, Outpaint.execute(one, 16, 0, 0, 0, 0, 8).result[0]),
    }


@pytest.mark.parametrize(
    "task", ["extend forward", "extend both", "gap", "blend", "close a loop", "restyle", "fill", "outpaint"]
)
def test_every_task_runs_and_what_is_known_stays(name, task):
    """Where a mask does not fit by itself, beside a prompt that brings its own."""
    model, made = tasks(families.family_model(name), name)[task](latent(name))
    guider = families.guider(name, model=model, **own_mask(name, made))
    sigmas = exactness.schedule(guider, STEPS)
    result, given = flat(exactness.core_run(guider, exactness.sampler("euler"), sigmas, made)[0]), flat(made["samples"])
    assert bool(torch.isfinite(result).all())
    known = level_of(made) == 0
    assert bool(known.any())
    kept_within = 4e-3 if name == "minimax h3" else 2e-4  # it notes known places at level 0.001
    torch.testing.assert_close(result[known], given[known], atol=kept_within, rtol=kept_within)
    assert not torch.allclose(result[~known], given[~known], atol=1e-2)


def test_extend_far_runs_or_says_why_not(name):
    from comfy_extras.nodes_custom_sampler import Noise_RandomNoise

    from comfyui_spacetime.nodes.host.model.masks import mask_reading
    from comfyui_spacetime.nodes.tasks.long import ExtendFar

    guider, clip = families.guider(name), latent(name)
    settings = (guider, exactness.sampler("euler"), exactness.schedule(guider, 2), Noise_RandomNoise(1), clip)
    lengths = ("forward", 2.0, 1.0, 0.5, 0.3, 8.0, 4)
    if name in WITH_SOUND:
        return  # below, with its sound
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
    assert all(bool(torch.isfinite(flat(one)).all()) for one in made)
    torch.testing.assert_close(flat(made[0]), flat(sampled(name, given)))  # plain cfg is core's


def test_masks_are_read_as_the_table_says(name):
    from comfyui_spacetime.nodes.guidance import HistoryGuidance
    from comfyui_spacetime.nodes.host.model.masks import mask_reading, said_of

    model, given = families.family_model(name), latent(name, masked=True)
    assert mask_reading(model).levels == FAMILIES[name].levels
    assert said_of(model, torch.ones(1, 1, 2, 2, 2)) == said_of(model, None) == ""
    if not FAMILIES[name].levels:
        assert "one noise level for the whole video" in said_of(model, level_of(given))
        with pytest.raises(ValueError, match="one noise level for the whole video"):
            HistoryGuidance.execute(model, 0.5)
        return
    assert said_of(model, level_of(given)) == ""
    guided = flat(sampled(name, given, HistoryGuidance.execute(model, 1.0).result[0]))
    assert not torch.allclose(guided, flat(sampled(name, given)), atol=1e-4)
    known = level_of(given) == 0
    torch.testing.assert_close(guided[known], flat(given["samples"])[known], atol=4e-3, rtol=4e-3)


def test_what_is_said_of_known_places_is_what_the_network_sees(name):
    """Clean or noised: looked up in what reaches the network at the first step of a run."""
    from comfyui_spacetime.models.streams import apart
    from comfyui_spacetime.nodes.host.model.masks import mask_reading

    seen: list[torch.Tensor] = []
    model = families.family_model(name).clone()

    def apply_model(executor: Any, x: torch.Tensor, *rest: Any, **named: Any) -> Any:
        seen.append(x.clone())
        return executor(x, *rest, **named)

    import comfy.patcher_extension

    model.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.APPLY_MODEL, "seen", apply_model)
    given = latent(name, masked=True)
    runs = []
    for seed in (1, 2):
        guider = families.guider(name, model=model, **own_mask(name, given))
        sigmas = exactness.schedule(guider, STEPS)[:2]
        exactness.core_run(guider, exactness.sampler("euler"), sigmas, given, seed)
        shown = seen[-1][:1]
        shapes = [one.shape for one in given["samples"].unbind()] if name in WITH_SOUND else [shown.shape]
        runs.append(apart(shown, shapes)[0][:, :, 0])
    assert torch.equal(*runs) == mask_reading(families.family_model(name)).clean
