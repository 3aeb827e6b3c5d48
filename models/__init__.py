"""Pure PyTorch: the video VAE, the spacetime DiT, sampling, training. Imports nothing of ComfyUI.

Shape legend, used in every comment below this folder:
    B batch · C latent channels · T H W latent frames, height, width · N tokens (patches) · P values in a patch
    D hidden size · L text tokens · E text features · K attention heads · F pixel frames
Latents are (B, C, T, H, W), tokens (B, N, P), context (B, L, E). Pixels are (B, 3, F, H, W) in [-1, 1] inside
the models and (F, H, W, 3) uint8 on disk. Sigma runs from 1 (noise) to 0 (clean): see flow.py.
"""

VERSION = "0.2.0"  # of the pack
