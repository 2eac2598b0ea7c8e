"""Predictors that do not look: what a report must beat before its numbers mean anything."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from depth_anything_3.bench.evaluate import Estimate, Floats, Predictor
from depth_anything_3.bench.scenes import EvalScene
from depth_anything_3.metrics.depth import resized_nearest
from depth_anything_3.metrics.predictors import (
    centred_intrinsics,
    constant_depth,
    depth_from_map,
    identity_poses,
    mean_focal,
    typical_depth_map,
)

_ROWS, _COLUMNS = 36, 48  # of the maps; a typical depth has no detail


@dataclass(frozen=True, kw_only=True, eq=False)
class Trivial:
    """One depth map, one focal length, cameras that never move. Given cameras are handed back.

    Attributes:
        typical: (rows, columns) depth map for every view, or None for a wall.
        focal: focal length as a part of the longer side.
    """

    typical: npt.NDArray[np.float64] | None
    focal: float

    def __call__(
        self, images: list[npt.NDArray[np.uint8]], *, extrinsics: Floats | None, intrinsics: Floats | None
    ) -> Estimate:
        """As :class:`~depth_anything_3.bench.evaluate.Predictor`."""
        n, (height, width, _) = len(images), images[0].shape
        depth = (
            constant_depth(n, height, width) if self.typical is None else depth_from_map(self.typical, n, height, width)
        )
        guessed = centred_intrinsics(self.focal, n, height, width)
        return Estimate(
            depth=depth,
            extrinsics=identity_poses(n) if extrinsics is None else extrinsics,
            intrinsics=guessed if intrinsics is None else intrinsics,
        )


def trivial_predictors(scenes: Iterable[EvalScene]) -> dict[str, Predictor]:
    """The mean log-depth map, the median map, and the wall, each with the mean focal length and no motion.

    Args:
        scenes: to learn the maps and the focal length from. With the scenes of the evaluation itself, the guesses are
            as good as guesses can be, which makes them hard to beat rather than easy.

    Raises:
        InputError: no scene has depth.
    """
    maps: list[npt.NDArray[np.float32]] = []
    focals: list[float] = []
    for scene in scenes:
        maps.append(resized_nearest(scene.depth, _ROWS, _COLUMNS))
        focals.append(mean_focal(scene.intrinsics, *scene.depth.shape[1:]))
    depth = np.concatenate([np.zeros((0, _ROWS, _COLUMNS), np.float32), *maps])
    focal = float(np.exp(np.mean(np.log(focals)))) if focals else 1.0
    return {
        "mean log-depth map": Trivial(typical=typical_depth_map(depth), focal=focal),
        "median depth map": Trivial(typical=typical_depth_map(depth, rule="median"), focal=focal),
        "constant depth": Trivial(typical=None, focal=focal),
    }
