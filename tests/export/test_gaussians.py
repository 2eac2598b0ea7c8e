"""Gaussian files: read back by readers of their own, drawn again, refused where there are none."""

from __future__ import annotations

import dataclasses
import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from depth_anything_3.errors import CapabilityError, InputError
from depth_anything_3.export import gs_ply, gs_splat
from depth_anything_3.export.base import export_all, resolve_options
from depth_anything_3.geometry.harmonics import C0
from depth_anything_3.splat import blocks
from depth_anything_3.splat.base import render
from depth_anything_3.splat.clean import clean_gaussians
from depth_anything_3.splat.spz import read_spz
from depth_anything_3.types.gaussians import Gaussians
from depth_anything_3.types.prediction import Prediction

SIZE, VIEWS = (36, 40), 2
KEEP_ALL = {"border": 0.0, "max_depth_percentile": 100.0, "max_depth_jump": 0.0, "min_opacity": 0.0}
NAMES = ("means", "scales", "rotations", "harmonics", "opacities")
MakePrediction = Callable[..., Prediction]


def scene(degree: int = 2, **changes: Any) -> Prediction:
    """A wall with a Gaussian of any shape and colour at every pixel."""
    rng = np.random.default_rng(0)
    depth = rng.uniform(2, 3, (VIEWS, *SIZE)).astype(np.float32)
    count = depth.size
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    rays = np.stack(((x - 20) / 30, (y - 18) / 30, np.ones_like(x)), -1)
    values = {
        "means": (rays * depth[..., None]).reshape(count, 3),
        "scales": 0.06 * rng.lognormal(0, 0.5, (count, 3)),
        "rotations": rng.normal(size=(count, 4)),
        "harmonics": 0.3 * rng.normal(size=(count, 3, (degree + 1) ** 2)),
        "opacities": rng.uniform(0.01, 1, count),
    }
    values["rotations"] /= np.linalg.norm(values["rotations"], axis=1, keepdims=True)
    gaussians = Gaussians(**{name: torch.from_numpy(value).float()[None] for name, value in values.items()})
    fields: dict[str, Any] = {
        "depth": depth,
        "is_metric": True,
        "extrinsics": np.repeat(np.eye(3, 4, dtype=np.float32)[None], VIEWS, 0),
        "intrinsics": np.repeat(np.array([[[30, 0, 20], [0, 30, 18], [0, 0, 1]]], np.float32), VIEWS, 0),
        "gaussians": gaussians,
    }
    return Prediction(**{**fields, **changes})


def picture(prediction: Prediction, gaussians: Gaussians) -> np.ndarray:
    pose, k = (torch.from_numpy(v[None, :1].copy()) for v in (prediction.extrinsics, prediction.intrinsics))
    return render(gaussians, pose, k, SIZE).colour[0, 0].numpy()


def write(prediction: Prediction, folder: Path, name: str, **options: Any) -> Path:
    path, _ = export_all(prediction, folder, resolve_options([name], {name: options}))
    return path


def read_ply(path: Path) -> tuple[list[str], np.ndarray]:
    """Header lines and table, by the specification of the format alone."""
    head, body = path.read_bytes().split(b"end_header\n", 1)
    lines = head.decode("ascii").splitlines()
    names = [line.split()[2] for line in lines if line.startswith("property")]
    assert all(line.startswith("property float ") for line in lines if line.startswith("property"))
    count = int(next(line for line in lines if line.startswith("element vertex")).split()[2])
    assert len(body) == 4 * count * len(names)
    table = np.array(list(struct.iter_unpack(f"<{len(names)}f", body))).reshape(count, len(names))
    return [*lines[:3], *names], table


