"""Where a GPU's memory runs out: one sentence of the VAE with numbers and remedies, and a language model on the CPU."""

import pytest
import torch

from comfyui_spacetime.models.vae.autoencoder import PRESETS, VideoVAE


@pytest.fixture
def vae(comfy_host):
    from comfyui_spacetime.nodes.host.vae.pieces import SpacetimeVAE

    with torch.inference_mode(False):
        return SpacetimeVAE(VideoVAE(PRESETS["test"]))


def full(*_arguments, **_options):
    kept = torch.zeros(3)  # what an error's frames hold
    raise torch.cuda.OutOfMemoryError(f"CUDA out of memory for {len(kept)}")


def calls_of(vae):
    """All ways through the VAE, by name."""
    from comfyui_spacetime.nodes.host.vae import pieces

    latents, images = torch.zeros(1, 16, 2, 4, 4), torch.zeros(5, 32, 32, 3)
    return {
        "decode": lambda: list(pieces.decode_pieces(vae, latents)),
        "decode a loop": lambda: list(pieces.decode_pieces(vae, latents, cyclic=True)),
        "encode": lambda: pieces.encode_pieces(vae, [images]),
        "again": lambda: list(pieces.again_in_pieces(vae, [images])),
        "a loop again": lambda: pieces.loop_again(vae, images[:4]),
        "as they come": lambda: list(pieces.decode_as_they_come(vae, [latents])),
    }


NAMES = ("decode", "decode a loop", "encode", "again", "a loop again", "as they come")


@pytest.mark.parametrize("call", NAMES)
@pytest.mark.parametrize("where", ["loaded", "at work"])
def test_a_vae_that_has_no_room_says_what_it_needs_and_what_to_do(vae, monkeypatch, call, where):
    import comfy.model_management

    if where == "loaded":
        monkeypatch.setattr(comfy.model_management, "load_models_gpu", full)
    elif call == "as they come":
        pytest.skip("there the sampler may be what has no room")
    else:
        for name in ("_encode_piece", "_decode_piece"):
            monkeypatch.setattr(vae.first_stage_model, name, full)
    calls = calls_of(vae)
    assert set(calls) == set(NAMES)
    with pytest.raises(torch.cuda.OutOfMemoryError, match=r"^the VAE needs about [1-9]\d* MB .* --cpu-vae$") as found:
        calls[call]()
    before = found.value.__context__
    while before is not None:
        assert before.__traceback__ is None, "its frames would hold what fills the memory"
        before = before.__context__


def test_other_errors_stay_what_they_are(comfy_host):
    from comfyui_spacetime.nodes.host.full import said_when_full

    with pytest.raises(RuntimeError, match="something else"), said_when_full(lambda: "full"):
        raise RuntimeError("something else")


def test_a_captioner_that_has_no_room_says_so_too(comfy_host, monkeypatch):
    import comfy.model_management

    from comfyui_spacetime.nodes.host.words import captioning

    captioner = captioning.load("spacetime-toy-captioner")
    monkeypatch.setattr(comfy.model_management, "load_models_gpu", full)
    with pytest.raises(torch.cuda.OutOfMemoryError, match=r"^the VAE needs about [1-9]\d* MB .* --cpu-vae$"):
        captioner.place()


@pytest.mark.parametrize("why", ["larger than the device", "others hold it"])
def test_a_language_model_that_has_no_room_computes_on_the_cpu(comfy_host, monkeypatch, caplog, why):
    import comfy.model_management as management

    from comfyui_spacetime.nodes.host.words.language import Placer

    module, loaded = torch.nn.Linear(4, 4), []

    def load(patchers, **_options):
        (patcher,) = patchers
        if why == "others hold it" and patcher.load_device.type == "cuda":
            full()
        loaded.append(patcher.load_device.type)

    total = 1 if why == "larger than the device" else 2**40
    monkeypatch.setattr(management, "get_total_memory", lambda *_: total)
    monkeypatch.setattr(management, "load_models_gpu", load)
    place = Placer(torch.device("cuda", 0))
    for _ in range(2):
        place(module)
    assert loaded == ["cpu", "cpu"]
    assert [record.getMessage() for record in caplog.records if "language model" in record.getMessage()] == [
        "the GPU has no room for a language model of 0.0 GB: it computes on the CPU"
    ]
