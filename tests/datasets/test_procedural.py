"""The procedural world as a data set: files that say what was rendered, whoever wrote them."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from depth_anything_3.datasets import procedural
from depth_anything_3.datasets.procedural import (
    FRAMES,
    SIZES,
    TRAJECTORIES,
    RenderedScene,
    cached_scene,
    fill_cache,
    load_scene,
    render_scene,
    save_scene,
    shared_surface,
)
from depth_anything_3.errors import InputError
from depth_anything_3.synth.cameras import TRAJECTORIES as KINDS
from depth_anything_3.synth.cameras import Cameras, overlaps
from depth_anything_3.synth.scenes import make_scene

SEED = 3  # a street: buildings, sky, principal points off the middle


@pytest.fixture(scope="module")
def scene() -> RenderedScene:
    return render_scene(SEED)


def same(a: RenderedScene, b: RenderedScene) -> bool:
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(RenderedScene))


# Rendering -------------------------------------------------------------------------------------------------


def test_a_scene_is_whole(scene: RenderedScene) -> None:
    assert scene.images.shape == (FRAMES, *scene.depth.shape[1:], 3)
    assert scene.depth.shape[1:] in SIZES
    assert (scene.depth[scene.sky] == 0).all()
    assert 0.05 < scene.sky.mean() < 0.5
    assert (scene.depth > 0)[~scene.sky].mean() > 0.999
    assert len({image.tobytes() for image in scene.images}) == FRAMES
    assert sum(SIZES.values()) == pytest.approx(1)
    assert sum(TRAJECTORIES.values()) == pytest.approx(1)
    assert set(TRAJECTORIES) <= set(KINDS)


def test_seeds_are_not_negative() -> None:
    with pytest.raises(InputError, match="seed"):
        render_scene(-1)


# Overlap ---------------------------------------------------------------------------------------------------


def test_shared_surface_is_about_what_rays_say(scene: RenderedScene) -> None:
    cameras = Cameras(intrinsics=scene.intrinsics, extrinsics=scene.extrinsics)
    cast = overlaps(make_scene(SEED), cameras, *scene.depth.shape[1:])
    np.testing.assert_allclose(np.diag(scene.overlap), 1)
    assert np.abs(scene.overlap - cast).max() < 0.15
    assert np.abs(scene.overlap - cast).mean() < 0.04
    apart = ~np.eye(FRAMES, dtype=bool)
    assert np.ptp(cast[apart]) > 0.3
    assert np.abs(cast - cast.T).max() > 0.15  # rows and columns can be told apart


def two_views(gap: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two cameras side by side before a wall at distance 2, the second moved to the right."""
    k = np.repeat(np.float32([[[40, 0, 40], [0, 40, 24], [0, 0, 1]]]), 2, 0)
    poses = np.repeat(np.eye(3, 4, dtype=np.float32)[None], 2, 0)
    poses[1, 0, 3] = -gap
    return np.full((2, 48, 80), 2.0, dtype=np.float32), k, poses


def test_shared_surface_by_hand() -> None:
    depth, k, poses = two_views(1.0)  # by 20 of 80 columns
    np.testing.assert_allclose(shared_surface(depth, k, poses, stride=2), [[1, 0.75], [0.75, 1]])
    depth[1] *= 0.5  # hidden
    np.testing.assert_allclose(shared_surface(depth, k, poses, stride=2)[0], [1, 0])
    depth[1] = 2.1  # within the tolerance
    assert shared_surface(depth, k, poses, stride=2)[0, 1] == pytest.approx(0.75)


def test_shared_surface_counts_known_points_only() -> None:
    depth, k, poses = two_views(1.0)
    depth[0, :, :40] = 0  # the half that lies outside of the second view, or at its edge
    np.testing.assert_allclose(shared_surface(depth, k, poses, stride=2), [[1, 1], [0.5, 1]])
    depth[0] = 0
    np.testing.assert_allclose(shared_surface(depth, k, poses, stride=2), [[0, 0], [0, 1]])


def test_what_is_behind_a_camera_is_not_shared() -> None:
    depth, k, poses = two_views(0.0)
    poses[1, :, :3] = np.diag([-1, 1, -1])
    np.testing.assert_allclose(shared_surface(depth, k, poses, stride=2), np.eye(2))


# Files -----------------------------------------------------------------------------------------------------


