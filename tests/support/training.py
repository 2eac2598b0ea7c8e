"""A little world and little networks for tests of training."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

import support.tiny  # noqa: F401 (its size of backbone)
from depth_anything_3.train.augment import Pictures
from depth_anything_3.train.config import OptimiserOptions, Phase, TrainConfig
from depth_anything_3.train.data import ViewOptions
from depth_anything_3.train.objectives import ObjectiveOptions

SIZE = (42, 56)
"""Rows and columns of the pictures."""

ANY_VIEW = (
    "net.name=tiny-for-tests",
    "net.out_layers=[0, 1, 2, 3]",
    "net.alt_start=1",
    "net.qknorm_start=1",
    "net.rope_start=1",
    "head.dim_in=64",
    "head.features=16",
    "head.out_channels=[8, 8, 8, 8]",
    "cam_enc.dim_out=32",
    "cam_enc.trunk_depth=1",
    "cam_enc.num_heads=2",
    "cam_dec.dim_in=64",
)
"""Makes a network of forty thousand weights of any any-view preset."""

SINGLE_VIEW = (
    "net.name=tiny-for-tests",
    "net.out_layers=[0, 1, 2, 3]",
    "head.dim_in=32",
    "head.features=16",
    "head.out_channels=[8, 8, 8, 8]",
)
"""The same for presets of single views."""


@dataclass(frozen=True, kw_only=True)
class RoomSource:
    """Rooms without a ceiling, seen from inside: exact depth, sky, and texture that is fixed to the walls.

    Attributes:
        count: of rooms.
        size: rows and columns of the pictures.
    """

    count: int = 3
    size: tuple[int, int] = SIZE
    metric: bool = field(default=True, init=False)

    def check(self) -> None:
        """Nothing can be wrong."""

    def sample(
        self, rng: np.random.Generator, views: int, overlap: tuple[float, float], step: int
    ) -> tuple[str, Pictures]:
        """Views from about the same place in a random room."""
        number = int(rng.integers(self.count))
        shape = np.random.default_rng([number, 99])
        room = Room(shape.uniform([2, 1, 3], [4, 2, 6]), shape.uniform(1, 4, (3, 3)), shape.uniform(0.3, 1, 3))
        focal = shape.uniform(0.8, 1.2) * self.size[1]
        intrinsics = np.array([[focal, 0, self.size[1] / 2], [0, focal, self.size[0] / 2], [0, 0, 1]], dtype=np.float32)
        poses = [_pose(rng) for _ in range(views)]
        shown = [room.picture(intrinsics, pose, self.size) for pose in poses]
        return f"rooms/{number}", Pictures(
            images=np.stack([image for image, _ in shown]),
            depth=np.stack([depth for _, depth in shown]),
            sky=np.stack([depth == 0 for _, depth in shown]),
            intrinsics=np.stack([intrinsics] * views),
            extrinsics=np.stack(poses),
        )


@dataclass(frozen=True)
class Room:
    """A box around the origin, y down, open above.

    Attributes:
        half: its size along x, y and z, halved.
        waves: of the texture, one row per colour.
        colour: of the whole.
    """

    half: np.ndarray
    waves: np.ndarray
    colour: np.ndarray

    def picture(
        self, intrinsics: np.ndarray, extrinsics: np.ndarray, size: tuple[int, int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """What a camera sees, and z-depth, 0 in the sky."""
        y, x = np.mgrid[: size[0], : size[1]] + 0.5
        local = np.stack([x, y, np.ones_like(x)], -1) @ np.linalg.inv(intrinsics).T
        rotation, translation = extrinsics[:, :3], extrinsics[:, 3]
        ray, centre = local @ rotation, -rotation.T @ translation
        with np.errstate(divide="ignore"):
            reach = np.where(ray > 0, self.half - centre, -self.half - centre) / ray
        axis, depth = reach.argmin(-1), reach.min(-1)
        sky = (axis == 1) & (ray[..., 1] < 0)
        points = centre + ray * depth[..., None]
        light = 0.5 + 0.5 * np.sin(points @ self.waves.T + axis[..., None]) * self.colour
        image = np.where(sky[..., None], [0.6, 0.8, 1.0], light * (0.5 + 0.15 * axis[..., None]))
        return (image.clip(0, 1) * 255).astype(np.uint8), np.where(sky, 0, depth).astype(np.float32)


def _pose(rng: np.random.Generator) -> np.ndarray:
    yaw, pitch = rng.uniform(-0.4, 0.4), rng.uniform(-0.2, 0.2)
    turn = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    tilt = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    rotation = tilt @ turn
    centre = rng.uniform([-1, -0.5, -1], [1, 0.5, 1])
    return np.column_stack([rotation, -rotation @ centre]).astype(np.float32)


def any_view(steps: int = 6, **changes: Any) -> TrainConfig:
    """A run of the little any-view network with everything switched on that a recipe may switch on."""
    everything = ObjectiveOptions(
        depth_space="log",
        gradient_scales=2,
        relative_points=True,
        pose_conditioning=0.5,
        correspondence=0.3,
        correspondence_blocks=(1, 3),
        correspondence_heads=1,
        camera_norm=True,
    )
    config = TrainConfig(
        name="test",
        preset="da3-tiny",
        model=ANY_VIEW,
        objective=everything,
        phases=(Phase(steps=steps, learning_rate=1e-3, warmup=2, data=views((2, 3))),),
        sources=((RoomSource(), 1.0),),
        optimiser=OptimiserOptions(camera_decoder_rate=0.4, ema=0.9),
        precision="float32",
        log_every=1,
        save_every=2,
    )
    return replace(config, **changes)


def single_view(steps: int = 6, *, kind: str = "teacher", **changes: Any) -> TrainConfig:
    """A run of the little single-view network."""
    losses = ObjectiveOptions(
        kind=kind, depth_space="log", normal=0.1, levels=(4,), anchors=(8,), fit_samples=200, anchor=0.01
    )  # fmt: skip
    config = any_view(steps, preset="da3metric-tiny", model=SINGLE_VIEW, objective=losses)
    phase = replace(config.phases[0], data=views((1, 1)))
    return replace(config, phases=(phase,), **changes)


def views(number: tuple[int, int], samples: int = 2) -> ViewOptions:
    """So many views of a few samples."""
    return ViewOptions(sizes=(SIZE,), views=number, tokens=samples * number[1] * 12)


def log_of(folder: Path) -> list[dict[str, float]]:
    """Lines of a run's log."""
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
