"""The protocol "held-out" on the frozen scenes of the procedural world, and models as predictors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from depth_anything_3.api import DepthAnything3
from depth_anything_3.bench.evaluate import Estimate, Floats
from depth_anything_3.bench.scenes import EvalScene, scene_from_rendering
from depth_anything_3.synth.held_out import held_out, render_held_out


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelPredictor:
    """A model as it is used by everyone.

    Attributes:
        model: any of ours; one without cameras scores only depth.
        process_res: longest side in pixels at which it runs.
        ray_pose: cameras from the rays instead of the decoder.
    """

    model: DepthAnything3
    process_res: int = 504
    ray_pose: bool = False

    def __call__(
        self, images: list[npt.NDArray[np.uint8]], *, extrinsics: Floats | None, intrinsics: Floats | None
    ) -> Estimate:
        """As :class:`~depth_anything_3.bench.evaluate.Predictor`; given cameras condition the model."""
        prediction = self.model.inference(
            images,
            extrinsics=extrinsics,
            intrinsics=intrinsics,
            process_res=self.process_res,
            use_ray_pose=self.ray_pose,
        )
        return Estimate(
            depth=prediction.depth,
            extrinsics=prediction.extrinsics,
            intrinsics=prediction.intrinsics,
            conf=prediction.conf,
        )


def held_out_scenes(count: int | None = None) -> Iterator[EvalScene]:
    """The frozen scenes, rendered one at a time.

    Args:
        count: only so many, evenly spaced over the set; None for all 200.
    """
    specs = held_out()
    if count is not None:
        specs = tuple(specs[i] for i in np.linspace(0, len(specs) - 1, count).round().astype(int))
    for spec in specs:
        sample = render_held_out(spec)
        yield scene_from_rendering(
            spec.name,
            spec.slices,
            rgb=sample.rgb,
            depth=sample.depth,
            intrinsics=sample.intrinsics,
            extrinsics=sample.extrinsics,
            sky=sample.sky,
        )
