"""What all task nodes are made of: after a run each shows which patches are known, and how much."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from comfy_api.latest import io

from ..host.latent import mask_of, samples_of
from ..looking import levels_shown
from ..schema import Node


class Task(Node):
    """A node that says what is still to be generated of a clip; one that samples by itself leaves nothing to show."""

    @classmethod
    def completed(cls, output: io.NodeOutput, given: Mapping[str, Any]) -> io.NodeOutput:
        """The same output, and for the editor the levels of the mask in it, patch by patch as the model cuts them."""
        from ..host.model.recommended import patch_of
        from ..sampling import usual_patch

        sockets = cls.define_schema().outputs
        latent = next(value for one, value in zip(sockets, output.args, strict=True) if one.get_io_type() == "LATENT")
        mask = mask_of(latent)
        if mask is not None:
            patch = patch_of(given.get("model")) or usual_patch(samples_of(latent).shape[1])
            output.ui = {**(output.ui or {}), **levels_shown(mask, patch)} or None
        return output
