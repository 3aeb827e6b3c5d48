"""Train from the shell: `run.py train COMMAND ...` (or `python -m <pack>.models.training COMMAND ...`)."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from ..checkpoints import joined, load_checkpoint, recommended_of, save_checkpoint, with_few_steps
from ..clips.cache import LatentCache
from ..clips.clips import HELD_OUT, ClipSet
from ..clips.encode import cache_folder
from ..clips.features import features_of
from ..clips.toy import cache_toy_world
from ..geometry import ClipSize
from ..recommended import CARD
from ..solvers import SOLVERS
from ..text.encoder import load_text_encoder
from .captioner import commands as caption_commands
from .distill import commands as distill_commands
from .dit import train as dit
from .dit.initial import class_names
from .dit.lora import merge, read_few_steps, save_lora
from .dit.profiles import reconstruct
from .dit.settings import DiTTraining
from .dit.workers import LOST, leave, lost_a_worker
from .run.options import Said, add_device, add_folder_options, add_number, add_settings, chosen, sizes
from .run.ranges import within
from .run.stopping import StoppedError, stop_on_file, stop_on_signals
from .vae import train as vae


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="run.py train",
        description="Train the VAE, cache latents, train the DiT, choose its average, merge LoRAs, bundle.",
    )
    add_number(top, "threads", 0, "CPU threads (0: torch's choice)")
    add_number(top, "with_parent", 0, "number of the process that started it: stop when that one is gone")
    top.add_argument("--stop-file", type=Path, help="stop when this file appears: for systems without signals")
    commands = top.add_subparsers(dest="command", required=True)

    one = commands.add_parser("vae", help="train the video VAE on a folder of clips, or on toy-world clips")
    one.add_argument("--out", type=Path, required=True, help="run folder; an existing run continues")
    one.add_argument("--data", type=Path, help="folder of video files; left out: the toy world")
    add_number(one, "clips", 400, "clips to train on, at most")
    one.add_argument("--size", type=sizes, default=(ClipSize(96, 96, 33),), help="one or several, 64x64x17,96x64x17")
    add_folder_options(one)
    one.add_argument("--init", type=Path, help="checkpoint to continue from")
    one.add_argument("--frames", type=lengths, default=vae.VAETraining().frames, help="lengths of the crops, 17,9")
    add_device(one)
    add_settings(one, vae.VAETraining())

    two = commands.add_parser(
        "cache", help="store the latents and text features of clips: a folder's or the toy world's"
    )
    two.add_argument("--vae", type=Path, required=True)
    two.add_argument("--out", type=Path, required=True, help="cache folder")
    two.add_argument("--size", type=sizes, required=True, help="such as 96x96x33, or 96x96x32c for loops; or several")
    two.add_argument("--clips", type=Path, help="folder of video files; left out: the toy world")
    add_folder_options(two)
    add_number(two, "count", 400, "toy-world clips of each size")
    add_number(two, "first", 0, "number of the first toy-world clip")
    two.add_argument("--truth", action="store_true", help="toy world: keep what is known of each patch (--alignment)")
    two.add_argument("--features", type=Path, help="folder of features of the clips by another encoder (--alignment)")
    two.add_argument("--held-out", action="store_true", help="clips that no training run sees")
    add_device(two)

    three = commands.add_parser("dit", help="train the DiT on cached latents")
    three.add_argument("--vae", type=Path, required=True)
    three.add_argument("--data", type=Path, required=True, help="cache folder")
    three.add_argument("--held-out", type=Path, required=True, help="cache folder of held-out clips")
    three.add_argument("--out", type=Path, required=True, help="run folder; an existing run continues")
    three.add_argument("--init", type=Path, help="checkpoint to continue from")
    three.add_argument("--mix", type=mixture, default=(), help="shares of the clip sizes, 64x64x33=2,96x96x33=1")
    three.add_argument(
        "--classes", dest="by_class", action="store_true", help="label clips with their class: their sub-folder's name"
    )
    add_device(three)
    three.add_argument(
        "--shard",
        action="store_true",
        help="with several workers: split model, optimiser and average among them (FSDP2); they must share the disk",
    )
    three.add_argument("--log", default="", help="also log to tensorboard, wandb (offline unless set up), or both: a,b")
    add_settings(three, DiTTraining())

    distill_commands.add_to(commands, mixture)
    add_finishing(commands)
    caption_commands.add_to(commands)
    return top


def add_finishing(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """What is done with a trained DiT."""
    four = commands.add_parser("bundle", help="put a DiT and a VAE into one bf16 checkpoint for the nodes")
    four.add_argument("--dit", type=Path, required=True)
    four.add_argument("--vae", type=Path, required=True)
    four.add_argument("--out", type=Path, required=True)
    for name in ("cfg", "shift", "steps"):
        meaning = f"that suits this model (what --dit recommends, or {getattr(CARD, name):g})"
        four.add_argument(f"--{name}", type=within(name), help=meaning)
    four.add_argument("--solver", choices=list(SOLVERS), help=f"the same (or {CARD.solver})")
    four.add_argument("--few", type=Path, help="lora.safetensors of a `distill` run on --dit: its form for few steps")
    add_number(four, "few_rank", 1024, "of it at most; a lower one makes the file smaller")
    four.add_argument("--trained-on", type=sizes, default=(), help="clip sizes of its training, if --dit has none")

    five = commands.add_parser("ema", help="choose, after the run, how long a memory the averaged weights have")
    five.add_argument("--run", type=Path, required=True, help="run folder of `train dit`")
    add_number(five, "sigma_rel", None, "memory as a share of the run; it trained with 0.1")
    add_number(five, "step", 0, "the average after so many steps (0: at the last snapshot)")
    five.add_argument("--out", type=Path, required=True, help="file for the DiT with these weights")

    six = commands.add_parser("merge", help="put a LoRA into the model that it was trained on")
    six.add_argument("--dit", type=Path, required=True, help="checkpoint with the model")
    six.add_argument("--lora", type=Path, required=True, help="lora.safetensors of a run")
    add_number(six, "strength", 1.0)
    six.add_argument("--out", type=Path, required=True)


def lengths(text: str) -> tuple[int, ...]:
    """Numbers of frames from "17,9"; argparse shows the sentence of this error."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text} are no numbers of frames such as 17,9") from error


