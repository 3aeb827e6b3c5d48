"""The spacetime diffusion transformer (DiT)."""
