"""Train the embedded model within minutes on one GPU: clips rendered on the machine's cores while the card trains.

`python3 tools/pack.py tools.card.train --minutes 9 --work DIR --keep DIR` does all of it with nothing but torch, numpy,
pillow, safetensors and einops, and leaves files that are small enough to be carried away one by one; `join` puts them
together. A second call continues where the first one ended.
"""
