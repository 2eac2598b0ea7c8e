"""Predictors without a network: what matching alone says about cameras. They give no depth."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from depth_anything_3._optional import require
from depth_anything_3.bench.evaluate import Estimate, Floats
from depth_anything_3.metrics.pose import relative_poses
from depth_anything_3.metrics.predictors import centred_intrinsics
from depth_anything_3.refine.cameras import chain_pairs
from depth_anything_3.refine.features import all_pairs, detect_all, match_features
from depth_anything_3.refine.two_view import TwoView, relative_pose

FOCAL_GUESS = 1.2
"""Focal length as a part of the longer side, where nothing is known."""

Array = npt.NDArray[np.float64]
Images = list[npt.NDArray[np.uint8]]
_Pair = tuple[int, int]


@dataclass(frozen=True, kw_only=True, eq=False)
class TwoViewSift:
    """SIFT and a robust relative pose, each pair of views by itself, with the focal length taken as the guess.

    A pair of views that no pose is found for gets the one along the best-supported spanning tree of the pairs that have
    one, each with a baseline of 1, because two views say nothing about its length.

    Attributes:
        features: keypoints of a view, at most.
        given_cameras: it has nothing to do with given ones.
        gives: poses of pairs of views.
    """

    features: int = 4096
    given_cameras: bool = False
    gives: tuple[str, ...] = ("pairs",)

    def __call__(self, images: Images, *, extrinsics: Floats | None, intrinsics: Floats | None) -> Estimate:
        """As :class:`~depth_anything_3.bench.evaluate.Predictor`."""
        count, (height, width, _) = len(images), images[0].shape
        guess = centred_intrinsics(FOCAL_GUESS, count, height, width)
        keypoints = detect_all(images, most=self.features)
        found: dict[_Pair, TwoView] = {}
        for i, j in all_pairs(count):
            matches = match_features(keypoints[i], keypoints[j])
            first, second = keypoints[i].xy[matches[:, 0]], keypoints[j].xy[matches[:, 1]]
            found[i, j] = relative_pose(first, second, guess[i], guess[j])
        return Estimate(pair_poses=_pair_poses(count, found), intrinsics=guess)


def _pair_poses(count: int, found: dict[_Pair, TwoView]) -> Array:
    """(P, 3, 4) of all pairs: their own pose, else that of the chain, else NaN."""
    own = {
        pair: np.concatenate([view.rotation, view.direction[:, None]], 1)
        for pair, view in found.items()
        if view.rotation is not None
    }
    edges = {pair: (torch.tensor(pose), float(found[pair].inliers.sum())) for pair, pose in own.items()}
    chain, _ = chain_pairs(edges, torch.full((count, 3, 4), torch.nan, dtype=torch.float64))
    chained = dict(zip(all_pairs(count), relative_poses(chain.numpy()), strict=True))
    return np.stack([own.get(pair, chained[pair]) for pair in all_pairs(count)])


@dataclass(frozen=True, kw_only=True, eq=False)
class Colmap:
    """COLMAP's incremental mapping (Schönberger and Frahm, CVPR 2016) as pycolmap has it, set up for few views.

    SIFT, exhaustive matching, one camera of one focal length for all views that starts at the guess, one thread and
    fixed seeds. Views that are not in the largest model have no pose.

    Attributes:
        features: keypoints of a view, at most.
        given_cameras: it has nothing to do with given ones.
        gives: poses of pairs of views.
    """

    features: int = 8192
    given_cameras: bool = False
    gives: tuple[str, ...] = ("pairs",)

    def __call__(self, images: Images, *, extrinsics: Floats | None, intrinsics: Floats | None) -> Estimate:
        """As :class:`~depth_anything_3.bench.evaluate.Predictor`.

        Raises:
            MissingExtraError: pycolmap is not installed.
        """
        pycolmap = require("pycolmap", extra="colmap")
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for i, image in enumerate(images):
                cv2.imwrite(str(folder / f"{i:04d}.png"), image[..., ::-1])
            models = _reconstruct(pycolmap, folder, images[0].shape, self.features)
        if not models:
            return Estimate(pair_poses=np.full((len(all_pairs(len(images))), 3, 4), np.nan))
        model = max(models.values(), key=lambda m: (m.num_reg_images(), m.num_points3D()))
        poses = np.full((len(images), 3, 4), np.nan)
        for image in model.images.values():
            poses[int(Path(image.name).stem)] = image.cam_from_world().matrix()
        matrix = next(iter(model.cameras.values())).calibration_matrix()
        return Estimate(pair_poses=relative_poses(poses), intrinsics=np.stack([matrix] * len(images)))


def _reconstruct(pycolmap: Any, folder: Path, shape: tuple[int, ...], features: int) -> dict[int, Any]:
    """Models of the pictures in a folder."""
    height, width = shape[:2]
    reader = pycolmap.ImageReaderOptions()
    # A focal length that is said outright counts as known well enough for essential matrices.
    reader.camera_model = "SIMPLE_PINHOLE"
    reader.camera_params = f"{FOCAL_GUESS * max(height, width)},{width / 2},{height / 2}"
    extraction = pycolmap.FeatureExtractionOptions(num_threads=1)
    extraction.sift.max_num_features = features
    extraction.sift.peak_threshold = 0.002
    verification = pycolmap.TwoViewGeometryOptions()
    verification.ransac.random_seed = 0
    database = folder / "database.db"
    # That no model was found is a result here, no message on the terminal.
    before, pycolmap.logging.minloglevel = pycolmap.logging.minloglevel, int(pycolmap.logging.FATAL.value)
    pycolmap.set_random_seed(0)
    try:
        pycolmap.extract_features(
            database,
            folder,
            camera_mode=pycolmap.CameraMode.SINGLE,
            reader_options=reader,
            extraction_options=extraction,
            device=pycolmap.Device.cpu,
        )
        pycolmap.match_exhaustive(
            database,
            matching_options=pycolmap.FeatureMatchingOptions(num_threads=1),
            verification_options=verification,
            device=pycolmap.Device.cpu,
        )
        options = _mapping(pycolmap, views=len(list(folder.glob("*.png"))))
        models: dict[int, Any] = pycolmap.incremental_mapping(database, folder, folder, options=options)
    finally:
        pycolmap.logging.minloglevel = before
    return models


def _mapping(pycolmap: Any, *, views: int) -> Any:
    """Minimums below COLMAP's, which are made for hundreds of views."""
    options = pycolmap.IncrementalPipelineOptions(num_threads=1, random_seed=0, min_num_matches=10, min_model_size=2)
    for part in (options.mapper, options.triangulation):
        part.random_seed = 0
    options.triangulation.ignore_two_view_tracks = views > 2  # two views have no others
    options.mapper.num_threads = 1
    options.mapper.init_min_num_inliers = 40
    options.mapper.init_min_tri_angle = 4.0
    options.mapper.abs_pose_min_num_inliers = 12
    options.mapper.abs_pose_min_inlier_ratio = 0.15
    return options
