"""The one place that talks to ComfyUI's insides: `comfy.*`, `folder_paths`, `server`.

`messages` shows progress and text, `folders` knows where files lie, `checkpoint` makes core objects of a file,
`sampling` holds our solvers and guidance, `far` samples window by window. Rooms: `model` (our DiT as a core MODEL, and
what is hung into models), `vae` (ours as a core VAE, streaming, other models' VAEs, frames and video files), `words`
(text encoders, language models, captioners), `stepping` (exact single steps), `processes` (training runs, Ray workers).
"""
