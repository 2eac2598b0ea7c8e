"""Confidence of networks without one, and what confidences are worth."""

from __future__ import annotations

import json

import numpy as np
import pytest

from depth_anything_3.api import DepthAnything3
from depth_anything_3.errors import CapabilityError, InputError
from depth_anything_3.infer.agreement import derived_confidence
from depth_anything_3.infer.preprocess import preprocess
from depth_anything_3.types.confidence import ConfidenceMap, ConfidenceMaps
from depth_anything_3.types.inputs import ModelInputs
from depth_anything_3.types.options import PreprocessOptions
from depth_anything_3.types.prediction import Prediction, probability_right


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (56, 84, 3), np.uint8)


def test_what_looks_the_same_in_the_mirror_is_trusted() -> None:
    """A network that sees the left half right, and the right half differently each time."""
    inputs = preprocess([picture()], intrinsics=np.diag([80.0, 80, 1])[None], options=PreprocessOptions(process_res=84))
    truth, calls = np.tile(np.linspace(1, 3, 84, dtype=np.float32), (1, 56, 1)), []

    def predict(changed: ModelInputs) -> np.ndarray:
        calls.append(changed)
        height, width = changed.images.shape[2:]
        depth = np.tile(np.linspace(1, 3, width, dtype=np.float32), (1, height, 1))
        noise = np.random.default_rng(len(calls)).uniform(0.7, 1.4, depth.shape)
        depth = np.where(np.arange(width) < width / 2, depth, depth * noise).astype(np.float32)
        return depth[:, :, ::-1] if len(calls) == 1 else 7 * depth  # the first one is mirrored; units do not matter

    conf = derived_confidence(truth, inputs, predict)
    assert conf.min() >= 1 and np.median(conf[:, :, :36]) > 3 * np.median(conf[:, :, 48:])
    np.testing.assert_array_equal(calls[0].images, inputs.images[..., ::-1])
    assert [c.images.shape[2:] for c in calls] == [(56, 84), (42, 56), (28, 42)]
    assert calls[0].intrinsics is not None and calls[0].intrinsics[0, 0, 2] == 84


def test_a_map_says_what_confidences_are_worth(tmp_path: object) -> None:
    found = ConfidenceMap((1.01, 2.0, 11.0), (0.2, 0.5, 0.9))
    np.testing.assert_allclose(found(np.array([1.0, 1.01, 2.0, 1 + 10**0.5, 99])), [0.2, 0.2, 0.5, 0.7, 0.9], rtol=1e-5)
    conf = np.full((1, 2, 2), 2.0, np.float32)
    made = Prediction(depth=np.ones((1, 2, 2), np.float32), is_metric=False, conf=conf, confidence_map=found)
    back = Prediction.load(made.save(f"{tmp_path}/scene.npz"))
    assert back.confidence_map == found
    np.testing.assert_allclose(probability_right(back), 0.5)
    with pytest.raises(CapabilityError, match="no calibrated confidence"):
        probability_right(Prediction(depth=made.depth, is_metric=False, conf=conf))
    with pytest.raises(InputError, match="rising"):
        ConfidenceMap((1.0, 2.0), (0.5, 0.4))


def test_what_it_is_worth_depends_on_the_number_of_views() -> None:
    one, four = ConfidenceMap((1.1, 2.0), (0.4, 0.8)), ConfidenceMap((1.5,), (0.5,))
    maps = ConfidenceMaps(own={4: four, 1: one}, derived={2: four})
    assert maps.of(1, derived=False) == one and maps.of(4, derived=False) == maps.of(9, derived=False) == four
    assert maps.of(1, derived=True) == four and ConfidenceMaps().of(3, derived=True) is None
    between = maps.of(2, derived=False)
    assert between is not None
    conf = np.array([1.0, 1.1, 1.4, 2.0, 5.0])
    np.testing.assert_allclose(between(conf[[0, 1, 3, 4]]), ((one(conf) + four(conf)) / 2)[[0, 1, 3, 4]], atol=1e-6)
    assert ConfidenceMaps.from_dict(json.loads(json.dumps(maps.as_dict()))) == maps
    with pytest.raises(InputError, match="0 views"):
        ConfidenceMaps(own={0: one})


@pytest.mark.parametrize("name", ["bundled", "bundled/da3metric-tiny", "bundled/da3nested-tiny"])
def test_bundled_models_know_what_their_confidence_is_worth(name: str, tmp_path: object) -> None:
    model = DepthAnything3.from_pretrained(name, device="cpu")
    own = "metric-tiny" not in name
    plain = model.inference([picture()], process_res=56)
    assert (plain.conf is not None) == own
    derived = model.inference([picture()], process_res=56, derive_confidence=True)
    assert derived.conf is not None and derived.conf.min() >= 1
    worth = probability_right(plain if own else derived)
    assert 0 <= worth.min() <= worth.max() <= 1
    if name == "bundled":
        again = DepthAnything3.from_pretrained(model.save_pretrained(f"{tmp_path}/copy"), device="cpu")
        assert again.confidence_maps == model.confidence_maps is not None
