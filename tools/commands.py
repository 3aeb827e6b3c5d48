"""The commands of `run.py`: what to set up for each, and what to hand it to."""

import argparse
import os
import signal
import sys
import time
from pathlib import Path

from . import app_mode, comfyui, development, doctor, environment, install, other_hosts, video
from .child import run_in, stop
from .client import load_workflow
from .comfyui import Installation
from .edits import apply_settings, mirror
from .environment import ROOT
from .host import Host, editor_port
from .terminal import Bar, Trouble, in_words, say


def main(arguments: list[str]) -> int:
    """Run one command; an expected failure is one line on stderr and exit code 1, Ctrl-C is 130."""
    for name in ("SIGTERM", "SIGHUP"):  # the second: the terminal was closed; Windows has none
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), stop)
    options, rest = parser().parse_known_args(arguments)
    if rest and options.command not in ("test", "train", "bench"):
        parser().error(f"unknown arguments: {' '.join(rest)}")
    try:
        return int(options.run(options, rest) or 0)
    except Trouble as trouble:
        print(f"\n{trouble}", file=sys.stderr)
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130
    except OSError as error:
        print(f"\n{in_words(error)}", file=sys.stderr)
    return 1


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="run.py",
        description="Set up ComfyUI with this pack, make a first video from text and open the editor.",
    )
    add_host_options(top)
    top.add_argument("--once", action="store_true", help="leave after the first video")
    top.add_argument(
        "--apt",
        action="store_true",
        help="as root: let apt-get install missing system packages, and say which",
    )
    top.set_defaults(run=first_video, command=None)
    commands = top.add_subparsers(dest="command", metavar="COMMAND")

    one = commands.add_parser("video", help='make a video: video "a red cube falls"; or many, from a file of prompts')
    one.add_argument("prompt", nargs="?", default="")
    video.add_options(one)
    one.set_defaults(run=make_video)

    one = commands.add_parser(
        "workflow", help="run a workflow file (the editor's format or the API's) and list its files"
    )
    one.add_argument("file", type=Path)
    one.add_argument("--set", action="append", default=[], metavar="NODE.INPUT=VALUE", help="NODE: id, title or class")
    one.add_argument("--out", type=Path, help="folder to copy the files to")
    one.set_defaults(run=run_workflow)

    one = commands.add_parser("serve", help="open the editor and stay until Ctrl-C")
    one.set_defaults(run=serve)
    for command in list(commands.choices.values()):
        add_host_options(command, again=True)

    add_other_commands(commands)
    return top


def add_other_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The commands that make no video: installing, training, working on the pack."""
    one = commands.add_parser("setup", help="only set up: packages, ComfyUI, the pack's link")
    one.set_defaults(run=development.set_up)
    one = commands.add_parser("install", help="add what the pack needs to the Python of your ComfyUI; changes nothing")
    one.add_argument("--comfyui", metavar="PATH", default=argparse.SUPPRESS, help="the ComfyUI, if not around us")
    one.set_defaults(run=lambda options, _rest: install.install(options.comfyui))
    one = commands.add_parser(
        "test", help="run all tests, or with --comfyui those that meet it; the rest goes to pytest"
    )
    add_tree_options(one, argparse.SUPPRESS)
    one.set_defaults(run=development.test)
    one = commands.add_parser("check", help="lint, format and types")
    one.set_defaults(run=development.check)
    one = commands.add_parser(
        "train", help="train the VAE or the DiT: train --help", add_help=False, allow_abbrev=False
    )
    one.add_argument("--processes", type=int, default=1, metavar="N", help="share the work of `dit` among N processes")
    one.add_argument("--restarts", type=int, default=0, metavar="N", help="continue so often when a process dies")
    one.add_argument(
        "--ray", metavar="ADDRESS", help="share it among N workers of a Ray cluster, with local: of one here"
    )
    one.set_defaults(run=train)
    one = commands.add_parser("bench", help="measure, and print a table")
    one.add_argument("name", nargs="?", help="one of the benchmarks; all of them when left out")
    one.add_argument("--json", type=Path, metavar="FILE", help="also write the rows to a file")
    one.set_defaults(run=development.bench)
    one = commands.add_parser("pictures", help="make the thumbnails and the README's pictures anew")
    kinds = ("icon", "thumbnails", "samples", "guides", "editor", "widgets", "workflows")
    one.add_argument("kind", nargs="?", choices=kinds, help="all when left out")
    one.add_argument("names", nargs="*", help="thumbnails, or pictures, of these workflows only")
    add_tree_options(one, argparse.SUPPRESS)
    one.set_defaults(run=development.pictures)
    one = commands.add_parser("layout", help="give the nodes of the workflows room, in both ways of drawing")
    one.add_argument("files", nargs="*", help="all workflows when left out")
    add_tree_options(one, argparse.SUPPRESS)
    one.set_defaults(run=development.layout)
    one = commands.add_parser("locales", help="make the editor's texts in other languages of the schemas and scripts")
    one.set_defaults(run=development.locales)
    one = commands.add_parser("blueprints", help="make blueprints and app modes of the workflows")
    one.set_defaults(run=lambda _options, _rest: app_mode.main())
    one = commands.add_parser("doctor", help="say what was found: host, torch, device, dtypes, attention, weights")
    add_host_options(one, again=True)
    one.set_defaults(run=lambda options, _rest: doctor.report(other_hosts.tree_of(options)))


def add_host_options(command: argparse.ArgumentParser, *, again: bool = False) -> None:
    """Options of every command that starts a ComfyUI, valid before and after the command's name."""
    default = argparse.SUPPRESS if again else None
    add_tree_options(command, default)
    command.add_argument("--port", type=port_number, default=default, help="port of the editor (8188 where it is free)")


