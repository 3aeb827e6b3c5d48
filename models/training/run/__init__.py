"""A training run: its folder, log, chart, options, and how it is stopped."""
