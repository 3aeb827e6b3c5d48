"""Core's families of video models, tiny and random: how each is built, what it is fed, and which host has it.

A family's network is core's own class, its weights are written in the published layout, and core's loader reads them.
What core fixes by size instead of reading it from the file (heads and depth of Cosmos, widths of Kandinsky 5) is set
while the file is read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import cache
from importlib import import_module
from typing import Any

import torch

from . import tiny_models
from .family_sizes import COG, COSMOS, H3, HUNYUAN, KANDINSKY, LTX2, WAN


@dataclass(frozen=True)
class Family:
    """A family of video models.

    kind      core's name of it, in comfy.supported_models
    network   module and class of core
    settings  what the class is made with
    latent    (C, T, H, W) of a small clip
    width     of its text features
    patch     what it cuts latents into
    read      what core's loader must be told, because it goes by the sizes that were published
    header    settings stand in the file's header, as for LTX
    prompt    what its conditioning has besides text
    levels    it takes a noise level for each place, or frame
    sound     shape of the latents of its sound without the batch, as long as those of its picture
    scale     factor on its random weights: with the usual ones the tokens of some hardly heed each other
    """

    kind: str
    network: tuple[str, str]
    settings: Mapping[str, Any]
    latent: tuple[int, int, int, int]
    width: int
    patch: tuple[int, int, int] = (1, 2, 2)
    read: Mapping[str, Any] = field(default_factory=dict)
    header: bool = False
    prompt: Mapping[str, Any] = field(default_factory=dict)
    levels: bool = False
    sound: tuple[int, int, int] | None = None
    scale: float = 1.0


WAN_MODEL = ("comfy.ldm.wan.model", "WanModel")
MASKED = {"attention_mask": torch.ones(1, 4, dtype=torch.long)}
POOLED = {"pooled_output": torch.zeros(1, 768)}

UNLIKE_FLOW = {"cosmos 1", "cogvideox", "cosmos predict 2"}  # they count noise otherwise, which our solvers refuse

FAMILIES: dict[str, Family] = {
    "wan 2.1": Family("WAN21_T2V", WAN_MODEL, WAN, (16, 3, 4, 4), 4096),
    "wan vace": Family(
        "WAN21_Vace",
        ("comfy.ldm.wan.model", "VaceWanModel"),
        WAN | {"vace_layers": 1, "vace_in_dim": 96},
        (16, 3, 4, 4),
        4096,
    ),
    "wan 2.2 a14b": Family("WAN21_T2V", WAN_MODEL, WAN, (16, 3, 4, 4), 4096),
    "wan 2.2 a14b image": Family("WAN21_T2V", WAN_MODEL, WAN | {"in_dim": 36}, (16, 3, 4, 4), 4096),
    "wan 2.2 5b": Family("WAN22_T2V", WAN_MODEL, WAN | {"in_dim": 48, "out_dim": 48}, (48, 3, 4, 4), 4096, levels=True),
    "ltx-video": Family(
        "LTXV",
        ("comfy.ldm.lightricks.model", "LTXVModel"),
        {
            "num_attention_heads": 4,
            "attention_head_dim": 16,
            "num_layers": 2,
            "caption_channels": 64,
            "cross_attention_dim": 64,
        },
        (128, 3, 4, 4),
        64,
        (1, 1, 1),
        header=True,
        levels=True,
        prompt=MASKED,
    ),
    "hunyuan-video": Family(
        "HunyuanVideo", ("comfy.ldm.hunyuan_video.model", "HunyuanVideo"), HUNYUAN, (16, 3, 4, 4), 32, prompt=POOLED
    ),
    "hunyuan-video 1.5": Family(
        "HunyuanVideo15",
        ("comfy.ldm.hunyuan_video.model", "HunyuanVideo"),
        HUNYUAN
        | {
            "in_channels": 65,
            "out_channels": 32,
            "vec_in_dim": None,
            "patch_size": [1, 1, 1],
            "guidance_embed": False,
            "use_cond_type_embedding": True,
            "vision_in_dim": 1152,
            "meanflow_sum": True,
        },
        (32, 3, 4, 4),
        32,
        (1, 1, 1),
    ),
    "cosmos 1": Family(
        "CosmosT2V",
        ("comfy.ldm.cosmos.model", "GeneralDIT"),
        COSMOS
        | {
            "block_config": "FA-CA-MLP",
            "block_x_format": "THWBD",
            "affline_emb_norm": True,
            "pos_emb_learnable": False,
            "extra_per_block_abs_pos_emb": True,
            "extra_per_block_abs_pos_emb_type": "learnable",
        },
        (16, 3, 4, 4),
        1024,
        read={"num_blocks": 1, "num_heads": 1},
    ),
    "cosmos predict 2": Family(
        "CosmosT2IPredict2",
        ("comfy.ldm.cosmos.predict2", "MiniTrainDIT"),
        COSMOS
        | {
            "crossattn_emb_channels": 1024,
            "pos_emb_learnable": True,
            "min_fps": 1,
            "max_fps": 30,
            "extra_per_block_abs_pos_emb": False,
        },
        (16, 3, 4, 4),
        1024,
        read={"num_heads": 1, "num_blocks": 1},
        levels=True,
    ),
    "kandinsky 5": Family(
        "Kandinsky5",
        ("comfy.ldm.kandinsky5.model", "Kandinsky5"),
        KANDINSKY,
        (16, 3, 4, 4),
        3584,
        read={"axes_dims": (16, 24, 24)},
        prompt=POOLED,
    ),
    "ltx-2": Family(
        "LTXAV",
        ("comfy.ldm.lightricks.av_model", "LTXAVModel"),
        LTX2,
        (128, 3, 4, 4),
        128,
        (1, 1, 1),
        header=True,
        levels=True,
        prompt=MASKED,
        sound=(8, 17, 16),
    ),
    "minimax h3": Family(
        "MiniMaxH3",
        ("comfy.ldm.minimax.model", "MiniMaxH3Model"),
        H3,
        (24, 7, 4, 4),
        32,
        levels=True,
        sound=(32, 2, 37),
        scale=3.0,
    ),
    "cogvideox": Family(
        "CogVideoX_T2V", ("comfy.ldm.cogvideo.model", "CogVideoXTransformer3DModel"), COG, (16, 4, 4, 4), 32
    ),
}


def lacking(name: str) -> str:
    """Why the host cannot run a family; empty where it can."""
    import comfy.supported_models

    kind = FAMILIES[name].kind
    return "" if hasattr(comfy.supported_models, kind) else f"this ComfyUI has no {name} ({kind}), a newer one has"


@cache
@torch.inference_mode(False)  # whoever asks first: weights of inference mode are for it alone
def family_model(name: str) -> Any:
    """The tiny core MODEL of a family, made once."""
    import comfy.ops

    family = FAMILIES[name]
    network = getattr(import_module(family.network[0]), family.network[1])
    module = network(**_known(network, family.settings), operations=comfy.ops.disable_weight_init)
    header = {"config": json.dumps({"transformer": dict(family.settings)})} if family.header else None
    with reading(family.read):
        state = {key: value * family.scale for key, value in tiny_models.random_state(module, 0).items()}
        return tiny_models.loaded(state, header)


def _known(network: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Without what a network of an older host has not got yet, and leaves out."""
    params = getattr(import_module(network.__module__), f"{network.__name__}Params", None)
    names = None if params is None else {one.name for one in fields(params)}
    return {name: value for name, value in settings.items() if names is None or name in names}


