"""Prompts in time and space: who has a share in which text, and a transformer whose patches have texts of their own."""

import pytest
import torch

from comfyui_spacetime.models.geometry import MINIMAX_H3, Frames
from comfyui_spacetime.models.patches import Grid, to_patches
from comfyui_spacetime.models.tasks.prompts import (
    Clock,
    contrasted,
    covered,
    parse_keys,
    parse_scales,
    scales_over_time,
    shares_over_time,
)
from comfyui_spacetime.models.transformer.dit import DiT
from comfyui_spacetime.models.transformer.shares import patch_shares

TIME = Frames.every(4)
CLOCK = Clock(length=9, fps=12.0, time=TIME)  # 33 frames, 2.75 s


def shares(text: str, *, fade: float = 0.0, clock: Clock = CLOCK, gaps: bool = False) -> dict[str, torch.Tensor]:
    return shares_over_time(covered(parse_keys(text, "x"), clock, gaps=gaps), clock, fade)


def test_without_a_fade_each_latent_has_one_text():
    found = shares("0: a\n1.25: b\n2: a")
    assert found["a"].tolist() == [1, 1, 1, 1, 0, 0, 0, 1, 1]
    assert torch.equal(found["a"] + found["b"], torch.ones(9))


def test_keys_and_ranges_say_the_same():
    keys, ranges = shares("0: a\n1: b"), shares("0-1: a\n1-2.75s: b")
    assert list(keys) == list(ranges)
    assert all(torch.equal(keys[text], ranges[text]) for text in keys)


@pytest.mark.parametrize("time", [Frames.every(1), TIME, Frames.every(8), MINIMAX_H3])
def test_the_middles_of_latents_are_those_of_their_frames(time):
    clock = Clock(7, 12.0, time)
    for latent, middle in enumerate(clock.middles.tolist()):
        held = [frame for frame in range(time.count(7)) if time.holding(frame) == latent]
        assert middle == pytest.approx((held[0] + held[-1] + 1) / 2 / 12)


@pytest.mark.parametrize("cyclic", [False, True])
@pytest.mark.parametrize("fade", [0.0, 0.2, 1.0, 5.0])
@pytest.mark.parametrize("text", ["0: a", "0: a\n1.3: b", "0: a\n0.5: b\n1: c\n2.2: a"])
def test_shares_add_up_and_a_fade_never_goes_back(text, fade, cyclic):
    clock = Clock(9, 12.0, TIME, cyclic)
    found = torch.stack(list(shares(text, fade=fade, clock=clock).values()))
    assert torch.allclose(found.sum(dim=0), torch.ones(9), atol=1e-6)
    assert bool((found >= -1e-7).all())
    if text == "0: a\n1.3: b" and not cyclic:
        assert bool((found[1].diff() >= 0).all())


def test_on_a_circle_the_last_text_fades_into_the_first():
    clock = Clock(8, 12.0, TIME, cyclic=True)
    found = shares("0: a\n1.333: b", fade=1.0, clock=clock)["a"]
    assert 0 < found[0] < 1
    assert 0 < found[-1] < 1
    assert torch.allclose(found[0], 1 - found[-1], atol=1e-6)


def test_gaps_belong_to_the_base():
    found = shares("1-2: a", gaps=True)
    assert found["a"].tolist() == (1 - found[""]).tolist() == [0, 0, 0, 0, 1, 1, 1, 0, 0]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "there is no line"),
        ("a ball", "is not a time and a value"),
        ("0:", "is not a time and a value"),
        ("2-1: a", "ends before it begins"),
        ("0-1.5: a\n1: b", "begins before `0-1.5: a` is over"),
        ("1: a\n0: b", "begins before"),
        ("0: a\n0: b", "begins before"),
        ("0-1: a\n2: b", "nothing is said for 1 to 2 s"),
        ("0.5: a", "nothing is said for 0 to 0.5 s"),
        ("0-1: a", "nothing is said for 1 to 2.75 s"),
        ("0: a\n2.8: b", "lies beyond the video, which ends at 2.75 s"),
        ("0-4: a", "lies beyond the video"),
        ("0: a\n1: b\n1.05: c", "would not be seen"),
        ("\n".join(f"{i}: a" for i in range(65)), "65 lines"),
    ],
)
def test_what_is_no_timeline_is_one_sentence(text, sentence):
    with pytest.raises(ValueError, match=sentence) as refused:
        shares(text)
    assert "\n" not in str(refused.value)


def test_guidance_scales_go_in_straight_lines():
    found = scales_over_time(parse_scales("0.5: 2\n1.5: 4"), CLOCK)
    assert found[0] == 2
    assert found[-1] == 4
    inside = (CLOCK.middles > 0.5) & (CLOCK.middles < 1.5)
    assert torch.allclose(found[inside].double(), 2 + 2 * (CLOCK.middles[inside] - 0.5), atol=1e-6)
    circle = scales_over_time(parse_scales("0: 2\n1: 4"), Clock(6, 12.0, TIME, cyclic=True))
    assert torch.allclose(circle, circle.flip(0), atol=1e-6)
    for wrong in ("0: x", "0-1: 3", "0: 101", "0: -1", "3: 2"):
        with pytest.raises(ValueError, match=r"guidance scale|is not a time|beyond the video"):
            scales_over_time(parse_scales(wrong), CLOCK)


