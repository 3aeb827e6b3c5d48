"""Prompts and guidance over time on core MODELs: what changes where, and what equals the plain run."""

import pytest
import torch
from torch import Tensor

from comfyui_spacetime.tools.bench import tiny_models

LENGTH, FPS, PER_LATENT = 5, 12.0, 4  # 17 frames, 1.42 s
SIZES = {"spacetime": (16, LENGTH, 4, 8), "wan": (16, LENGTH, 4, 8), "ltx": (128, LENGTH, 4, 8)}
ATTENTION = "spacetime attention"  # our model by its own way, in which each patch attends to its text
NAMES = (*SIZES, ATTENTION)


def kind(name: str) -> str:
    """The model of a way."""
    return name.split(maxsplit=1)[0]


def model_of(name: str):
    return tiny_models.model(kind(name))


def conditioning(name: str, seed: int) -> list:
    return tiny_models.conditioning(kind(name), seed)


class Words:
    """A CLIP that gives each text random features of its own, of the width that a model reads."""

    def __init__(self, name: str) -> None:
        self.name = name

    def tokenize(self, text: str) -> str:
        return text

    def encode_from_tokens_scheduled(self, text: str) -> list:
        return conditioning(self.name, sum(map(ord, text)))


@pytest.fixture(params=NAMES)
def name(request, comfy_host, one_thread) -> str:
    return request.param


def latent(name: str) -> dict:
    return {"samples": torch.zeros(1, *SIZES[kind(name)])}


def prompt(name: str, text: str, fade: float = 0.0, **more):
    from comfyui_spacetime.nodes.prompts import PromptOverTime

    model = more.pop("model", None) or model_of(name)
    inputs = (model, Words(name), more.pop("latent", latent(name)), text, fade, FPS, PER_LATENT)
    more = {"method": "attention" if name == ATTENTION else "mix answers", "contrast": 0.0, **more}
    return PromptOverTime.execute(*inputs, **more).result[0]


def sample(name: str, positive, *, model=None, cfg: float = 1.0, steps: int = 1, size=None) -> Tensor:
    import comfy.samplers

    shape = (1, *(size or SIZES[kind(name)]))
    guider = comfy.samplers.CFGGuider(model or model_of(name))
    guider.set_conds(positive, conditioning(name, 99))
    guider.set_cfg(cfg)
    sigmas = torch.linspace(1, 0, steps + 1)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return guider.sample(
            noise, torch.zeros(shape), comfy.samplers.sampler_object("euler"), sigmas, disable_pbar=True, seed=1
        )


def half() -> Tensor:
    """A mask over the left half."""
    mask = torch.zeros(1, 32, 64)
    mask[:, :, :32] = 1
    return mask


def test_one_prompt_for_all_is_the_plain_run_to_the_bit(name):
    plain = sample(name, Words(name).encode_from_tokens_scheduled("a"), cfg=3.0, steps=2)
    for text in ("0: a", "0: a\n0.7: a", "0-1: a\n1-1.4166: a"):
        assert torch.equal(sample(name, prompt(name, text, fade=0.3), cfg=3.0, steps=2), plain)


def test_the_way_of_several_prompts_equals_the_plain_run_where_they_are_one(name):
    """Not by leaving the way out: other words of equal features."""

    class Same(Words):
        def encode_from_tokens_scheduled(self, _text: str) -> list:
            return conditioning(self.name, 5)

    from comfyui_spacetime.nodes.prompts import PromptOverTime

    model = model_of(name)
    positive = PromptOverTime.execute(
        model,
        Same(name),
        latent(name),
        "0: a\n0.5: b\n1: c",
        0.5,
        FPS,
        PER_LATENT,
        Same(name).encode_from_tokens_scheduled(""),
        half(),
        method="attention" if name == ATTENTION else "mix answers",
    ).result[0]
    plain = sample(name, conditioning(name, 5), steps=2)
    assert (sample(name, positive, steps=2) - plain).abs().max() <= 1e-5 * plain.abs().max()


def test_other_words_at_a_time_change_that_time_most(name):
    """Attention hands on a little to other times; models that mix their answers by masks nothing in one step."""
    before = sample(name, prompt(name, "0: a\n0.75: b"))
    after = sample(name, prompt(name, "0: a\n0.75: c"))
    change = (before - after).abs().mean(dim=(0, 1, 3, 4))
    assert change[3:].min() > 2 * change[:3].max()
    if name != ATTENTION:
        assert not change[:3].any()


