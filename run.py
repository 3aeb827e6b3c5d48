#!/usr/bin/env python3
"""One command from a fresh machine to a first video: `python3 run.py`. See `python3 run.py --help`.

Needs nothing but Python: everything else is set up on the way. The parts live in tools/.
"""

import sys

if sys.version_info < (3, 10):
    sys.exit("Python 3.10 or newer is needed, and this is %d.%d." % sys.version_info[:2])

# older Pythons could not even read it, so it comes after the check
from importlib import import_module

from tools.pack import load

if __name__ == "__main__":
    sys.exit(import_module(f"{load().__name__}.tools.commands").main(sys.argv[1:]))
