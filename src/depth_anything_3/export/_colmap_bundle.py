"""Bundle adjustment of a prediction's cameras by COLMAP, before its model is written."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from depth_anything_3._optional import require
from depth_anything_3.export._colmap_files import write_model
from depth_anything_3.export._colmap_model import build_model
from depth_anything_3.export._source_pixels import source_from_processed
from depth_anything_3.export.colmap import Options, model_files
from depth_anything_3.geometry.pinhole import project
from depth_anything_3.metrics.trajectory import align_by_orientations
from depth_anything_3.types.prediction import Prediction

Array = npt.NDArray[np.float64]

_NOISE_PX = 1.0  # of observations in source pixels: where the loss begins to distrust them
_FIRST_LOOK = 2.0  # medians of the error at the start: cameras that are far off make good matches look wrong


@dataclass(frozen=True, kw_only=True)
class Adjustment:
    """What bundle adjustment did.

    Attributes:
        images, points, observations: how many took part.
        reprojection_px_before, reprojection_px_after: median over the observations, in pixels of the source pictures;
            None where nothing took part.
        scale_factor: what brings the adjusted world, whose size is free, to the unit of the prediction's depth.
        refined: ``poses``, or ``cameras`` where the focal lengths moved too.
        pycolmap: its version.
    """

    images: int
    points: int
    observations: int
    reprojection_px_before: float | None
    reprojection_px_after: float | None
    scale_factor: float | None
    refined: str
    pycolmap: str


def adjusted(prediction: Prediction, options: Options) -> tuple[Prediction, Adjustment]:
    """The prediction with the cameras that explain the observations best, in its own frame and unit.

    Poses come back turned and shifted as a whole onto those that came in, and scaled so that the points have the depth
    that the maps have at their observations, in the median. Views without observations stay as they are. Depth maps
    are not touched.

    Args:
        prediction: with cameras and pictures.
        options: ``bundle_adjustment`` says what is refined.

    Raises:
        MissingExtraError: pycolmap is not installed.

    Warns:
        UserWarning: there are no matches, whose places in the pictures were measured.
    """
    pycolmap = require("pycolmap", extra="colmap")
    if prediction.observations is None:
        warnings.warn(
            "colmap: bundle_adjustment changes next to nothing without the matches of a refinement (refine='full')",
            stacklevel=4,
        )
    model = _read_by_colmap(pycolmap, prediction, replace(options, frame="input", layout="flat"))
    _drop_unseen(model)
    seen = sorted(number for number, image in model.images.items() if image.num_points3D)
    count = model.num_points3D(), model.compute_num_observations()
    kind, version = options.bundle_adjustment, str(pycolmap.__version__)
    if len(seen) < 2:
        nothing = Adjustment(
            images=0, points=0, observations=0, reprojection_px_before=None, reprojection_px_after=None,
            scale_factor=None, refined=kind, pycolmap=version,
        )  # fmt: skip
        return prediction, nothing
    before = _median_error(model, seen)
    with _without_chatter(pycolmap):
        for loss in (max(_FIRST_LOOK * before, _NOISE_PX), _NOISE_PX):
            _adjust(pycolmap, model, seen, _solver(pycolmap, loss, focal=kind == "cameras"))
    result, scale = _with_cameras(prediction, model, seen)
    report = Adjustment(
        images=len(seen), points=count[0], observations=count[1], reprojection_px_before=before,
        reprojection_px_after=_median_error(model, seen), scale_factor=scale, refined=kind, pycolmap=version,
    )  # fmt: skip
    return result, report


def _read_by_colmap(pycolmap: Any, prediction: Prediction, options: Options) -> Any:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the same is said again when the result is written
        paths = [Path(folder) / name for name in model_files(replace(options, encoding="binary"))]
        write_model(build_model(prediction, options), paths, binary=True)
        return pycolmap.Reconstruction(folder)


def _adjust(pycolmap: Any, model: Any, seen: list[int], options: Any) -> None:
    """All cameras and points at once; three of the points hold the seven numbers that no observation does.

    Holding two cameras instead lets scenes with little parallax run away in scale by a factor of a million.
    ``pycolmap.bundle_adjustment`` would do the same, but tells the terminal about it whatever the log level is.
    """
    config = pycolmap.BundleAdjustmentConfig()
    for number in seen:
        config.add_image(number)
    config.fix_gauge(pycolmap.BundleAdjustmentGauge.THREE_POINTS)
    pycolmap.create_default_bundle_adjuster(options, config, model).solve()


@contextmanager
def _without_chatter(pycolmap: Any) -> Iterator[None]:
    """COLMAP tells the terminal what it does, and Ceres of steps that it takes back; here only errors."""
    log = pycolmap.logging
    old, log.minloglevel = log.minloglevel, log.ERROR.value
    try:
        yield
    finally:
        log.minloglevel = old


def _drop_unseen(model: Any) -> None:
    for number in [n for n, point in model.points3D.items() if point.track.length() < 2]:
        model.delete_point3D(number)


def _median_error(model: Any, seen: list[int]) -> float:
    """In pixels; what runs away to infinity, as points that hardly any ray holds may, counts as one observation."""
    distances = []
    for number in seen:
        xy, xyz = _observed(model, number)
        lens = model.cameras[model.images[number].camera_id].calibration_matrix()
        expected, _ = project(xyz, lens, _matrix(model.images[number]))
        distances.append(np.linalg.norm(expected - xy, axis=-1))
    return float(np.median(np.nan_to_num(np.concatenate(distances), nan=np.inf)))


def _observed(model: Any, number: int) -> tuple[Array, Array]:
    """Pixels of the observations of an image, and the places of their points."""
    features = [feature for feature in model.images[number].points2D if feature.has_point3D()]
    xyz = [model.points3D[feature.point3D_id].xyz for feature in features]
    return np.stack([feature.xy for feature in features]), np.stack(xyz)


def _solver(pycolmap: Any, loss: float, *, focal: bool) -> Any:
    options = pycolmap.BundleAdjustmentOptions()
    options.print_summary, options.refine_focal_length, options.refine_extra_params = False, focal, False
    ceres = getattr(options, "ceres", options)  # older versions have its options in one
    ceres.loss_function_type, ceres.loss_function_scale = pycolmap.LossFunctionType.CAUCHY, loss
    ceres.solver_options.num_threads = 1  # the order of sums, and with it the last digits, must not change
    return options


def _with_cameras(prediction: Prediction, model: Any, seen: list[int]) -> tuple[Prediction, float]:
    """The prediction with COLMAP's cameras of some images, and the scale they were brought to."""
    assert prediction.extrinsics is not None and prediction.intrinsics is not None
    views = np.array(seen) - 1
    poses = np.stack([_matrix(model.images[number]) for number in seen])
    scale = _scale(prediction, model, seen)
    home = align_by_orientations(poses, prediction.extrinsics[views].astype(np.float64), scale=scale)
    extrinsics, intrinsics = prediction.extrinsics.copy(), prediction.intrinsics.copy()
    extrinsics[views] = home.on_extrinsics(poses)
    lenses = np.stack([model.cameras[model.images[number].camera_id].calibration_matrix() for number in seen])
    intrinsics[views] = np.linalg.inv(source_from_processed(prediction)[views]) @ lenses
    return replace(prediction, extrinsics=extrinsics, intrinsics=intrinsics), scale


def _scale(prediction: Prediction, model: Any, seen: list[int]) -> float:
    """How much farther than COLMAP the depth maps have the points, in the median; 1 where they say nothing."""
    matrices = np.linalg.inv(source_from_processed(prediction))
    height, width = prediction.depth.shape[1:]
    ratios = [np.zeros(0)]
    for number in seen:
        xy, xyz = _observed(model, number)
        place = xy @ matrices[number - 1, :2, :2].T + matrices[number - 1, :2, 2]
        column, row = np.floor(place).astype(int).T
        said = prediction.depth[number - 1, row.clip(0, height - 1), column.clip(0, width - 1)].astype(np.float64)
        pose = _matrix(model.images[number])
        z = xyz @ pose[2, :3] + pose[2, 3]
        good = (z > 0) & np.isfinite(said) & (said > 0)
        ratios.append(said[good] / z[good])
    joined = np.concatenate(ratios)
    return float(np.median(joined)) if len(joined) else 1.0


def _matrix(image: Any) -> Array:
    pose = image.cam_from_world() if callable(image.cam_from_world) else image.cam_from_world
    return np.asarray(pose.matrix(), np.float64)
