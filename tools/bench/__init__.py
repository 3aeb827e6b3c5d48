"""Benchmarks. Each module here with a function `rows() -> Iterable[dict]` is one; `run.py bench NAME` runs it.

A row is a flat dictionary of column -> value with the same columns throughout. A benchmark may yield its rows one by
one, so that the table grows while it runs. One with options of its own has `add_options(parser)` and gets the parsed
options: `rows(options)`. The first line of its docstring is the table's title.
"""
