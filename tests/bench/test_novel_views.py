"""Novel views: which views are seen, what the guesses look like, and the report."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from depth_anything_3.bench.novel_views import (
    PHOTO_CONTEXT,
    PHOTO_SIZE,
    ModelPainter,
    NovelViewRun,
    Split,
    farthest_views,
    held_out_splits,
    markdown,
    nearest_warped,
    novel_views,
    photo_splits,
    pose_distance,
    splits_of,
    true_splats,
    view_angle_deg,
    write_novel_views,
)
from depth_anything_3.bench.scenes import EvalScene
from depth_anything_3.datasets.base import Dataset, SceneCameras, View
from depth_anything_3.errors import InputError
from depth_anything_3.geometry.pinhole import pixel_centres
from depth_anything_3.metrics.images import psnr

SIZE = (48, 64)
K = np.array([[60.0, 0, 32], [0, 60, 24], [0, 0, 1]])


def look(angle: float) -> np.ndarray:
    """A camera on a circle of radius 4 about the point (0, 0, 4), which it looks at."""
    c, s = np.cos(angle), np.sin(angle)
    pose = np.array([[c, 0, s, 0], [0, 1, 0, 0], [-s, 0, c, 0.0]])
    pose[:, 3] = [0, 0, 4] - pose[:, :3] @ [0, 0, 4]
    return pose


def ball(pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Picture and z-depth of a smoothly coloured ball of radius 1.5 about (0, 0, 4), before nothing."""
    xy = pixel_centres(*SIZE)
    ray = np.concatenate(((xy - K[:2, 2]) / 60, np.ones((*SIZE, 1))), -1) @ pose[:, :3]
    eye = -pose[:, :3].T @ pose[:, 3]
    away = eye - [0, 0, 4]
    a, b, c = (ray**2).sum(-1), ray @ away, away @ away - 1.5**2
    root = b * b - a * c
    z = np.where(root > 0, (-b - np.sqrt(root.clip(0))) / a, 0)
    point = eye + ray * z[..., None]
    colour = 128 + 100 * np.sin(1.5 * point + [0, 1, 2])
    return np.where(z[..., None] > 0, colour, 0).astype(np.uint8), z.astype(np.float32)


def scene(angles: list[float]) -> EvalScene:
    poses = np.stack([look(a) for a in angles])
    images, depth = zip(*(ball(pose) for pose in poses), strict=True)
    return EvalScene(
        name="ball",
        slices=(),
        images=np.stack(images),
        depth=np.stack(depth),
        intrinsics=np.repeat(K[None], len(angles), 0),
        extrinsics=poses,
    )


SPLIT = Split(scene=scene([-0.3, 0.0, 0.12, 0.3]), context=(0, 1, 3), targets=(2,))


def test_farthest_views_are_spread() -> None:
    poses = np.stack([look(a) for a in (-0.6, -0.55, -0.5, 0.0, 0.02, 0.55, 0.6)])
    assert farthest_views(poses, 3) == (0, 3, 6) and farthest_views(poses, 1) == (3,)
    assert len(farthest_views(poses, 7)) == 7
    distance = pose_distance(poses)
    np.testing.assert_allclose(distance, distance.T)
    assert (distance.argsort(1)[:, 0] == np.arange(7)).all()
    with pytest.raises(InputError, match="1 to 7 views"):
        farthest_views(poses, 8)


def test_targets_are_ten_degrees_off() -> None:
    degrees = np.array([-45, -30, -24, 0, 4, 30, 45])
    (split,) = held_out_splits([scene(np.radians(degrees).tolist())])
    assert [degrees[i] for i in split.context] == [-45, 0, 4, 45] or len(split.context) == 4
    off = np.abs(degrees[list(split.targets)][:, None] - degrees[list(split.context)]).min(1)
    assert (off >= 10).all()
    rest = [i for i in range(7) if i not in (*split.context, *split.targets)]
    assert all(np.abs(degrees[i] - degrees[list(split.context)]).min() < 10 for i in rest)
    assert not list(held_out_splits([scene([0.0, 0.01, 0.02, 0.03, 0.04])])), "nothing is far enough"


def test_the_angle_counts_place_and_orientation() -> None:
    turned = scene([0.0, 0.3])
    assert 17.2 < view_angle_deg(turned)[0, 1] < 30, "turned by 17.2 degrees about what is behind the surface"
    sideways = turned.extrinsics.copy()
    sideways[1] = np.eye(3, 4)
    sideways[1, 0, 3] = -2.0
    moved = EvalScene(**{**vars(turned), "extrinsics": sideways})
    assert 30 < view_angle_deg(moved)[0, 1] < 45, "parallel cameras: two units apart before something four away"


def test_the_guesses_look_like_the_truth() -> None:
    truth = SPLIT.scene.images[2] / 255.0
    inside = (slice(14, 34), slice(22, 42))
    assert psnr(nearest_warped(SPLIT)[0][inside], truth[inside]) > 27
    assert psnr(true_splats(SPLIT)[0][inside], truth[inside]) > 20
    blind = psnr(SPLIT.scene.images[1][inside] / 255.0, truth[inside])
    assert psnr(nearest_warped(SPLIT)[0][inside], truth[inside]) > blind + 3


