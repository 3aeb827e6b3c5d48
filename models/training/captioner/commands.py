"""The commands `captioner` (train one) and `caption` (describe the clips of a folder)."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from ...captioner.captioner import load_captioner
from ...captioner.describer import Captioner
from ...checkpoints import load_checkpoint
from ...clips.cache import LatentCache
from ...clips.clips import ClipSet
from ...embedded import CAPTIONER, EMBEDDED
from ...text.configuration import FILE, read_configuration
from ...text.describing import LENGTHS, Describer, LanguageDescriber
from ...vae.autoencoder import fingerprint
from ..run.options import Said, add_device, add_folder_options, add_number, add_settings, chosen, sizes
from . import train as captioner
from .recaption import MISSING, WHICH, describe_folder


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Both commands' options."""
    one = commands.add_parser("captioner", help="train a captioner on cached latents and their captions")
    one.add_argument("--vae", type=Path, required=True, help="the VAE that made the latents")
    one.add_argument("--data", type=Path, required=True, help="cache folder")
    one.add_argument("--held-out", type=Path, required=True, help="cache folder of held-out clips")
    one.add_argument("--out", type=Path, required=True, help="run folder; an existing run continues")
    one.add_argument("--init", type=Path, help="captioner to continue from; it brings its size and its words")
    add_device(one)
    add_settings(one, captioner.CaptionerTraining())

    two = commands.add_parser("caption", help="describe the clips of a folder of video files: captions to train on")
    two.add_argument("--clips", type=Path, required=True, help="folder of video files")
    two.add_argument("--size", type=sizes, required=True, help="of the clips, as in cache")
    two.add_argument("--out", type=Path, required=True, help="folder for the set of captions; what is there is kept")
    add_folder_options(two, captions=False)
    two.add_argument("--which", choices=WHICH, default=MISSING)
    two.add_argument("--captioner", type=Path, default=CAPTIONER, help="left out: the embedded one")
    two.add_argument("--vae", type=Path, default=EMBEDDED, help="the VAE that the captioner was trained with")
    two.add_argument("--endpoint", help="describe with this endpoint of your configuration instead")
    two.add_argument("--configuration", type=Path, default=Path(FILE), help="file with your endpoints")
    two.add_argument("--length", choices=tuple(LENGTHS), default="detailed")
    add_number(two, "limit", 0, "describe at most so many files; 0: all")
    add_number(two, "seed", 0)
    add_device(two)


def train_captioner(args: argparse.Namespace) -> None:
    """The `captioner` command."""
    captioner.train(
        chosen(captioner.CaptionerTraining(), args),
        LatentCache(args.data),
        LatentCache(args.held_out),
        load_checkpoint(args.vae).vae(torch.bfloat16),
        args.out,
        load_captioner(args.init) if args.init else None,
        args.device,
    )


def caption(args: argparse.Namespace) -> None:
    """The `caption` command."""
    clips = ClipSet(sizes=args.size, folder=str(args.clips), fps=args.fps, index=str(args.index or ""))
    listing = clips.listing(Said("look at file"))
    done = describe_folder(
        args.clips,
        listing.clips,
        args.out,
        describer_of(args),
        which=args.which,
        limit=args.limit,
        seed=args.seed,
        progress=Said("describe file"),
    )
    for name, why in listing.skipped:
        print(f"skipped {name}: {why}", file=sys.stderr)
    print(done.text())


def describer_of(args: argparse.Namespace) -> Describer:
    """Who describes: an endpoint, or a captioner with its VAE."""
    if args.endpoint:
        return LanguageDescriber(read_configuration(args.configuration).endpoint(args.endpoint), length=args.length)
    vae = load_checkpoint(args.vae).vae().to(args.device)
    made = load_captioner(args.captioner)
    captioner = Captioner.of(args.captioner.stem, made, vae, fingerprint(vae), detailed=args.length == "detailed")
    captioner.network.to(args.device)
    return captioner


COMMANDS = {"captioner": train_captioner, "caption": caption}
