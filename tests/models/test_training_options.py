"""Every option of the training commands is explained in the guide, and nothing that is not there any more."""

import argparse
import re
from pathlib import Path

import pytest

from comfyui_spacetime.models.training.__main__ import parser

GUIDE = Path(__file__).resolve().parents[2] / "web" / "docs" / "guides" / "training.md"
COMMANDS = next(a for a in parser()._actions if isinstance(a, argparse._SubParsersAction)).choices


@pytest.mark.parametrize("command", COMMANDS)
def test_the_guide_explains_the_options(command):
    sections = re.split(r"^##+ (.*)$", GUIDE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    (section,) = [text for title, text in zip(sections[1::2], sections[2::2], strict=True) if title == command]
    rows = re.findall(r"^\| (`--.*?`) \|", section, flags=re.MULTILINE)
    named = {option for row in rows for option in re.findall(r"--[a-z-]+", row)}
    actions = [action for action in COMMANDS[command]._actions if action.dest != "help"]
    missing = [action.option_strings[0] for action in actions if not named & set(action.option_strings)]
    assert not missing
    assert named <= {option for action in actions for option in action.option_strings}
