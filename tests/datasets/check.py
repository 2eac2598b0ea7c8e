"""The one check that all adapters pass: points of the known world are where the loaded cameras and depth put them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from datasets.world import Shot, mutate
from depth_anything_3.datasets.base import View

PIXELS = 0.1
"""Allowed error of a reprojection."""


def check(
    views: Mapping[str, View],
    shots: Mapping[str, Shot],
    *,
    depth_error: float = 1e-3,
    image_error: float = 0.5,
    sparse: bool = False,
) -> None:
    """Compare loaded views with the truth they were written from.

    Args:
        views: by frame.
        shots: the truth, by frame.
        depth_error: allowed relative error of depth.
        image_error: allowed mean error of the colours, of 255.
        sparse: depth need not be everywhere.
    """
    assert views.keys() == shots.keys()
    compared = 0
    for name, view in views.items():
        shot = shots[name]
        _check_image(name, view, shot, image_error)
        if view.depth is not None:
            _check_depth(name, view, shot, depth_error, sparse)
        mine = _camera_points(view, shot)
        _check_pixels(f"{name} in its own camera", mine, shot.k, np.argwhere(_known(view, shot))[:, ::-1] + 0.5)
        for other in shots:
            if other != name and view.extrinsics is not None:
                _check_reprojection(f"{name} in {other}", view, shot, views[other], shots[other])
                compared += 1
    assert compared or all(view.extrinsics is None for view in views.values())


def mutate_view(view: View, shot: Shot, kind: str) -> View:
    """A view with one mistake; what the mistake does to depth, cameras and pixels is taken from :func:`mutate`."""
    depth = np.zeros(shot.size, np.float32) if view.depth is None else view.depth
    extrinsics = np.eye(4)[:3] if view.extrinsics is None else view.extrinsics
    wrong = mutate(Shot(view.intrinsics.astype(float), np.vstack((extrinsics, [0, 0, 0, 1])), depth, view.image), kind)
    return replace(
        view,
        image=wrong.image,
        depth=None if view.depth is None else wrong.z.astype(np.float32),
        intrinsics=wrong.k.astype(np.float32),
        extrinsics=None if view.extrinsics is None else wrong.w2c[:3].astype(np.float32),
    )


def _check_image(name: str, view: View, shot: Shot, allowed: float) -> None:
    assert view.image.shape == shot.image.shape, name
    error = np.abs(view.image.astype(float) - shot.image).mean()
    assert error <= allowed, f"{name}: colours are off by {error:.2f}"


def _check_depth(name: str, view: View, shot: Shot, allowed: float, sparse: bool) -> None:
    valid = view.depth > 0
    assert valid.sum() > 100, name
    assert not (valid & ~shot.hit).any(), f"{name}: depth where there is nothing"
    if not sparse:
        assert valid[shot.hit].all(), f"{name}: {(shot.hit & ~valid).sum()} pixels without depth"
    error = np.abs(view.depth[valid] / shot.z[valid] - 1).max()
    assert error < allowed, f"{name}: depth is off by {error:.3%}"


def _known(view: View, shot: Shot) -> np.ndarray:
    return shot.hit if view.depth is None else view.depth > 0


def _camera_points(view: View, shot: Shot) -> np.ndarray:
    known = _known(view, shot)
    z = (shot.z if view.depth is None else view.depth)[known].astype(float)
    v, u = np.argwhere(known).T + 0.5
    k = view.intrinsics.astype(float)
    return np.stack(((u - k[0, 2]) / k[0, 0] * z, (v - k[1, 2]) / k[1, 1] * z, z), -1)


def _check_reprojection(what: str, view: View, shot: Shot, other: View, other_shot: Shot) -> None:
    first, second = (np.vstack((v.extrinsics.astype(float), [0, 0, 0, 1])) for v in (view, other))
    moved = _moved(_camera_points(view, shot), first, second)
    v, u = np.argwhere(_known(view, shot)).T
    z = shot.z[v, u]
    rays = np.stack(((u + 0.5 - shot.k[0, 2]) / shot.k[0, 0], (v + 0.5 - shot.k[1, 2]) / shot.k[1, 1], np.ones(len(u))))
    truth = _moved((rays * z).T, shot.w2c, other_shot.w2c)
    in_front = truth[:, 2] > 0.1 * np.median(z)
    assert in_front.sum() > 100, what
    expected = truth[in_front] @ other_shot.k.T
    _check_pixels(what, moved[in_front], other.intrinsics.astype(float), expected[:, :2] / expected[:, 2:])


def _moved(points: np.ndarray, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    transform = target @ np.linalg.inv(source)
    return points @ transform[:3, :3].T + transform[:3, 3]


def _check_pixels(what: str, points: np.ndarray, k: np.ndarray, expected: np.ndarray) -> None:
    projected = points @ k.T
    error = np.abs(projected[:, :2] / projected[:, 2:] - expected).max()
    assert error < PIXELS, f"{what}: {error:.3f} pixels off"