def mixture(text: str) -> tuple[tuple[str, float], ...]:
    """Clip sizes and their shares from "64x64x33=2,96x96x33=1"."""
    pairs = [part.partition("=") for part in text.split(",") if part]
    try:
        shares = tuple((str(ClipSize.parse(size)), float(share or 1)) for size, _, share in pairs)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if not all(0 < share < float("inf") for _, share in shares):
        raise argparse.ArgumentTypeError(f"the shares in {text} are not all above 0")
    return shares


def train_vae(args: argparse.Namespace) -> None:
    """The `vae` command."""
    init = load_checkpoint(args.init) if args.init else None
    clips, held_out, data = clip_set(args, args.data, args.clips).pixels(Said("read clip"))
    vae.train(chosen(vae.VAETraining(), args), clips, held_out, args.out, init, data, args.device)


def cache(args: argparse.Namespace) -> None:
    """The `cache` command."""
    if args.features and args.clips is None:
        raise ValueError("--features are those of a folder of clips: name it with --clips, or take --truth")
    if args.truth and args.clips is not None:
        raise ValueError("--truth is known of rendered clips alone: give --features for those of a folder")
    model, encoder = load_checkpoint(args.vae).vae(torch.bfloat16).to(args.device), load_text_encoder(args.device)
    if args.clips is None:
        first = args.first + (HELD_OUT if args.held_out else 0)
        for size in args.size:
            said = Said(f"render clip of {size}")
            made = (args.out, model, encoder, size, args.count)
            show(cache_toy_world(*made, first=first, truth=args.truth, progress=said))
        return
    clips = clip_set(args, args.clips, args.count).folder_clips(held_out=args.held_out, progress=Said("look at file"))
    known = features_of(args.features, args.clips, clips) if args.features else None
    show(cache_folder(args.out, args.clips, clips, model, encoder, Said("encode clip"), known=known))


