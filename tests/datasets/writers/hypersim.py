"""Hypersim: distance to the camera, OpenGL's cameras, places in asset units, linear colours."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from datasets.world import Shot, ray_lengths

UNIT = 0.0254
"""Metres in an asset unit."""


def write(
    root: Path,
    shots: Mapping[str, Shot],
    *,
    scene: str = "ai_001_001",
    skew: float = 0.0,
    hidden: tuple[str, ...] = (),
) -> None:
    """``hidden`` frames are in the table of what is public as left out; without any there is no such table."""
    import h5py

    place, camera = root / scene, "cam_00"
    first, height, width = next(iter(shots.values())), *next(iter(shots.values())).size
    (place / "_detail" / camera).mkdir(parents=True)
    (place / "_detail" / "metadata_scene.csv").write_text(
        f"parameter_name,parameter_value\nmeters_per_asset_unit,{UNIT}\n"
    )
    count = 1 + max(map(int, shots))
    positions, orientations = np.full((count, 3), np.nan), np.full((count, 3, 3), np.nan)
    for frame, shot in shots.items():
        right, down, forward, centre = (shot.c2w[:3, i] for i in range(4))
        positions[int(frame)], orientations[int(frame)] = centre / UNIT, np.stack((right, -down, -forward), 1)
    images = place / "images"
    files = {
        place / "_detail" / camera / "camera_keyframe_positions.hdf5": positions,
        place / "_detail" / camera / "camera_keyframe_orientations.hdf5": orientations,
    }
    for frame, shot in shots.items():
        geometry = images / f"scene_{camera}_geometry_hdf5"
        distance = np.where(shot.hit, shot.z * ray_lengths(shot.k, shot.size), np.nan)
        files[geometry / f"frame.{frame}.depth_meters.hdf5"] = distance.astype(np.float32)
        files[geometry / f"frame.{frame}.render_entity_id.hdf5"] = np.where(shot.hit, 3, -1).astype(np.int32)
        radiance = 17 * (shot.image / 255.0) ** 2.2
        files[images / f"scene_{camera}_final_hdf5" / f"frame.{frame}.color.hdf5"] = radiance.astype(np.float32)
    for file, content in files.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(file, "w") as stream:
            stream["dataset"] = content
    k, table = first.k, root / "metadata_camera_parameters.csv"
    projection = {"00": 2 * k[0, 0] / width, "01": -2 * skew / width, "02": 1 - 2 * k[0, 2] / width}
    projection |= {"11": 2 * k[1, 1] / height, "12": 2 * k[1, 2] / height - 1}
    row = {"scene_name": scene, "settings_output_img_width": float(width), "settings_output_img_height": float(height)}
    _write_table(table, [row | {f"M_proj_{key}": value for key, value in projection.items()}])
    if hidden:
        shown = [(frame, str(frame not in hidden)) for frame in shots]
        rows = [
            {"scene_name": scene, "camera_name": camera, "frame_id": int(frame), "included_in_public_release": yes}
            for frame, yes in shown
        ]
        _write_table(root / "metadata_images_split_scene_v1.csv", rows)


def _write_table(file: Path, rows: list[dict[str, object]]) -> None:
    with file.open("w", newline="") as stream:
        table = csv.DictWriter(stream, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
