"""Training a DiT: settings, batches, losses, adapters, averages, workers."""
