"""Small predictions, and folders of results as the exporters write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from depth_anything_3.export.base import export_all, parse_formats, resolve_options
from depth_anything_3.types.gaussians import Gaussians
from depth_anything_3.types.prediction import Prediction


def small_prediction(
    views: int = 2, height: int = 28, width: int = 42, *, metric: bool = False, gaussians: bool = False
) -> Prediction:
    """A wavy wall 3 units away, seen by cameras 0.4 units apart."""
    v, u = np.mgrid[:height, :width] + 0.5
    wall = (3 + np.sin(u / width * 6) + 0.5 * np.cos(v / height * 7)).astype(np.float32)
    picture = np.stack([255 * u / width, 255 * v / height, 128 + 100 * np.sin(u / width * 20)], -1).astype(np.uint8)
    lens = np.array([[0.9 * width, 0, width / 2], [0, 0.9 * width, height / 2], [0, 0, 1]], np.float32)
    poses = np.tile(np.eye(4, dtype=np.float32)[:3], (views, 1, 1))
    poses[:, 0, 3] = -0.4 * np.arange(views)
    sure = 1 + 5 * np.random.default_rng(0).random((views, height, width), np.float32)
    return Prediction(
        depth=np.tile(wall, (views, 1, 1)),
        is_metric=metric,
        conf=sure,
        extrinsics=poses,
        intrinsics=np.tile(lens, (views, 1, 1)),
        processed_images=np.tile(picture, (views, 1, 1, 1)),
        gaussians=_gaussians(views, wall, picture, lens) if gaussians else None,
        names=tuple(f"view {i}" for i in range(views)),
        model_name="da3-tiny",
    )


def _gaussians(views: int, wall: np.ndarray, picture: np.ndarray, lens: np.ndarray) -> Gaussians:
    """One Gaussian per pixel of the first view, as often as there are views."""
    import torch

    height, width = wall.shape
    v, u = np.mgrid[:height, :width] + 0.5
    means = np.stack([(u - lens[0, 2]) / lens[0, 0] * wall, (v - lens[1, 2]) / lens[1, 1] * wall, wall], -1)
    count = views * height * width
    colours = np.tile((picture.reshape(-1, 3) / 255 - 0.5) / 0.28209479, (views, 1))
    return Gaussians(
        means=torch.from_numpy(np.tile(means.reshape(-1, 3), (views, 1))[None].astype(np.float32)),
        scales=torch.full((1, count, 3), 2.4 / width),
        rotations=torch.tensor([1.0, 0, 0, 0]).expand(1, count, 4).contiguous(),
        harmonics=torch.from_numpy(colours[None, :, :, None].astype(np.float32)),
        opacities=torch.full((1, count), 0.9),
    )


def write_result(folder: Path, formats: str, prediction: Prediction) -> Path:
    """Export with all points; the folder."""
    names = parse_formats(formats)
    options = resolve_options(names, {"glb": {"conf_thresh_percentile": 0.0}} if "glb" in names else None)
    export_all(prediction, folder, options, model={"source": "depth-anything/DA3-BASE", "licence": "Apache-2.0"})
    return folder
