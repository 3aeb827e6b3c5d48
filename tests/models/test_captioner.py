"""The captioner: equal to an independent decoder, cached writing equal to whole passes; words, files, training."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from comfyui_spacetime.models.captioner.captioner import (
    CaptionerFile,
    frame_numbers,
    load_captioner,
    parsed_sizes,
    save_captioner,
)
from comfyui_spacetime.models.captioner.describer import Captioner, cover
from comfyui_spacetime.models.captioner.network import PRESETS, CaptionNetwork, causal_matmul, causal_sdpa
from comfyui_spacetime.models.captioner.vocabulary import Vocabulary, is_detailed
from comfyui_spacetime.models.captioner.writing import write_captions
from comfyui_spacetime.models.clips.cache import LatentCache
from comfyui_spacetime.models.files import write_tensors
from comfyui_spacetime.models.geometry import ClipSize, best_size
from comfyui_spacetime.models.metrics.captions import (
    compare,
    facts_of_scene,
    facts_of_text,
    field_accuracy,
    share_right,
    word_overlap,
)
from comfyui_spacetime.models.toyworld import caption_held_out, detailed_caption, sample_scene, short_caption
from comfyui_spacetime.models.training.captioner.agreement import LEAST, word_weights
from comfyui_spacetime.models.training.captioner.train import CaptionedClips, CaptionerTraining, tellings, train
from comfyui_spacetime.models.vae.autoencoder import PRESETS as VAES
from comfyui_spacetime.models.vae.autoencoder import VideoVAE, fingerprint

CAPTIONS = [
    "a red ball rolls to the left",
    (
        "The scene shows a blue cube on the floor. The blue cube spins in place. The background is a gray checkered "
        "floor at night, in dim bluish light. The camera is static. Minimal 3D render with soft light."
    ),
]


def small(seed: int = 0, vocabulary: int = 120, **changes) -> CaptionNetwork:
    """A small network with random weights everywhere."""
    torch.manual_seed(seed)
    config = replace(PRESETS["test"], vocabulary=vocabulary, depth=2, **changes)
    network = CaptionNetwork(config).initialise()
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.2 if weight.ndim > 1 else 1.0)
    return network.eval()


def test_the_decoder_equals_qwen3():
    """An independent implementation of the same design: RMS norms, normed queries and keys, rotary places."""
    transformers = pytest.importorskip("transformers")
    decoder = small().decoder
    qwen = transformers.Qwen3ForCausalLM(
        transformers.Qwen3Config(
            vocab_size=120,
            hidden_size=32,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            head_dim=16,
            rope_theta=10_000.0,
            rms_norm_eps=1e-6,
            tie_word_embeddings=False,
        )
    ).eval()
    assert decoder.blocks[0].mlp.down.weight.shape == (32, 128)
    names = {"embed_tokens.weight": decoder.words.weight, "norm.weight": decoder.norm.weight}
    for index, block in enumerate(decoder.blocks):
        q, k, v = block.attn.qkv.weight.chunk(3)
        gate, up = block.mlp.gate_up.weight.chunk(2)
        ours = {
            "input_layernorm": block.norm1.weight,
            "post_attention_layernorm": block.norm2.weight,
            "self_attn.q_proj": q,
            "self_attn.k_proj": k,
            "self_attn.v_proj": v,
            "self_attn.o_proj": block.attn.proj.weight,
            "self_attn.q_norm": block.attn.q_norm.weight,
            "self_attn.k_norm": block.attn.k_norm.weight,
            "mlp.gate_proj": gate,
            "mlp.up_proj": up,
            "mlp.down_proj": block.mlp.down.weight,
        }
        names |= {f"layers.{index}.{name}.weight": value for name, value in ours.items()}
    state = {f"model.{name}": value for name, value in names.items()} | {"lm_head.weight": decoder.head.weight}
    qwen.load_state_dict(state)
    ids = torch.randint(120, (3, 11))
    with torch.no_grad():
        expected = qwen(ids).logits
        for causal in (causal_sdpa, causal_matmul):
            found = decoder.head(decoder(decoder.words(ids), 0, [causal, causal]))
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_writing_with_a_cache_equals_whole_passes():
    network, vocabulary = small(), Vocabulary.of(CAPTIONS)
    network = small(1)
    network.decoder.words = torch.nn.Embedding(len(vocabulary), 32)
    network.decoder.head = torch.nn.Linear(32, len(vocabulary), bias=False)
    latents = torch.randn(2, 16, 3, 6, 4)
    written = write_captions(network, vocabulary, latents, max_pieces=12)
    prefix = network.prefix(latents)
    ids = torch.full((2, 1), vocabulary.starts[True])
    for _ in range(12):
        logits = network(prefix, ids)[:, -1].detach()
        logits[:, vocabulary.never] = -torch.inf
        ids = torch.cat([ids, logits.argmax(-1, keepdim=True)], dim=1)
    assert written == [vocabulary.decode(row) for row in ids[:, 1:].tolist()]
    alone = write_captions(network, vocabulary, latents[1:], max_pieces=12)
    assert alone == written[1:]


def test_drawn_captions_follow_the_seed():
    network, vocabulary = small(2), Vocabulary.of(CAPTIONS)
    network.decoder.words = torch.nn.Embedding(len(vocabulary), 32)
    network.decoder.head = torch.nn.Linear(32, len(vocabulary), bias=False)
    latents = torch.randn(1, 16, 2, 4, 4)
    one, same, other = (
        write_captions(network, vocabulary, latents, temperature=1.5, seed=seed, max_pieces=16) for seed in (3, 3, 4)
    )
    assert one == same != other


def test_words_come_back_and_new_ones_are_spelled():
    vocabulary = Vocabulary.of(CAPTIONS)
    for caption in CAPTIONS:
        ids = vocabulary.encode(caption)
        assert ids[0] == vocabulary.starts[is_detailed(caption)]
        assert ids[-1] == vocabulary.end
        assert vocabulary.decode(ids).lower() == caption.lower()
    text = "a zebra-striped, quick xylophone"  # none of these words occurred
    assert vocabulary.decode(vocabulary.encode(text)) == "A zebra-striped, quick xylophone"
    assert vocabulary.decode(vocabulary.encode("one. two! three")) == "One. Two! Three"
    with pytest.raises(ValueError, match="lacks"):
        Vocabulary(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"])


def test_a_file_comes_back_and_foreign_ones_are_named(tmp_path):
    vocabulary = Vocabulary.of(CAPTIONS)
    network = small(vocabulary=len(vocabulary))
    file = CaptionerFile(network.config, tuple(vocabulary.tokens), network.state_dict(), "0a1b2c3d", {"fps": 12})
    save_captioner(tmp_path / "c.safetensors", file)
    read = load_captioner(tmp_path / "c.safetensors")
    assert (read.config, read.tokens, read.vae, read.meta) == (file.config, file.tokens, file.vae, file.meta)
    latents = torch.randn(1, 16, 2, 4, 4)
    assert torch.equal(read.network().prefix(latents), network.prefix(latents))
    write_tensors(tmp_path / "other.safetensors", {"a": torch.zeros(1)}, {"format": "pt"})
    with pytest.raises(ValueError, match="holds no captioner"):
        load_captioner(tmp_path / "other.safetensors")
    write_tensors(
        tmp_path / "new.safetensors", {"a": torch.zeros(1)}, {"spacetime_captioner": json.dumps({"format": 9})}
    )
    with pytest.raises(ValueError, match="update the pack"):
        load_captioner(tmp_path / "new.safetensors")
    with pytest.raises(ValueError, match="does not fit its config"):
        replace(read, config=replace(read.config, depth=1)).network()


def test_a_captioner_of_another_vae_is_refused():
    torch.manual_seed(0)
    vae, vocabulary = VideoVAE(VAES["test"]), Vocabulary.of(CAPTIONS)
    file = CaptionerFile(small().config, tuple(vocabulary.tokens), small().state_dict(), "0a1b2c3d")
    with pytest.raises(ValueError, match="reads the latents of the VAE 0a1b2c3d, not of"):
        Captioner.of("mine", file, vae, fingerprint(vae))


def test_frames_are_chosen_over_the_whole_video():
    assert frame_numbers(33, 12, 12, 33) == list(range(33))
    assert frame_numbers(30, 12, 12, 33) == list(range(29))  # 1 + 4k
    assert frame_numbers(66, 24, 12, 33) == list(range(0, 66, 2))
    long = frame_numbers(1000, 25, 12, 33)
    assert (len(long), long[0], long[-1]) == (33, 0, 999)
    assert frame_numbers(1, 12, 12, 33) == [0]
    slow = frame_numbers(5, 3, 12, 33)  # fewer frames a second than the captioner wants: some are seen again
    assert (len(slow), slow[-1]) == (17, 4)
    with pytest.raises(ValueError, match="no frames"):
        frame_numbers(0, 12, 12, 33)


def test_the_size_is_the_nearest_in_shape_then_in_area():
    sizes = parsed_sizes(["64x64x33", "96x96x33", "96x96x32c", "96x64x17", "64x64x17"])
    assert best_size(sizes, 64, 64) == ClipSize(64, 64, 33)
    assert best_size(sizes, 512, 512) == ClipSize(96, 96, 33)
    assert best_size(sizes, 1920, 1080) == ClipSize(96, 64, 17)
    pixels = torch.rand(2, 3, 90, 160)
    assert cover(pixels, 96, 64).shape == (2, 3, 64, 96)
    assert torch.equal(cover(pixels, 160, 90), pixels)


@pytest.mark.parametrize("seed", range(40))
def test_facts_are_read_from_any_caption_of_the_toy_world(seed):
    rng = np.random.default_rng(seed)
    scene = sample_scene(rng, cyclic=seed % 5 == 0, num_frames=32 if seed % 5 == 0 else 33)
    truth = facts_of_scene(scene)
    detailed = compare(facts_of_text(detailed_caption(scene, rng)), truth)
    assert False not in detailed.values()
    for write in (short_caption, caption_held_out):
        verdict = compare(facts_of_text(write(scene, rng)), truth)
        assert all(verdict[name] for name in ("colour", "shape", "count", "motion"))


def test_wrong_facts_are_seen():
    truth = facts_of_text(CAPTIONS[1])
    wrong = {
        "colour": CAPTIONS[1].replace("blue", "red"),
        "shape": CAPTIONS[1].replace("cube", "cone"),
        "motion": CAPTIONS[1].replace("spins in place", "falls to the floor"),
        "sky": CAPTIONS[1].replace("at night, in dim bluish light", "at sunset"),
        "floor": CAPTIONS[1].replace("gray", "dark"),
        "camera": CAPTIONS[1].replace("is static", "tracks to the left"),
    }
    for name, text in wrong.items():
        assert compare(facts_of_text(text), truth)[name] is False, name
    assert compare(facts_of_text(""), truth)["motion"] is False
    left, right = (facts_of_text(f"a red ball rolls to the {way}") for way in ("left", "right"))
    assert compare(left, right)["direction"] is False
    verdicts = [compare(left, right), compare(right, right)]
    assert share_right(verdicts, "direction") == 0.5
    assert share_right(verdicts, "floor") is None
    assert field_accuracy([compare(right, right)]) == 1
    assert word_overlap("a red ball", "the ball is red") == 1
    assert word_overlap("a red ball", "a blue cube") == 0


@pytest.fixture
def caches(tmp_path) -> tuple:
    """A VAE and a cache of four random clips, each with a caption of its own, that stands for both parts."""
    torch.manual_seed(0)
    vae = VideoVAE(VAES["test"])
    captions = [
        [f"a {colour} {shape} falls"] for colour, shape in zip(["red", "blue", "green", "pink"], "abcd", strict=True)
    ]
    header = {"captions": captions, "lengths": [[1]] * 4, "cyclic": False, "size": "32x32x9"}
    tensors = {"latents": torch.randn(4, 16, 3, 4, 4).bfloat16(), "text": torch.zeros(4, 384).bfloat16()}
    write_tensors(
        tmp_path / "cache" / f"toy-32x32x9-{fingerprint(vae)}-000000.safetensors",
        tensors,
        {"clips": json.dumps(header)},
    )
    return vae, LatentCache(tmp_path / "cache")


SETTINGS = CaptionerTraining(
    preset="test", steps=120, tokens=48, images=0.0, learning_rate=1e-2, warmup=5, save_every=60, dtype="float32"
)


def test_training_learns_what_each_clip_shows_and_leaves_a_usable_file(caches, tmp_path):
    vae, cache = caches
    made = train(SETTINGS, cache, cache, vae, tmp_path / "run")
    read = load_captioner(tmp_path / "run" / "captioner.safetensors")
    latents = torch.stack([latents for latents, _ in cache.buckets["32x32x9"]])
    texts = write_captions(read.network(), Vocabulary(read.tokens), latents, detailed=False)
    assert [text.lower() for text in texts] == [captions[0] for captions in cache.captions["32x32x9"]]
    assert made.vae == fingerprint(vae)
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["words"] == 1
    assert rows[-1]["validation_loss"] < 0.1 < rows[0]["loss"]
    assert (tmp_path / "run" / "samples" / "000120.png").is_file()


def test_words_weigh_by_what_the_captions_of_a_clip_agree_on():
    """0 is in every caption, 1 and 2 tell which clip it is, 3 to 6 are each in one caption of each clip."""
    clips = [[[0, 1, 3], [0, 1, 4, 0], [0, 1, 5], [0, 1, 6]], [[0, 2, 3], [0, 2, 4], [0, 2, 5], [0, 2, 6]]]
    weights = word_weights(clips, 8)
    assert weights[1] == weights[2]
    torch.testing.assert_close(weights[1] / weights[0], torch.tensor((LEAST + np.log(2)) / LEAST).float())
    assert weights[0] == weights[3] == weights[6] == weights[7], "neither grammar nor wording tells anything"
    words = [word for captions in clips for caption in captions for word in caption]
    torch.testing.assert_close(weights[words].mean(), torch.tensor(1.0))
    assert torch.equal(word_weights([[[0, 1]], [[0, 2]]], 3), torch.ones(3)), "one caption each: nothing to go by"


def test_left_and_right_weigh_more_than_the_choice_of_words(caches):
    rng = np.random.default_rng(0)
    scenes = [sample_scene(rng) for _ in range(150)]
    _, cache = caches
    cache.captions["32x32x9"] = [
        [*(short_caption(scene, rng) for _ in range(3)), detailed_caption(scene, rng)] for scene in scenes
    ]
    cache.buckets["32x32x9"] = cache.buckets["32x32x9"][:1] * len(scenes)
    vocabulary = Vocabulary.of(text for captions in cache.captions["32x32x9"] for text in captions)
    weights = CaptionedClips(cache, vocabulary).weights
    telling = [float(weights[vocabulary.ids[word]]) for word in ("left", "right", "red", "cone", "sunset")]
    idle = [float(weights[vocabulary.ids[word]]) for word in ("the", "a", "soft", "static", ".")]
    assert min(telling) > 4 * max(idle)


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_gradients_of_the_eye_in_bf16_are_near_those_in_fp32(frames):
    """Torch's own gradient of a bf16 convolution over time is wrong on CPUs at few frames."""
    torch.manual_seed(0)
    eye = small().eye
    x, wanted = torch.randn(1, 16, frames, 4, 4), {}
    for dtype in (torch.float32, torch.bfloat16):
        network = copy.deepcopy(eye).to(dtype)
        network(x.to(dtype)).float().square().mean().backward()
        for name in ("surroundings.weight", "patch_embedder.weight"):
            found = network.get_parameter(name).grad.float()
            assert (found - wanted.setdefault(name, found)).norm() <= 0.1 * wanted[name].norm()


