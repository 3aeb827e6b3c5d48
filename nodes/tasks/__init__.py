"""Nodes that say which patches of a video are known: along time, in space, loops, long videos."""
