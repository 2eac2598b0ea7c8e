"""The held-out set: 200 scenes of eight views that no training run may see, the same for ever.

What is rendered is written down in ``held_out.json``: seeds, sizes, the cameras themselves, a hash of the pictures, and
their colours on a coarse grid for machines whose floating point differs in the last bit. A change of the generator that
changes a scene shows as a failed :func:`verify`.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8

from depth_anything_3.errors import DA3Error, InputError
from depth_anything_3.synth import difficulty, photo
from depth_anything_3.synth.cameras import Cameras
from depth_anything_3.synth.motion import Motion
from depth_anything_3.synth.render import to_bytes
from depth_anything_3.synth.sample import Sample, build, film
from depth_anything_3.synth.scenes import Scene

HELD_OUT_SEEDS = range(1_000_000_000, 1_100_000_000)
"""Seeds of scenes that training must not use; its own seeds lie below."""

VIEWS = 8
"""Views of each scene."""

SLICES = ("textured", "textureless", "specular", "thin", "low_overlap", "moving", "rig")
"""Labels of scenes. A scene may have several."""

SECONDS_PER_VIEW = 0.4
"""Time from one view to the next where things move."""

_CELLS = 4
_SAMPLES = 2
_POSE, _LENS = 12, 3  # stored per view: pose; focal length and principal point


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOutScene:
    """One scene of the set, as it is written down.

    Attributes:
        name: ``held_out_000`` and so on.
        seed: of the scene, in :data:`HELD_OUT_SEEDS`.
        kind: of scene.
        trajectory: kind of trajectory that the cameras were taken from.
        camera_seed: seed of the trajectory.
        height: rows of the pictures.
        width: columns; the longer side is 224.
        fov_deg: angle of the longer side in degrees, before the zoom.
        off_centre: whether the principal point is shifted.
        slices: its labels, of :data:`SLICES`.
        style: ``"textured"``, ``"textureless"`` or ``"specular"``.
        thin: groups of thin things that were added.
        moving: bodies that move.
        cameras: of the eight views.
        sha256: of the bytes of all pictures.
        thumbnails: mean colours of 4 x 4 cells of each picture, rounded.
        stats: what it measured when it was frozen.
    """

    name: str
    seed: int
    kind: str
    trajectory: str
    camera_seed: int
    height: int
    width: int
    fov_deg: float
    off_centre: bool
    slices: tuple[str, ...]
    style: str
    thin: int
    moving: int
    cameras: Cameras
    sha256: str
    thumbnails: UInt8[np.ndarray, "n 4 4 3"]
    stats: SceneStats


@dataclass(frozen=True, kw_only=True, eq=False)
class SceneStats:
    """Measurements of one scene; see :mod:`depth_anything_3.synth.difficulty`.

    Attributes:
        overlap: of each pair of views, rounded to 0.01.
        median_depth: metres, of all views.
        depth_spread: 95th over 5th percentile of the depth of all views.
        sky: share of pixels without a surface.
        thin: share of pixels on thin things.
        moving: share of pixels on things that move.
        constant_map_delta: what the mean depth map of the set reaches here.
    """

    overlap: Float[np.ndarray, " p"]
    median_depth: float
    depth_spread: float
    sky: float
    thin: float
    moving: float
    constant_map_delta: float


@dataclass(frozen=True, kw_only=True)
class Verification:
    """How a rendering compares with what was frozen.

    Attributes:
        exact: the bytes of the pictures are the same.
        difference: largest difference of a colour on the coarse grid, in grey levels.
    """

    exact: bool
    difference: int

    @property
    def same(self) -> bool:
        """Whether it is the frozen scene, on this machine's arithmetic."""
        return self.exact or self.difference <= 1


@functools.cache
def held_out() -> tuple[HeldOutScene, ...]:
    """All scenes of the set, in their order.

    Raises:
        DA3Error: the data file is not that of this version.
    """
    text = resources.files("depth_anything_3.synth").joinpath("held_out.json").read_text(encoding="utf-8")
    content = json.loads(text)
    if content.get("columns") != list(COLUMNS):
        raise DA3Error("held_out.json has other columns than this version of the package reads")
    return tuple(from_record(record) for record in content["scenes"])


def render_held_out(spec: HeldOutScene) -> Sample:
    """Render a scene of the set on the CPU: pictures through a mild camera, and the exact truth."""
    duration = VIEWS * SECONDS_PER_VIEW
    scene, motions = build(
        spec.seed, spec.kind, style=spec.style, thin=spec.thin, moving=spec.moving, duration=duration
    )
    return take(scene, motions, spec.cameras, spec.height, spec.width, seed=spec.seed)