def test_the_eye_sees_the_frames_around_a_patch():
    """A change in one frame reaches the neighbours' features before any attention, and not those beyond the window."""
    eye = small().eye
    eye.blocks = torch.nn.ModuleList()
    latents = torch.randn(1, 16, 9, 8, 8)
    other = latents.clone()
    other[:, :, 4] += 1
    changed = (eye(latents) - eye(other)).abs().amax(dim=-1).unflatten(1, (9, 4, 4))[0].amax(dim=(1, 2))
    assert (changed > 1e-4).tolist() == [False, False, True, True, True, True, True, False, False]
    with pytest.raises(ValueError, match="cannot have a patch"):
        replace(PRESETS["test"], window=(2, 4, 4))


def test_a_resumed_run_equals_a_whole_one(caches, tmp_path, monkeypatch):
    from comfyui_spacetime.models.training.captioner import train as captioner
    from comfyui_spacetime.models.training.run.stopping import StoppedError

    vae, cache = caches
    settings = replace(SETTINGS, steps=9, save_every=9)
    whole = train(settings, cache, cache, vae, tmp_path / "whole")
    calls = iter(range(100))
    monkeypatch.setattr(captioner, "asked_to_stop", lambda: next(calls) == 3)
    with pytest.raises(StoppedError, match="step 4"):
        train(settings, cache, cache, vae, tmp_path / "parts")
    parts = train(settings, cache, cache, vae, tmp_path / "parts")
    assert all(torch.equal(value, parts.state[name]) for name, value in whole.state.items())
    continued = train(replace(settings, steps=2, save_every=2), cache, cache, vae, tmp_path / "more", init=whole)
    assert continued.tokens == whole.tokens


