"""The protocol on frozen scenes, and models as predictors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.tiny import any_view_config, metric_config, save_tiny
from typer.testing import CliRunner

from depth_anything_3.api import DepthAnything3
from depth_anything_3.bench.evaluate import run_once
from depth_anything_3.bench.held_out import CAMERA_SOURCES, CameraSource, ModelPredictor, held_out_scenes
from depth_anything_3.bench.scenes import EvalScene, evenly_spaced, select_views
from depth_anything_3.cli import app
from depth_anything_3.refine import cameras as refine_cameras


@pytest.fixture(scope="module")
def scene() -> EvalScene:
    return next(held_out_scenes(1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("bench") / "tiny", any_view_config())


@pytest.fixture(scope="module")
def model(folder: Path) -> DepthAnything3:
    return DepthAnything3.from_pretrained(folder, device="cpu", dtype="float32")


def some(scene: EvalScene, views: int) -> EvalScene:
    return select_views(scene, evenly_spaced(len(scene.images), views))


@pytest.mark.parametrize("cameras", CAMERA_SOURCES)
@pytest.mark.parametrize("given", [False, True])
def test_a_model_is_scored_with_cameras_from_everywhere(
    model: DepthAnything3, scene: EvalScene, cameras: CameraSource, given: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("depth_anything_3.refine.matches.MATCHING_HEADS", 2)
    monkeypatch.setattr("depth_anything_3.bench.held_out.MATCHING_BLOCKS", (3,))
    predictor = ModelPredictor(model=model, process_res=112, cameras=cameras)
    run = run_once("model", predictor, some(scene, 3), given_cameras=given)
    assert run.error is None
    expected = {"absrel", "delta_1.25", "f_score"}
    if not given:
        expected |= {
            "pose_auc_5",
            "pose_auc_15",
            "pose_auc_30",
            "rotation_auc_30",
            "median_rotation_deg",
            "focal_error",
        }
    if cameras == "matches" and not given:
        expected.add("matching_top1")
    assert set(run.scores) == expected


def test_cameras_from_matches_are_those_of_the_solver(
    model: DepthAnything3, scene: EvalScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("depth_anything_3.bench.held_out.MATCHING_BLOCKS", (3,))
    monkeypatch.setattr(model, "fast", False)
    seen: dict[str, Any] = {}

    def solve(matches: Any, depth: Any, intrinsics: Any, *, initial: Any) -> refine_cameras.MatchedCameras:
        seen.update(depth=depth, initial=initial)
        return refine_cameras.MatchedCameras(
            extrinsics=initial + 1,
            intrinsics=2 * intrinsics,
            depth_scale=torch.tensor([1.0, 3.0]),
            support=torch.ones(2),
        )

    monkeypatch.setattr("depth_anything_3.bench.held_out.cameras_from_matches", solve)
    images = list(some(scene, 2).images)
    plain = ModelPredictor(model=model, process_res=112)(images, extrinsics=None, intrinsics=None)
    found = ModelPredictor(model=model, process_res=112, cameras="matches")(images, extrinsics=None, intrinsics=None)
    np.testing.assert_allclose(found.depth, plain.depth * np.array([1, 3])[:, None, None], rtol=1e-6)
    np.testing.assert_allclose(found.extrinsics, plain.extrinsics + 1, rtol=1e-6)
    np.testing.assert_allclose(found.intrinsics, 2 * plain.intrinsics, rtol=1e-6)
    assert np.array_equal(seen["depth"], plain.depth)


def test_a_model_without_cameras_scores_depth_alone(tmp_path: Path, scene: EvalScene) -> None:
    source = save_tiny(tmp_path, metric_config(), model_name="da3metric-large")
    model = DepthAnything3.from_pretrained(source, device="cpu")
    run = run_once("m", ModelPredictor(model=model, process_res=112), some(scene, 2), given_cameras=False)
    assert run.error is None and set(run.scores) == {"absrel", "delta_1.25"}


def test_scenes_are_spread_over_the_set() -> None:
    assert [scene.name for scene in held_out_scenes(2)] == ["held_out_000", "held_out_199"]


def test_the_command_writes_its_report(folder: Path, tmp_path: Path) -> None:
    arguments = ["bench", "held-out", "--model", str(folder), "--out", str(tmp_path), "--scenes", "1"]
    result = CliRunner().invoke(app, [*arguments, "--views", "1", "--views", "2", "--process-res", "56"])
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "held_out.json").read_text())
    predictors = {run["predictor"] for run in report["runs"]}
    assert predictors == {"mean log-depth map", "median depth map", "constant depth", f"{folder}, decoder"}
    assert {run["views"] for run in report["runs"]} == {1, 2}
    assert all(run["error"] is None for run in report["runs"])
    assert "| predictor | views |" in (tmp_path / "held_out.md").read_text()


def test_processes_share_the_scenes_and_say_the_same(tmp_path: Path) -> None:
    reports = []
    for workers in ("1", "2"):
        out = tmp_path / workers
        arguments = ["bench", "held-out", "--model", "bundled", "--out", str(out), "--scenes", "3", "--views", "2"]
        sources = ["--cameras", "decoder", "--cameras", "rays"]
        result = CliRunner().invoke(app, [*arguments, *sources, "--process-res", "56", "--workers", workers])
        assert result.exit_code == 0, result.output
        reports.append(json.loads((out / "held_out.json").read_text())["runs"])
    names = [(run["scene"], run["predictor"], run["given_cameras"]) for run in reports[0]]
    assert names == [(run["scene"], run["predictor"], run["given_cameras"]) for run in reports[1]]
    assert sum(name.endswith("rays") for _, name, given in names if given) == 0
    for one, other in zip(*reports, strict=True):
        assert one["scores"] == pytest.approx(other["scores"], rel=1e-4)


def test_the_command_names_what_cameras_can_come_from(folder: Path, tmp_path: Path) -> None:
    arguments = ["bench", "held-out", "--model", str(folder), "--out", str(tmp_path), "--cameras", "stars"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert "decoder, rays, matches" in result.stderr