def verify(spec: HeldOutScene, sample: Sample) -> Verification:
    """Compare a rendering with what was frozen.

    Raises:
        InputError: the pictures have another size.
    """
    wanted = (VIEWS, spec.height, spec.width, 3)
    if sample.rgb.shape != wanted:
        raise InputError("sample", f"pictures of shape {sample.rgb.shape}", f"shape {wanted}")
    difference = np.abs(thumbnails(sample.rgb).astype(int) - spec.thumbnails)
    return Verification(exact=digest(sample.rgb) == spec.sha256, difference=int(difference.max()))


def take(scene: Scene, motions: Sequence[Motion], cameras: Cameras, height: int, width: int, *, seed: int) -> Sample:
    """Views of a scene, each at its own time, through a mild camera whose settings follow from the seed."""
    times = np.arange(len(cameras.extrinsics)) * SECONDS_PER_VIEW
    clean = film(scene, motions, cameras, height, width, times=times.tolist(), samples=_SAMPLES)
    return replace(clean, rgb=_photographed(torch.from_numpy(clean.rgb), seed))


def _photographed(rgb: torch.Tensor, seed: int) -> np.ndarray:
    """Exposure, blur, noise and JPEG; the exposure differs a little from view to view."""
    rng = np.random.default_rng([seed, 301])
    stops = rng.uniform(-0.5, 0.5) + rng.uniform(-0.15, 0.15, len(rgb))
    sigma, shot, read = rng.uniform(0, 0.6), rng.uniform(0, 0.02), rng.uniform(0, 0.01)
    quality = int(rng.integers(60, 98))
    generator = torch.Generator().manual_seed(seed)
    views = torch.stack([photo.expose(view, float(s)) for view, s in zip(rgb, stops, strict=True)])
    views = photo.blur(views, float(sigma))
    views = photo.add_noise(views, shot=float(shot), read=float(read), generator=generator)
    return to_bytes(photo.jpeg(views, quality)).numpy()


def digest(rgb: UInt8[np.ndarray, "n h w 3"]) -> str:
    """SHA-256 of the bytes of pictures, in hexadecimal digits."""
    return hashlib.sha256(np.ascontiguousarray(rgb).tobytes()).hexdigest()


def thumbnails(rgb: UInt8[np.ndarray, "n h w 3"]) -> UInt8[np.ndarray, "n 4 4 3"]:
    """Mean colours of 4 x 4 cells of each picture, rounded."""
    rows, columns = (np.linspace(0, size, _CELLS + 1).astype(int) for size in rgb.shape[1:3])
    sums = np.add.reduceat(np.add.reduceat(rgb.astype(np.int64), rows[:-1], 1), columns[:-1], 2)
    areas = np.diff(rows)[:, None, None] * np.diff(columns)[None, :, None]
    return ((2 * sums + areas) // (2 * areas)).astype(np.uint8)


def measure(sample: Sample, log_map: np.ndarray | None = None) -> SceneStats:
    """Statistics of a rendered scene; without the mean map of the set ``constant_map_delta`` is NaN."""
    delta = float("nan")
    if log_map is not None:
        delta = difficulty.constant_map_delta(difficulty.normalised_log_depth(sample.depth), log_map)
    return SceneStats(
        overlap=np.round(difficulty.pair_overlaps(sample.depth, sample.intrinsics, sample.extrinsics), 2),
        median_depth=difficulty.median_depth(sample.depth),
        depth_spread=difficulty.depth_spread(sample.depth),
        sky=float(sample.sky.mean()),
        thin=float(sample.thin.mean()),
        moving=float(sample.moving.mean()),
        constant_map_delta=delta,
    )


@dataclass(frozen=True, kw_only=True)
class Difficulty:
    """How hard the set is; medians over all pairs of views within scenes, or over scenes.

    Attributes:
        rotation_deg: median angle between the views of a pair.
        baseline: median distance of a pair's cameras over the median depth of their scene.
        overlap: median of :func:`~depth_anything_3.synth.difficulty.pair_overlaps`.
        depth_spread: median over scenes of the 95th over the 5th percentile of depth.
        focal_spread: largest over smallest focal length of a scene (mean over its views), in longer sides.
        off_centre: share of scenes whose principal point is shifted.
        constant_map_delta: mean share of pixels within 1.25 for the mean depth map of the set.
        identity_auc30: area under the curve up to 30 degrees for cameras that do not turn and move straight ahead.
        mean_focal_error: mean relative error of one focal length for all, the mean.
    """

    rotation_deg: float
    baseline: float
    overlap: float
    depth_spread: float
    focal_spread: float
    off_centre: float
    constant_map_delta: float
    identity_auc30: float
    mean_focal_error: float


def set_difficulty(scenes: Sequence[HeldOutScene]) -> Difficulty:
    """Difficulty of scenes, from their cameras and their stored statistics."""
    poses = [scene.cameras.extrinsics for scene in scenes]
    stats = [scene.stats for scene in scenes]
    focal = np.array([s.cameras.intrinsics[:, 0, 0].astype(float).mean() / max(s.height, s.width) for s in scenes])
    relative = [difficulty.baselines(p) / s.median_depth for p, s in zip(poses, stats, strict=True)]
    return Difficulty(
        rotation_deg=float(np.median(np.concatenate([difficulty.rotations_deg(p) for p in poses]))),
        baseline=float(np.median(np.concatenate(relative))),
        overlap=float(np.median(np.concatenate([s.overlap for s in stats]))),
        depth_spread=float(np.median([s.depth_spread for s in stats])),
        focal_spread=float(focal.max() / focal.min()),
        off_centre=float(np.mean([scene.off_centre for scene in scenes])),
        constant_map_delta=float(np.mean([s.constant_map_delta for s in stats])),
        identity_auc30=difficulty.auc(np.concatenate([difficulty.identity_pose_errors_deg(p) for p in poses])),
        mean_focal_error=float((np.abs(focal.mean() - focal) / focal).mean()),
    )


# --- the data file -----------------------------------------------------------------------------------------------

_PLAIN = ("name", "seed", "kind", "trajectory", "camera_seed", "height", "width", "fov_deg", "off_centre", "style",
          "thin", "moving", "sha256")  # fmt: skip
_NUMBERS = ("median_depth", "depth_spread", "sky", "thin", "moving", "constant_map_delta")
COLUMNS = (*_PLAIN, "slices", "cameras", "thumbnails", "overlap", *(f"stats.{name}" for name in _NUMBERS))
"""Columns of the data file, one row per scene."""


def _packed(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content, 9)).decode()


