"""The command `distill`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ...checkpoints import load_checkpoint, recommended_of
from ...clips.cache import LatentCache
from ...recommended import CARD
from ...text.encoder import load_text_encoder
from ..run.options import add_device, add_settings, chosen
from . import train as distilling
from .settings import Distillation

# what is the teacher's, or has no meaning here
TEACHERS = ("preset", "text", "packing", "early", "alignment", "route", "route_start", "route_end")


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser], mixture: Callable[[str], Any]) -> None:
    """The command's options; mixture: what reads shares of clip sizes."""
    one = commands.add_parser("distill", help="teach a DiT to make in a few steps what a trained one makes in many")
    one.add_argument("--teacher", type=Path, required=True, help="checkpoint with the trained model")
    one.add_argument("--vae", type=Path, help="its VAE, if --teacher does not hold it")
    one.add_argument("--data", type=Path, required=True, help="cache folder: captions, sizes and known frames")
    one.add_argument("--held-out", type=Path, required=True, help="cache folder of held-out clips")
    one.add_argument("--out", type=Path, required=True, help="run folder; an existing run continues")
    one.add_argument("--mix", type=mixture, default=(), help="shares of the clip sizes, 64x64x33=2,96x96x33=1")
    add_device(one)
    one.add_argument("--log", default="", help="also log to tensorboard, wandb (offline unless set up), or both: a,b")
    add_settings(one, Distillation(), without=TEACHERS)
    one.set_defaults(cfg=None, shift=None)  # those that the teacher's file recommends


def distill(args: argparse.Namespace) -> None:
    """The `distill` command."""
    teacher = load_checkpoint(args.teacher)
    best = recommended_of(teacher.meta) or CARD
    given = {name: getattr(args, name) for name in ("cfg", "shift")}
    args.cfg, args.shift = (getattr(best, name) if value is None else value for name, value in given.items())
    context, _ = load_text_encoder()([""])
    vae = (load_checkpoint(args.vae) if args.vae else teacher).vae(torch.bfloat16)
    distilling.train(
        chosen(Distillation(), args),
        LatentCache(args.data),
        LatentCache(args.held_out),
        context[0].bfloat16(),
        vae,
        args.out,
        teacher,
        args.device,
        log=args.log,
    )


COMMANDS = {"distill": distill}
