"""The causal video VAE: 4 frames x 8 x 8 pixels become one latent; the first frame has a latent of its own."""
