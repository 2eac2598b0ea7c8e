"""What one step of training sees. Letters: B samples, N views, H W pixels."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """B scenes of N views of one size.

    Attributes:
        images: ImageNet-normalised RGB.
        depth: z-depth in the unit of the translations, 0 where unknown.
        sky: where sky is seen.
        sky_known: samples whose sky mask can be trusted.
        objects: samples of single objects, whose sky mask is everything around the object.
        intrinsics: in pixels.
        extrinsics: world-to-camera, OpenCV axes.
        metric: samples in metres.
        scenes: ids of the scenes.
    """

    images: Float[Tensor, "B N 3 H W"]
    depth: Float[Tensor, "B N H W"]
    sky: Bool[Tensor, "B N H W"]
    sky_known: Bool[Tensor, " B"]
    objects: Bool[Tensor, " B"]
    intrinsics: Float[Tensor, "B N 3 3"]
    extrinsics: Float[Tensor, "B N 3 4"]
    metric: Bool[Tensor, " B"]
    scenes: tuple[str, ...]

    @property
    def image_hw(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.images.shape[-2], self.images.shape[-1]

    @property
    def views(self) -> int:
        """Views of each scene."""
        return self.images.shape[1]

    def take(self, views: list[int]) -> Batch:
        """Some views of every scene, in this order."""
        parts = ("images", "depth", "sky", "intrinsics", "extrinsics")
        return replace(self, **{name: getattr(self, name)[:, views] for name in parts})

    def to(self, device: torch.device | str) -> Batch:
        """The same on another device."""
        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        moved = {k: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in moved.items()}
        return replace(self, **moved)
