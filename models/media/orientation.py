"""How a stored picture is turned or mirrored before it is shown, from a video's display matrix."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from av import VideoFrame


@dataclass(frozen=True)
class Orientation:
    """First the axes change places, then left and right, then top and bottom."""

    transposed: bool = False
    mirrored: bool = False
    upside_down: bool = False

    @classmethod
    def of(cls, frame: VideoFrame) -> Orientation:
        """From a frame's display matrix; turns between the quarters count as the nearest one.

        The matrix (a b u, c d v, x y w) takes (x, y) to (a x + c y, b x + d y): ISO/IEC 14496-12, 8.2.2.
        """
        attached: Any = frame.side_data
        matrix = next((bytes(one) for one in attached if one.type.name == "DISPLAYMATRIX"), None)
        if matrix is None or len(matrix) < 36:
            return cls()
        a, b, _, c, d = struct.unpack("=5i", matrix[:20])
        if abs(a) >= abs(b):
            return cls(mirrored=a < 0, upside_down=d < 0)
        return cls(transposed=True, mirrored=c < 0, upside_down=b < 0)

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height as shown of those stored; the same the other way round."""
        return (height, width) if self.transposed else (width, height)

    def __call__(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """A stored picture (H, W, 3) as it is shown."""
        if self.transposed:
            pixels = pixels.swapaxes(0, 1)
        if self.mirrored:
            pixels = pixels[:, ::-1]
        if self.upside_down:
            pixels = pixels[::-1]
        return np.ascontiguousarray(pixels)
