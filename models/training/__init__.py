"""Training the VAE and the DiT. One process per run; a run folder holds config, log, checkpoints and samples."""
