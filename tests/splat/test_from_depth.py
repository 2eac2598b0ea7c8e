"""Plain Gaussians show the picture that they were made of."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.poses import random_poses

from depth_anything_3.errors import InputError
from depth_anything_3.geometry.pinhole import unproject
from depth_anything_3.splat.base import render
from depth_anything_3.splat.from_depth import gaussians_from_depth

SHAPE = (2, 24, 31)


def inputs() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    k = np.array([[[30, 0, 14], [0, 33, 13], [0, 0, 1]], [[25, 0, 14], [0, 25, 13], [0, 0, 1]]], np.float32)
    return {
        "depth": rng.uniform(1.9, 2.1, SHAPE).astype(np.float32),
        "images": np.repeat(rng.integers(40, 220, (2, 1, 31, 3), np.uint8), 24, 1),
        "intrinsics": k,
        "extrinsics": random_poses(0, 2).astype(np.float32),
    }


def test_each_view_is_drawn_as_it_was() -> None:
    given = inputs()
    for view in range(2):
        one = {name: value[view : view + 1] for name, value in given.items()}
        gaussians = gaussians_from_depth(**one, sigma=0.3, opacity=0.95)
        assert gaussians.means.shape == (1, 24 * 31, 3) and gaussians.means.dtype == torch.float32
        expected = unproject(one["depth"], one["intrinsics"], one["extrinsics"])
        np.testing.assert_allclose(gaussians.means[0], expected.reshape(-1, 3), atol=1e-5)
        pose, k = (torch.from_numpy(one[name])[None] for name in ("extrinsics", "intrinsics"))
        out = render(gaussians, pose, k, SHAPE[1:])
        inside = (..., slice(3, -3), slice(3, -3))
        assert out.alpha[inside].min() > 0.9
        np.testing.assert_allclose(out.depth[0][inside], one["depth"][inside], atol=0.2)
        picture = out.colour[0, 0].movedim(0, -1).numpy()[3:-3, 3:-3]
        truth = one["images"][0, 3:-3, 3:-3] / 255
        assert np.corrcoef(picture.ravel(), truth.ravel())[0, 1] > 0.85


def test_pixels_without_a_depth_are_not_there() -> None:
    given = inputs()
    given["depth"][0, 0, :4] = [0, -1, np.nan, np.inf]
    gaussians = gaussians_from_depth(**given)
    assert gaussians.opacities[0, :5].tolist() == pytest.approx([0, 0, 0, 0, 0.9])
    assert gaussians.means.isfinite().all()


@pytest.mark.usefixtures("unchecked_shapes")
def test_pictures_of_another_size_are_refused() -> None:
    given = inputs()
    given["images"] = given["images"][:, 1:]
    with pytest.raises(InputError, match=r"^images: got shape \(2, 23, 31, 3\)"):
        gaussians_from_depth(**given)
