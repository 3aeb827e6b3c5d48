"""Everything within some minutes: `python3 tools/pack.py tools.card --work DIR --keep DIR --minutes 9`.

Clips are rendered and encoded by processes of their own while the card trains; the captioner trains beside the DiT.
`--parts vae` and later `--parts dit,captioner,distilled` do the same in two calls on one machine: the helpers that the
first one starts go on until the file `stop` appears in the work folder.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

from ...models.files import read_text

PACK = Path(__file__).resolve().parents[1] / "pack.py"
SHARES = {"vae": 0.2, "pair": 0.1, "dit": 0.56, "distilled": 0.12, "captioner": 0.0}  # of the minutes
STARTS = 20.0  # seconds that a process of a part takes before and after its minutes


def command(name: str, options: argparse.Namespace, *more: str) -> list[str]:
    """The command of a process."""
    tiny = ["--tiny"] if options.tiny else []
    return [sys.executable, str(PACK), f"tools.card.{name}", "--work", str(options.work), *more, *tiny]


def start_helpers(options: argparse.Namespace) -> None:
    """Render and encode, unless that goes on already; in sessions of their own, so that they outlive this process."""
    begun = options.work / "begun"
    if begun.exists():
        return
    options.work.mkdir(parents=True, exist_ok=True)
    begun.touch()
    encode = [part for part in command("encode", options, "--device", options.device) if part != "--tiny"]
    count = ["--files", "12", "--processes", "2"] if options.tiny else []
    for name, line in (("render", command("render", options, *count)), ("encode", encode)):
        with (options.work / f"{name}.log").open("w") as log:
            subprocess.Popen(line, stdout=log, stderr=log, start_new_session=True)


def start(part: str, options: argparse.Namespace, minutes: float) -> subprocess.Popen[bytes]:
    """The process of a part."""
    more = ["--device", options.device, "--minutes", f"{minutes:.3f}", "--keep", str(options.keep)]
    more += [] if options.compile else ["--no-compile"]
    return subprocess.Popen(command("train", options, part, *more, *options.more.split()))


def main() -> int:
    """All parts, or those that are named; 0 when each has left its file."""
    parser = argparse.ArgumentParser(prog="tools.card")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--keep", type=Path, required=True, help="folder for what is to be carried away")
    parser.add_argument("--minutes", type=float, default=9.0, help="for all parts together")
    parser.add_argument("--parts", default="vae,pair,dit,captioner,distilled")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--more", default="", help="further options of the parts, such as '--learning-rate 1e-3'")
    parser.add_argument("--tiny", action="store_true", help="small sizes, to try it out on a CPU")
    options = parser.parse_args()
    parts = [part for part in SHARES if part in options.parts.split(",")]
    options.keep.mkdir(parents=True, exist_ok=True)
    start_helpers(options)
    whole, began = sum(SHARES[part] for part in parts) or 1.0, time.monotonic()
    starts = STARTS if options.device != "cpu" else 0.0
    left = options.minutes - starts * sum(SHARES[part] > 0 for part in parts) / 60
    beside = start("captioner", options, 0.0) if parts[:1] != ["vae"] and "captioner" in parts else None
    codes = {}
    for part in parts:
        if part == "dit" and "captioner" in parts and beside is None:
            beside = start("captioner", options, 0.0)
        if part != "captioner":
            codes[part] = start(part, options, left * SHARES[part] / whole).wait()
            print(f"{part}: {codes[part]} after {time.monotonic() - began:.0f} s", flush=True)
    if beside is not None:
        codes["captioner"] = beside.wait()
    for name in ("render", "encode"):
        print(read_text(options.work / f"{name}.log")[-1500:], flush=True)
    return max(codes.values(), default=0)


if __name__ == "__main__":
    raise SystemExit(main())
