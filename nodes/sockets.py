"""The pack's own socket types; everything else travels on core's sockets."""

from comfy_api.latest import io

Tokens = io.Custom("SPACETIME_TOKENS")  # models.patches.Tokens, with the state of a run once it has begun
Report = io.Custom("SPACETIME_REPORT")  # measurements with units
LanguageModel = io.Custom("SPACETIME_LANGUAGE_MODEL")  # turns text (and frames) into text
Clips = io.Custom("SPACETIME_CLIPS")  # a data set of captioned clips
Probe = io.Custom("SPACETIME_PROBE")  # metrics.probes.Case: a true clip whose world is known, and how much is given

LOOP = "spacetime_cyclic"  # entry of a LATENT whose time is a circle; VAE Decode Video honours it
TIME = "spacetime_frames_per_latent"  # entry of a LATENT: how many frames each of its latents stands for
FPS = "spacetime_fps"  # entry of a LATENT: frames per second of the video that it stands for
SOUND = "spacetime_sound"  # entry of a LATENT: the sound that its frames were heard with, for VAE Decode Video
ENTRIES = "spacetime_entries"  # entry of such a LATENT: (entries, has a mask) of each of its clips
GRIDS = "spacetime_grids"  # entry of a LATENT in which several clips are packed: their grids, in order
