"""Carry a sample of the published numbers from ``../shared`` into the project, so that a plain clone tests parity.

Run from the root of the repository: ``PYTHONPATH=tests python tests/parity/make_reference.py``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from support.reference import sample

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
REFERENCE = Path(__file__).parent / "reference"


def vectors() -> dict[str, np.ndarray]:
    """Inputs whole, outputs sampled, under ``<case>/<array>``."""
    kept = {}
    with np.load(SHARED / "reference" / "spec_model_vectors.npz") as file:
        for key in file.files:
            kept[key] = file[key] if key.endswith("_in") else sample(file[key])
    with np.load(SHARED / "golden" / "net__small_1v_noise518.npz") as file:
        for ours, theirs in (("depth", "depth"), ("depth_conf", "depth_conf"), ("pose_encoding", "dbg_pose_enc")):
            kept[f"full_table/{ours}"] = sample(file[f"out_{theirs}"])
    return kept


def geometry() -> dict[str, np.ndarray]:
    """Small cases whole, as ``<case>/in_<array>`` and ``<case>/out_<array>``."""
    names = ("geom__misc", "ray__noisy", "pose__umeyama_n5_noise0.05_plain")
    names += ("pose__normalize_ext_n5", "align__utils")
    kept = {}
    for name in names:
        with np.load(SHARED / "golden" / f"{name}.npz") as file:
            for key in file.files:
                array = file[key]
                kept[f"{name}/{key}"] = (
                    array.astype(np.uint8) if key == "in_ransac_idx" and array.max() < 256 else array
                )
    return kept


if __name__ == "__main__":
    np.savez_compressed(REFERENCE / "network.npz", **vectors())
    np.savez_compressed(REFERENCE / "geometry.npz", **geometry())
