"""Small predictions with everything that can be there, can be missing, or can be broken."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from depth_anything_3.types.prediction import Prediction

MakePrediction = Callable[..., Prediction]
HEIGHT, WIDTH = 20, 30


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
