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
    from comfyui_spacetime.nodes.host.language import configuration_path

    text = content if isinstance(content, str) else json.dumps(content)
    configuration_path().write_text(text, encoding="utf-8")


def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    from comfyui_spacetime.nodes import host

    texts: list[str] = []
    monkeypatch.setattr(host, "show_text", lambda _, text: texts.append(text))
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

    def model(instruction, message, *, seed=0, images=()):
        seen.append(images)
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
    from comfyui_spacetime.nodes.words import ADDRESS, LoadLanguageModel

    def options() -> list[str]:
        return next(one for one in LoadLanguageModel.define_schema().inputs if one.id == "model").options

    assert options() == [ADDRESS]
    configure(folders, "{")
    assert options() == [ADDRESS]
    with pytest.raises(ValueError, match="not readable JSON in line 1"):
        LoadLanguageModel.execute("endpoint: mine", "", "")
    configure(folders, {"endpoints": {"mine": {"url": "http://127.0.0.1:1/v1"}}})
    assert options() == ["endpoint: mine", ADDRESS]


def test_a_named_endpoint_has_its_key_and_can_be_cancelled(folders, monkeypatch):
    from comfyui_spacetime.nodes import host
    from comfyui_spacetime.nodes.words import LoadLanguageModel

    configure(folders, {"endpoints": {"mine": {"url": "http://127.0.0.1:1/v1", "key": "sk-1"}}})
    texts = said(monkeypatch)
    model = LoadLanguageModel.execute("endpoint: mine", "", "").result[0]
    assert (model.key, model.on_wait) == ("sk-1", host.check_interrupted)
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


@pytest.mark.parametrize("name", ["../../secret", "/etc", "missing"])
def test_folders_come_from_the_model_folders_only(folders, name):
    from comfyui_spacetime.nodes.words import LoadLanguageModel

    with pytest.raises(ValueError, match=r"models.LLM"):
        LoadLanguageModel.execute(f"folder: {name}", "", "")


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
