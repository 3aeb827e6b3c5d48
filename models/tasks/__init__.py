"""Editing tasks. Each says which patches of a clip are known, how much they may change and where they lie, no more.

A task returns a Canvas: reference latents and a change level per place (1 generate, 0 keep), which a denoising run
turns into a noise level per patch. `along_time` has animate, extend, connect and loop, `in_space` restyle, fill and
outpaint; `levels` defines what a level between 0 and 1 means.
"""
