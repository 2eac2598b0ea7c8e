"""The plane sweep of :mod:`depth_anything_3.refine.plane_sweep` for processors, with OpenCV.

The same numbers in two thirds of torch's time on two cores: OpenCV sums over windows in one pass, and several views can
be swept in threads, each on a core of its own, where torch would share every small step out among all cores.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from depth_anything_3.refine.plane_sweep import NEAREST, along_rays, better_half

Array = npt.NDArray[np.float32]


def agreement_on_cpu(
    view: Float[Tensor, "H W"],
    surface: Float[Tensor, "H W"],
    factors: Float[Tensor, " D"],
    sources: Float[Tensor, "S H W"],
    projections: Float[Tensor, "S 3 4"],
    *,
    radius: int,
) -> Float[Tensor, "D H W"]:
    """:func:`~depth_anything_3.refine.plane_sweep.agreement` of tensors that lie in main memory."""
    own, nearness = view.numpy(), (1 / surface).numpy()
    warps = [_Warp(source, projection) for source, projection in zip(sources, projections, strict=True)]
    scores = np.empty((len(factors), *own.shape), np.float32)
    size = 2 * radius + 1
    for score, factor in zip(scores, factors.numpy(), strict=True):
        hypothesis: Array = nearness / factor
        products = [
            cv2.boxFilter(own * warp.seen(hypothesis), -1, (size, size), borderType=cv2.BORDER_REPLICATE)
            for warp in warps
        ]
        score[:] = better_half(products, np.maximum, np.minimum)
    return torch.from_numpy(scores)


class _Warp:
    """A source view, to be looked up where the hypotheses of another view lie in it."""

    def __init__(self, source: Float[Tensor, "H W"], projection: Float[Tensor, "3 4"]) -> None:
        self.source = source.numpy()
        # OpenCV counts from the centre of the first pixel.
        far, self.shift = along_rays(projection, source.shape, [[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1]])
        self.far = far.numpy()

    def seen(self, nearness: Array) -> Array:
        """The source where points of that nearness, one over the depth, lie in it; 0 outside."""
        x, y, z = (cv2.scaleAdd(nearness, shift, far) for far, shift in zip(self.far, self.shift, strict=True))
        np.maximum(z, NEAREST, out=z)
        np.divide(x, z, out=x)
        np.divide(y, z, out=y)
        return np.asarray(cv2.remap(self.source, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT), np.float32)
