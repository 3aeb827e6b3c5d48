"""Core's Train LoRA on latents of video and captions: ours and a video model of others, as the docs say."""

import pytest
import torch

pytestmark = pytest.mark.usefixtures("comfy_host", "one_thread")


@pytest.mark.parametrize("name", ["spacetime", "wan"])
def test_cores_train_lora_takes_video_latents_and_captions(name):
    from comfy_extras.nodes_train import LoraModelLoader, TrainLoraNode

    from comfyui_spacetime.tools.bench import tiny_models

    with torch.inference_mode(False):
        model = tiny_models.tiny_spacetime() if name == "spacetime" else tiny_models.tiny_wan()
    clips = [{"samples": torch.randn(1, 16, 3, 4, 4)} for _ in range(3)]
    captions = [tiny_models.conditioning(name, seed) for seed in range(3)]
    settings = {
        "batch_size": 1, "steps": 4, "grad_accumulation_steps": 1, "learning_rate": 1e-2, "rank": 2,
        "optimizer": "AdamW", "loss_function": "MSE", "seed": 0, "training_dtype": "fp32", "lora_dtype": "fp32",
        "algorithm": "LoRA", "gradient_checkpointing": False, "existing_lora": "[None]", "bucket_mode": False,
        "bypass_mode": False, "offloading": False, "quantized_backward": False,
    }  # fmt: skip
    import inspect

    known = inspect.signature(TrainLoraNode.execute).parameters
    lists = {key: [value] for key, value in settings.items() if key in known}
    output = TrainLoraNode.execute(model=[model], latents=clips, positive=captions, **lists)
    lora, losses = output.args[-3], output.args[-2]
    assert len(losses["loss"]) == 4
    assert any(value.abs().sum() > 0 for key, value in lora.items() if "lora_up" in key)
    trained = LoraModelLoader.execute(model, lora, 1.0).args[0]
    assert trained.patches
