"""Core may build a MODEL, CLIP or VAE once more, from what their loader left in `cached_patcher_init`."""

import inspect

import pytest
import torch

pytestmark = pytest.mark.usefixtures("one_thread")


def patchers(objects):
    model, clip, vae = objects
    return {"MODEL": model, "CLIP": clip.patcher, "VAE": vae.patcher}


def again(patcher, **options):
    """As core does it: a function and its arguments; it may ask for a patcher whose weights do not stream."""
    function, arguments = patcher.cached_patcher_init
    return function(*arguments, **options)


@pytest.mark.parametrize("kind", ["MODEL", "CLIP", "VAE"])
@pytest.mark.parametrize("options", [{}, {"disable_dynamic": True}], ids=["same kind", "no streaming"])
def test_each_is_built_again_with_the_same_weights_of_its_own(tiny_objects, kind, options):
    import comfy.sd

    if options and kind == "CLIP" and "disable_dynamic" not in inspect.signature(comfy.sd.CLIP.__init__).parameters:
        pytest.skip("this release has no weights that stream, so it never asks for it")
    first = patchers(tiny_objects)[kind]
    fresh = again(first, **options)
    assert type(fresh).__name__ == "ModelPatcher"
    assert fresh.model is not first.model
    before, after = first.model.state_dict(), fresh.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert not {v.data_ptr() for v in after.values() if v.numel()} & {
        v.data_ptr() for v in before.values() if v.numel()
    }
    assert again(fresh, **options).model is not fresh.model


def test_a_clone_can_be_built_again_too(tiny_objects):
    model, clip, _ = tiny_objects
    for clone in (model.clone(), clip.clone().patcher):
        if hasattr(clone, "cached_patcher_init"):  # releases that build nothing again do not hand it on
            assert again(clone).model is not clone.model


def test_a_file_that_has_changed_since_is_refused(tiny_checkpoint, tmp_path):
    import shutil

    from comfyui_spacetime.nodes.host.checkpoint import Source, build_objects, load_checkpoint
    from comfyui_spacetime.nodes.host.folders import checkpoint_path

    file = tmp_path / "mine.safetensors"
    shutil.copy(checkpoint_path(tiny_checkpoint), file)
    model, _, vae = build_objects(load_checkpoint(file), Source.of(file, "mine", "fp32"))
    file.write_bytes(file.read_bytes() + b" ")
    for patcher in (model, vae.patcher):
        with pytest.raises(ValueError, match=r"mine was changed or removed after .* run the workflow"):
            again(patcher)
    file.unlink()
    with pytest.raises(ValueError, match="mine was changed or removed"):
        again(model)


def test_where_weights_stream_core_gets_a_model_that_does_not(tiny_objects, monkeypatch):
    """clone(disable_dynamic=True), as TorchCompile and scheduled LoRAs call it on GPUs; here by core's own class."""
    import comfy.model_patcher

    if not hasattr(comfy.model_patcher, "ModelPatcherDynamic"):
        pytest.skip("this release has no weights that stream")
    model = tiny_objects[0].clone()
    monkeypatch.setattr(model, "is_dynamic", lambda: True)
    still = model.clone(disable_dynamic=True)
    assert type(still) is comfy.model_patcher.ModelPatcher
    assert still.model is not model.model
    assert still.attachments.keys() == model.attachments.keys()
