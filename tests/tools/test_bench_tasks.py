"""What the table of editing tasks says of the embedded VAE: a step from latent to latent, and none with deflicker."""

import statistics

import numpy as np
import torch

from comfyui_spacetime.models.checkpoints import load_checkpoint
from comfyui_spacetime.models.embedded import EMBEDDED
from comfyui_spacetime.models.pixels import from_uint8
from comfyui_spacetime.models.toyworld import sample_scene
from comfyui_spacetime.models.toyworld.renderer import render
from comfyui_spacetime.tools.bench.decoding import deflickered, images
from comfyui_spacetime.tools.bench.tasks import between_latents


def moving_clip(seed: int) -> np.ndarray:
    rng = np.random.default_rng([11, seed])
    scene = sample_scene(rng, held_out=True, num_frames=17, fps=12.0, aspect=1.0)
    return render(scene, num_frames=17, height=96, width=96, fps=12.0).frames


def test_true_clips_change_more_from_latent_to_latent_unless_they_are_deflickered():
    vae = load_checkpoint(EMBEDDED).vae(torch.float32)
    nothing = torch.zeros(5, dtype=torch.bool)
    plain, steady = [], []
    for seed in range(6):
        with torch.no_grad():
            frames = images(vae.decode(vae.encode(from_uint8(moving_clip(seed))[None])))
        plain.append(between_latents(frames, nothing, cyclic=False))
        steady.append(between_latents(deflickered(vae, frames), nothing, cyclic=False))
    assert statistics.mean(plain) > 1.05  # in some clips; the VAE itself leads most of them over well
    assert statistics.median(steady) <= 1.05
    assert statistics.mean(steady) < statistics.mean(plain) - 0.05