def test_the_nearest_view_is_taken() -> None:
    shown = scene([-0.3, 0.0, 0.12, 0.3])
    dark = shown.images.copy()
    dark[1] = 0
    changed = Split(scene=EvalScene(**{**vars(shown), "images": dark}), context=(0, 1, 3), targets=(2,))
    assert not nearest_warped(changed)[0][20:28, 28:36].any()


def test_runs_and_report(tmp_path: Path) -> None:
    def fails(split: Split) -> np.ndarray:
        raise ValueError("no")

    seen: list[NovelViewRun] = []
    other = Split(scene=EvalScene(**{**vars(SPLIT.scene), "name": "two"}), context=(0, 1), targets=(2, 3))
    painters = {
        "truth": lambda split: split.scene.images[list(split.targets)] / 255.0,
        "fails": fails,
        "wrong size": lambda split: np.zeros((1, 4, 4, 3)),
    }
    runs = novel_views(painters, [SPLIT, other], on_run=seen.append)
    assert seen == runs and len(runs) == 6
    assert runs[0].scores == {"psnr": 100.0, "ssim": pytest.approx(1.0)}
    assert runs[1].error == "ValueError: no" and "shape (1, 4, 4, 3)" in str(runs[2].error)
    text = markdown(runs, notes={"LPIPS": "not scored"})
    assert "| truth | 2 | 100.000" in text and "| fails | 0 of 2 | withheld" in text
    assert "3 targets in all" in text and "* LPIPS: not scored" in text and "fails failed on two" in text
    paths = write_novel_views(tmp_path, runs, notes={})
    stored = json.loads(paths[1].read_text())["runs"]
    assert stored[0]["context"] == [0, 1, 3] and stored[3]["targets"] == [2, 3]


def test_lpips_is_scored_where_it_is_there() -> None:
    run = novel_views({"guess": nearest_warped}, [SPLIT], lpips=lambda a, b: 0.25)[0]
    assert run.scores["lpips"] == 0.25 and "LPIPS ↓" in markdown([run])


def test_a_model_paints_the_targets() -> None:
    from depth_anything_3.api import DepthAnything3

    model = DepthAnything3.from_pretrained("bundled", device="cpu")
    painter = ModelPainter(model=model, source="depth", process_res=56)
    made = painter(Split(scene=SPLIT.scene, context=(0, 3), targets=(1, 2)))
    assert made.shape == (2, *SIZE, 3) and np.isfinite(made).all() and made.max() > 0.2


class Walk(Dataset):
    """Twenty-five pictures whose colour is their number, one without a camera."""

    name, metric, real = "walk", False, True

    def __init__(self, size: tuple[int, int] = (300, 600)) -> None:
        self.size, self.loaded = size, []

    def scenes(self) -> tuple[str, ...]:
        return ("walk/a",)

    def frames(self, scene: str) -> tuple[str, ...]:
        return tuple(map(str, range(25)))

    def cameras(self, scene: str) -> SceneCameras:
        poses = np.stack([look(a) for a in np.linspace(-0.6, 0.6, 25)]).astype(np.float32)
        poses[3] = np.nan
        return SceneCameras(intrinsics=np.repeat(self.k[None], 25, 0), extrinsics=poses)

    @property
    def k(self) -> np.ndarray:
        h, w = self.size
        return np.array([[w, 0, w / 2], [0, w, h / 2 + 10], [0, 0, 1]], np.float32)

    def load(self, scene: str, frame: str) -> View:
        self.loaded.append(int(frame))
        picture = np.zeros((*self.size, 3), np.uint8)
        cv2.circle(picture, (self.size[1] // 2, self.size[0] // 2 + 10), 8, (0, int(frame) * 10, 255), -1)
        return View(image=picture, intrinsics=self.k)


@pytest.mark.parametrize("size", [(300, 600), (600, 300), (270, 480)])
def test_the_published_split(size: tuple[int, int]) -> None:
    data = Walk(size)
    (split,) = photo_splits(data)
    usable = [i for i in range(25) if i != 3]
    assert data.loaded[PHOTO_CONTEXT:] == usable[::8] and len(split.context) == PHOTO_CONTEXT
    assert not set(data.loaded[:PHOTO_CONTEXT]) & set(usable[::8]) and 3 not in data.loaded
    assert split.scene.images.shape[1:3] == PHOTO_SIZE
    x, y = split.scene.intrinsics[0, :2, 2]
    disc = np.argwhere(split.scene.images[0, ..., 2] > 128).mean(0) + 0.5
    np.testing.assert_allclose(disc, [y, x], atol=1.0, err_msg="the disc is where the principal point is")


def test_wrong_requests_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="data: got None"):
        splits_of("dl3dv", None)
