"""Where in a picture which colour lies: the picture of 8 by 8 pixels, as numbers.

An encoder that learns from product matching looks past what sellers draw over a product (a badge,
a ribbon, a price tag), for the same product comes with and without. Here it is still to be seen.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from purchase_predictor.encoders.store import digest

SIDE = 8


@dataclass(frozen=True)
class LayoutSpec:
    """How pictures are read; the fields that readers ask of an `ImageSpec`.

    Attributes:
        size: side of the pictures, in pixels.
        resampling: how pictures are resized.
    """

    size: int = SIDE
    resampling: str = "bilinear"


class LayoutEncoder:
    """Takes the pixels as they are.

    Attributes:
        spec: how pictures are read.
        d: numbers of a picture.
    """

    spec = LayoutSpec()
    d = SIDE * SIDE * 3

    @property
    def fingerprint(self) -> str:
        """Of all that decides on the numbers."""
        return digest(["layout", self.spec.size, self.spec.resampling])

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Flatten pictures.

        Args:
            pixels: uint8 [n, SIDE, SIDE, 3].

        Returns:
            float32 [n, d], in [0, 1].
        """
        return pixels.reshape(len(pixels), -1).astype(np.float32) / np.float32(255)
