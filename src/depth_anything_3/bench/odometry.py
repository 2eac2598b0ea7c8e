"""Camera paths of KITTI odometry and TUM RGB-D: errors of a reconstruction, beside published numbers.

Sequences are read where their download puts them: KITTI as ``sequences/00/image_2/000000.png``, ``calib.txt`` and
``times.txt`` with ``poses/00.txt`` beside ``sequences``; TUM as a folder with ``rgb.txt`` and ``groundtruth.txt``. The
error is the root mean square of the distances between camera centres after a similarity (ATE, metres).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from depth_anything_3.errors import InputError
from depth_anything_3.io.cameras.base import read_cameras
from depth_anything_3.metrics.trajectory import step_errors, trajectory_errors
from depth_anything_3.stream.feed import feed
from depth_anything_3.stream.frames import StreamFrame
from depth_anything_3.stream.mapper import MapperOptions
from depth_anything_3.stream.reconstructor import StreamingReconstructor, WindowModel
from depth_anything_3.types.options import PreprocessOptions, StreamOptions

_KITTI = tuple(f"{i:02d}" for i in range(11))
_TUM = ("360", "desk", "desk2", "floor", "plant", "room", "rpy", "teddy", "xyz")


def _row(kitti: Sequence[float], tum: Sequence[float]) -> dict[str, float]:
    return dict(zip((*_KITTI, *_TUM), (*kitti, *tum), strict=True))


# From the README of the published tool for long videos; windows of 120 frames, and the nested giant model for its own.
PUBLISHED: dict[str, dict[str, float]] = {
    "DA3-Streaming": _row(
        (4.48, 100.77, 33.41, 3.58, 2.39, 3.95, 7.59, 2.09, 31.20, 8.06, 7.44),
        (0.059, 0.034, 0.042, 0.107, 0.060, 0.105, 0.206, 0.126, 0.044),
    ),
    "VGGT-Long": _row(
        (16.13, 53.43, 51.98, 4.37, 2.15, 12.69, 11.33, 3.60, 70.29, 34.55, 21.05),
        (0.118, 0.058, 0.111, 0.118, 0.071, 0.155, 0.140, 0.120, 0.099),
    ),
}
"""ATE in metres by sequence, as published."""

_NEAR_IN_TIME = 0.02  # seconds between a picture and its pose


@dataclass(frozen=True, kw_only=True, eq=False)
class PosedSequence:
    """A recording with its true path.

    Attributes:
        name: as in :data:`PUBLISHED`.
        files: pictures in their order.
        times: seconds.
        extrinsics: world-to-camera, metres.
    """

    name: str
    files: tuple[Path, ...]
    times: Float[np.ndarray, " n"]
    extrinsics: Float[np.ndarray, "n 3 4"]


@dataclass(frozen=True, kw_only=True)
class PathScore:
    """Errors of a path after a similarity.

    Attributes:
        name: of the sequence.
        ate: metres.
        step: root mean square of the error of the motion from one frame to the next, metres.
        step_deg: of its rotation, degrees.
        scale: what the lengths were multiplied by.
    """

    name: str
    ate: float
    step: float
    step_deg: float
    scale: float


def read_kitti_sequence(root: str | os.PathLike[str], name: str) -> PosedSequence:
    """A sequence of KITTI odometry, left colour camera.

    Args:
        root: the folder that holds ``sequences`` and ``poses``.
        name: ``00`` to ``10``.

    Raises:
        InputError: a file is missing or does not fit the others.
    """
    folder, poses = Path(root) / "sequences" / name, Path(root) / "poses" / f"{name}.txt"
    files = tuple(sorted((folder / "image_2").glob("*.png")))
    if not files or not poses.is_file():
        raise InputError("root", f"{folder} and {poses}", "pictures in image_2 and a file of poses")
    grey = read_cameras(poses).extrinsics
    assert grey is not None
    if len(grey) != len(files):
        raise InputError("root", f"{len(files)} pictures and {len(grey)} poses of {name}", "as many of each")
    moved = grey.copy()
    moved[:, :, 3] += _colour_shift(folder / "calib.txt")
    times = folder / "times.txt"
    stamps = np.loadtxt(times, ndmin=1) if times.is_file() else 0.1 * np.arange(len(files))
    return PosedSequence(name=name, files=files, times=np.asarray(stamps, np.float64), extrinsics=moved)


def read_tum_sequence(folder: str | os.PathLike[str]) -> PosedSequence:
    """A sequence of TUM RGB-D: the pictures that have a pose within 20 milliseconds.

    Raises:
        InputError: ``rgb.txt`` or ``groundtruth.txt`` is missing, or no picture has a pose.
    """
    root = Path(folder)
    lists = root / "rgb.txt", root / "groundtruth.txt"
    if not all(path.is_file() for path in lists):
        raise InputError("folder", f"{root}", "a folder with rgb.txt and groundtruth.txt")
    rows = [line.split() for line in lists[0].read_text().splitlines() if line.strip() and not line.startswith("#")]
    times = np.array([float(row[0]) for row in rows])
    truth = read_cameras(lists[1])
    assert truth.times is not None and truth.extrinsics is not None
    nearest = np.abs(times[:, None] - truth.times).argmin(1)
    near = np.flatnonzero(np.abs(truth.times[nearest] - times) <= _NEAR_IN_TIME)
    if not len(near):
        raise InputError("folder", f"{root}, where no picture has a pose", "times that belong together")
    return PosedSequence(
        name=root.name.removeprefix("rgbd_dataset_").partition("_")[2] or root.name,
        files=tuple(root / rows[i][1] for i in near),
        times=times[near],
        extrinsics=truth.extrinsics[nearest[near]],
    )


def run_sequence(
    model: WindowModel,
    sequence: PosedSequence,
    options: StreamOptions | None = None,
    *,
    preprocessing: PreprocessOptions | None = None,
    mapper: MapperOptions | None = None,
) -> PathScore:
    """Reconstruct a sequence and score its path."""
    frames = [
        StreamFrame(image=file, timestamp=float(time), name=file.name)
        for file, time in zip(sequence.files, sequence.times, strict=True)
    ]
    with StreamingReconstructor(
        model, options, preprocessing=preprocessing, mapper=mapper, total=len(frames)
    ) as stream:
        for _ in feed(stream, frames):
            pass
        stream.finalize()
        return score_path(sequence.name, stream.trajectory(), sequence.extrinsics)


def score_path(name: str, found: npt.NDArray[np.float64], truth: npt.NDArray[np.float64]) -> PathScore:
    """Errors of world-to-camera poses (N, 3, 4), N at least 2."""
    whole = trajectory_errors(found, truth)
    assert whole.similarity is not None
    scale = whole.similarity.scale
    step = step_errors(found, truth, scale=scale)
    return PathScore(
        name=name, ate=whole.rmse, step=step.translation_rmse, step_deg=step.rotation_rmse_deg, scale=scale
    )


def odometry_table(scores: Sequence[PathScore], *, ours: str = "this run") -> str:
    """Markdown: ATE by sequence in metres, with published rows where they have the sequence; no mean of some."""
    names = [score.name for score in scores]
    rows = {ours: {score.name: score.ate for score in scores}, **PUBLISHED}
    lines = [f"| ATE, m | {' | '.join(names)} | mean |", "|---" * (len(names) + 2) + "|"]
    for method, values in rows.items():
        known = [values[name] for name in names if name in values]
        if known:
            cells = [f"{values[name]:.3f}" if name in values else "" for name in names]
            mean = f"{np.mean(known):.3f}" if len(known) == len(names) else ""
            lines.append(f"| {method} | {' | '.join(cells)} | {mean} |")
    return "\n".join(lines) + "\n"


def _colour_shift(calibration: Path) -> npt.NDArray[np.float64]:
    """Where the left colour camera sees the origin of the left grey one: K^-1 of the last column of P2."""
    if not calibration.is_file():
        raise InputError("root", f"no {calibration}", "calib.txt beside the pictures")
    for line in calibration.read_text().splitlines():
        key, _, numbers = line.partition(":")
        if key.strip() == "P2":
            matrix = np.array(numbers.split(), np.float64).reshape(3, 4)
            return np.linalg.solve(matrix[:, :3], matrix[:, 3]).astype(np.float64)
    raise InputError("root", f"{calibration} without P2", "the calibration of KITTI odometry")