def show(notices: Sequence[str]) -> None:
    """Lines for people."""
    for notice in notices:
        print(notice, file=sys.stderr, flush=True)


def clip_set(args: argparse.Namespace, folder: Path | None, count: int) -> ClipSet:
    """The clips that the command line names."""
    place, index, captions = (str(path or "") for path in (folder, args.index, args.captions))
    return ClipSet(sizes=args.size, folder=place, count=count, fps=args.fps, index=index, captions=captions)


def train_dit(args: argparse.Namespace) -> None:
    """The `dit` command."""
    settings, init = chosen(DiTTraining(), args), load_checkpoint(args.init) if args.init else None
    cache = LatentCache(args.data)
    settings = replace(settings, classes=class_names(args.by_class, cache.class_names, init))
    context, _ = load_text_encoder()([""])
    dit.train(
        settings,
        cache,
        LatentCache(args.held_out),
        context[0].bfloat16(),
        load_checkpoint(args.vae).vae(torch.bfloat16),
        args.out,
        init,
        args.device,
        shard=args.shard,
        log=args.log,
    )


def bundle(args: argparse.Namespace) -> None:
    """The `bundle` command."""
    known = [str(size) for size in args.trained_on]
    dit = load_checkpoint(args.dit)
    given = {name: getattr(args, name) for name in ("cfg", "shift", "steps", "solver")}
    settings = replace(
        recommended_of(dit.meta) or CARD, **{name: value for name, value in given.items() if value is not None}
    )
    made = joined(dit, load_checkpoint(args.vae), settings, known)
    if args.few:
        pairs, best = read_few_steps(args.few)
        made = with_few_steps(made, {layer: pair.reduced(args.few_rank) for layer, pair in pairs.items()}, best)
    save_checkpoint(args.out, made)


def ema(args: argparse.Namespace) -> None:
    """The `ema` command."""
    checkpoint, error = reconstruct(args.run, args.sigma_rel, args.step)
    if checkpoint.dit_config is None:
        save_lora(args.out, checkpoint.dit_state, checkpoint.meta)
    else:
        save_checkpoint(args.out, checkpoint)
    print(
        f"{args.out}: average of relative width {args.sigma_rel} after {checkpoint.meta['steps']} steps, "
        f"profile reproduced to {error:.2%}"
    )


def merge_lora(args: argparse.Namespace) -> None:
    """The `merge` command."""
    save_checkpoint(args.out, merge(load_checkpoint(args.dit), args.lora, args.strength))


def run(args: argparse.Namespace) -> None:
    """Run the command that was parsed, in this process. StoppedError, ValueError and OSError are for the user."""
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.command != "dit" and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError(f"`{args.command}` runs in one process: only `dit` is shared by several workers")
    commands = {"vae": train_vae, "cache": cache, "dit": train_dit, "bundle": bundle, "ema": ema, "merge": merge_lora}
    commands |= caption_commands.COMMANDS | distill_commands.COMMANDS
    commands[args.command](args)


def main() -> int:
    """Run one command. A wrong setting or file is one sentence and exit code 2; being asked to stop is 130.

    1: another worker of the run is gone.
    """
    args = parser().parse_args()
    stop_on_signals(parent=args.with_parent)
    if args.stop_file:
        stop_on_file(args.stop_file)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        run(args)
    except StoppedError as stopped:
        print(stopped, file=sys.stderr)
        return 130
    except torch.cuda.OutOfMemoryError:
        print("the memory of the GPU is full: lower --tokens (DiT) or --batch and --crop (VAE)", file=sys.stderr)
        return 2
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    except RuntimeError as error:
        if not lost_a_worker(error):
            raise
        print(f"{LOST} ({str(error).splitlines()[0]})", file=sys.stderr)
        return 1
    finally:
        leave()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
