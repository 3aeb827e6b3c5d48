"""Videos through VAEs: ours as a core VAE, those of others, and their frames."""
