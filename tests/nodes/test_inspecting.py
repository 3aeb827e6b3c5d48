"""Inspect Tokens: what it shows is the attention of the model, of every family, and the run goes on as without it."""

import base64
import io
from typing import Any

import pytest
import torch
from PIL import Image

from comfyui_spacetime.models.patches import pack
from comfyui_spacetime.tools.bench import exactness, families, tiny_models
from comfyui_spacetime.tools.bench.families import FAMILIES

pytestmark = pytest.mark.usefixtures("comfy_host", "one_thread")
STEPS = 3


@pytest.fixture(autouse=True)
def as_the_host_runs():
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module", autouse=True)
def forget():
    yield
    families.family_model.cache_clear()


def begun(guider: Any, given: dict[str, Any], model: Any, steps: int = 1) -> Any:
    """Tokens in the middle of a run."""
    from comfy_extras.nodes_custom_sampler import Noise_RandomNoise

    from comfyui_spacetime.nodes.denoise import ForwardDiffusion
    from comfyui_spacetime.nodes.tokens import Patchify

    tokens = Patchify.execute(given, 1, 2, 2, model).result[0]
    noisy = ForwardDiffusion.execute(tokens, Noise_RandomNoise(1), exactness.schedule(guider, STEPS)).result[0]
    return exactness.step(noisy, guider, exactness.sampler("euler"), steps) if steps else noisy


def looked(tokens: Any, guider: Any, vae: Any = None) -> dict[str, Any]:
    from comfyui_spacetime.nodes.inspecting import InspectTokens

    return InspectTokens.execute(tokens, guider, vae).ui["spacetime_patches"][0]


def asked(shown: dict[str, Any], **what: Any) -> torch.Tensor:
    """A row as the editor gets it."""
    from comfyui_spacetime.nodes.inspecting import attention_for

    query = {"look": shown["attention"]["look"], **{key: str(value) for key, value in what.items()}}
    answer = attention_for(query)
    assert sum(answer["frames"]) == pytest.approx(1, abs=1e-4)
    weights = torch.frombuffer(bytearray(base64.b64decode(answer["weights"])), dtype=torch.uint8)
    return weights.float() / 255 * answer["largest"]


