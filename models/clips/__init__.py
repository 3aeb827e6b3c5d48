"""Captioned clips: the toy world's or those of a folder of files, and their cached latents."""
