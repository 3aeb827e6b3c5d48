"""Measurements: of one video against another, and of a video against what it should show."""
