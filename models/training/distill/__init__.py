"""Distilling a DiT: a student that makes in a few steps without guidance what its teacher makes in many with it."""
