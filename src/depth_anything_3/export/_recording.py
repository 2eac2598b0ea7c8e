"""The recording of ``rerun``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from depth_anything_3._files import atomic_path
from depth_anything_3._optional import require
from depth_anything_3.export._cloud import UNITS
from depth_anything_3.export._frames import AXES, first_usable, frame_from_world, moved_extrinsics
from depth_anything_3.export._points import finite_pixels, point_pixels, thinned, usable_cameras, view_points
from depth_anything_3.export.rerun import Options
from depth_anything_3.geometry.stored_poses import invert_rigid
from depth_anything_3.types.prediction import Prediction, known_depth

_NAME = "depth_anything_3"


def write_recording(prediction: Prediction, path: Path, options: Options) -> Path:
    """Write one recording; it appears whole or not at all."""
    rr = require("rerun", extra="rerun")
    usable = usable_cameras(prediction, "rerun")
    target = frame_from_world(prediction, options.frame, first_usable(prediction))
    keep = finite_pixels(prediction, point_pixels(prediction, options) & usable[:, None, None], target)
    keep = thinned(keep, options.num_max_points)
    poses = moved_extrinsics(prediction, options.frame)
    with atomic_path(path) as temporary:
        stream = rr.RecordingStream(_NAME, recording_id=_NAME, send_properties=False)
        stream.save(str(temporary))
        up = {"z_up": rr.ViewCoordinates.RFU}.get(options.frame, rr.ViewCoordinates.RDF)
        stream.log("world", up, static=True)
        note = f"frame: {AXES[options.frame]}\n\nunit: {UNITS[prediction.scale]}\n\nmodel: {prediction.model_name}"
        stream.log("about", rr.TextDocument(note), static=True)
        for view in np.flatnonzero(usable).tolist():
            stream.set_time("view", sequence=view)
            _log_camera(rr, stream, prediction, view, invert_rigid(poses[view]))
            _log_points(rr, stream, prediction, view, keep[view], target)
        stream.flush()
        stream.disconnect()
    return path


def _log_camera(rr: Any, stream: Any, prediction: Prediction, view: int, pose: Any) -> None:
    assert prediction.intrinsics is not None and prediction.processed_images is not None
    _, height, width = prediction.depth.shape
    entity = f"world/camera_{view:04d}"
    stream.log(entity, rr.Transform3D(translation=pose[:, 3], mat3x3=pose[:, :3]))
    lens = rr.Pinhole(
        image_from_camera=prediction.intrinsics[view], resolution=[width, height], camera_xyz=rr.ViewCoordinates.RDF
    )
    stream.log(f"{entity}/picture", lens)
    stream.log(f"{entity}/picture", rr.Image(prediction.processed_images[view]))
    stream.log(f"{entity}/picture/depth", rr.DepthImage(known_depth(prediction)[view], meter=1.0))
    if prediction.conf is not None:
        stream.log(f"{entity}/confidence", rr.Tensor(prediction.conf[view]))
    if prediction.names:
        stream.log(f"{entity}/name", rr.TextDocument(prediction.names[view]))


def _log_points(rr: Any, stream: Any, prediction: Prediction, view: int, mask: Any, target: Any) -> None:
    assert prediction.processed_images is not None
    if mask.any():
        points = view_points(prediction, view, mask, target)
        stream.log(f"world/points_{view:04d}", rr.Points3D(points, colors=prediction.processed_images[view][mask]))
