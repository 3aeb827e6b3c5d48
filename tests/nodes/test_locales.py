"""The editor's files say what the schemas say, in every language, with nothing left over."""

import json
import re

import pytest

from comfyui_spacetime.tools import locales, script_texts

# words that would be a second name of a thing, or another region's: the guide says what the languages use
OTHER_WORDS = {
    "zh": "内嵌|取样|去噪",
    "zh-TW": "內嵌|取樣|降噪|視頻|默認",
    "ja": "ノイズ除去|ビデオ|潜在",
    "ko": "동영상|노이즈 제거|잠재",
    "es": r"[Vv]ídeo|\bseed\b",
    "de": r"\bpro Sekunde|\b[Dd]ie Node\b",
    "fr": r"graine|planification",
    "ru": r"шумоподавл|\bseed\b|гиперпараметр",
    "pt-BR": r"semente|orientação|programação",
}
AFTER = "run `python3 run.py locales`, after adding translations to locales/LANGUAGE.json"


@pytest.fixture(scope="module")
def english(comfy_host):
    return locales.english(locales.schemas())


def test_the_files_are_what_the_command_makes(english):
    made = locales.files()
    there = set(locales.FOLDER.glob("*/*.json"))
    assert there == set(made), AFTER
    for path, texts in made.items():
        assert json.loads(path.read_text(encoding="utf-8")) == texts, f"{path} is stale: {AFTER}"


@pytest.mark.parametrize("tooltips", [False, True], ids=["names", "tooltips"])
@pytest.mark.parametrize("language", locales.LANGUAGES)
def test_every_text_is_translated(english, language, tooltips):
    memory = locales.memory_of(language)
    assert [text for text in locales.sources(english, tooltips=tooltips) if text not in memory] == [], AFTER


@pytest.mark.parametrize("language", locales.LANGUAGES)
def test_no_translation_is_left_over(english, language):
    known = {text for tooltips in (False, True) for text in locales.sources(english, tooltips=tooltips)}
    assert set(locales.memory_of(language)) - known == set()


@pytest.mark.parametrize("language", locales.LANGUAGES)
def test_translations_keep_what_must_not_change(language):
    """Names in code, paths, and no sign that the editor's own message format would read."""
    for source, text in locales.memory_of(language).items():
        assert text.strip(), source
        assert not set("{}@|") & set(text), source
        for fixed in re.findall(
            r"`[^`]+`|output/\S+?(?=[,.]? )|\b(?:KSampler\w*|SamplerCustomAdvanced|RIFLEx|SDEdit)\b", source
        ):
            assert fixed.rstrip(",.") in text, (source, fixed)


@pytest.mark.parametrize("language", locales.LANGUAGES)
def test_one_thing_has_one_name(language):
    other = re.compile(OTHER_WORDS[language])
    assert [text for text in locales.memory_of(language).values() if other.search(text)] == []


@pytest.mark.parametrize("language", ["zh", "zh-TW", "ja"])
def test_punctuation_between_chinese_characters_is_full_width(language):
    for text in locales.memory_of(language).values():
        assert not re.search(r"[\u3040-\u30ff\u4e00-\u9fff][,:;!?]|[,:;!?][\u3040-\u30ff\u4e00-\u9fff]", text), text


@pytest.mark.parametrize("kind", ["commands", "settings"])
@pytest.mark.parametrize("script", script_texts.scripts(), ids=lambda script: script.name)
def test_every_command_and_setting_of_a_script_is_read(script, kind):
    """However many ids the script gives in such a list, so many texts are found, each a plain string."""
    lists = script.read_text(encoding="utf-8").split(f"  {kind}: [")[1:]
    given = sum(len(re.findall(r"\bid: ", one.split("\n  ]")[0])) for one in lists)
    found = list(script_texts.entries(script, kind))
    text = "label" if kind == "commands" else "name"
    assert len(found) == given
    assert all(one["id"].startswith("Spacetime") and one[text] for one in found)


def test_a_text_without_a_translation_is_left_to_the_editor():
    texts = {"A": {"display_name": "one", "inputs": {"x": {"name": "two", "tooltip": "three"}}}}
    assert locales.translated(texts, {"two": "zwei"}) == {"A": {"inputs": {"x": {"name": "zwei"}}}}
    assert list(locales.sources(texts, tooltips=True)) == ["three"]
    assert list(locales.sources(texts, tooltips=False)) == ["one", "two"]
