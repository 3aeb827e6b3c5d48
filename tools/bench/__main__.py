"""Run benchmarks, print their tables, and write the rows as JSON: `run.py bench [NAME] [--json FILE]`."""

import argparse
import importlib
import os
import platform
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ...models.files import read_text, write_json
from ..doctor import cpu_name

HERE = Path(__file__).parent


def main() -> int:
    """Run the named benchmark, or all of them."""
    parser = argparse.ArgumentParser(prog="run.py bench")
    parser.add_argument("name", nargs="?")
    parser.add_argument("--json", type=Path)
    options, rest = parser.parse_known_args()
    known = names()
    if options.name and options.name not in known:
        print(f"There is no benchmark {options.name!r}; there are {', '.join(known)}.", file=sys.stderr)
        return 2
    reports: list[dict[str, Any]] = []
    for name in [options.name] if options.name else known:
        module = importlib.import_module(f".{name}", __package__)
        print(f"\n{name}: {(module.__doc__ or '').strip().splitlines()[0]}\n{machine()}\n", flush=True)
        report: dict[str, Any] = {"name": name, "machine": machine(), "rows": []}
        reports.append(report)
        for row in shown(measure(module, name, rest)):
            report["rows"].append(row)
            if options.json:  # after each row, so that nothing is lost where a benchmark is ended
                whole = report if options.name else {"machine": machine(), "benchmarks": reports}
                write_json(options.json, whole, indent=1)
    return 0


def measure(module: Any, name: str, rest: list[str]) -> Iterable[dict[str, Any]]:
    """The rows of a benchmark, which may have options of its own: `add_options(parser)`, then `rows(options)`."""
    parser = argparse.ArgumentParser(prog=f"run.py bench {name}")
    if not hasattr(module, "add_options"):
        parser.parse_args(rest)  # complains about whatever is left
        return module.rows()
    module.add_options(parser)
    return module.rows(parser.parse_args(rest))


def names() -> list[str]:
    """The benchmarks there are: modules, and folders of modules, that define `rows`."""
    files = {file.stem: file for file in HERE.glob("[a-z]*.py")}
    files |= {file.parent.name: file for file in HERE.glob("[a-z]*/__init__.py")}
    return sorted(name for name, file in files.items() if re.search(r"^def rows\(", read_text(file), re.MULTILINE))


def shown(rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Print rows as they come, as a table."""
    widths: dict[str, int] = {}
    for row in rows:
        if not widths:
            widths = {key: max(len(key), 34 if isinstance(value, str) else 10) for key, value in row.items()}
            print("  ".join(key.ljust(width) for key, width in widths.items()), flush=True)
            print("  ".join("-" * width for width in widths.values()), flush=True)
        print("  ".join(show(row.get(key, "")).ljust(width) for key, width in widths.items()), flush=True)
        yield row


def show(value: Any) -> str:
    """A value as the table shows it."""
    if isinstance(value, bool):
        return "yes" if value else "NO"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def machine() -> str:
    """One line that says where the numbers were measured."""
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else cpu_name()
    software = f"{platform.system()}, Python {platform.python_version()}, torch {torch.__version__}"
    return f"{device}, {os.cpu_count()} cores, {software}"


if __name__ == "__main__":
    sys.exit(main())