def _unpacked(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text))


def pack_cameras(cameras: Cameras) -> str:
    """Cameras with square pixels as text, to the last bit."""
    k, pose = cameras.intrinsics, cameras.extrinsics
    columns = (pose.reshape(-1, _POSE), k[:, 0, :1], k[:, :2, 2])
    # Column by column, so that what is the same in all views packs well.
    return _packed(np.concatenate(columns, 1).astype("<f4").T.tobytes())


def unpack_cameras(text: str) -> Cameras:
    """What :func:`pack_cameras` wrote."""
    table = np.frombuffer(_unpacked(text), "<f4").reshape(_POSE + _LENS, -1).T.astype(np.float32)
    intrinsics = np.zeros((len(table), 3, 3), np.float32)
    intrinsics[:, 0, 0] = intrinsics[:, 1, 1] = table[:, _POSE]
    intrinsics[:, :2, 2], intrinsics[:, 2, 2] = table[:, _POSE + 1 :], 1
    return Cameras(intrinsics=intrinsics, extrinsics=table[:, :_POSE].reshape(-1, 3, 4))


def to_record(spec: HeldOutScene) -> list[object]:
    """A scene as one row of the data file; the columns are :data:`COLUMNS`."""
    percent = np.round(spec.stats.overlap * 100).astype(np.uint8)
    return [
        *(getattr(spec, name) for name in _PLAIN),
        "|".join(spec.slices),
        pack_cameras(spec.cameras),
        _packed(spec.thumbnails.tobytes()),
        _packed(percent.tobytes()),
        *(float(f"{getattr(spec.stats, name):.4g}") for name in _NUMBERS),
    ]


def from_record(row: Sequence[Any]) -> HeldOutScene:
    """What :func:`to_record` wrote."""
    record = dict(zip(COLUMNS, row, strict=True))
    thumbs = np.frombuffer(_unpacked(record["thumbnails"]), np.uint8).reshape(-1, _CELLS, _CELLS, 3)
    overlap = np.frombuffer(_unpacked(record["overlap"]), np.uint8) / 100
    return HeldOutScene(
        **{name: record[name] for name in _PLAIN},
        slices=tuple(record["slices"].split("|")),
        cameras=unpack_cameras(record["cameras"]),
        thumbnails=thumbs,
        stats=SceneStats(overlap=overlap, **{name: record[f"stats.{name}"] for name in _NUMBERS}),
    )
