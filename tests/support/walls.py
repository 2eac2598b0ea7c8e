"""A data set of walls with exact truth, and a predictor that knows it; other processes can open both again."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np

from depth_anything_3.bench.evaluate import Estimate
from depth_anything_3.bench.task import Contender, Request
from depth_anything_3.datasets.base import CorruptSample, SceneCameras, View
from depth_anything_3.datasets.benchmark.base import BenchDataset, Fusion
from support.poses import in_another_world
from support.scenes import wall


class Walls(BenchDataset):
    """Walls at different distances, made when asked for."""

    name = "walls"
    title = "walls"
    modes = ("pose", "recon_unposed", "recon_posed", "mono", "metric", "odometry", "robustness", "speed")
    metric = True
    real = False
    fusion = Fusion(voxel=0.01, truncation=0.04, max_depth=10.0, threshold=0.02)
    fusion_unit = "median depth"

    def __init__(self, count: int = 2, broken: str = "") -> None:
        self.walls = {f"walls/{i}": wall(str(i), views=4, distance=2.0 + i) for i in range(count)}
        self.broken = broken

    def scenes(self) -> tuple[str, ...]:
        return tuple(self.walls)

    def frames(self, scene: str) -> tuple[str, ...]:
        return tuple(map(str, range(len(self.walls[scene].images))))

    def cameras(self, scene: str) -> SceneCameras:
        truth = self.walls[scene]
        return SceneCameras(
            intrinsics=truth.intrinsics.astype(np.float32), extrinsics=truth.extrinsics.astype(np.float32)
        )

    def load(self, scene: str, frame: str) -> View:
        if scene == self.broken:
            raise CorruptSample("picture.png", "torn")
        truth, i = self.walls[scene], int(frame)
        return View(
            image=truth.images[i],
            depth=truth.depth[i],
            intrinsics=truth.intrinsics[i].astype(np.float32),
            extrinsics=truth.extrinsics[i].astype(np.float32),
        )


def oracle(data: Walls, *, scale: float = 3.0) -> Contender:
    """Knows everything, in a world and unit of its own; without pictures it says nothing."""
    asked: list[Request] = []

    def answer(request: Request) -> Estimate:
        asked.append(request)
        request.images()
        rows = [int(frame) for frame in request.frames]
        truth = data.walls[request.scene]
        given = request.extrinsics is not None
        unit = 1.0 if given or request.intrinsics is not None else scale
        poses = truth.extrinsics if given else in_another_world(truth.extrinsics, 3, unit)
        return Estimate(depth=truth.depth[rows] * unit, extrinsics=poses[rows], intrinsics=truth.intrinsics[rows])

    contender = Contender(name="oracle", identity=f"oracle {scale}", answer=answer)
    object.__setattr__(contender, "asked", asked)
    return contender


def reopened(count: int, broken: str, deadly: Path | None) -> tuple[list[BenchDataset], list[Contender]]:
    """Walls and an oracle; the process that first asks it about wall 1 dies, where there is a file to remember it."""
    data = Walls(count, broken)
    known = oracle(data)

    def answer(request: Request) -> Estimate:
        if deadly is not None and request.scene == "walls/1" and not deadly.exists():
            deadly.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return known.answer(request)

    return [data], [Contender(name="oracle", identity="oracle", answer=answer)]
