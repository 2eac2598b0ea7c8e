"""Several images in one pass give what each gives alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.networks import fill_weights, miniature

from depth_anything_3.api import DepthAnything3
from depth_anything_3.errors import InputError
from depth_anything_3.infer.singles import predict_singles
from depth_anything_3.types.options import InferOptions, PreprocessOptions
from depth_anything_3.types.prediction import Prediction


@pytest.fixture(scope="module")
def model() -> DepthAnything3:
    loaded = DepthAnything3("miniature", config=miniature(), device="cpu")
    fill_weights(loaded)
    return loaded


def predict(model: DepthAnything3, pictures: list[np.ndarray], **options: object) -> list[Prediction]:
    return predict_singles(
        model.model,
        pictures,
        preprocessing=PreprocessOptions(process_res=56),
        options=InferOptions(**options),  # type: ignore[arg-type]
        device=model.device,
        dtype=torch.float32,
        model_name=model.model_name,
    )


@pytest.mark.parametrize("rays", [False, True])
def test_a_batch_gives_what_each_image_gives_alone(model: DepthAnything3, rays: bool) -> None:
    pictures = list(np.random.default_rng(0).integers(0, 256, (3, 60, 80, 3), np.uint8))
    for picture, prediction in zip(pictures, predict(model, pictures, use_ray_pose=rays), strict=True):
        alone = model.inference([picture], process_res=56, use_ray_pose=rays)
        assert prediction.records == alone.records
        for name in ("depth", "conf", "extrinsics", "intrinsics"):
            # Cameras from rays of random weights are ill-conditioned: rounding shows in the fourth digit.
            loose = rays and name.endswith("trinsics")
            close = 1e-2 if loose else 1e-4
            np.testing.assert_allclose(getattr(prediction, name), getattr(alone, name), rtol=close, atol=close)


def test_what_cannot_go_together_is_refused(model: DepthAnything3) -> None:
    pictures = [np.zeros((60, 80, 3), np.uint8), np.zeros((80, 60, 3), np.uint8)]
    with pytest.raises(InputError, match="2 sizes"):
        predict(model, pictures)
    with pytest.raises(InputError, match="depth and cameras alone"):
        predict(model, pictures[:1], export_feat_layers=(1,))
