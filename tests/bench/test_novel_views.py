"""Novel views: which views are seen, what the references look like, and the mode that scores them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from depth_anything_3.bench.contenders import ModelOptions, contenders, model_contender
from depth_anything_3.bench.evaluate import Estimate
from depth_anything_3.bench.modes.nvs import has_targets
from depth_anything_3.bench.novel_views import farthest_views, pose_distance, split_views, view_angle_deg
from depth_anything_3.bench.results import load_results
from depth_anything_3.bench.run import run_bench
from depth_anything_3.bench.task import Contender, Request, cut
from depth_anything_3.datasets.base import SceneCameras, View
from depth_anything_3.datasets.benchmark._photos import Photographs
from depth_anything_3.datasets.benchmark.base import BENCH_DATASETS, PUBLISHED_NOVEL_VIEWS, BenchDataset, NovelViews
from depth_anything_3.errors import InputError
from depth_anything_3.geometry.pinhole import pixel_centres
from depth_anything_3.metrics.images import psnr

SIZE = (48, 64)
K = np.array([[60.0, 0, 32], [0, 60, 24], [0, 0, 1]])
RULE = NovelViews(context=4, angle_deg=10.0)


def look(angle: float) -> np.ndarray:
    """A camera on a circle of radius 4 about the point (0, 0, 4), which it looks at."""
    c, s = np.cos(angle), np.sin(angle)
    pose = np.array([[c, 0, s, 0], [0, 1, 0, 0], [-s, 0, c, 0.0]])
    pose[:, 3] = [0, 0, 4] - pose[:, :3] @ [0, 0, 4]
    return pose


def ball(angle: float) -> View:
    """A smoothly coloured ball of radius 1.5 about (0, 0, 4), before nothing."""
    pose = look(angle)
    ray = np.concatenate(((pixel_centres(*SIZE) - K[:2, 2]) / 60, np.ones((*SIZE, 1))), -1) @ pose[:, :3]
    eye = -pose[:, :3].T @ pose[:, 3]
    away = eye - [0, 0, 4]
    a, b, c = (ray**2).sum(-1), ray @ away, away @ away - 1.5**2
    root = b * b - a * c
    z = np.where(root > 0, (-b - np.sqrt(root.clip(0))) / a, 0)
    colour = 128 + 100 * np.sin(1.5 * (eye + ray * z[..., None]) + [0, 1, 2])
    return View(
        image=np.where(z[..., None] > 0, colour, 0).astype(np.uint8),
        depth=z.astype(np.float32),
        intrinsics=K.astype(np.float32),
        extrinsics=pose.astype(np.float32),
    )


class Ball(BenchDataset):
    """One ball, seen from all around."""

    name, title, modes, metric, real = "ball", "ball", ("nvs",), True, False
    novel_views = NovelViews(context=3, every=4)

    def __init__(self, angles: tuple[float, ...] = (0.12, -0.3, 0.0, 0.3)) -> None:
        self.views = [ball(angle) for angle in angles]

    def scenes(self) -> tuple[str, ...]:
        return ("ball/a",)

    def frames(self, scene: str) -> tuple[str, ...]:
        return tuple(map(str, range(len(self.views))))

    def cameras(self, scene: str) -> SceneCameras:
        return SceneCameras(
            intrinsics=np.stack([v.intrinsics for v in self.views]),
            extrinsics=np.stack([v.extrinsics for v in self.views if v.extrinsics is not None]),
        )

    def load(self, scene: str, frame: str) -> View:
        return self.views[int(frame)]


def painted(name: str, tmp_path: Path, data: Ball | None = None) -> np.ndarray:
    """What a reference draws for the one target of a ball."""
    (reference,) = contenders([name])
    made: list[Estimate] = []

    def answer(request: Request) -> Estimate:
        made.append(reference.answer(request))
        return made[0]

    (result,) = run_bench(tmp_path, [data or Ball()], [replace(reference, answer=answer)])
    assert result.error is None and made[0].pictures is not None
    return made[0].pictures[0]


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
    split = split_views(RULE, np.stack([look(a) for a in np.radians(degrees)]), depth=4.0)
    assert len(split.context) == 4
    off = np.abs(degrees[list(split.targets)][:, None] - degrees[list(split.context)]).min(1)
    assert (off >= 10).all()
    rest = [i for i in range(7) if i not in (*split.context, *split.targets)]
    assert all(np.abs(degrees[i] - degrees[list(split.context)]).min() < 10 for i in rest)
    narrow = np.stack([look(a) for a in (0.0, 0.01, 0.02, 0.03, 0.04)])
    with pytest.raises(InputError, match="no view that is far enough"):
        split_views(RULE, narrow, depth=4.0)
    with pytest.raises(InputError, match="no known median depth"):
        split_views(RULE, narrow)


def test_the_angle_counts_place_and_orientation() -> None:
    poses = np.stack([look(0.0), look(0.3)])
    assert view_angle_deg(poses, 4.0)[0, 1] == pytest.approx(np.degrees(0.3)), "about what both look at"
    poses[1] = np.eye(3, 4)
    poses[1, 0, 3] = -2.0
    parallel = view_angle_deg(poses, 4.0)
    assert parallel[0, 1] == pytest.approx(np.degrees(np.arctan(0.5))) and not np.diagonal(parallel).any()


def test_the_published_split() -> None:
    poses = np.stack([look(a) for a in np.linspace(-0.6, 0.6, 25)])
    split = split_views(PUBLISHED_NOVEL_VIEWS, poses)
    assert split.targets == (0, 8, 16, 24) and len(split.context) == 12
    assert not set(split.context) & set(split.targets)
    assert len(split_views(PUBLISHED_NOVEL_VIEWS, poses[:5]).context) == 4, "all there are"
    with pytest.raises(InputError, match="at least two"):
        split_views(PUBLISHED_NOVEL_VIEWS, poses[:1])


def test_held_out_scenes_without_a_target_are_not_asked_for() -> None:
    data = BENCH_DATASETS["procedural"]()  # type: ignore[call-arg]
    assert not has_targets(data, "procedural/held_out_002") and has_targets(data, "procedural/held_out_000")
    assert sum(has_targets(data, scene) for scene in data.scenes()) == 174


def test_photographs_without_a_pose_are_left_out() -> None:
    class Lost(Photographs, Ball):
        def cameras(self, scene: str) -> SceneCameras:
            known = super().cameras(scene)
            assert known.extrinsics is not None
            poses = known.extrinsics.copy()
            poses[1] = np.nan
            return SceneCameras(intrinsics=known.intrinsics, extrinsics=poses)

    assert Lost().select("ball/a") == ("0", "2", "3")


def test_the_references_look_like_the_truth(tmp_path: Path) -> None:
    truth = Ball().views[0].image / 255.0
    inside = (slice(14, 34), slice(22, 42))
    warped, splats = (painted(name, tmp_path / name) / 255.0 for name in ("nearest_view", "true_splats"))
    assert psnr(warped[inside], truth[inside]) > 27
    assert psnr(splats[inside], truth[inside]) > 20
    assert psnr(warped[inside], truth[inside]) > psnr(Ball().views[2].image[inside] / 255.0, truth[inside]) + 3


def test_the_nearest_view_is_taken(tmp_path: Path) -> None:
    data = Ball()
    data.views[2] = replace(data.views[2], image=np.zeros_like(data.views[2].image))
    assert not painted("nearest_view", tmp_path, data)[20:28, 28:36].any()


@pytest.mark.parametrize("size", [(300, 600), (600, 300), (270, 480)])
def test_pictures_are_cut_with_their_cameras(size: tuple[int, int]) -> None:
    h, w = size
    picture = np.zeros((h, w, 3), np.uint8)
    cv2.circle(picture, (w // 2, h // 2 + 10), 8, (0, 0, 255), -1)
    k = np.array([[w, 0, w / 2], [0, w, h / 2 + 10], [0, 0, 1]], np.float32)
    small = cut(View(image=picture, intrinsics=k), (270, 480))
    assert small.image.shape == (270, 480, 3)
    disc = np.argwhere(small.image[..., 2] > 128).mean(0) + 0.5
    np.testing.assert_allclose(disc, small.intrinsics[1::-1, 2], atol=1.0, err_msg="the disc is at the principal point")


def test_the_mode_scores_pictures_and_says_which(tmp_path: Path) -> None:
    data, asked = Ball(), []

    def answer(request: Request) -> Estimate:
        asked.append(request)
        assert request.targets is not None and request.targets.size == SIZE and len(request.images()) == 3
        assert request.extrinsics is not None and request.intrinsics is not None
        return Estimate(pictures=np.stack([data.views[int(f)].image for f in request.targets.frames]))

    perfect = Contender(name="perfect", identity="1", answer=answer, gives=frozenset({"views"}))
    fewer = replace(perfect, name="fewer", identity="2", answer=lambda r: Estimate(pictures=answer(r).pictures[:0]))
    small = replace(
        perfect, name="small", identity="3", answer=lambda r: Estimate(pictures=np.zeros((1, 9, 9, 3), "u1"))
    )
    blind = replace(perfect, name="blind", gives=frozenset({"depth"}))
    good, none, wrong = run_bench(tmp_path, [data], [perfect, fewer, small, blind])
    assert good.scores["psnr"] == 100 and good.scores["ssim"] == pytest.approx(1) and good.scores["targets"] == 1
    assert none.error is not None and "one per target" in none.error
    assert wrong.error is not None and "that of the targets" in wrong.error
    plan, results = load_results(tmp_path)
    (kept,) = results["ball", "nvs", "perfect"]
    assert kept is not None and kept.noted["context"] == ("1", "2", "3") and kept.noted["targets"] == ("0",)
    assert plan.left_out["ball", "nvs", "blind"] == "gives no views"
    calls = len(asked)
    run_bench(tmp_path, [data], [perfect], force=True)
    assert len(asked) == calls, "pictures are kept apart from their scores"


def test_lpips_is_scored_where_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("depth_anything_3.bench.modes.nvs._lpips", lambda: (lambda a, b: 0.25, "here"))
    (result,) = run_bench(tmp_path, [Ball()], contenders(["nearest_view"]))
    assert result.scores["lpips"] == 0.25 and result.noted["lpips"] == ("here",)


def test_saved_pictures_are_scored(tmp_path: Path) -> None:
    folder = tmp_path / "other" / "ball" / "a"
    folder.mkdir(parents=True)
    np.savez(folder / "views.npz", pictures=Ball().views[0].image[None], frames=np.array(["0"]))
    (saved,) = contenders([f"npz={tmp_path / 'other'}"])
    (result,) = run_bench(tmp_path / "out", [Ball()], [saved])
    assert result.error is None and result.scores["psnr"] == 100


def test_a_model_paints_the_targets(tmp_path: Path) -> None:
    from depth_anything_3.api import DepthAnything3

    model = DepthAnything3.from_pretrained("bundled", device="cpu")
    contender = model_contender("bundled", model, ModelOptions(process_res=56, gs_source="depth"))
    (result,) = run_bench(tmp_path, [Ball()], [contender])
    assert result.error is None and 5 < result.scores["psnr"] < 60
