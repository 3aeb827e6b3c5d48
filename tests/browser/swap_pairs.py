"""Nodes that can stand in each other's place, and graphs in which both run with the embedded model."""

from dataclasses import dataclass, field
from typing import Any

SIZE = {"width": 64, "height": 48, "seconds": 0.75}
Link = list[Any]
Prompt = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Pair:
    """Node `old` of a graph, of whose kind there is one in it, and what it is swapped for.

    values  settings that the new node needs for a run (files) and that no equal name brings
    open    sockets that the graph cannot give it
    """

    graph: str
    old: str
    new: str
    values: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.old}-{self.new}"


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def sampled(model: Link, latent: Link, extra: Prompt | None = None, **other: Any) -> Prompt:
    """A run of two steps: each of its stages is a node."""
    graph = {
        "1": node("SpacetimeLoadCheckpoint", checkpoint="spacetime-toy", dtype="auto"),
        "2": node("CLIPTextEncode", clip=["1", 1], text="a red ball rolls"),
        "3": node("CLIPTextEncode", clip=["1", 1], text=""),
        "4": node("SpacetimeEmptyVideo", vae=["1", 2], fps=12.0, batch=1, **SIZE),
        "5": node(
            "SpacetimeScheduler", schedule="linear", steps=2, shift_rule="fixed", shift=2.0, denoise=1.0, sigma_max=1.0
        ),
        "6": node("SpacetimeSampler", solver="euler", order=2, eta=1.0, s_noise=1.0),
        "7": node("SpacetimeGuider", model=model, positive=["2", 0], negative=["3", 0], cfg=2.0, mode="cfg"),
        "8": node("RandomNoise", noise_seed=7),
        "9": node(
            "SamplerCustomAdvanced",
            noise=["8", 0],
            guider=["7", 0],
            sampler=["6", 0],
            sigmas=["5", 0],
            latent_image=latent,
        ),
        "10": node("VAEDecode", samples=["9", 0], vae=["1", 2]),
        "11": node("PreviewImage", images=["10", 0]),
        **(extra or {}),
    }
    return {key: one for key, one in graph.items() if key not in other.get("without", ())}


def loaded(kind: str, slot: int, reader: str, **inputs: Any) -> Prompt:
    """One output of a loader, read by a node."""
    consumer = node(reader, **{name: ["1", slot] if value == "LOADED" else value for name, value in inputs.items()})
    return {"1": node(kind), "2": consumer, "3": node("PreviewAny", source=["2", 0])}


GRAPHS: dict[str, Prompt] = {
    "run": sampled(["1", 0], ["4", 0]),
    "patched": sampled(["20", 0], ["4", 0], {"20": node("SpacetimeHistoryGuidance", model=["1", 0])}),
    "task": sampled(["1", 0], ["20", 0], {"20": node("SpacetimeOutpaint", latent=["4", 0], left=16)}),
    "both": sampled(["20", 0], ["20", 1], {"20": node("SpacetimeRestyleVideo", model=["1", 0], latent=["4", 0])}),
    "coded": {
        "1": node("SpacetimeLoadCheckpoint", checkpoint="spacetime-toy", dtype="auto"),
        "2": node("EmptyImage", width=64, height=48, batch_size=5, color=255),
        "3": node("SpacetimeVAEEncode", vae=["1", 2], frames=["2", 0]),
        "4": node("SpacetimeVAEDecode", vae=["1", 2], latent=["3", 0]),
        "5": node("PreviewImage", images=["4", 0]),
    },
    "measured": {
        "2": node("EmptyImage", width=64, height=48, batch_size=5, color=255),
        "5": node("SpacetimeMeasureVideo", frames=["2", 0], motion=False),
    },
    "model of ours": loaded("SpacetimeLoadCheckpoint", 0, "BasicScheduler", model="LOADED", steps=3),
    "model of a paper": loaded("SpacetimeLoadDiT", 0, "BasicScheduler", model="LOADED", steps=3),
    "model of core": loaded("UNETLoader", 0, "BasicScheduler", model="LOADED", steps=3),
    "text of ours": loaded("SpacetimeLoadCheckpoint", 1, "CLIPTextEncode", clip="LOADED", text="a ball"),
    "text of core": loaded("CLIPLoader", 0, "CLIPTextEncode", clip="LOADED", text="a ball"),
    "vae of ours": loaded("SpacetimeLoadCheckpoint", 2, "SpacetimeEmptyVideo", vae="LOADED", **SIZE),
    "vae of core": loaded("VAELoader", 0, "SpacetimeEmptyVideo", vae="LOADED", **SIZE),
}
OURS = {"checkpoint": "spacetime-toy"}
WAN = {"unet_name": "wan2.2_ti2v_5B_fp16.safetensors"}
WORDS = {"clip_name": "umt5_xxl_fp8_e4m3fn_scaled.safetensors", "type": "wan"}

PAIRS = [
    # schedulers, samplers, guiders
    *(Pair("run", "SpacetimeScheduler", new) for new in ("BasicScheduler", "LTXVScheduler", "BetaSamplingScheduler")),
    *(
        Pair("run", "SpacetimeSampler", new)
        for new in ("KSamplerSelect", "SamplerEulerAncestral", "SamplerDPMPP_2M_SDE", "SamplerER_SDE")
    ),
    Pair("run", "SpacetimeGuider", "CFGGuider"),
    # decoding and encoding
    Pair("run", "VAEDecode", "SpacetimeVAEDecode"),
    Pair("run", "VAEDecode", "VAEDecodeTiled"),
    Pair("coded", "SpacetimeVAEDecode", "VAEDecode"),
    Pair("coded", "SpacetimeVAEEncode", "VAEEncode"),
    # loaders
    Pair("model of ours", "SpacetimeLoadCheckpoint", "UNETLoader", WAN),
    Pair("model of ours", "SpacetimeLoadCheckpoint", "SpacetimeLoadDiT", {"file": "DiT-XL-2-256x256.pt"}),
    Pair("model of a paper", "SpacetimeLoadDiT", "UNETLoader", WAN),
    Pair("model of a paper", "SpacetimeLoadDiT", "SpacetimeLoadCheckpoint", OURS),
    Pair("model of core", "UNETLoader", "SpacetimeLoadDiT", {"file": "latte-1-transformer.safetensors"}),
    Pair("model of core", "UNETLoader", "SpacetimeLoadCheckpoint", OURS),
    Pair("text of ours", "SpacetimeLoadCheckpoint", "CLIPLoader", WORDS),
    Pair("text of core", "CLIPLoader", "SpacetimeLoadCheckpoint", OURS),
    Pair("vae of ours", "SpacetimeLoadCheckpoint", "VAELoader", {"vae_name": "wan2.2_vae.safetensors"}),
    Pair("vae of core", "VAELoader", "SpacetimeLoadCheckpoint", OURS),
    # tasks, and what changes a model
    *(
        Pair("patched", "SpacetimeHistoryGuidance", new)
        for new in ("SpacetimeChangeLevels", "SpacetimeExtrapolateTime", "ModelSamplingSD3", "CFGZeroStar")
    ),
    Pair("task", "SpacetimeOutpaint", "SpacetimeExtendVideo"),
    Pair("task", "SpacetimeOutpaint", "LatentFlip"),
    Pair("both", "SpacetimeRestyleVideo", "SpacetimeLoopVideo"),
    Pair("measured", "SpacetimeMeasureVideo", "SpacetimeMeasureSeam"),
]
FIRST = [pair for at, pair in enumerate(PAIRS) if all(pair.graph != other.graph for other in PAIRS[:at])]