class Recorder:
    """An override of attention as another pack hangs in: what each block of patches really gave."""

    def __init__(self, count: int) -> None:
        self.count, self.calls = count, []

    def __deepcopy__(self, _memo: Any) -> "Recorder":
        return self

    def __call__(self, attention: Any, q: Any, k: Any, v: Any, heads: int, *rest: Any, **named: Any) -> Any:
        out = attention(q, k, v, heads, *rest, **named)
        whole = named.get("skip_reshape")
        if q.shape[-2 if whole else 1] == k.shape[-2 if whole else 1] == self.count:
            asked = named.get("transformer_options", {}).get("cond_or_uncond", [0])
            if 0 in asked:
                row = asked.index(0) * (q.shape[0] // len(asked))
                apart = [x[row] if x.ndim == 4 else x[row].unflatten(-1, (heads, -1)).transpose(0, 1) for x in (v, out)]
                self.calls.append(apart)
        return out


def with_recorder(guider: Any, count: int) -> tuple[Any, Recorder]:
    import copy

    recorder, patcher = Recorder(count), guider.model_patcher.clone()
    patcher.model_options["transformer_options"]["optimized_attention_override"] = recorder
    changed = copy.copy(guider)
    changed.model_patcher, changed.model_options = patcher, patcher.model_options
    return changed, recorder


@pytest.mark.parametrize("name", FAMILIES)
def test_rows_times_values_are_what_each_block_gave(name):
    why = families.lacking(name)
    if why:
        pytest.skip(why)
    told = compared(families.family_model(name), families.guider(name), families.latent(name))
    assert not told or "cannot be told apart from its text" in told


@pytest.mark.parametrize("cfg", [1.0, 3.0], ids=["positive alone", "both prompts"])
@pytest.mark.parametrize("name", ["spacetime", "wan", "ltx"])
def test_so_they_are_with_and_without_a_negative_prompt(name, cfg):
    model = tiny_models.model(name)
    assert not compared(model, exactness.cfg_guider(model, name, cfg), tiny_models.latent(name))


def compared(model: Any, guider: Any, given: dict[str, Any]) -> str:
    """Compare rows with what the blocks gave. Or why there are none."""
    tokens = begun(guider, given, model)
    count = sum(tokens.lengths)
    watched, recorder = with_recorder(guider, count)
    shown = looked(tokens, watched)
    if "why" in shown["attention"]:
        assert recorder.calls == []
        return str(shown["attention"]["why"])
    blocks, heads = shown["attention"]["blocks"], shown["attention"]["heads"]
    assert blocks == list(range(len(recorder.calls)))
    for block in {blocks[0], blocks[-1]}:
        values, out = recorder.calls[block]
        for patch in (0, count - 1):
            for head in {0, heads - 1}:
                row = asked(shown, block=block, patch=patch, head=head)
                assert row.sum() == pytest.approx(1, abs=0.1)  # each is rounded to a byte
                assert torch.allclose(row @ values[head].float(), out[head, patch].float(), atol=0.05)
    return ""


@pytest.mark.parametrize("name", ["dpmpp_2m_sde", "spacetime unipc"])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_the_run_goes_on_as_without_it(name, dtype):
    model = tiny_models.spacetime("test", dtype=dtype)
    guider, sampler, given = (
        exactness.cfg_guider(model, "spacetime"),
        exactness.sampler(name),
        tiny_models.latent("spacetime"),
    )
    start = begun(guider, given, model, 0)
    whole = exactness.step(start, guider, sampler, 0)
    tokens = exactness.step(start, guider, sampler, 1)
    before = tokens.values.clone()
    looked(tokens, guider)
    assert torch.equal(tokens.values, before)
    assert "optimized_attention_override" not in guider.model_options.get("transformer_options", {})
    assert torch.equal(exactness.step(tokens, guider, sampler, 0).values, whole.values)


@pytest.mark.parametrize("steps", [None, 0, -1])
def test_what_has_no_attention_says_why(steps):
    from comfyui_spacetime.nodes.tokens import Patchify

    model = tiny_models.model("spacetime")
    guider, given = exactness.cfg_guider(model, "spacetime"), tiny_models.latent("spacetime")
    if steps is None:
        shown = looked(Patchify.execute(given, 1, 2, 2).result[0], guider)
        assert "put Forward Diffusion before" in shown["attention"]["why"]
    elif steps == 0:
        assert looked(begun(guider, given, model, 0), guider)["attention"]["blocks"], "noise can be looked at"
        assert "connect a guider" in looked(begun(guider, given, model, 0), None)["attention"]["why"]
    else:
        done = exactness.step(begun(guider, given, model, 0), guider, exactness.sampler("euler"), 0)
        assert "complete" in looked(done, guider)["attention"]["why"]


def test_patches_of_another_size_than_the_models_say_so():
    from comfy_extras.nodes_custom_sampler import Noise_RandomNoise

    from comfyui_spacetime.nodes.denoise import ForwardDiffusion
    from comfyui_spacetime.nodes.tokens import Patchify

    guider = exactness.cfg_guider(tiny_models.model("spacetime"), "spacetime")
    tokens = Patchify.execute(tiny_models.latent("spacetime"), 1, 1, 1).result[0]
    tokens = ForwardDiffusion.execute(tokens, Noise_RandomNoise(1), exactness.schedule(guider, 2)).result[0]
    assert "this model cuts patches of 1 x 2 x 2" in looked(tokens, guider)["attention"]["why"]


@pytest.mark.parametrize(
    ("asked_for", "says"),
    [
        ({"look": "gone"}, "not kept any more"),
        ({"block": "x"}, 'block is "x"'),
        ({"patch": "99999"}, "patch is 99999"),
        ({"head": "-1"}, 'head is "-1"'),
        ({"block": "9" * 50}, "a whole number"),
    ],
)
def test_questions_from_outside_are_checked(asked_for, says):
    from comfyui_spacetime.nodes.inspecting import attention_for

    model = tiny_models.model("spacetime")
    guider = exactness.cfg_guider(model, "spacetime")
    shown = looked(begun(guider, tiny_models.latent("spacetime"), model), guider)
    query = {"look": shown["attention"]["look"], "block": "0", "patch": "0", "head": "mean", **asked_for}
    with pytest.raises(ValueError, match=says):
        attention_for(query)


def test_only_the_last_looks_are_kept():
    from comfyui_spacetime.nodes.host.stepping import attending

    model = tiny_models.model("spacetime")
    guider = exactness.cfg_guider(model, "spacetime")
    tokens = begun(guider, tiny_models.latent("spacetime"), model)
    names = [looked(tokens, guider)["attention"]["look"] for _ in range(attending.KEPT + 1)]
    assert attending.look_of(names[1])
    with pytest.raises(ValueError, match="run the workflow again"):
        attending.look_of(names[0])


@pytest.mark.parametrize("length", [1, 3])
def test_a_picture_of_every_latent_frame_lies_under_the_grid(tiny_objects, length):
    model, _, vae = tiny_objects
    guider = exactness.cfg_guider(tiny_models.model("spacetime"), "spacetime")
    given = {"samples": torch.randn(2, 16, length, 4, 6)}
    shown = looked(begun(guider, given, model), guider, vae)["pictures"]
    picture = Image.open(io.BytesIO(base64.b64decode(shown["guess"]["jpeg"])))
    assert (shown["guess"]["columns"], shown["guess"]["rows"]) == (length, 1)
    assert picture.size == (shown["guess"]["width"] * length, shown["guess"]["height"])


def test_decoded_pictures_are_frames_of_their_latents(tiny_objects, monkeypatch):
    """The middle one of those that a latent stands for: of 9 frames the first, the third and the seventh."""
    from comfyui_spacetime.nodes.host import pictures

    frames = torch.arange(9).view(9, 1, 1, 1).expand(9, 32, 48, 3) / 10
    monkeypatch.setattr(pictures, "decode_pieces", lambda *_, **__: iter(frames.split(4)))
    made = pictures.decoded(tiny_objects[2], {"samples": torch.zeros(1, 16, 3, 4, 6)})
    picture = Image.open(io.BytesIO(base64.b64decode(made["jpeg"])))
    found = [picture.getpixel((made["width"] * i + 5, 5))[0] / 25.5 for i in range(3)]
    assert found == pytest.approx([0, 2, 6], abs=0.2)


def test_packed_clips_have_no_pictures_and_no_failure():
    from comfyui_spacetime.nodes.tokens import cut

    tokens = pack([cut({"samples": torch.randn(1, 16, 2, 4, 4)}, (1, 2, 2)) for _ in range(2)])
    assert looked(tokens, None)["pictures"] == {}
