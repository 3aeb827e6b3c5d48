"""Our DiT as a core MODEL, and what is hung into any MODEL: change levels, history, packed clips, longer time."""
