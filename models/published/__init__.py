"""Transformers that others published, as plain networks with their own key names: DiT, SiT, Latte, Open-Sora.

Each answers in its own unit and at its own measure of time; `families` says which, and `flow` converts.

    x        (B, C, T, H, W) latents in the model's own scale; an image model takes T = 1
    t        (B,) time as the model counts it
    labels   (B,) class numbers; the last row of the table is "no class"
    context  (B, L, E) text features, mask (B, L) bool
"""
