"""Training a VAE: losses and the critic."""