@pytest.mark.parametrize("name", ["spacetime", "wan", "ltx"])
def test_contrast_leads_each_place_away_from_the_prompts_of_the_others(comfy_host, one_thread, name):
    """One step from pure noise, so what is sampled is the answer itself: own + contrast * (own - other)."""
    one, other = (sample(name, Words(name).encode_from_tokens_scheduled(text)) for text in "ab")
    made = sample(name, prompt(name, "0: a\n0.75: b", contrast=0.5))
    scale = 1e-5 * float(one.abs().max())
    assert torch.allclose(made[:, :, :3], (one + 0.5 * (one - other))[:, :, :3], atol=scale)
    assert torch.allclose(made[:, :, 3:], (other + 0.5 * (other - one))[:, :, 3:], atol=scale)
    assert not torch.allclose(made, sample(name, prompt(name, "0: a\n0.75: b")), atol=scale)


def test_other_words_in_a_region_change_that_region_most(name):
    base = Words(name).encode_from_tokens_scheduled("base")
    before, after = (sample(name, prompt(name, f"0: {text}", base=base, mask=half())) for text in "bc")
    change = (before - after).abs().mean(dim=(0, 1, 2, 3))
    assert change[:4].min() > 2 * change[4:].max()
    if name != ATTENTION:
        assert not change[4:].any()


def test_regions_chain(name):
    """Two regions over a base; where both would hold, the later node does. A base of the same words is none."""
    words = Words(name).encode_from_tokens_scheduled
    left = prompt(name, "0: b", base=words("a"), mask=half())
    right = prompt(name, "0.5-1: c", base=left, mask=1 - half())
    made = sample(name, right)
    assert torch.isfinite(made).all()
    whole = prompt(name, "0: c", base=left)
    assert torch.equal(sample(name, whole), sample(name, words("c")))
    once = sample(name, prompt(name, "0: b", base=left, mask=half()))
    assert torch.allclose(once, sample(name, left), atol=1e-5)


def test_a_fade_lies_between_both(name):
    hard, soft = (prompt(name, "0: a\n0.7: b", fade=fade) for fade in (0.0, 1.0))
    assert not torch.equal(sample(name, hard), sample(name, soft))


@pytest.mark.parametrize(
    ("text", "more", "sentence"),
    [
        ("a ball", {}, "not a time and a value"),
        ("0: a\n9: b", {}, "lies beyond the video"),
        ("0: a", {"mask": torch.ones(1, 32, 64)}, "connect `base`"),
        ("0: a", {"mask": torch.zeros(1, 32, 64), "base": "base"}, "the mask is empty"),
        ("0: a", {"mask": torch.ones(3, 32, 64), "base": "base"}, "a mask of 3 frames"),
    ],
)
def test_what_cannot_hold_is_one_sentence(comfy_host, text, more, sentence):
    if "base" in more:
        more = {**more, "base": conditioning("spacetime", 0)}
    with pytest.raises(ValueError, match=sentence):
        prompt("spacetime", text, **more)


def test_prompts_for_another_video_are_refused(name):
    positive = prompt(name, "0: a\n0.7: b")
    other = prompt(name, "0: c", base=positive, mask=half())
    assert other
    with pytest.raises(ValueError, match="for the same latent"):
        prompt(name, "0.2-0.4: c", base=positive, latent={"samples": torch.zeros(1, SIZES[kind(name)][0], 3, 4, 8)})
    if name == ATTENTION:
        with pytest.raises(ValueError, match="connect the latent that is sampled"):
            sample(name, positive, size=(16, LENGTH, 8, 4))


def test_packed_clips_take_no_prompts_over_time(comfy_host):
    from comfyui_spacetime.nodes.packing import PackClips

    model = tiny_models.model("spacetime")
    words = Words("spacetime").encode_from_tokens_scheduled
    clips = [{"samples": torch.zeros(1, *SIZES["spacetime"])}] * 2
    _, packed, prompts = PackClips.execute(model, *clips, words("a"), words("b")).result
    with pytest.raises(ValueError, match="Split Clips"):
        prompt("spacetime", "0: a", latent=packed)
    for name in ("spacetime", ATTENTION):
        with pytest.raises(ValueError, match="packed clips"):
            prompt(name, "0.2-0.7: a", base=prompts)