def from_table(names: list[str], table: np.ndarray) -> Gaussians:
    def columns(prefix: str) -> np.ndarray:
        chosen = [n for n in names if n.startswith(prefix)]
        assert chosen == [f"{prefix}{i}" for i in range(len(chosen))]
        return table[:, [names.index(n) for n in chosen]]

    count, rest = len(table), columns("f_rest_").reshape(len(table), 3, -1)
    values = {
        "means": table[:, :3],
        "scales": np.exp(columns("scale_")),
        "rotations": columns("rot_"),
        "harmonics": np.concatenate((columns("f_dc_").reshape(count, 3, 1), rest), -1),
        "opacities": 1 / (1 + np.exp(-table[:, names.index("opacity")])),
    }
    return Gaussians(**{name: torch.from_numpy(value).float()[None] for name, value in values.items()})


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_ply_is_read_back_and_drawn_again(tmp_path: Path, degree: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "_BLOCK", 1000)
    prediction = scene(degree)
    path = write(prediction, tmp_path, "gs_ply", **KEEP_ALL)
    assert path == tmp_path / "gs_ply" / "0000.ply"
    lines, table = read_ply(path)
    assert lines[:3] == ["ply", "format binary_little_endian 1.0", f"element vertex {prediction.depth.size}"]
    names = lines[3:]
    assert names[:9] == ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"]
    assert len(names) == 17 + 3 * ((degree + 1) ** 2 - 1)
    assert names[-8:] == ["opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]
    assert not table[:, 3:6].any()
    back = from_table(names, table)
    for name in NAMES:
        expected = getattr(prediction.gaussians, name)
        torch.testing.assert_close(getattr(back, name), expected, rtol=1e-5, atol=1e-6, msg=lambda m, n=name: n + m)
    np.testing.assert_allclose(picture(prediction, back), picture(prediction, prediction.gaussians), atol=1e-3)


@pytest.mark.parametrize("degree", [0, 2])
def test_ply_is_understood_by_an_independent_reader(tmp_path: Path, degree: int) -> None:
    gsply = pytest.importorskip("gsply")
    prediction = scene(degree)
    data = gsply.plyread(str(write(prediction, tmp_path, "gs_ply", **KEEP_ALL)))
    g = prediction.gaussians
    assert g is not None
    np.testing.assert_allclose(data.means, g.means[0], atol=1e-6)
    np.testing.assert_allclose(np.exp(data.scales), g.scales[0], rtol=1e-5)
    np.testing.assert_allclose(data.quats, g.rotations[0], atol=1e-6)
    np.testing.assert_allclose(1 / (1 + np.exp(-data.opacities.reshape(-1))), g.opacities[0], atol=1e-5)
    np.testing.assert_allclose(data.sh0.reshape(-1, 3), g.harmonics[0, :, :, 0], atol=1e-6)
    if degree:
        np.testing.assert_allclose(data.shN.reshape(-1, 8, 3), g.harmonics[0, :, :, 1:].transpose(1, 2), atol=1e-6)


def test_splat_is_read_back_and_drawn_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "_BLOCK", 1000)
    prediction = scene(0)
    path = write(prediction, tmp_path, "gs_splat", **KEEP_ALL)
    body = path.read_bytes()
    assert path == tmp_path / "gs_splat" / "0000.splat" and len(body) == 32 * prediction.depth.size
    rows = np.array(list(struct.iter_unpack("<6f8B", body)))
    volume, byte = rows[:, 3:6].prod(1), rows[:, 9]
    # Opacities are rounded to whole bytes.
    assert (volume[1:] * (byte[1:] - 0.51) <= volume[:-1] * (byte[:-1] + 0.51)).all(), "what matters comes first"
    values = {
        "means": rows[:, :3],
        "scales": rows[:, 3:6],
        "rotations": (rows[:, 10:] - 128) / 128,
        "harmonics": ((rows[:, 6:9] / 255 - 0.5) / C0)[:, :, None],
        "opacities": rows[:, 9] / 255,
    }
    back = Gaussians(**{name: torch.from_numpy(value).float()[None] for name, value in values.items()})
    error = np.abs(picture(prediction, back) - picture(prediction, prediction.gaussians).clip(0, None))
    assert error.mean() < 0.01


