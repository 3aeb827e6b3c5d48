"""The published families by name: importable without PyTorch, for a node's list of choices."""

FAMILIES = ("DiT", "SiT", "Latte", "Latte-1", "Open-Sora")
