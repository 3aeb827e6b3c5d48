"""With which settings a model is best run: from its header through bundles and training to those who ask."""

from dataclasses import replace

import pytest

from comfyui_spacetime.models.checkpoints import Checkpoint, joined, load_checkpoint, recommended_of, save_checkpoint
from comfyui_spacetime.models.recommended import CARD, Recommended
from comfyui_spacetime.models.transformer.config import PRESETS
from comfyui_spacetime.models.transformer.dit import DiT

OTHER = Recommended(cfg=5.0, shift=3.5, steps=12, solver="heun")


@pytest.mark.parametrize("said", [CARD, OTHER])
def test_what_is_written_is_read(tmp_path, said):
    config = PRESETS["test"]
    bundle = joined(Checkpoint(config, DiT(config).state_dict()), Checkpoint(), said)
    save_checkpoint(tmp_path / "a.safetensors", bundle)
    assert recommended_of(load_checkpoint(tmp_path / "a.safetensors").meta) == said
    assert bundle.meta["shift"] == said.shift


def test_a_bundle_without_settings_keeps_those_of_the_dit():
    before = joined(Checkpoint(), Checkpoint(), OTHER)
    assert recommended_of(joined(before, Checkpoint()).meta) == OTHER
    assert recommended_of(joined(Checkpoint(), Checkpoint()).meta) == CARD
    assert recommended_of({"shift": 2.0}) is None


def test_a_model_trained_on_keeps_what_the_one_before_recommended():
    from comfyui_spacetime.models.training.dit.kept import described
    from comfyui_spacetime.models.training.dit.settings import DiTTraining

    settings = replace(DiTTraining(), mix=(("64x64x9", 1.0),))
    init = joined(Checkpoint(), Checkpoint(), OTHER)
    trained = Checkpoint(meta=described(settings, None, init))
    assert recommended_of(joined(trained, Checkpoint()).meta) == OTHER
    assert "recommended" not in described(settings, None, None)


def test_the_bundle_command_writes_what_is_given_over_what_the_dit_recommends(tmp_path):
    from comfyui_spacetime.models.training.__main__ import parser, run

    config = PRESETS["test"]
    dit = joined(Checkpoint(config, DiT(config).state_dict()), Checkpoint(), OTHER)
    save_checkpoint(tmp_path / "dit.safetensors", dit)
    files = [f"--{name}={tmp_path / name}.safetensors" for name in ("dit", "out")]
    run(parser().parse_args(["bundle", *files, f"--vae={tmp_path / 'dit'}.safetensors", "--steps=30", "--cfg=1.5"]))
    written = recommended_of(load_checkpoint(tmp_path / "out.safetensors").meta)
    assert written == replace(OTHER, steps=30, cfg=1.5)
