"""What the network returns for a batch of scenes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from depth_anything_3._attr_dict import AttrDict
from depth_anything_3.types.gaussians import Gaussians


@dataclass
class NetOutput:
    """Tensors for B scenes of N views; also readable as a mapping of the entries that are present.

    ``output.depth`` is None where a model has no such output; ``"depth" in output``, ``output["depth"]`` and
    ``output.keys()`` follow what is present.

    Attributes:
        depth: (B, N, H, W) z-depth.
        depth_conf: (B, N, H, W) confidence 1 + exp(x), or None.
        sky: (B, N, H, W) non-negative sky score (not a probability), or None. From the metric branch in nested models.
        extrinsics: (B, N, 3, 4) world-to-camera, OpenCV axes, or None.
        intrinsics: (B, N, 3, 3) in pixels of the network images, or None.
        pose_encoding: (B, N, 9) raw camera decoder output: camera centre (3), quaternion xyzw (4), fov_h, fov_w in
            radians; or None.
        ray: (B, N, 8H/14, 8W/14, 6) world directions (0-2, not normalised) and origins (3-5); on request.
        ray_conf: (B, N, 8H/14, 8W/14) confidence of the rays; on request.
        gaussians: 3D Gaussians; on request.
        aux: ``feat_layer_<i>`` (B, N, H/14, W/14, C), in input view order.
        is_metric: True if depth and translations of every scene are metres.
        memory_plan: how the network was run and what that was predicted to take, see
            :mod:`depth_anything_3.infer.plan`; None where nobody planned.
        scale_factor: (B,) the factor that nested alignment applied; NaN where it could not be found. None otherwise.
    """

    depth: Tensor
    depth_conf: Tensor | None = None
    sky: Tensor | None = None
    extrinsics: Tensor | None = None
    intrinsics: Tensor | None = None
    pose_encoding: Tensor | None = None
    ray: Tensor | None = None
    ray_conf: Tensor | None = None
    gaussians: Gaussians | None = None
    aux: AttrDict[Tensor] = field(default_factory=AttrDict)
    is_metric: bool = False
    scale_factor: Tensor | None = None
    memory_plan: str | None = None

    def scene(self, index: int) -> NetOutput:
        """The outputs for one of the B scenes, batch axis 1."""
        part = slice(index, index + 1)
        names = [f.name for f in dataclasses.fields(self) if isinstance(getattr(self, f.name), Tensor)]
        changes: dict[str, Any] = {name: getattr(self, name)[part] for name in names}
        changes["aux"] = AttrDict({name: feature[part] for name, feature in self.aux.items()})
        if self.gaussians is not None:
            fields = (field.name for field in dataclasses.fields(Gaussians))
            changes["gaussians"] = Gaussians(**{name: getattr(self.gaussians, name)[part] for name in fields})
        return dataclasses.replace(self, **changes)

    def keys(self) -> list[str]:
        """Names of the entries that are present."""
        return [f.name for f in dataclasses.fields(self) if getattr(self, f.name) is not None]

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __contains__(self, name: object) -> bool:
        return name in self.keys()

    def __getitem__(self, name: str) -> Any:
        if name not in self.keys():
            raise KeyError(f"no entry {name!r}; there are: {', '.join(self.keys())}")
        return getattr(self, name)

    def get(self, name: str, default: Any = None) -> Any:
        """The entry ``name``, or ``default`` where it is absent."""
        value = getattr(self, name, None)
        return default if value is None else value