def add_tree_options(command: argparse.ArgumentParser, default: str | None) -> None:
    """Which ComfyUI to use instead of the pinned one."""
    trees = command.add_mutually_exclusive_group()
    trees.add_argument("--comfyui", metavar="PATH", default=default, help="use this ComfyUI; nothing in it is changed")
    trees.add_argument(
        "--comfyui-version", metavar="vX.Y.Z", default=default, help="use this release, from the official repository"
    )


def port_number(text: str) -> int:
    """The value of --port."""
    if not text.isdecimal() or not 1024 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: give a number from 1024 to 65535")
    return int(text)


def first_video(options: argparse.Namespace, _rest: list[str]) -> None:
    """Set up, make the first video, and keep the editor open unless told not to."""
    installation = comfyui.find(other_hosts.tree_of(options))
    with start(installation, editor_port(options.port)) as host:
        video.make(host, video.Wish(), Path("output"))
        if not options.once:
            say(f"Editor: {host.url}")
            stay(host)


def make_video(options: argparse.Namespace, _rest: list[str]) -> int:
    """Make one video from a prompt, or with --prompts one for each line of a file and seed."""
    if options.prompts:
        return run_in(
            environment.set_up(), [str(ROOT / "tools" / "pack.py"), *video.batch_arguments(options)], apart=True
        )
    wish = video.Wish.of(options)
    with start(comfyui.find(other_hosts.tree_of(options)), options.port) as host:
        video.make(host, wish, options.out)
    return 0


def run_workflow(options: argparse.Namespace, _rest: list[str]) -> None:
    """Run any workflow file and list what it made."""
    workflow = load_workflow(options.file)
    with start(comfyui.find(other_hosts.tree_of(options)), options.port) as host:
        info = host.client.object_info()
        prompt = host.client.prompt_of(workflow)
        apply_settings(prompt, options.set, info)
        video.upload_files(host, prompt)
        bar = Bar()
        try:
            result = host.client.run(prompt, bar.show, workflow=mirror(workflow, prompt, info))
        finally:
            bar.clear()
        for text in result.texts():
            say(text)
        made = list(result.files())
        saved = [file for file in made if file.get("type") == "output"] or made  # previews only where nothing is saved
        for file in saved:
            say(str(video.keep(host, file, options.out)))
        say(f"{len(saved)} files in {result.seconds:.1f} s")


def serve(options: argparse.Namespace, _rest: list[str]) -> None:
    """Open the editor and stay."""
    with start(comfyui.find(other_hosts.tree_of(options)), editor_port(options.port)) as host:
        say(f"Editor: {host.url}")
        stay(host)


def start(installation: Installation, port: int | None) -> Host:
    """Start the host, check that it has our nodes, and say so."""
    begin = time.monotonic()
    host = Host.start(installation, port)
    try:
        host.check_pack()
    except BaseException:
        host.stop()
        raise
    say(f"ComfyUI is up ({time.monotonic() - begin:.0f} s)")
    return host


def stay(host: Host) -> None:
    """Wait for Ctrl-C, or for the host to end."""
    say("Press Ctrl-C to stop.")
    try:
        code = host.process.wait()
    except KeyboardInterrupt:
        say("\nstopped")
        return
    raise Trouble(f"ComfyUI has ended (exit code {code}). {host.tail()}")


def train(options: argparse.Namespace, rest: list[str]) -> int:
    """Hand everything to the training command: one process, several under torchrun, or workers of a Ray cluster."""
    pack, shared = str(ROOT / "tools" / "pack.py"), ["--restarts", str(options.restarts)]
    if options.processes < 1:
        raise Trouble(f"--processes {options.processes}: it is 1 or more.")
    if options.ray:
        shared += ["--workers", str(options.processes), "--address", options.ray, "--"]
        return run_in(environment.set_up(), [pack, "models.cluster", "train", *shared, *rest], apart=True)
    if options.processes == 1:
        return run_in(environment.set_up(), [pack, "models.training", *rest])
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(options.processes)]
    launcher += ["--max-restarts", str(options.restarts)]
    # workers that are started again must not find the addresses of those that died
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    return run_in(environment.set_up(), [*launcher, pack, "models.training", *rest], apart=True)
