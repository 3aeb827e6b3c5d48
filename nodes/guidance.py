"""Guidance as nodes: GUIDER, and a MODEL that heeds known frames."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..models.guidance import APG, MODES, UNITS, Guidance
from .host import messages
from .host.sampling import make_guider
from .schema import Node, schema


class Guider(Node):
    """MODEL and CONDITIONING -> GUIDER."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SpacetimeGuider",
            display_name="Guider",
            category="Spacetime/sampling",
            description=(
                "Binds the model to the prompt and steers it: classifier-free guidance and its kin, on all or on "
                "a part of the run. Where guidance is off the model runs once instead of twice."
            ),
            search_aliases=[
                "cfg",
                "cfg guider",
                "apg",
                "cfg-zero",
                "rescale cfg",
                "guidance interval",
                "negative prompt",
                "autoguidance",
                "weak model",
            ],
            rarely=["interval_unit", "interval_start", "interval_end", "rescale", "apg_eta", "apg_limit", "zero_steps"],
            inputs=_inputs(),
            outputs=[io.Guider.Output(display_name="guider", tooltip="For DiT Denoise Step or SamplerCustomAdvanced.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        positive: Any,
        cfg: float,
        mode: str,
        interval_unit: str,
        interval_start: float,
        interval_end: float,
        rescale: float,
        apg_eta: float,
        apg_limit: float,
        zero_steps: int,
        negative: Any = None,
        weak_model: Any = None,
    ) -> io.NodeOutput:
        """Make the guider object."""
        if cfg < 0:
            from .host.model.recommended import own_settings

            own = own_settings(model)
            cfg = own.settings.cfg
            messages.show_text(cls, f"cfg {cfg:g} ({own.source})")
        settings = Guidance(
            mode=mode,
            scale=cfg,
            unit=interval_unit,
            start=interval_start,
            end=interval_end,
            rescale=rescale,
            apg=APG(eta=apg_eta, limit=apg_limit),
            zero_steps=zero_steps,
        )
        return io.NodeOutput(make_guider(model, positive, negative, settings, weak_model))


class HistoryGuidance(Node):
    """MODEL -> MODEL that heeds known frames more."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SpacetimeHistoryGuidance",
            display_name="History Guidance",
            category="Spacetime/sampling",
            description=(
                "Makes new frames and regions agree more with the known ones, as cfg does with the prompt: at every "
                "step the model also predicts what it would do if it did not see them, and is led away from that. "
                "For animating, extending, connecting and filling; each step takes one more run of the model."
            ),
            search_aliases=["history guidance", "diffusion forcing transformer", "dfot", "consistency", "known frames"],
            inputs=[
                io.Model.Input("model", tooltip="A model with a noise level per patch: ours, LTX-Video, Wan 2.2 5B."),
                io.Float.Input(
                    "scale",
                    default=0.5,
                    min=0.0,
                    max=10.0,
                    step=0.05,
                    tooltip="How strongly. 0 is off and costs nothing; too much makes frames stand still.",
                ),
            ],
            outputs=[io.Model.Output(display_name="model", tooltip="For Guider, KSampler or any other sampler.")],
        )

    @classmethod
    def execute(cls, model: Any, scale: float) -> io.NodeOutput:
        """Patch a clone."""
        from .host.model.history import with_history

        return io.NodeOutput(with_history(model, scale))


def _share(name: str, default: float, tooltip: str) -> io.Input:
    return io.Float.Input(name, default=default, min=0.0, max=1.0, step=0.01, tooltip=tooltip)


def _inputs() -> list[io.Input]:
    return [
        io.Model.Input("model", tooltip="The diffusion transformer: ours or any model that ComfyUI loads."),
        io.Conditioning.Input("positive", tooltip="What the video should show (CLIP Text Encode)."),
        io.Conditioning.Input(
            "negative",
            optional=True,
            tooltip="What guidance pushes away from; an empty prompt is the plain choice. Not needed with cfg 1.",
        ),
        io.Float.Input(
            "cfg",
            default=-1.0,
            min=-1.0,
            max=30.0,
            step=0.1,
            tooltip="Strength of guidance. 1 is none (and twice as fast); higher follows the prompt more, at some cost "
            "in naturalness. -1, or anything below 0: as recommended for the model.",
        ),
        *_ways(),
        io.Model.Input(
            "weak_model",
            optional=True,
            tooltip=(
                "Autoguidance: guide with a worse model of the same family, given the same prompt, instead of a "
                "negative prompt (which is then not used). Train DiT keeps one: <name>_early."
            ),
        ),
    ]


def _ways() -> list[io.Input]:
    """How the two predictions are combined, and where in the run."""
    return [
        io.Combo.Input(
            "mode",
            options=list(MODES),
            default="cfg",
            tooltip=(
                "cfg: the plain formula. rescale: keeps the contrast of the unguided video. apg: leaves out the part "
                "that oversaturates, for high cfg. cfg_zero_star: fits the negative prediction first, for flow models."
            ),
        ),
        io.Combo.Input(
            "interval_unit",
            options=list(UNITS),
            default="percent",
            tooltip=(
                "What the interval below counts: parts of the run (0 to 1, rising) or noise levels (1 to 0, falling). "
                "For sigma set start to 1 and end to 0 to guide everywhere."
            ),
        ),
        _share(
            "interval_start", 0.0, "Where guidance begins. percent: 0 is the start of the run. sigma: 1 is the start."
        ),
        _share("interval_end", 1.0, "Where guidance ends. percent: 1 is the end of the run. sigma: 0 is the end."),
        _share("rescale", 0.7, "For rescale: how far the contrast is pulled back; 0 is plain cfg."),
        _share("apg_eta", 0.0, "For apg: how much of the oversaturating part to keep; 1 is plain cfg."),
        io.Float.Input(
            "apg_limit",
            default=0.0,
            min=0.0,
            max=1000.0,
            step=0.5,
            tooltip="For apg: longest correction allowed per step (norm over the whole latent); 0 is no limit.",
        ),
        io.Int.Input(
            "zero_steps",
            default=1,
            min=0,
            max=10,
            step=1,
            tooltip="For cfg_zero_star: how many first steps stand still, since early predictions of a flow mislead.",
        ),
    ]


NODES: list[type[io.ComfyNode]] = [Guider, HistoryGuidance]
