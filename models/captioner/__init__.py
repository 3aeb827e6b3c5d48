"""The captioner: what a clip's latents show, as text (LLaVA's recipe on our parts, arXiv 2304.08485).

`network` the eye, the projector and a small language model · `vocabulary` words and ids · `writing` generation with
cached keys and values · `captioner` the whole: a checkpoint, and frames in, a description out.
"""