def test_a_cache_of_another_vae_or_without_captions_is_refused(caches, tmp_path):
    _, cache = caches
    with pytest.raises(ValueError, match=r"latents of another VAE \(\w+\) than the one given \(00000000\)"):
        cache.check_vae("00000000")
    torch.manual_seed(1)
    with pytest.raises(ValueError, match="another VAE"):
        train(SETTINGS, cache, cache, VideoVAE(VAES["test"]), tmp_path / "run")
    cache.captions["32x32x9"] = [[""]] * 4
    with pytest.raises(ValueError, match="none of these clips has a caption"):
        CaptionedClips(cache, Vocabulary.of(CAPTIONS))


def test_single_frames_are_described_without_what_happens(caches):
    _, cache = caches
    cache.captions["32x32x9"] = [[CAPTIONS[1]]] * 4
    vocabulary = Vocabulary.of(CAPTIONS)
    batch = CaptionedClips(cache, vocabulary).draw(replace(SETTINGS, images=1.0), torch.Generator().manual_seed(0))
    assert batch.latents.shape[2] == 1
    (rows,) = batch.texts
    text = vocabulary.decode(rows.targets[0].clamp(min=0).tolist())
    assert "spins" not in text
    assert "camera" not in text
    assert "gray checkered floor" in text