def test_attention_by_place_is_not_for_every_model_or_chain(comfy_host):
    from comfyui_spacetime.nodes.prompts import PromptOverTime

    for name in ("wan", "ltx"):
        inputs = (tiny_models.model(name), Words(name), latent(name), "0: a\n0.7: b", 0.0, FPS, PER_LATENT)
        with pytest.raises(ValueError, match="set method to `mix answers`"):
            PromptOverTime.execute(*inputs, method="attention")
    mixed = prompt("spacetime", "0: a\n0.7: b")
    with pytest.raises(ValueError, match="in all nodes of the chain"):
        prompt(ATTENTION, "0: c", base=mixed, mask=half())
    attended = prompt(ATTENTION, "0: a\n0.7: b")
    assert torch.isfinite(sample("spacetime", prompt("spacetime", "0: c", base=attended, mask=half()))).all()


def test_a_run_over_steps_equals_one_run(name):
    """The step node keeps prompts over time as it keeps any conditioning."""
    import comfy.samplers
    from comfy_extras.nodes_custom_sampler import CFGGuider, Noise_RandomNoise

    from comfyui_spacetime.nodes.denoise import DenoiseStep, ForwardDiffusion
    from comfyui_spacetime.nodes.tokens import Patchify

    positive = prompt(name, "0: a\n0.7: b", fade=0.4)
    guider = CFGGuider.execute(model_of(name), positive, conditioning(name, 9), 2.0).result[0]
    tokens = Patchify.execute(latent(name), 1, 2, 2).result[0]
    start = ForwardDiffusion.execute(tokens, Noise_RandomNoise(3), torch.linspace(1, 0, 4)).result[0]
    sampler = comfy.samplers.sampler_object("dpmpp_2m")
    with torch.inference_mode():
        whole = DenoiseStep.execute(start, guider, sampler, 0).result[0]
        for _ in range(3):
            start = DenoiseStep.execute(start, guider, sampler, 1).result[0]
    assert torch.equal(start.values, whole.values)


# ---- guidance ----


def scaled(name: str, scales: str):
    from comfyui_spacetime.nodes.prompts import GuidanceOverTime

    return GuidanceOverTime.execute(model_of(name), scales, FPS, PER_LATENT).result[0]


def test_one_scale_at_all_times_is_the_guiders(name):
    positive = conditioning(name, 1)
    plain = sample(name, positive, cfg=3.0, steps=2)
    assert torch.allclose(sample(name, positive, model=scaled(name, "0: 3"), cfg=7.0, steps=2), plain, atol=1e-4)


def test_each_time_is_guided_with_its_own_scale(name):
    """One step: each latent is that of a run with its scale throughout; where it is 1, of an unguided one."""
    positive = conditioning(name, 1)
    made = sample(name, positive, model=scaled(name, "0.9: 1\n1.25: 5"), cfg=2.0)
    assert torch.allclose(made[:, :, :3], sample(name, positive)[:, :, :3], atol=1e-5)
    assert torch.allclose(made[:, :, 4:], sample(name, positive, cfg=5.0)[:, :, 4:], atol=1e-4)


def test_without_guidance_there_is_nothing_to_scale(name):
    positive = conditioning(name, 1)
    assert torch.equal(sample(name, positive, model=scaled(name, "0: 9")), sample(name, positive))


def test_a_second_node_takes_the_place_of_the_first(comfy_host):
    from comfyui_spacetime.nodes.prompts import GuidanceOverTime

    once = scaled("spacetime", "0: 9")
    twice = GuidanceOverTime.execute(once, "0: 3", FPS, PER_LATENT).result[0]
    assert len(twice.model_options["sampler_post_cfg_function"]) == 1
    positive = conditioning("spacetime", 1)
    plain = sample("spacetime", positive, cfg=3.0)
    assert torch.allclose(sample("spacetime", positive, model=twice, cfg=2.0), plain, atol=1e-4)


@pytest.mark.parametrize(
    ("scales", "sentence"), [("", "no line"), ("0: much", "no guidance scale"), ("9: 2", "beyond")]
)
def test_scales_that_are_none_are_one_sentence(comfy_host, scales, sentence):
    with pytest.raises(ValueError, match=sentence):
        sample("spacetime", conditioning("spacetime", 1), model=scaled("spacetime", scales), cfg=2.0)


def test_a_weak_model_leaves_nothing_to_scale(comfy_host):
    from comfyui_spacetime.models.guidance import Guidance
    from comfyui_spacetime.nodes.host.sampling import make_guider

    words = conditioning("spacetime", 1)
    with pytest.raises(ValueError, match="use one of them"):
        make_guider(scaled("spacetime", "0: 2"), words, None, Guidance(scale=2.0), tiny_models.tiny_spacetime(seed=1))
