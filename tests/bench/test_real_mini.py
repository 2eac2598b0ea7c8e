"""The real scenes of the scoreboard: pinned frames, rows that come in by a list, one page of results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.tiny import any_view_config, save_tiny
from typer.testing import CliRunner

from depth_anything_3.api import DepthAnything3
from depth_anything_3.bench import real_mini
from depth_anything_3.bench.real_mini import COLMAP, SIFT, TRIVIAL, frame_lists, load_views, run_real_mini
from depth_anything_3.bench.scenes import REAL_SCENES, evenly_spaced
from depth_anything_3.cli import app
from depth_anything_3.errors import InputError, MissingExtraError

BOX = "princeton_box50"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("real-mini") / "tiny", any_view_config())


def write_box(folder: Path) -> Path:
    """All frames of one scene, as small pictures of noise with depth."""
    names = list(dict.fromkeys(frame for frames in frame_lists()[BOX] for frame in frames))
    rng = np.random.default_rng(0)
    for sub in ("images", "depth"):
        (folder / BOX / sub).mkdir(parents=True)
    for name in names:
        Image.fromarray(rng.integers(0, 255, (42, 56, 3), np.uint8)).save(folder / BOX / "images" / f"{name}.png")
        Image.fromarray(np.full((42, 56), 500, np.uint16)).save(folder / BOX / "depth" / f"{name}.png")
    c2w = np.repeat(np.eye(4)[None], len(names), 0)
    c2w[:, 0, 3] = 0.1 * np.arange(len(names))
    k = np.repeat(np.array([[50.0, 0, 28], [0, 50, 21], [0, 0, 1]])[None], len(names), 0)
    np.savez(folder / BOX / "scene.npz", names=np.array(names), K=k, c2w=c2w)
    return folder


def only_quick_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two pinned lists, and no COLMAP."""

    def require(module: str, *, extra: str) -> None:
        raise MissingExtraError(f"no {module}: pip install 'depth-anything-3[{extra}]'")

    lists = {BOX: frame_lists()[BOX][:2]}
    monkeypatch.setattr(real_mini, "frame_lists", lambda: lists)
    monkeypatch.setattr(real_mini, "require", require)


def test_frames_are_pinned_at_up_to_sixteen_views() -> None:
    lists = frame_lists()
    assert set(lists) == set(REAL_SCENES)
    counts = {scene: [len(frames) for frames in lists[scene]] for scene in lists}
    assert counts == {
        "princeton_box50": [2, 4, 8, 16],
        "redwood_livingroom1_micro": [2, 4, 8, 16],
        "open3d_redwood5": [2, 4, 5],
        "alicevision_buddha13": [2, 4, 8, 13],
        "lund_door12": [2, 4, 8, 12],
        "tum_fr1_rpy": [2, 4, 8, 16],
        "middlebury_motorcycle": [2],
    }
    assert all(len(set(frames)) == len(frames) for scene in lists.values() for frames in scene)


def test_frames_are_evenly_spaced_over_the_scenes(shared: Path) -> None:
    if not (shared / "data").is_dir():
        pytest.skip("no real scenes: there is no folder 'data' among the reference data")
    for scene, lists in frame_lists().items():
        with np.load(shared / "data" / scene / "scene.npz") as file:
            names = [str(name) for name in file["names"]]
        stretch = names[12:38] if scene == "tum_fr1_rpy" else names
        for frames in lists:
            assert list(frames) == [stretch[i] for i in evenly_spaced(len(stretch), len(frames))]


def test_scenes_come_at_every_number_of_views(tmp_path: Path) -> None:
    views = load_views(write_box(tmp_path), BOX)
    assert [len(v.images) for v in views] == [2, 4, 8, 16]
    # The first and the last frame are the same in all lists, and so are the first and last pictures.
    for v in views:
        np.testing.assert_array_equal(v.images[[0, -1]], views[0].images)
        np.testing.assert_array_equal(v.extrinsics[[0, -1]], views[0].extrinsics)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"princeton_box50/scene\.npz"):
        run_real_mini(tmp_path)
    with pytest.raises(InputError, match=r"scene: got 'kitchen'.*lund_door12"):
        run_real_mini(tmp_path, scenes=["kitchen"])
    frame = frame_lists()[BOX][3][1]
    (write_box(tmp_path) / BOX / "images" / f"{frame}.png").unlink()
    with pytest.raises(InputError, match=f"without an image {frame}"):
        run_real_mini(tmp_path, scenes=[BOX])