def test_the_embedded_captioner_says_what_fresh_clips_show():
    """Far from its measured accuracy (`run.py bench captioner`), so that it fails only when something is broken."""
    from comfyui_spacetime.models.checkpoints import load_checkpoint
    from comfyui_spacetime.models.embedded import CAPTIONER, EMBEDDED
    from comfyui_spacetime.models.geometry import ClipSize
    from comfyui_spacetime.tools.bench.captioner import described

    vae = load_checkpoint(EMBEDDED).vae()
    captioner = Captioner.of("embedded", load_captioner(CAPTIONER), vae, fingerprint(vae))
    judged = list(described(captioner, ClipSize.parse("64x64x33"), 12))
    verdicts = [compare(one.found, one.truth) for one in judged]
    assert share_right(verdicts, "colour") >= 0.5
    assert share_right(verdicts, "motion") >= 0.5
    weights = [path.stat().st_size for path in CAPTIONER.parent.glob("*.safetensors")]
    assert sum(weights) < 48_000_000


def test_a_captioner_does_not_learn_what_casual_captions_leave_out():
    full, other = "a red ball bounces to the left", "a scarlet globe hops to the left"
    long = "A red ball on the floor. " + "The red ball bounces to the left. " * 4
    told = tellings([full, other, "ball", "a ball bounces to the left", "red ball", long])
    assert told == [full, other, long]
    own = ["people in a street", "a street"]
    assert tellings(own) == own  # captions of other clips are all alike to it