def test_contrast_keeps_the_sum_and_leads_away_from_the_others():
    found = shares("0: a\n0.9: b\n1.8: c", fade=0.6)
    for contrast in (0.0, 0.5, 2.0):
        weights = contrasted(found, contrast)
        assert torch.allclose(sum(weights.values()), torch.ones(9), atol=1e-6)
        alone = found["b"] == 1
        assert torch.allclose(weights["b"][alone], torch.tensor(1 + contrast))
        assert torch.allclose(weights["a"][alone], torch.tensor(-contrast / 2))
    assert all(torch.equal(contrasted(found, 0.0)[text], share) for text, share in found.items())
    assert contrasted({"a": torch.ones(9)}, 3.0)["a"].equal(torch.ones(9))
    with pytest.raises(ValueError, match="must be 0 or more"):
        contrasted(found, -1.0)


# ---- the transformer ----


@pytest.fixture(scope="module")
def model(awake_dit) -> DiT:
    return awake_dit


def inputs(seed: int = 0):
    rng = torch.Generator().manual_seed(seed)
    texts = [torch.randn(2, length, 384, generator=rng) for length in (5, 3, 7)]
    return torch.randn(2, 16, 4, 4, 6, generator=rng), torch.tensor([0.3, 0.8]), texts


def predict(model: DiT, x, sigma, texts, own, mask=None):
    prepared = model.prepare(
        [Grid.of(x)], torch.cat(texts, dim=1), mask, context_lengths=[text.shape[1] for text in texts], shares=own
    )
    return model(x, sigma, prepared=prepared)


@pytest.mark.parametrize("levels", [(2,), (2, 4), (2, 24)])
def test_one_text_for_all_patches_is_the_plain_run(model, levels):
    """Whatever other texts there are, and also where shares in one text are split."""
    x, sigma, texts = inputs()
    sigma = sigma.reshape(2, *[1] * (len(levels) - 1)).expand(levels)
    plain = model(x, sigma, texts[0])
    alone = torch.zeros(3, 24)
    alone[0] = 1
    assert torch.equal(predict(model, x, sigma, texts[:1], torch.ones(1, 24)), plain)
    split = torch.rand(1, 24, generator=torch.manual_seed(0))
    for several, own in ((texts, alone), ([texts[0], texts[0]], torch.cat([split, 1 - split]))):
        # not to the bit: products of other sizes are summed in another order
        assert (predict(model, x, sigma, several, own) - plain).abs().max() <= 1e-6 * plain.abs().max()


def test_what_only_others_read_does_not_reach_a_patch_but_through_attention(model):
    """In a model of one block a patch answers to its own text alone as far as cross-attention goes."""
    x, _, texts = inputs()
    half = torch.zeros(2, 24)
    half[0, :12], half[1, 12:] = 1, 1
    block = model.blocks[0].cross_attn
    prepared = model.prepare([Grid.of(x)], torch.cat(texts[:2], 1), context_lengths=[5, 3], shares=half)
    tokens = torch.randn(2, 24, 32)
    text = prepared.texts[0]
    from comfyui_spacetime.models.transformer.attention import sdpa

    mixed = block(tokens, text.keys, text.values, text.mask, sdpa, [24], text.lengths, text.shares)
    for rows, own in ((slice(0, 12), texts[0]), (slice(12, 24), texts[1])):
        alone = model.prepare([Grid.of(x)], own).texts[0]
        expected = block(tokens, alone.keys, alone.values, None, sdpa)
        assert torch.allclose(mixed[:, rows], expected[:, rows], atol=1e-6)


def test_the_order_of_the_texts_does_not_matter(model):
    x, sigma, texts = inputs()
    own = torch.rand(3, 24, generator=torch.manual_seed(1))
    own = own / own.sum(dim=0)
    mask = torch.rand(2, 15, generator=torch.manual_seed(2)) > 0.3
    turned = [texts[2], texts[0], texts[1]]
    parts = mask.split([5, 3, 7], dim=1)
    once = predict(model, x, sigma, texts, own, mask)
    again = predict(model, x, sigma, turned, own[[2, 0, 1]], torch.cat([parts[2], parts[0], parts[1]], dim=1))
    assert torch.allclose(once, again, atol=1e-5)


def test_shares_that_do_not_fit_are_refused(model):
    x, sigma, texts = inputs()
    with pytest.raises(ValueError, match="belong to the size and length"):
        predict(model, x, sigma, texts, torch.ones(3, 20) / 3)
    with pytest.raises(ValueError, match="belong to the size and length"):
        predict(model, x, sigma, texts, torch.ones(2, 24) / 2)
    with pytest.raises(ValueError, match="add up to 1"):
        predict(model, x, sigma, texts, torch.ones(3, 24))
    with pytest.raises(ValueError, match="for one clip"):
        model.prepare([Grid(1, 2, 2)] * 2, texts[0], context_lengths=[2, 3], shares=torch.ones(2, 8))


def test_shares_of_latents_become_those_of_patches():
    own = torch.rand(2, 3, 4, 4)
    assert torch.allclose(patch_shares(own, (1, 2, 2)), to_patches(own[:, None], (1, 2, 2)).mean(-1), atol=1e-6)
    assert patch_shares(torch.ones(2, 3, 5, 4), (1, 2, 2)).shape == (2, 18)
