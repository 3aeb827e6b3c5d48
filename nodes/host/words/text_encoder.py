"""The text encoder as a core CLIP object: core's CLIP Text Encode, weights like (red:1.2) and LoRA work on it.

It is core's own BERT with the weights of all-MiniLM-L6-v2 and our tokenizer, so it needs no tokenizer library.
"""

from __future__ import annotations

import logging
import re
from typing import Any

import comfy.sd
import comfy.sd1_clip
import comfy.supported_models_base
import comfy.text_encoders.bert
import torch

from ....models.text.cleaning import LONGEST
from ....models.text.encoder import HIDDEN_SIZE, MAX_TOKENS, RESTORE, load_weights, text_encoder_files
from ....models.text.tokenizer import WordPieceTokenizer

NAME = "minilm"
DEEPEST = 50  # weights of weights; 1.1 to the power of this is 117 already
CONFIG = {
    "hidden_size": HIDDEN_SIZE,
    "intermediate_size": 1536,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "vocab_size": 30522,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "pad_token_id": 0,
    "layer_norm_eps": 1e-12,
}
SPECIAL = {"start": 101, "end": 102, "pad": 0}


def check_nesting(text: str) -> None:
    """ValueError for weights (as in "((red):1.2)") of weights of weights beyond `DEEPEST`."""
    inside: list[int] = []  # of each open bracket: how many pairs stand in each other in it
    for bracket in re.findall(r"(?<!\\)[()]", text):
        if bracket == "(":
            inside.append(0)
            continue
        pairs = inside.pop() + 1 if inside else 0
        if inside:
            inside[-1] = max(inside[-1], pairs)
        if pairs > DEEPEST:
            raise ValueError(
                f"the prompt has more than {DEEPEST} brackets within each other: take some out, or write \\( for a "
                "bracket that is no weight"
            )


class _Words:
    """Our tokenizer behind the few calls that core makes of a transformers tokenizer."""

    def __init__(self, tokenizer: WordPieceTokenizer) -> None:
        self.tokenizer = tokenizer

    @classmethod
    def from_pretrained(cls, _path: str, **_: Any) -> _Words:
        """The vocabulary of the text encoder, whatever core names."""
        return cls(WordPieceTokenizer.from_file(text_encoder_files()[1]))

    def __call__(self, text: str) -> dict[str, list[int]]:
        return {"input_ids": self.tokenizer.encode(text)}

    def get_vocab(self) -> dict[str, int]:
        """Ids by piece."""
        return self.tokenizer.ids


class _Tokenizer(comfy.sd1_clip.SDTokenizer):
    """One row of tokens, cut to what the encoder was trained on."""

    def __init__(self, embedding_directory: Any = None, tokenizer_data: Any = None) -> None:
        super().__init__(
            embedding_directory=embedding_directory,
            embedding_size=HIDDEN_SIZE,
            embedding_key=NAME,
            tokenizer_class=_Words,
            pad_with_end=False,
            pad_to_max_length=False,
            max_length=10**9,
            min_length=1,
            tokenizer_data=tokenizer_data or {},
        )

    def tokenize_with_weights(self, text: str, return_word_ids: bool = False, **kwargs: Any) -> Any:
        """Tokens with weights; a longer prompt loses its end, with a warning in the log.

        ValueError where brackets stand in brackets so often that core's reading of them would not end.
        """
        long = f"{len(text)} characters" if len(text) > LONGEST else ""
        text = text[:LONGEST]
        check_nesting(text)
        (row,) = super().tokenize_with_weights(text, return_word_ids, **kwargs)
        if long or len(row) > MAX_TOKENS:
            logging.getLogger(__name__).warning(
                "the prompt has %s, the text encoder reads %d tokens: the end of it is ignored",
                long or f"{len(row)} tokens",
                MAX_TOKENS,
            )
        if len(row) > MAX_TOKENS:
            row = [*row[: MAX_TOKENS - 1], row[-1]]
        return [row]


class _HostTokenizer(comfy.sd1_clip.SD1Tokenizer):
    def __init__(self, embedding_directory: Any = None, tokenizer_data: Any = None) -> None:
        super().__init__(embedding_directory, tokenizer_data or {}, name=NAME, tokenizer=_Tokenizer)


class _Encoder(comfy.sd1_clip.SDClipModel):
    def __init__(self, device: Any = "cpu", dtype: Any = None, model_options: Any = None) -> None:
        super().__init__(
            device=device,
            dtype=dtype,
            model_options=model_options or {},
            textmodel_json_config=dict(CONFIG),
            special_tokens=SPECIAL,
            layer_norm_hidden_state=False,
            enable_attention_masks=True,
            return_attention_masks=True,
            model_class=comfy.text_encoders.bert.BertModel,
        )


class _HostEncoder(comfy.sd1_clip.SD1ClipModel):
    def __init__(self, device: Any = "cpu", dtype: Any = None, model_options: Any = None) -> None:
        super().__init__(device=device, dtype=dtype, model_options=model_options or {}, name=NAME, clip_model=_Encoder)


def build_text_encoder(*, disable_dynamic: bool = False) -> Any:
    """A core CLIP. Its CONDITIONING is [1, L, 384] with an attention_mask. ValueError when weights are missing.

    disable_dynamic: not one whose weights stream to the GPU, in releases that have those.
    """
    state = {f"bert.{name}": value for name, value in load_weights(text_encoder_files()[0]).items()}
    target = comfy.supported_models_base.ClipTarget(_HostTokenizer, _HostEncoder)
    # float32: the DiT was trained on float32 features, and core would store them in half precision
    options: dict[str, Any] = {"disable_dynamic": True} if disable_dynamic else {}
    encoder = comfy.sd.CLIP(target, model_options={"dtype": torch.float32}, **options)
    missing, unknown = encoder.load_sd(state)
    if missing or unknown:
        raise ValueError(
            f"the text encoder's weights do not fit: {len(missing)} missing, {len(unknown)} unknown; {RESTORE}"
        )
    return encoder