def test_the_command_writes_the_scoreboard(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only_quick_rows(monkeypatch)
    data, out = write_box(tmp_path / "data"), tmp_path / "out"
    arguments = ["bench", "real-mini", "--data", str(data), "--out", str(out), "--model", str(checkpoint)]
    result = CliRunner().invoke(app, [*arguments, "--scene", BOX])
    assert result.exit_code == 0, result.output
    assert "colmap`: left out: no pycolmap: pip install 'depth-anything-3[colmap]'" in result.output
    runs = json.loads((out / "scoreboard.json").read_text())["runs"]
    assert all(run["error"] is None for run in runs)
    rows = [(run["views"], run["given_cameras"], run["predictor"]) for run in runs]
    models = [str(checkpoint), f"{checkpoint}, refined"]
    free, given = [*models, SIFT, TRIVIAL], [*models, TRIVIAL]
    assert rows == [(n, g, name) for n in (2, 4) for g in (False, True) for name in (given if g else free)]
    text = (out / "scoreboard.md").read_text()
    assert f"### {BOX}, cameras given" in text
    assert f"--scene {BOX}" in text and str(data) not in text


def test_without_depth_there_is_no_trivial_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only_quick_rows(monkeypatch)
    views = load_views(write_box(tmp_path), BOX)
    blind = type(views[0])(**{**vars(views[0]), "depth": np.zeros_like(views[0].depth)})
    rows, left_out = real_mini.predictors([], [blind])
    assert list(rows) == [SIFT] and list(left_out) == [COLMAP, TRIVIAL]


def test_a_row_of_models_comes_in_by_the_list(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refined row asks inference for it; the plain one does not use the word."""
    only_quick_rows(monkeypatch)
    asked: list[Any] = []
    plain = DepthAnything3.inference

    def inference(self: DepthAnything3, *arguments: Any, **options: Any) -> Any:
        asked.append(options.pop("refine", "not asked"))
        return plain(self, *arguments, **options)

    monkeypatch.setattr(DepthAnything3, "inference", inference)
    monkeypatch.setattr(real_mini, "MODEL_ROWS", {"": None, ", refined": "full"})
    runs, _ = run_real_mini(write_box(tmp_path), models=[str(checkpoint)], scenes=[BOX])
    assert all(run.error is None for run in runs)
    names = dict.fromkeys(run.predictor for run in runs)
    assert list(names) == [str(checkpoint), f"{checkpoint}, refined", SIFT, TRIVIAL]
    assert asked == ["not asked", "full"] * 4


def test_bundled_on_a_real_pair(shared: Path) -> None:
    if not (shared / "data" / "middlebury_motorcycle").is_dir():
        pytest.skip("no real scenes among the reference data")
    runs, notes = run_real_mini(shared / "data", scenes=["middlebury_motorcycle"])
    scores = {run.predictor: run.scores for run in runs if not run.given_cameras}
    assert all(run.error is None for run in runs)
    assert {"bundled", SIFT, TRIVIAL} <= set(scores)
    assert scores[SIFT]["pose_auc_5"] > 0.9
    assert scores[TRIVIAL]["rotation_auc_30"] == 1  # both look the same way
    assert scores["bundled"]["delta_1.25"] > 0.1
    assert notes["command"] == "`da3 bench real-mini --data FOLDER --out docs --scene middlebury_motorcycle`"


def test_processes_give_the_same_runs_in_the_same_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only_quick_rows(monkeypatch)
    data = write_box(tmp_path)
    told: list[int] = []
    alone, _ = run_real_mini(data, scenes=[BOX])
    shared_out, _ = run_real_mini(data, scenes=[BOX], workers=2, on_run=lambda run: told.append(run.views))
    shared_out = [run for run in shared_out if run.predictor != COLMAP]  # which is not hidden from other processes
    for one, other in zip(alone, shared_out, strict=True):
        assert other.error is None
        assert (one.predictor, one.views, one.given_cameras) == (other.predictor, other.views, other.given_cameras)
        if one.predictor in (SIFT, TRIVIAL):
            assert other.scores == pytest.approx(dict(one.scores))
    assert told == sorted(told, reverse=True) and set(told) == {2, 4}  # the largest first
    with pytest.raises(InputError, match="workers: got 0; expected at least 1"):
        run_real_mini(data, scenes=[BOX], workers=0)
