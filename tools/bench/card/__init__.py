"""The parts of the benchmark of a GPU: each module has `cases(card)`, in the order of their worth."""
