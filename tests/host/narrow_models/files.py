"""How the test host gets its files: the pack's helpers by path, and files in the folders of the host."""

import importlib
import io
import sys
from pathlib import Path
from types import ModuleType

import folder_paths
import sentencepiece
import torch
from safetensors.torch import save_file
from torch import Tensor

BENCH = Path(__file__).resolve().parents[3] / "tools" / "bench"


def helpers() -> ModuleType:
    """The folder of the pack's helpers as a package of its own: the pack itself is loaded by the host in its time."""
    package = ModuleType("narrow_bench")
    package.__path__ = [str(BENCH)]
    return sys.modules.setdefault(package.__name__, package)


families, tiny_models, tiny_vaes = (
    importlib.import_module(f"{helpers().__name__}.{name}") for name in ("families", "tiny_models", "tiny_vaes")
)


def write(folder: str, name: str, state: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """A file in the first of the host's folders of a kind."""
    path = Path(folder_paths.get_folder_paths(folder)[0]) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in state.items()}, path, metadata)


def vocabulary(**special: int) -> Tensor:
    """A sentencepiece model of a few words, as files of umT5 and Gemma hold it; special: numbers of `pad_id` &c."""
    words = io.BytesIO()
    sentences = ["a rabbit stretches in a meadow", "waves roll to the shore at sunset", "oil painting, low quality"]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_writer=words,
        vocab_size=100,
        hard_vocab_limit=False,
        minloglevel=2,
        **special,
    )
    return torch.frombuffer(bytearray(words.getvalue()), dtype=torch.uint8)


def wrapped(embeddings: torch.nn.Module) -> None:
    """Let the numbers of words that a table does not have share those that it has."""
    embeddings.register_forward_pre_hook(lambda module, given: (given[0] % module.num_embeddings, *given[1:]))
