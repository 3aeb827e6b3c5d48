"""Train from the shell: `run.py train vae|cache|dit|bundle ...` (or `python -m <pack>.models.training ...`)."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TypeVar

import torch

from ..checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from ..text.encoder import load_text_encoder
from . import dit, vae
from .data import ClipSize, LatentCache, cache_toy_world, toy_pixels

HELD_OUT = 1_000_000  # clips from this number on are never trained on


Settings = TypeVar("Settings", vae.VAETraining, dit.DiTTraining)


def add_settings(parser: argparse.ArgumentParser, settings: vae.VAETraining | dit.DiTTraining) -> None:
    """One option per plain field of a settings dataclass."""
    for entry in fields(settings):
        default = getattr(settings, entry.name)
        option = f"--{entry.name.replace('_', '-')}"
        if isinstance(default, bool):
            parser.add_argument(option, action=argparse.BooleanOptionalAction, default=default)
        elif isinstance(default, (int, float, str)):
            parser.add_argument(option, type=type(default), default=default)


def chosen(settings: Settings, args: argparse.Namespace) -> Settings:
    """The settings with what the command line says."""
    given = {name: getattr(args, name) for name in asdict(settings) if hasattr(args, name)}
    return replace(settings, **given)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="run.py train", description="Train the VAE, cache latents, train the DiT, bundle them."
    )
    top.add_argument("--threads", type=int, default=0, help="CPU threads (0: torch's choice)")
    commands = top.add_subparsers(dest="command", required=True)

    one = commands.add_parser("vae", help="train the video VAE on toy-world clips")
    one.add_argument("--out", type=Path, required=True, help="run folder; an existing run continues")
    one.add_argument("--clips", type=int, default=400)
    one.add_argument("--size", type=ClipSize.parse, default=ClipSize(96, 96, 33))
    one.add_argument("--init", type=Path, help="checkpoint to continue from")
    add_settings(one, vae.VAETraining())

    two = commands.add_parser("cache", help="render toy-world clips and store their latents and text features")
    two.add_argument("--vae", type=Path, required=True)
    two.add_argument("--out", type=Path, required=True, help="cache folder")
    two.add_argument("--size", type=ClipSize.parse, required=True, help="such as 96x96x33, or 96x96x32c for loops")
    two.add_argument("--count", type=int, required=True)
    two.add_argument("--first", type=int, default=0)
    two.add_argument("--held-out", action="store_true", help="clips that no training run sees")

    three = commands.add_parser("dit", help="train the DiT on cached latents")
    three.add_argument("--vae", type=Path, required=True)
    three.add_argument("--data", type=Path, required=True, help="cache folder")
    three.add_argument("--held-out", type=Path, required=True, help="cache folder of held-out clips")
    three.add_argument("--out", type=Path, required=True, help="run folder; an existing run continues")
    three.add_argument("--init", type=Path, help="checkpoint to continue from")
    three.add_argument("--mix", type=mixture, default=(), help="shares of the clip sizes, 64x64x33=2,96x96x33=1")
    three.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add_settings(three, dit.DiTTraining())

    four = commands.add_parser("bundle", help="put a DiT and a VAE into one bf16 checkpoint for the nodes")
    four.add_argument("--dit", type=Path, required=True)
    four.add_argument("--vae", type=Path, required=True)
    four.add_argument("--out", type=Path, required=True)
    return top


def mixture(text: str) -> tuple[tuple[str, float], ...]:
    """Clip sizes and their shares from "64x64x33=2,96x96x33=1"."""
    pairs = [part.partition("=") for part in text.split(",") if part]
    return tuple((str(ClipSize.parse(size)), float(share or 1)) for size, _, share in pairs)


def train_vae(args: argparse.Namespace) -> None:
    """The `vae` command."""
    clips = toy_pixels(0, args.clips, args.size)
    held_out = toy_pixels(HELD_OUT, 24, args.size)
    vae.train(
        chosen(vae.VAETraining(), args), clips, held_out, args.out, load_checkpoint(args.init) if args.init else None
    )


def cache(args: argparse.Namespace) -> None:
    """The `cache` command."""
    model = load_checkpoint(args.vae).vae(torch.bfloat16)
    first = args.first + (HELD_OUT if args.held_out else 0)
    cache_toy_world(args.out, model, load_text_encoder(), args.size, args.count, first=first)


def train_dit(args: argparse.Namespace) -> None:
    """The `dit` command."""
    settings = chosen(dit.DiTTraining(), args)
    context, _ = load_text_encoder()([""])
    dit.train(
        settings, LatentCache(args.data), LatentCache(args.held_out), context[0].bfloat16(),
        load_checkpoint(args.vae).vae(torch.bfloat16), args.out,
        load_checkpoint(args.init) if args.init else None, args.device,
    )  # fmt: skip


def bundle(args: argparse.Namespace) -> None:
    """The `bundle` command."""
    one, two = load_checkpoint(args.dit), load_checkpoint(args.vae)
    states = ({k: v.bfloat16() for k, v in one.dit_state.items()}, {k: v.bfloat16() for k, v in two.vae_state.items()})
    meta = {"dit": one.meta, "vae": two.meta}
    save_checkpoint(args.out, Checkpoint(one.dit_config, states[0], two.vae_config, states[1], meta))


def main() -> int:
    """Run one command; a wrong setting or file is one sentence and exit code 2."""
    args = parser().parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    commands = {"vae": train_vae, "cache": cache, "dit": train_dit, "bundle": bundle}
    try:
        commands[args.command](args)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