@pytest.mark.parametrize("version", [2, 3])
def test_spz_is_read_back_and_drawn_again(tmp_path: Path, version: int) -> None:
    prediction = scene(2)
    assert prediction.gaussians is not None
    path = write(prediction, tmp_path, "gs_spz", **KEEP_ALL, version=version)
    assert path == tmp_path / "gs_spz" / "0000.spz"
    assert path.stat().st_size < write(prediction, tmp_path, "gs_ply", **KEEP_ALL).stat().st_size / 3.9
    error = np.abs(picture(prediction, read_spz(path)) - picture(prediction, prediction.gaussians))
    assert error.mean() < 0.01


def test_spz_of_another_version_is_refused() -> None:
    with pytest.raises(InputError, match=r"export_kwargs\[gs_spz\].*version: got 4; expected .*2, 3|version: got 4"):
        resolve_options(["gs_spz"], {"gs_spz": {"version": 4}})


def test_certain_opacities_have_finite_logits(tmp_path: Path) -> None:
    prediction = scene(0)
    assert prediction.gaussians is not None
    prediction.gaussians.opacities[0, :4] = torch.tensor([1.0, 0.0, 1 - 1e-9, 1e-12])
    names, table = read_ply(write(prediction, tmp_path, "gs_ply", **KEEP_ALL))
    logits = table[:4, names.index("opacity") - 3]
    assert np.isfinite(table).all()
    np.testing.assert_allclose(logits, [math.log(1e6), -math.log(1e6)] * 2, rtol=1e-2)


@pytest.mark.parametrize("name", ["gs_ply", "gs_splat"])
def test_the_options_clean(tmp_path: Path, name: str) -> None:
    prediction = scene(0)
    size = {"gs_ply": 68, "gs_splat": 32}[name]
    whole = write(prediction, tmp_path / "a", name, **KEEP_ALL).stat().st_size
    default = write(prediction, tmp_path / "b", name).stat().st_size
    few = write(prediction, tmp_path / "c", name, max_gaussians=200).stat().st_size
    options = {"gs_ply": gs_ply.Options, "gs_splat": gs_splat.Options}[name]()
    kept = clean_gaussians(prediction, options).means.shape[1]
    assert 1000 < kept < 0.95 * prediction.depth.size and default - kept * size < 500
    assert few < 200 * size + 500 < default < whole


@pytest.mark.parametrize("name", ["gs_ply", "gs_splat", "gs_spz"])
def test_no_gaussians_is_refused_before_anything_is_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(CapabilityError, match=f"'{name}', which needs gaussians"):
        write(scene(gaussians=None), tmp_path, name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["gs_ply", "gs_splat", "gs_spz"])
def test_nothing_left_is_an_empty_file_and_a_warning(tmp_path: Path, name: str) -> None:
    prediction = scene(0, sky=np.ones((VIEWS, *SIZE), bool))
    with pytest.warns(UserWarning, match=f"{name}: no Gaussian is left"):
        path = write(prediction, tmp_path, name)
    read = {"gs_ply": lambda: len(read_ply(path)[1]), "gs_splat": lambda: path.stat().st_size}
    assert read.get(name, lambda: read_spz(path).means.shape[1])() == 0


@pytest.mark.parametrize("name", ["gs_ply", "gs_splat", "gs_spz"])
def test_a_failure_leaves_no_file(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "_array", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write(scene(0), tmp_path, name)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_gaussians_that_were_merged_before_are_written_as_they_are(tmp_path: Path) -> None:
    prediction = scene(0)
    few = clean_gaussians(prediction, gs_ply.Options(max_gaussians=300))
    with pytest.warns(UserWarning, match="not one per pixel"):
        path = write(dataclasses.replace(prediction, gaussians=few), tmp_path, "gs_ply")
    torch.testing.assert_close(torch.from_numpy(read_ply(path)[1][:, :3]).float(), few.means[0])


def test_the_same_prediction_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("gs_ply", "gs_splat", "gs_spz"):
        first, second = (write(scene(), tmp_path / part, name, max_gaussians=500) for part in "ab")
        assert first.read_bytes() == second.read_bytes()
