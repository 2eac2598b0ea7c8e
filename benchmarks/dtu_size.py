"""Peak memory and time of scoring a data set as large as DTU: 22 scans of 49 pictures of 1600 x 1200.

usage: python benchmarks/dtu_size.py FOLDER [--scans 22] [--views 49] [--size 1600 1200] [--modes recon_unposed ...]
       [--out FILE.json]

The scans are made up: a ball on a table, seen from a spherical cap, in the layout of DTU with millions of true points,
masks and observed volumes. The predictions are made up too, at the size of a network's depth map, and lie in a folder
of saved predictions, so that what is measured is scoring alone. Every mode runs in a process of its own. FOLDER takes
about 100 MB; pictures, cameras and points are written once, and every scan has hard links to them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from peak import peak_bytes

Array = npt.NDArray[np.float64]

SIZE, VIEWS, SCANS = (1200, 1600), 49, 22
LIMIT_GB = 8.0

_NETWORK = 504  # longer side of the predicted depth
_DISTANCE, _RADIUS, _TABLE = 650.0, 60.0, 100.0  # millimetres: camera to ball, the ball, the table around it
_POINTS = 3_000_000
_NOISE = 0.05  # millimetres


def main() -> None:
    """Write the scans, score them in processes of their own, print and keep what that took."""
    parser = argparse.ArgumentParser(description="Peak memory and time of scoring a data set as large as DTU.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scans", type=int, default=SCANS)
    parser.add_argument("--views", type=int, default=VIEWS)
    parser.add_argument("--size", type=int, nargs=2, default=SIZE[::-1], metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--modes", nargs="+", default=["recon_unposed", "recon_posed"])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--score", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.score is not None:
        print(json.dumps(score(arguments.folder, arguments.score)))
        return
    write(arguments.folder, arguments.scans, arguments.views, (arguments.size[1], arguments.size[0]))
    rows = []
    for mode in arguments.modes:
        command = [sys.executable, __file__, str(arguments.folder), "--score", mode]
        row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
        rows.append({"views": arguments.views, "size": list(arguments.size), **row})
        print(rows[-1])
    if arguments.out is not None:
        arguments.out.write_text(json.dumps({"limit_gb": LIMIT_GB, "cases": rows}, indent=1) + "\n", encoding="utf-8")
    if any(row["peak_gb"] > LIMIT_GB for row in rows):
        raise SystemExit(f"more than {LIMIT_GB} GB")


def score(folder: Path, mode: str) -> dict[str, object]:
    """One mode over all scans, in this process."""
    from depth_anything_3.bench.contenders import contenders
    from depth_anything_3.bench.run import run_bench
    from depth_anything_3.datasets.benchmark.base import open_dataset

    start, busy = time.perf_counter(), time.process_time()
    results = run_bench(
        folder / "run",
        [open_dataset("dtu49", folder / "dtu")],
        contenders([f"npz={folder / 'predictions'}"]),
        modes=[mode],
        force=True,
    )
    if wrong := [result.error for result in results if result.error is not None]:
        raise SystemExit(f"failed: {wrong[0]}")
    peak = peak_bytes()
    return {
        "mode": mode,
        "scans": len(results),
        "peak_gb": round(peak / 1e9, 2),
        "seconds": round(time.perf_counter() - start, 1),
        "processor_seconds": round(time.process_time() - busy, 1),
        "chamfer_mm": round(float(np.mean([result.scores["chamfer"] for result in results])), 4),
    }


# --- what is scored --------------------------------------------------------------------------------------------------


def write(folder: Path, scans: int, views: int, size: tuple[int, int]) -> None:
    """The data set and the predictions."""
    from depth_anything_3.datasets.benchmark.dtu49 import SCANS as NUMBERS

    root, poses, k = folder / "dtu", look_from_cap(views), camera_matrix(size)
    network = (round(size[0] * _NETWORK / max(size)), round(size[1] * _NETWORK / max(size)))
    first: Path | None = None
    for number in NUMBERS[:scans]:
        if first is None:
            for i, pose in enumerate(poses):
                _write_view(root, number, i, pose, k, size)
            _write_truth(root, number)
            _write_prediction(folder / "predictions" / "dtu49" / f"scan{number}", poses, k, size, network)
        else:
            _link_scan(folder, int(first.name[4:]), number, views)
        first = first or root / "Rectified" / f"scan{number}"


def camera_matrix(size: tuple[int, int]) -> Array:
    """About that of DTU."""
    focal = 2892.0 * size[1] / 1600
    return np.array([[focal, 0, size[1] / 2], [0, focal, size[0] / 2], [0, 0, 1]])


def look_from_cap(views: int) -> Array:
    """(N, 3, 4) world-to-camera poses all around, 25 to 50 degrees from above, towards the ball."""
    poses = []
    for i in range(views):
        around, tilt = np.radians(i * 137.5), np.radians(25 + 25 * i / max(views - 1, 1))
        eye = _DISTANCE * np.array([np.sin(tilt) * np.cos(around), np.sin(tilt) * np.sin(around), np.cos(tilt)])
        z = -eye / _DISTANCE
        x = np.cross([0.0, 0.0, -1.0], z)
        x /= np.linalg.norm(x)
        rotation = np.stack([x, np.cross(z, x), z])
        poses.append(np.column_stack([rotation, -rotation @ eye]))
    return np.stack(poses)


def depth_of(pose: Array, k: Array, size: tuple[int, int]) -> Array:
    """(H, W) z-depth of the ball about the origin and of the table below it; 0 beyond the table."""
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    ray = np.stack([(x - k[0, 2]) / k[0, 0], (y - k[1, 2]) / k[1, 1], np.ones(size)], -1) @ pose[:, :3]
    eye = -pose[:, :3].T @ pose[:, 3]
    a, b, c = (ray**2).sum(-1), ray @ eye, eye @ eye - _RADIUS**2
    root = b * b - a * c
    ball = np.where(root > 0, (-b - np.sqrt(root.clip(0))) / a, np.inf)
    table = (-_RADIUS - eye[2]) / ray[..., 2]
    on_table = np.hypot(*(eye[i] + table * ray[..., i] for i in (0, 1))) < _TABLE
    found = np.minimum(ball, np.where(on_table, table, np.inf))
    return np.where(np.isfinite(found), found, 0.0)


def _write_view(root: Path, scan: int, index: int, pose: Array, k: Array, size: tuple[int, int]) -> None:
    depth = depth_of(pose, k, size)
    grey = np.where(depth > 0, 120 + 100 * np.sin(depth / 3), 20).astype(np.uint8)
    _image(_picture(root, scan, index), np.repeat(grey[..., None], 3, -1))
    small = np.asarray(cv2.resize((depth > 0).astype(np.uint8) * 200, (size[1] // 2, size[0] // 2)), np.uint8)
    _image(_mask(root, scan, index), small)
    lines = ["extrinsic", *(_numbers(row) for row in [*pose, [0, 0, 0, 1]]), "", "intrinsic", *map(_numbers, k)]
    camera = root / "Cameras" / f"{index:08d}_cam.txt"
    camera.parent.mkdir(parents=True, exist_ok=True)
    camera.write_text("\n".join([*lines, "", "425 2.5"]) + "\n", encoding="utf-8")


def _write_truth(root: Path, scan: int) -> None:
    from scipy.io import savemat

    rng = np.random.default_rng(0)
    directions = rng.normal(size=(_POINTS // 2, 3))
    ball = _RADIUS * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    flat = _TABLE * np.sqrt(rng.random(_POINTS // 2)), rng.uniform(0, 2 * np.pi, _POINTS // 2)
    table = np.stack([flat[0] * np.cos(flat[1]), flat[0] * np.sin(flat[1]), np.full(_POINTS // 2, -_RADIUS)], -1)
    points = np.concatenate([ball, table]).astype("<f4")
    head = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(points)}\n"
    head += "".join(f"property float {axis}\n" for axis in "xyz") + "end_header\n"
    cloud, (observed, plane) = _cloud(root, scan), _volume(root, scan)
    for file in (cloud, observed):
        file.parent.mkdir(parents=True, exist_ok=True)
    cloud.write_bytes(head.encode() + points.tobytes())
    box = np.array([[-_TABLE] * 3, [_TABLE] * 3])
    savemat(observed, {"ObsMask": np.ones((20, 20, 20), np.uint8), "BB": box, "Res": 10.0})
    savemat(plane, {"P": np.array([[0.0], [0], [1], [_RADIUS + 1]])})


def _write_prediction(place: Path, poses: Array, k: Array, size: tuple[int, int], network: tuple[int, int]) -> None:
    """Depth with noise at the size of a network, and the true cameras; once as found, once as from given ones."""
    from depth_anything_3.datasets.benchmark.dtu64 import REFERENCE

    scale = np.array([[network[1] / size[1]], [network[0] / size[0]], [1.0]])
    rng = np.random.default_rng(1)
    depth = np.stack([depth_of(pose, k * scale, network) for pose in poses])
    depth += np.where(depth > 0, rng.normal(0, _NOISE, depth.shape), 0)
    order = list(range(len(poses)))
    if len(order) > REFERENCE:
        order.insert(0, order.pop(REFERENCE))
    place.mkdir(parents=True, exist_ok=True)
    arrays = {"depth": depth[order].astype(np.float32), "extrinsics": poses[order]}
    for name in ("results.npz", "given.npz"):
        np.savez(place / name, **arrays, intrinsics=np.repeat((k * scale)[None], len(poses), 0))  # type: ignore[arg-type]


def _link_scan(folder: Path, first: int, number: int, views: int) -> None:
    root = folder / "dtu"
    pairs = [
        (_cloud(root, first), _cloud(root, number)),
        *zip(_volume(root, first), _volume(root, number), strict=True),
    ]
    for i in range(views):
        pairs += [
            (_picture(root, first, i), _picture(root, number, i)),
            (_mask(root, first, i), _mask(root, number, i)),
        ]
    saved = folder / "predictions" / "dtu49"
    pairs += [(saved / f"scan{first}" / n, saved / f"scan{number}" / n) for n in ("results.npz", "given.npz")]
    for old, new in pairs:
        new.parent.mkdir(parents=True, exist_ok=True)
        if not new.exists():
            os.link(old, new)


def _picture(root: Path, scan: int, index: int) -> Path:
    return root / "Rectified" / f"scan{scan}" / f"rect_{index + 1:03d}_3_r5000.png"


def _mask(root: Path, scan: int, index: int) -> Path:
    return root / "depth_raw" / "Depths" / f"scan{scan}" / f"depth_visual_{index:04d}.png"


def _cloud(root: Path, scan: int) -> Path:
    return root / "Points" / "stl" / f"stl{scan:03d}_total.ply"


def _volume(root: Path, scan: int) -> tuple[Path, Path]:
    place = root / "SampleSet" / "mvs_data" / "ObsMask"
    return place / f"ObsMask{scan}_10.mat", place / f"Plane{scan}.mat"


def _image(file: Path, pixels: npt.NDArray[np.uint8]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(file), pixels)


def _numbers(row: npt.ArrayLike) -> str:
    return " ".join(f"{value:.9g}" for value in np.asarray(row, np.float64))


if __name__ == "__main__":
    main()