@contextmanager
def reading(told: Mapping[str, Any]) -> Iterator[None]:
    """Core's detection of a network by its weights is told what it would take from the published sizes."""
    import comfy.model_detection as detection

    original: Callable[..., Any] = detection.detect_unet_config

    def detect(*args: Any, **named: Any) -> Any:
        found = original(*args, **named)
        return found and {**found, **told}

    detection.detect_unet_config = detect
    try:
        yield
    finally:
        detection.detect_unet_config = original


def conditioning(name: str, seed: int) -> list[Any]:
    """A random CONDITIONING that fits a family."""
    text = torch.randn(1, 4, FAMILIES[name].width, generator=torch.Generator().manual_seed(seed))
    return [[text, {"pooled_output": None, **FAMILIES[name].prompt}]]


def latent(name: str, *, masked: bool = False) -> dict[str, Any]:
    """A small random LATENT that fits a family."""
    generator = torch.Generator().manual_seed(11)
    family = FAMILIES[name]
    picture = {"samples": torch.randn((1, *family.latent), generator=generator)}
    picture = tiny_models.with_mask(picture) if masked else picture
    if family.sound is None:
        return picture
    return _with_sound(picture, torch.randn((1, *family.sound), generator=generator))


def _with_sound(picture: dict[str, Any], sound: torch.Tensor) -> dict[str, Any]:
    """A LATENT of both; with a mask the beginning of the sound is kept too, and its middle in part."""
    import comfy.nested_tensor

    from ...models.streams import layout_of

    both = {"samples": comfy.nested_tensor.NestedTensor([picture["samples"], sound])}
    if "noise_mask" not in picture:
        return both
    layout = layout_of(picture["samples"], sound)
    mask = torch.ones_like(layout.seen(sound)[:, :1])
    mask[:, :, :5], mask[:, :, 5:8] = 0, 0.5
    return {**both, "noise_mask": comfy.nested_tensor.NestedTensor([picture["noise_mask"], layout.given(mask)])}


def guider(name: str, cfg: float = 3.0, model: Any = None, **more: Any) -> Any:
    """A core CFG GUIDER with random prompts, which may have more entries; model: another than the family's own."""
    import comfy.samplers

    prompts = [[[text, {**entries, **more}] for text, entries in conditioning(name, seed)] for seed in (1, 2)]
    made = comfy.samplers.CFGGuider(model or family_model(name))
    made.set_conds(*prompts)
    made.set_cfg(cfg)
    return made
