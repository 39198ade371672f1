"""What is changed in pictures while an encoder learns: mirroring, and CutMix of two listings.

Yun et al. 2019, "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable
Features"; its probability and the mirroring as in the Shopee recipe.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Mixture:
    """Whose pictures lie in whose.

    Attributes:
        partner: int64 [b], the row of the batch that each picture got its box from.
        share: what is left of each picture's own area, in [0, 1].
    """

    partner: Tensor
    share: float


def mirrored(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror half of the pictures, drawn at random, left to right.

    Args:
        pixels: uint8 [b, height, width, 3].
        generator: on the CPU.

    Returns:
        uint8 [b, height, width, 3].
    """
    drawn = torch.rand(len(pixels), generator=generator) < 0.5
    return torch.where(drawn.to(pixels.device)[:, None, None, None], pixels.flip(2), pixels)


def cutmix(pixels: Tensor, generator: torch.Generator) -> tuple[Tensor, Mixture]:
    """Replace a box of each picture by the same box of another one of the batch.

    The box is the same in all pictures; its area is uniform in [0, 1] before the part that lies
    outside of the picture is cut off.

    Args:
        pixels: uint8 [b, height, width, 3].
        generator: on the CPU.

    Returns:
        The mixed pictures, and what they are made of.
    """
    height, width = pixels.shape[1:3]
    partner = torch.randperm(len(pixels), generator=generator)
    kept, across, down = torch.rand(3, generator=generator).tolist()
    half = (1.0 - kept) ** 0.5 / 2
    left, right = _sides(across, half, width)
    top, bottom = _sides(down, half, height)
    mixed = pixels.clone()
    mixed[:, top:bottom, left:right] = pixels[partner, top:bottom, left:right]
    share = 1.0 - (right - left) * (bottom - top) / (height * width)
    return mixed, Mixture(partner.to(pixels.device), share)


def _sides(centre: float, half: float, length: int) -> tuple[int, int]:
    """Begin and end, in pixels, of a side given by shares of the picture's length."""
    begin, end = round((centre - half) * length), round((centre + half) * length)
    return max(0, begin), min(length, end)