def test_a_scene_survives_its_file(scene: RenderedScene, tmp_path: Path) -> None:
    save_scene(scene, tmp_path / "scene.npz")
    back = load_scene(tmp_path / "scene.npz")
    for field in fields(RenderedScene):
        before, after = getattr(scene, field.name), getattr(back, field.name)
        assert before.dtype == after.dtype, field.name
        if field.name != "depth":
            np.testing.assert_array_equal(before, after)
    assert ((back.depth > 0) == (scene.depth > 0)).all()
    np.testing.assert_allclose(back.depth, scene.depth, rtol=1e-4)


def test_depth_of_every_size_survives(tmp_path: Path) -> None:
    depth = np.geomspace(0.0201, 1999, 8 * 5 * 7).reshape(8, 5, 7).astype(np.float32)
    depth[:, 0, 0] = 0
    sky = np.random.default_rng(0).random(depth.shape) < 0.3  # 280 bits are whole bytes; 8 x 35 pixels are not a square
    small = RenderedScene(
        images=np.zeros((8, 5, 7, 3), dtype=np.uint8),
        depth=depth,
        sky=sky,
        intrinsics=np.zeros((8, 3, 3), dtype=np.float32),
        extrinsics=np.zeros((8, 3, 4), dtype=np.float32),
        overlap=np.zeros((8, 8), dtype=np.float32),
    )
    save_scene(small, tmp_path / "scene.npz")
    back = load_scene(tmp_path / "scene.npz")
    np.testing.assert_allclose(back.depth, depth, rtol=1e-4)
    np.testing.assert_array_equal(back.sky, sky)


def test_whoever_writes_a_scene_writes_the_same_bytes(scene: RenderedScene, tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_scene(scene, tmp_path / name / "scene.npz")
    assert (tmp_path / "a" / "scene.npz").read_bytes() == (tmp_path / "b" / "scene.npz").read_bytes()


def test_writing_that_fails_leaves_nothing(
    scene: RenderedScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(file: object, **arrays: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", broken)
    with pytest.raises(OSError, match="disk full"):
        save_scene(scene, tmp_path / "scene.npz")
    assert list(tmp_path.iterdir()) == []


# The cache -------------------------------------------------------------------------------------------------


@pytest.fixture
def rendered(scene: RenderedScene, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Seeds that were rendered while the test ran; they all give the same scene."""
    seeds: list[int] = []

    def render(seed: int, *, device: str = "cpu") -> RenderedScene:
        seeds.append(seed)
        return scene

    monkeypatch.setattr(procedural, "render_scene", render)
    return seeds


def test_the_cache_gives_what_its_file_holds_and_renders_once(
    scene: RenderedScene, rendered: list[int], tmp_path: Path
) -> None:
    first = cached_scene(12_345, tmp_path)
    (file,) = (path for path in tmp_path.rglob("*") if path.is_file())
    again = cached_scene(12_345, tmp_path)
    assert rendered == [12_345]
    assert same(first, again)
    assert same(first, load_scene(file))
    cached_scene(12_346, tmp_path)
    assert rendered == [12_345, 12_346]
    assert same(cached_scene(5, None), scene)


def test_filling_leaves_alone_what_is_there(rendered: list[int], tmp_path: Path) -> None:
    cached_scene(2, tmp_path)
    fill_cache(tmp_path, range(1, 4))
    assert rendered == [2, 1, 3]
    fill_cache(tmp_path, range(1, 4))
    assert rendered == [2, 1, 3]


WRITER = """
import sys
from pathlib import Path
from depth_anything_3.datasets.procedural import load_scene, save_scene
scene = load_scene(Path(sys.argv[1]))
print("ready", flush=True)
for _ in range(30):
    save_scene(scene, Path(sys.argv[2]))
"""


def test_two_processes_may_write_one_file(scene: RenderedScene, tmp_path: Path) -> None:
    source, target = tmp_path / "source.npz", tmp_path / "pool" / "target.npz"
    save_scene(scene, source)
    expected = load_scene(source)
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(source), str(target)], stdout=subprocess.PIPE, env={**os.environ}
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"ready\n"
        rounds = 0
        while other.poll() is None or rounds < 10:
            save_scene(expected, target)
            assert same(load_scene(target), expected)
            rounds += 1
        assert other.wait() == 0
    assert [path.name for path in target.parent.iterdir()] == ["target.npz"]
    assert target.read_bytes() == source.read_bytes()
