"""SPZ: there and back within its rounding, the same for an independent reader, damage refused."""

from __future__ import annotations

import gzip
import io
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from depth_anything_3.errors import InputError
from depth_anything_3.geometry.rotations import matrix_from_quat_xyzw
from depth_anything_3.splat import blocks
from depth_anything_3.splat.spz import read_spz, write_spz
from depth_anything_3.types.gaussians import Gaussians

COUNT = 500
ROTATION_STEP = {2: 2 / 255, 3: 0.5**0.5 / 511}  # of a component


def some(degree: int, *, far: float = 3.0) -> Gaussians:
    generator = torch.Generator().manual_seed(degree)
    rotations = torch.randn(1, COUNT, 4, generator=generator)
    rotations[0, :8] = torch.cat((torch.eye(4), -torch.eye(4)))
    return Gaussians(
        means=far * (2 * torch.rand(1, COUNT, 3, generator=generator) - 1),
        scales=torch.exp(2 * torch.randn(1, COUNT, 3, generator=generator) - 4),
        rotations=torch.nn.functional.normalize(rotations, dim=-1),
        harmonics=0.3 * torch.randn(1, COUNT, 3, (degree + 1) ** 2, generator=generator),
        opacities=torch.rand(1, COUNT, generator=generator),
    )


def write(path: Path, gaussians: Gaussians, version: int = 3) -> Path:
    with path.open("wb") as file:
        write_spz(file, gaussians, version)
    return path


def matrices(quat_wxyz: torch.Tensor) -> torch.Tensor:
    return matrix_from_quat_xyzw(quat_wxyz.roll(-1, -1))


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_it_comes_back_within_its_rounding(
    tmp_path: Path, version: int, degree: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "_BLOCK", 128)
    made = some(degree)
    back = read_spz(write(tmp_path / "a.spz", made, version))
    torch.testing.assert_close(back.means, made.means, rtol=0, atol=2.0**-20)
    torch.testing.assert_close(back.scales.log(), made.scales.log().clamp(-10, 5.94), rtol=0, atol=1 / 32 + 1e-5)
    torch.testing.assert_close(back.opacities, made.opacities, rtol=0, atol=0.51 / 255)
    torch.testing.assert_close(back.harmonics[..., 0], made.harmonics[..., 0], rtol=0, atol=0.51 / (255 * 0.15))
    torch.testing.assert_close(
        back.harmonics[..., 1:], made.harmonics[..., 1:].clamp(-1, 127 / 128), rtol=0, atol=0.025
    )
    # One component follows from the others, so that its error is larger where it is small.
    error = (matrices(back.rotations) - matrices(made.rotations)).abs()
    assert float(error.median()) < ROTATION_STEP[version]
    assert float(error.max()) < 8 * ROTATION_STEP[version] ** (1 if version == 3 else 0.5)


@pytest.mark.parametrize("version", [2, 3])
def test_an_independent_reader_understands_it(tmp_path: Path, version: int) -> None:
    gsply = pytest.importorskip("gsply.spz")
    path = write(tmp_path / "a.spz", some(2), version)
    theirs, ours = gsply.read_spz(path), read_spz(path)
    turn = np.array([1, -1, -1], np.float32)  # they leave the world as it is in the file
    np.testing.assert_allclose(theirs.means * turn, ours.means[0], atol=1e-6)
    np.testing.assert_allclose(np.exp(theirs.scales), ours.scales[0], rtol=1e-5)
    np.testing.assert_allclose(theirs.sh0.reshape(-1, 3), ours.harmonics[0, :, :, 0], atol=1e-5)
    alpha = 1 / (1 + np.exp(-theirs.opacities.reshape(-1)))
    np.testing.assert_allclose(alpha, ours.opacities[0], atol=1e-3)
    half_turn = torch.diag(torch.from_numpy(turn))
    mine = half_turn @ matrices(ours.rotations[0]) @ half_turn
    np.testing.assert_allclose(matrices(torch.as_tensor(np.array(theirs.quats))), mine, atol=2e-3)
    # Half a turn about x changes the sign of what is odd in one of y and z.
    signs = np.array([-1, -1, 1, -1, 1, 1, -1, 1], np.float32)
    np.testing.assert_allclose(theirs.shN.reshape(-1, 8, 3) * signs[:, None], ours.harmonics[0, :, :, 1:].mT, atol=1e-5)


def test_files_of_an_independent_writer_are_read(tmp_path: Path) -> None:
    gsply = pytest.importorskip("gsply")
    writer = pytest.importorskip("gsply.spz")
    made = some(1)
    data = gsply.GSData.from_arrays(
        made.means[0].numpy(),
        made.scales[0].log().numpy(),
        made.rotations[0].numpy(),
        torch.logit(made.opacities[0]).numpy(),
        made.harmonics[0, :, :, 0].numpy(),
        made.harmonics[0, :, :, 1:].mT.contiguous().numpy(),
    )
    writer.write_spz(tmp_path / "a.spz", data, version=3)
    back = read_spz(tmp_path / "a.spz")
    torch.testing.assert_close(back.means, made.means * torch.tensor([1.0, -1, -1]), rtol=0, atol=2.0**-12)
    torch.testing.assert_close(back.opacities, made.opacities, rtol=0, atol=1.01 / 255)


def test_the_same_gaussians_give_the_same_bytes_and_far_ones_fit(tmp_path: Path) -> None:
    far = some(0, far=50_000.0)
    first, second = (write(tmp_path / name, far) for name in ("a.spz", "b.spz"))
    assert first.read_bytes() == second.read_bytes()
    torch.testing.assert_close(read_spz(first).means, far.means, rtol=0, atol=50_000 / 2**22)
    none = Gaussians(**{name: value[:, :0] for name, value in vars(far).items()})
    assert read_spz(write(tmp_path / "c.spz", none)).means.shape == (1, 0, 3)


def test_what_the_format_cannot_hold_is_refused() -> None:
    with pytest.raises(InputError, match="version: got 4"):
        write_spz(io.BytesIO(), some(0), 4)
    with pytest.raises(InputError, match=r"gaussians\.means.*at most 8388607"):
        write_spz(io.BytesIO(), some(0, far=1e8))


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    whole = write(tmp_path / "a.spz", some(1)).read_bytes()
    body = gzip.decompress(whole)
    wrong = {
        "ends too early": gzip.compress(body[:-1]),
        "more bytes": gzip.compress(body + b"0"),
        "too short for a header": gzip.compress(body[:9]),
        "not SPZ": gzip.compress(b"0" + body[1:]),
        "version 7": gzip.compress(body[:4] + struct.pack("<I", 7) + body[8:]),
        "degree 9": gzip.compress(body[:12] + b"\x09" + body[13:]),
        "Not a gzipped": b"ply" + body,
        "marker": whole[: len(whole) // 2],
        # A claim of four thousand million Gaussians takes no memory.
        "it ends": gzip.compress(body[:8] + b"\xff\xff\xff\xff" + body[12:]),
    }
    for number, (why, content) in enumerate(wrong.items()):
        path = tmp_path / f"{number}.spz"
        path.write_bytes(content)
        with pytest.raises(InputError, match=why):
            read_spz(path)
    with pytest.raises(FileNotFoundError):
        read_spz(tmp_path / "none.spz")
