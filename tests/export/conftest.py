"""Small predictions with everything that can be there, can be missing, or can be broken."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from depth_anything_3.types.inputs import ResizeRecord
from depth_anything_3.types.prediction import Prediction

MakePrediction = Callable[..., Prediction]
HEIGHT, WIDTH = 20, 30
VALIDATE = """
const validator = require("gltf-validator"), fs = require("fs");
validator.validateBytes(new Uint8Array(fs.readFileSync(process.argv[1])))
  .then(report => console.log(JSON.stringify(report.issues)));
"""


def _make_prediction(count: int = 3, *, seed: int = 0, **changes: Any) -> Prediction:
    """A complete prediction of ``count`` views with random contents; ``changes`` replace fields."""
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(count, 3, 3)))
    rotation *= np.linalg.det(rotation)[:, None, None]
    intrinsics = np.tile(np.array([[25.0, 0, 14], [0, 27, 11], [0, 0, 1]], np.float32), (count, 1, 1))
    fields: dict[str, Any] = {
        "depth": rng.uniform(1, 5, (count, HEIGHT, WIDTH)).astype(np.float32),
        "is_metric": True,
        "conf": (1 + rng.exponential(size=(count, HEIGHT, WIDTH))).astype(np.float32),
        "extrinsics": np.concatenate([rotation, rng.normal(size=(count, 3, 1))], -1).astype(np.float32),
        "intrinsics": intrinsics,
        "processed_images": rng.integers(0, 256, (count, HEIGHT, WIDTH, 3), np.uint8),
        "names": tuple(f"photo {i} é.png" for i in range(count)),
        "model_name": "da3-small",
    }
    return Prediction(**{**fields, **changes})


def _variant(name: str) -> Prediction:
    depth = _make_prediction().depth.copy()
    if name == "no_conf":
        return _make_prediction(conf=None)
    if name == "sky":
        return _make_prediction(sky=depth > 4, scale_factor=2.5)
    if name == "holes":
        depth[0, :5], depth[0, 5:9], depth[1, 0], depth[2] = np.nan, np.inf, -1, 0
        return _make_prediction(depth=depth)
    if name == "one_view":
        return _make_prediction(1, names=())
    return _make_prediction(20)


@pytest.fixture
def make_prediction() -> MakePrediction:
    return _make_prediction


@pytest.fixture(params=["no_conf", "sky", "holes", "one_view", "twenty_views"])
def variant(request: pytest.FixtureRequest) -> Prediction:
    """Predictions that exporters have to cope with."""
    return _variant(request.param)


@pytest.fixture
def fingerprint() -> Callable[[Prediction], str]:
    """A digest of everything in a prediction."""

    def digest(prediction: Prediction) -> str:
        parts = hashlib.sha256()
        for name, value in sorted(vars(prediction).items()):
            parts.update(name.encode())
            parts.update(value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode())
        return parts.hexdigest()

    return digest


@pytest.fixture
def contents() -> Callable[[Path], dict[str, bytes]]:
    """Relative path -> bytes of all files under a folder, hidden ones included."""

    def read(folder: Path) -> dict[str, bytes]:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}

    return read


@pytest.fixture
def room() -> Prediction:
    """Three cameras, one of them turned sideways, that see a plane; metric, with records of a resize and a crop.

    Depth is exact in float64 before it is rounded; the pictures were 80 x 64 pixels, scaled by a half and cropped by 4
    rows and columns at the left and top.
    """
    height, width = 24, 32
    matrix = np.array([[30.0, 0, 15.5], [0, 31, 12.5], [0, 0, 1]])
    normal, offset = np.array([0.1, -0.2, 1.0]), 6.0
    depth, poses = np.zeros((3, height, width)), np.zeros((3, 3, 4))
    for view, (angle, roll) in enumerate([(0.05, 0.0), (-0.1, 0.1), (0.0, 1.5)]):
        c, s, cr, sr = np.cos(angle), np.sin(angle), np.cos(roll), np.sin(roll)
        turn = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]) @ np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
        centre = np.array([0.4 * view - 0.3, 0.1 * view, 0.2 * view])
        poses[view] = np.column_stack((turn.T, -turn.T @ centre))
        y, x = np.mgrid[:height, :width] + 0.5
        rays = np.stack((x, y, np.ones_like(x)), -1) @ np.linalg.inv(matrix).T @ turn.T
        depth[view] = (offset - normal @ centre) / (rays @ normal)
    record = ResizeRecord(source_hw=(64, 80), processed_hw=(height, width), scale_xy=(0.5, 0.5), offset_xy=(-4.0, -4.0))
    return Prediction(
        depth=depth.astype(np.float32),
        is_metric=True,
        extrinsics=poses.astype(np.float32),
        intrinsics=np.tile(matrix, (3, 1, 1)).astype(np.float32),
        processed_images=np.random.default_rng(0).integers(0, 256, (3, height, width, 3), np.uint8),
        names=("a.jpg", "b.jpg", "c.jpg"),
        records=(record,) * 3,
        model_name="da3-small",
    )


@pytest.fixture
def validate() -> Callable[[Path], dict[str, Any]]:
    """The issues that the validator of the Khronos group finds; needs ``npm install gltf-validator``."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    if subprocess.run([node, "-e", "require('gltf-validator')"], capture_output=True).returncode:
        pytest.skip("the npm package gltf-validator is not found from here (npm install, or set NODE_PATH)")

    def issues(path: Path) -> dict[str, Any]:
        run = subprocess.run([node, "-e", VALIDATE, str(path)], capture_output=True, text=True, check=True)
        result: dict[str, Any] = json.loads(run.stdout)
        return result

    return issues
