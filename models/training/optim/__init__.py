"""The optimiser: how weights are updated, clipped, averaged and laid out for saving."""
