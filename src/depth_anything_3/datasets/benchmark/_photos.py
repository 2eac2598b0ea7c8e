"""Sets of photographs that novel views are scored on."""

from __future__ import annotations

import numpy as np

from depth_anything_3.datasets.base import CorruptSample
from depth_anything_3.datasets.benchmark.base import PUBLISHED_NOVEL_VIEWS, BenchDataset, FrameRule


class Photographs(BenchDataset):
    """Pictures with cameras from structure from motion: all that have one are used."""

    modes = ("nvs",)
    novel_views = PUBLISHED_NOVEL_VIEWS
    max_frames = None

    def select(self, scene: str, rule: FrameRule = "released", max_frames: int | None = None) -> tuple[str, ...]:
        """As in :class:`~depth_anything_3.datasets.benchmark.base.BenchDataset`, without frames that have no pose.

        Raises:
            CorruptSample: no frame has one.
        """
        poses = self.cameras(scene).extrinsics
        good = set() if poses is None else {i for i, pose in enumerate(poses) if np.isfinite(pose).all()}
        if not good:
            raise CorruptSample(scene, "no cameras")
        with_pose = {frame for i, frame in enumerate(self.frames(scene)) if i in good}
        return tuple(frame for frame in super().select(scene, rule, max_frames) if frame in with_pose)
