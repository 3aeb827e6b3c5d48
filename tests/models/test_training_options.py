"""The options of the training commands: all explained in the guide, all within limits that are said."""

import argparse
import math
import re
from dataclasses import fields, replace
from pathlib import Path

import pytest

from comfyui_spacetime.models.training.__main__ import parser
from comfyui_spacetime.models.training.captioner.train import CaptionerTraining
from comfyui_spacetime.models.training.distill.settings import Distillation
from comfyui_spacetime.models.training.dit.settings import DiTTraining
from comfyui_spacetime.models.training.optim.optimiser import learning_rate_scale
from comfyui_spacetime.models.training.run.ranges import RANGES
from comfyui_spacetime.models.training.vae.objective import VAETraining

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


SETTINGS = [VAETraining(), DiTTraining(), Distillation(), CaptionerTraining()]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda one: type(one).__name__)
def test_every_number_of_a_run_has_a_range_that_its_settings_keep(settings):
    for entry in fields(settings):
        value = getattr(settings, entry.name)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        given = RANGES[entry.name]  # a number without a range would be a traceback one day
        for wrong in (given.low - 1, given.high + 1, math.nan, math.inf):
            with pytest.raises(ValueError, match=rf"^--[a-z-]+ is {re.escape(str(given))}, not "):
                replace(settings, **{entry.name: wrong})
        replace(settings, **{entry.name: given.low})


@pytest.mark.parametrize(
    ("settings", "wrong", "says"),
    [
        (VAETraining(), {"crop": 33}, "--crop is a multiple of 16 from 16 to 1024, not 33"),
        (VAETraining(), {"preset": "huge"}, "--preset is one of test, toy, mini, base, not huge"),
        (VAETraining(), {"perceptual_network": "resnet"}, "--perceptual-network is one of vgg, alex, not resnet"),
        (DiTTraining(), {"dtype": "float16"}, "--dtype is one of bfloat16, float32, not float16"),
        (CaptionerTraining(), {"preset": "XL"}, "--preset is one of .*, not XL"),
    ],
)
def test_what_cannot_be_is_named_with_what_can(settings, wrong, says):
    with pytest.raises(ValueError, match=says):
        replace(settings, **wrong)


def options() -> list[tuple[str, str]]:
    """Every option of every command that takes a number."""
    top = [("", action) for action in parser()._actions]
    below = [(name, action) for name, command in COMMANDS.items() for action in command._actions]
    return [
        (name, action.option_strings[0])
        for name, action in [*top, *below]
        if action.option_strings and (action.type in (int, float) or getattr(action.type, "__name__", "") == "read")
    ]


@pytest.mark.parametrize(("command", "option"), options())
def test_no_number_on_the_command_line_is_taken_unseen(command, option):
    """argparse's own int and float let through what ends in a traceback: each number comes from the table."""
    action = next(a for a in (COMMANDS[command] if command else parser())._actions if option in a.option_strings)
    assert action.type not in (int, float), f"{option} has no range: use add_number"
    for wrong in ("nan", "inf", "-1000000000", "1e30", "9" * 400, "x", ""):
        with pytest.raises(argparse.ArgumentTypeError, match=r"is not .* to "):
            action.type(wrong)


@pytest.mark.parametrize("arguments", ["--crop 33", "--save-every 0", "--fps 0", "--device nowhere", "--frames a"])
def test_a_wrong_option_is_one_sentence_of_the_shell(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(["vae", "--out", "run", *arguments.split()])
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("run.py train vae: error: argument ")


def test_a_run_without_a_warm_up_begins_at_its_full_rate():
    assert learning_rate_scale(0, 100, warmup=0) == 1.0
