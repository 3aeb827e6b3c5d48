"""Work for a cluster from the shell: `run.py train --ray ...` and `run.py video --prompts ...` end here."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..checkpoints import load_checkpoint
from ..embedded import EMBEDDED
from ..files import read_text
from ..geometry import FPS, OURS
from ..training.run.stopping import StoppedError, check_stop, stop_on_signals
from .fan_out import Recipe, jobs_of


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="run.py", description="Train, or make many videos, on a Ray cluster.")
    commands = top.add_subparsers(dest="command", required=True)
    one = commands.add_parser("train", help="share a `train dit` among workers")
    one.add_argument("--address", required=True, help="of the cluster; auto: this machine's; local: start one here")
    one.add_argument("--workers", type=int, default=1)
    one.add_argument("--restarts", type=int, default=3, help="continue so often when a worker dies")
    one.add_argument("arguments", nargs=argparse.REMAINDER, help="dit and its options, after --")

    two = commands.add_parser("video", help="a video for each prompt and seed")
    two.add_argument("--prompts", type=Path, required=True, help="text file with a prompt per line")
    two.add_argument("--seeds", type=int, default=1, help="videos of each prompt")
    two.add_argument("--seed", type=int, default=0, help="the first seed; the others follow it")
    two.add_argument("--out", type=Path, required=True, help="folder for the videos")
    two.add_argument("--checkpoint", type=Path, default=EMBEDDED)
    two.add_argument("--address", help="of the cluster; auto, local: as above; left out: one after the other, here")
    two.add_argument("--workers", type=int, default=0, help="at most so many; 0: as the cluster has room for")
    two.add_argument("--threads", type=int, default=1, help="CPU threads of each worker")
    two.add_argument("--seconds", type=float, default=33 / FPS)
    for name in ("width", "height", "steps"):
        two.add_argument(f"--{name}", type=int, default=getattr(Recipe(), name))
    two.add_argument("--cfg", type=float, default=Recipe().cfg)
    two.add_argument("--negative", default="")
    two.add_argument("--numbers", choices=("bfloat16", "float32"), default=Recipe().numbers)
    two.add_argument("--raw", action="store_true", help="write frames as .npy instead of mp4")
    two.add_argument(
        "--with-parent", type=int, default=0, metavar="PID", help="stop when this process, which started it, is gone"
    )
    return top


def train(args: argparse.Namespace) -> None:
    """The `train` command."""
    from .training import train

    train(args.arguments[1:], args.address, args.workers, args.restarts)


def video(args: argparse.Namespace) -> None:
    """The `video` command."""
    from .videos import make_videos, pool

    recipe = Recipe(
        num_frames=OURS.nearest(args.seconds, FPS),
        height=args.height,
        width=args.width,
        steps=args.steps,
        cfg=args.cfg,
        negative=args.negative,
        threads=args.threads,
        numbers=args.numbers,
    )
    jobs = jobs_of(read_text(args.prompts).splitlines(), args.seeds, args.seed)
    checkpoint = load_checkpoint(args.checkpoint)
    with pool(checkpoint, recipe, args.address, args.workers) as workers:
        stop_on_signals(parent=args.with_parent)  # after Ray has set its own handlers

        def said(done: int) -> None:
            print(f"video {done} of {len(jobs)}", file=sys.stderr, flush=True)

        for path in make_videos(workers, jobs, args.out, fps=FPS, raw=args.raw, progress=said, check=check_stop):
            print(path, flush=True)


def main() -> int:
    """Run one command. A wrong setting or file is one sentence and exit code 2; being asked to stop is 130."""
    args = parser().parse_args()
    try:
        {"train": train, "video": video}[args.command](args)
    except StoppedError as stopped:
        print(stopped, file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
