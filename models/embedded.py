"""Where the models lie that come with the pack."""

from __future__ import annotations

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
EMBEDDED = WEIGHTS / "spacetime-toy.safetensors"  # DiT and VAE
CAPTIONER = WEIGHTS / "spacetime-toy-captioner.safetensors"
