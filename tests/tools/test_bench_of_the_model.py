"""What the benchmarks of the model do around the model."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from types import SimpleNamespace

import numpy as np
import pytest

from comfyui_spacetime.models.generate import Models
from comfyui_spacetime.models.metrics.probe_cases import cases
from comfyui_spacetime.models.recommended import Recommended
from comfyui_spacetime.tools.bench import __main__ as runner
from comfyui_spacetime.tools.bench import fidelity, probes, settings
from comfyui_spacetime.tools.bench.sampling import add_sampling_options, load_models, sheet, sizes


def test_what_cannot_be_judged_counts_as_wrong():
    right = {"colour": True, "shape": True, "motion": True, "count": True}
    verdicts = [right, right | {"shape": None}, right | {"motion": False}, right]
    assert fidelity.share(verdicts, "colour") == 1.0
    assert fidelity.share(verdicts, "shape") == 0.75
    assert fidelity.share(verdicts, "all four") == 0.5
    assert fidelity.described(verdicts[1]) == "wrong: shape"


def test_perfect_clips_score_as_the_truth(monkeypatch):
    def perfect(prompts, options):
        scenes = fidelity.held_out_scenes(options.limit)
        assert prompts == [prompt for prompt, _, _ in scenes]
        return [fidelity.drawn(scene, options.size) for _, scene, _ in scenes]

    monkeypatch.setattr(fidelity, "generated", perfect)
    parser = ArgumentParser()
    fidelity.add_options(parser)
    rows = list(fidelity.rows(parser.parse_args(["--limit", "4", "--size", "64x64x33"])))
    names = [row["name"] for row in rows]
    assert names[:5] == ["colour", "shape", "motion", "count", "all four"]
    assert "motion, unseen wording" in names
    assert all(row["value"] == row["truth"] for row in rows)
    assert [row["n"] for row in rows[:5]] == [4] * 5


def test_settings_are_compared_clip_by_clip_on_other_prompts(monkeypatch):
    """One that makes half of the clips right, beside the recommended ones that make all of them right."""

    def made(prompts, options):
        clips = [fidelity.drawn(scene, options.size) for _, scene, _ in fidelity.held_out_scenes(options.limit, 1)]
        return [clip if i % 2 or options.steps == 24 else np.zeros_like(clip) for i, clip in enumerate(clips)]

    monkeypatch.setattr(settings, "generated", made)
    parser = ArgumentParser()
    settings.add_options(parser)
    best, other = settings.rows(parser.parse_args(["--limit", "4", "--size", "64x64x33", "--only", "12 steps"]))
    assert best["change"] == 0
    assert best["right"] > 0.9
    assert other["right"] == pytest.approx(best["right"] + other["change"])
    assert other["change"] < -0.4
    assert other["error"] > 0.2
    with pytest.raises(ValueError, match="settings are chosen by others"):
        next(iter(settings.rows(parser.parse_args(["--prompts", "0"]))))


def test_the_form_for_few_steps_stands_beside_the_full_one(monkeypatch):
    def made(prompts, options):
        clips = [fidelity.drawn(scene, options.size) for _, scene, _ in fidelity.held_out_scenes(options.limit)]
        return [np.zeros_like(clip) for clip in clips] if options.few_steps else clips

    monkeypatch.setattr(fidelity, "generated", made)
    parser = ArgumentParser()
    fidelity.add_options(parser)
    (row, *_) = fidelity.rows(parser.parse_args(["--limit", "4", "--size", "64x64x33", "--both"]))
    assert row["value"] == row["truth"] > row["few steps"] == 0


def test_settings_for_few_steps_are_those_of_the_file(monkeypatch):
    best = Recommended(cfg=1.0, shift=3.0, steps=4, solver="euler")
    monkeypatch.setattr(Models, "load", lambda _file, *, few_steps, **_more: SimpleNamespace(best=best, few=few_steps))
    parser = ArgumentParser()
    add_sampling_options(parser)
    options = parser.parse_args(["--few-steps"])
    assert load_models(options).few
    assert (options.cfg, options.shift, options.steps, options.solver) == (1.0, 3.0, 4, "euler")
    options = parser.parse_args(["--steps", "7"])
    assert not load_models(options).few
    assert options.steps == 7


def test_long_videos_are_made_in_windows_that_hand_over_their_last_frames(monkeypatch):
    chosen = cases("long-range coherence", 1, height=64, width=64)
    seen = []

    def fake(models, tails, prompts, window, options, first):
        seen.append(tails[0])
        following = np.full((window - len(tails[0]), *tails[0].shape[1:]), len(seen), dtype=np.uint8)
        return [np.concatenate([tails[0], following])]

    monkeypatch.setattr(probes, "window_after", fake)
    made = probes.continued(SimpleNamespace(), chosen, Namespace(size="64x64x33", batch=8))
    known, total = chosen[0].known, len(chosen[0].truth.frames)
    assert len(made[0]) == total
    assert np.array_equal(made[0][:known], chosen[0].truth.frames[:known])
    assert [int(frame.max()) for frame in made[0][known::24]] == [1, 2, 3]
    assert all((tail == number).all() for number, tail in enumerate(seen[1:], 1))


def test_a_sheet_holds_a_row_per_clip():
    clips = [np.zeros((9, 32, 48, 3), dtype=np.uint8)] * 3
    page = sheet(clips, ["a red ball", "a blue cube\nall right", ""], columns=5)
    assert page.size == (300 + 5 * 50, 3 * 34)


def test_options_of_a_benchmark_are_its_own():
    parser = ArgumentParser()
    add_sampling_options(parser)
    options = parser.parse_args(["--size", "128x96x17", "--cfg", "2.5"])
    assert sizes(options.size) == (128, 96, 17)
    assert options.cfg == 2.5
    plain = SimpleNamespace(rows=lambda: [{"name": "a"}])
    assert runner.measure(plain, "plain", []) == [{"name": "a"}]
    with pytest.raises(SystemExit):
        runner.measure(plain, "plain", ["--cfg", "3"])
    own = SimpleNamespace(rows=lambda chosen: [{"cfg": chosen.cfg}], add_options=add_sampling_options)
    assert runner.measure(own, "own", ["--cfg", "3"]) == [{"cfg": 3.0}]
