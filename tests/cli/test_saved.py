"""``da3 convert``, ``clean`` and ``doctor``: what needs no model."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import camera_files as files
from support.command_line import error, invoke, report

from depth_anything_3.cli import doctor as doctor_module
from depth_anything_3.export._saved import load_result
from depth_anything_3.export.base import export_all, resolve_options
from depth_anything_3.io.cameras.base import read_cameras
from depth_anything_3.refine.points import points
from depth_anything_3.types.inputs import ResizeRecord
from depth_anything_3.types.prediction import Prediction


@pytest.fixture
def prediction() -> Prediction:
    """Three cameras side by side before a wall with a box; the edge of the box is blurred."""
    depth = np.full((3, 28, 42), 2.0, np.float32)
    depth[:, 8:20, 14:28] = 1.0
    depth[:, 8:20, 13] = 1.5
    poses = np.tile(np.eye(4, dtype=np.float32)[:3], (3, 1, 1))
    poses[:, 0, 3] = (0.0, -0.02, -0.04)
    lens = np.array([[40, 0, 21], [0, 40, 14], [0, 0, 1]], np.float32)
    record = ResizeRecord(source_hw=(56, 84), processed_hw=(28, 42), scale_xy=(0.5, 0.5), offset_xy=(0.0, 0.0))
    return Prediction(
        depth,
        True,
        conf=np.linspace(1, 9, depth.size).round(2).astype(np.float32).reshape(depth.shape),  # files keep two decimals
        extrinsics=poses,
        intrinsics=np.tile(lens, (3, 1, 1)),
        processed_images=np.random.default_rng(0).integers(0, 256, (*depth.shape, 3), np.uint8),
        names=("a.png", "b.png", "c.png"),
        records=(record,) * 3,
        model_name="da3-base",
    )


@pytest.fixture
def result(prediction: Prediction, tmp_path: Path) -> Path:
    export_all(prediction, tmp_path / "result", resolve_options(["npz"]))
    return tmp_path / "result"


# --- convert ----------------------------------------------------------------------------------------------------------


def test_a_saved_result_becomes_what_the_prediction_would_have_become(
    prediction: Prediction, result: Path, tmp_path: Path
) -> None:
    """Sizes of the pictures, which COLMAP needs, come from the manifest."""
    formats = ["colmap", "depth_raw", "glb", "kitti", "ply", "tum"]
    told = report("convert", result, "--export-format", "-".join(formats), "--export-dir", tmp_path / "other")
    export_all(prediction, tmp_path / "direct", resolve_options(formats))
    names = sorted(path.relative_to(tmp_path / "other") for path in (tmp_path / "other").rglob("*.*"))
    assert sorted(Path(name).relative_to(tmp_path / "other") for name in told["files"]) == names
    for name in names:
        if name.name != "exports.json":
            assert (tmp_path / "other" / name).read_bytes() == (tmp_path / "direct" / name).read_bytes(), name
    assert (told["views"], told["map_size"], told["scale"]) == (3, [42, 28], "metric")


def test_nothing_is_lost_from_a_file_of_save(prediction: Prediction, tmp_path: Path) -> None:
    loaded = load_result(prediction.save(tmp_path / "scene.npz"))
    assert loaded.records == prediction.records and loaded.names == prediction.names
    np.testing.assert_array_equal(loaded.depth, prediction.depth)


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"conf": np.ones(3)}, "no array 'depth'"), ({"depth": np.ones((2, 2), np.float32)}, "shape (2, 2)")],
)
def test_an_archive_that_is_no_result_is_told(fields: dict[str, Any], message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", **fields)
    assert message in error("convert", tmp_path / "x.npz", "--export-format", "depth_raw")


def test_what_a_result_lacks_is_told(prediction: Prediction, tmp_path: Path) -> None:
    export_all(prediction, tmp_path / "mini", resolve_options(["mini_npz"]))
    line = error("convert", tmp_path / "mini", "--export-format", "glb")
    assert line.startswith("--export-format: got 'glb', which needs processed_images") and "kitti" in line
    (tmp_path / "bad.npz").write_bytes(b"PK no archive")
    assert error("convert", tmp_path / "bad.npz").startswith(f"SOURCE: got {tmp_path / 'bad.npz'} (")
    assert "no such file" in error("convert", tmp_path / "gone")


@pytest.mark.parametrize("name", ["cameras", "colmap", "kitti", "tum"])
def test_cameras_keep_what_a_format_can_hold(name: str, tmp_path: Path) -> None:
    written = files.scene()
    files.write_photos(tmp_path / "scene" / "images", written)
    model = tmp_path / "scene" / "sparse" / "0"
    lens = [70, 72, 41, 29.5, -0.1, 0.02, 0, 0]
    files.write_colmap(model, written, model=("OPENCV", 4), parameters=lens, binary=True)
    source = read_cameras(model)
    told = report("convert", model, "--export-format", name, "--export-dir", tmp_path / name)
    assert told["cameras"] == 3 and all(Path(file).is_file() for file in told["files"])
    again = invoke("convert", model, "--export-format", name, "--export-dir", tmp_path / name, "--overwrite", "-q")
    assert again.exit_code == 0 and again.output == ""
    read = read_cameras(tmp_path / name if name in ("cameras", "colmap") else Path(told["files"][0]))
    assert source.extrinsics is not None and read.extrinsics is not None
    np.testing.assert_allclose(read.extrinsics, source.extrinsics, atol=1e-9)
    if name in ("cameras", "colmap"):
        assert read.lenses == source.lenses and read.names is not None
        np.testing.assert_allclose(read.intrinsics, source.intrinsics, atol=1e-9)


def test_cameras_do_not_become_clouds(tmp_path: Path) -> None:
    (tmp_path / "poses.txt").write_text("1 0 0 0 0 1 0 0 0 0 1 0\n")
    assert "(valid: cameras, colmap, kitti, tum)" in error("convert", tmp_path / "poses.txt")
    line = error("convert", tmp_path / "poses.txt", "--export-format", "colmap")
    assert "needs names and intrinsics and sizes" in line


# --- clean ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["raw", "clean", "strict"])
def test_a_preset_is_the_same_through_every_door(
    prediction: Prediction, result: Path, tmp_path: Path, preset: str
) -> None:
    pytest.importorskip("scipy")
    told = report("clean", result, "--clean", preset, "--export-format", "ply", "--export-dir", tmp_path / "cli")
    export_all(prediction, tmp_path / "api", resolve_options(["ply"], {"ply": {"clean": preset}}))
    assert (tmp_path / "cli" / "points.ply").read_bytes() == (tmp_path / "api" / "points.ply").read_bytes()
    assert told["kept"] == len(points(prediction, preset)) <= told["points"] == prediction.depth.size


def test_cleaning_makes_a_cloud_and_a_mesh_without_ramps(result: Path, tmp_path: Path) -> None:
    told = report("clean", result, "--export-dir", tmp_path / "out")
    assert [Path(name).name for name in told["files"]] == ["points.ply", "mesh.ply", "exports.json"]
    assert told["clean"] == "clean" and told["kept"] < told["points"]
    assert "clouds and meshes (valid: colmap, glb, mesh" in error("clean", result, "--export-format", "npz")
    assert error("clean", result, "--clean", "spotless").startswith("--clean: got 'spotless'")


# --- doctor -----------------------------------------------------------------------------------------------------------


def test_a_report_says_what_is_there_and_nothing_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "secret-home"))
    told = invoke("doctor", "--report", tmp_path / "report.json")
    assert told.exit_code == 0, told.output
    text = (tmp_path / "report.json").read_text()
    facts = json.loads(text)
    assert facts["check"]["ok"] and facts["devices"][0]["name"] == "cpu"
    assert facts["core"]["numpy"] == np.__version__ and facts["settings"] == ["HF_HOME", "HF_HUB_OFFLINE"]
    private = {str(Path.home()), str(Path.cwd()), platform.node(), "secret-home", str(tmp_path)}
    assert not [word for word in private if len(word) > 1 and word in text + told.stdout.rpartition("report:")[0]]


def test_what_an_extra_would_give(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_module, "_extras", lambda: {"gs": ["no-such-package"], "video": []})
    facts = doctor_module.examine(check=False)
    assert not facts["extras"]["gs"]["complete"] and facts["extras"]["video"]["complete"]
    line = doctor_module._extra_line("gs", facts["extras"]["gs"])
    assert "would give 3D Gaussians" in line and "pip install 'depth-anything-3[gs]'" in line


def test_every_extra_is_explained(repository: Path) -> None:
    section = (repository / "pyproject.toml").read_text().partition("[project.optional-dependencies]")[2]
    names = {line.split(" = ")[0] for line in section.partition("\n[")[0].splitlines() if " = [" in line}
    assert names - {"all"} == doctor_module.GIVES.keys()


def test_a_broken_installation_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("cannot read /srv/models/mine/model.safetensors")

    monkeypatch.setattr("depth_anything_3.api.DepthAnything3.from_pretrained", broken)
    result = invoke("doctor", "--json")
    assert result.exit_code == 1
    check = json.loads(result.stdout)["check"]
    assert not check["ok"] and check["reason"] == "RuntimeError: cannot read model.safetensors"
