"""``da3 synth``: scenes as folders; everything wrong is said before anything is rendered."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from depth_anything_3.cli import app
from depth_anything_3.synth.cameras import TRAJECTORIES
from depth_anything_3.synth.held_out import held_out, verify
from depth_anything_3.synth.sample import STYLES, Sample
from depth_anything_3.synth.scenes import KINDS

SMALL = ("--size", "40x24", "--views", 2, "--samples", 1)


def invoke(*arguments: object) -> Result:
    result = CliRunner().invoke(app, ["synth", *map(str, arguments)], env={"COLUMNS": "200"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_scenes_in_a_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = invoke("--seed", 7, "--count", 2, "--kind", "room", "--trajectory", "orbit", "--export-dir", out, *SMALL)
    assert done.exit_code == 0, done.output
    assert "2 of 2 scene(s)" in done.output
    assert sorted(path.name for path in out.iterdir()) == ["room_0000007", "room_0000008"]
    scene = out / "room_0000007"
    assert sorted(content(scene)) == [
        "depth/000000.npy", "depth/000001.npy", "images/000000.png", "images/000001.png", "moving/000000.png",
        "moving/000001.png", "object/000000.png", "object/000001.png", "scene.npz", "sky/000000.png", "sky/000001.png",
    ]  # fmt: skip
    with Image.open(scene / "images/000000.png") as image:
        assert image.size == (40, 24)
    assert np.load(scene / "depth/000000.npy").shape == (24, 40)
    assert np.load(scene / "scene.npz")["c2w"].shape == (2, 4, 4)


def test_the_seed_decides(tmp_path: Path) -> None:
    for name, seed in (("one", 3), ("same", 3), ("other", 4)):
        arguments = ("--seed", seed, "--kind", "tabletop", "--export-dir", tmp_path / name, *SMALL)
        assert invoke(*arguments).exit_code == 0
    one, same, other = (
        content(next((tmp_path / name).iterdir()))["images/000000.png"] for name in ("one", "same", "other")
    )
    assert one == same
    assert one != other


def test_json_and_options(tmp_path: Path) -> None:
    done = invoke("--kind", "room", "--moving", "--normals", "--depth-format", "png16", "--image-format", "jpg",
                  "--style", "specular", "--json", "--export-dir", tmp_path / "out", *SMALL)  # fmt: skip
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["failures"] == []
    assert report["scenes"][0]["name"] == "room_0000000"
    assert report["scenes"][0]["views"] == 2
    names = content(tmp_path / "out/room_0000000")
    assert len(names) == report["scenes"][0]["files"]
    assert {"images/000001.jpg", "depth/000001.png", "normal/000001.npy"} <= set(names)


def test_things_move_on_request(tmp_path: Path) -> None:
    more = ("--moving", "--views", 6, "--size", "48x48", "--samples", 1)
    done = invoke("--kind", "corridor", *more, "--export-dir", tmp_path / "out")
    assert done.exit_code == 0, done.output
    masks = [np.asarray(Image.open(path)) for path in sorted((tmp_path / "out").rglob("moving/*.png"))]
    assert len(masks) == 6
    assert np.mean(masks) / 255 > 0.005


def test_photos_become_textures(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 40, 3), np.uint8)).save(tmp_path / "photo.png")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photo.png").rename(tmp_path / "photos/photo.png")
    for name, more in (("with", ("--photos", tmp_path / "photos")), ("without", ())):
        done = invoke("--seed", 6, "--kind", "room", "--export-dir", tmp_path / name, *more, *SMALL)
        assert done.exit_code == 0, done.output
    first, second = (content(tmp_path / name / "room_0000006") for name in ("with", "without"))
    assert first["depth/000000.npy"] == second["depth/000000.npy"]
    assert any(first[f"images/00000{i}.png"] != second[f"images/00000{i}.png"] for i in range(2))


def test_the_held_out_set_as_it_is_frozen(tmp_path: Path) -> None:
    done = invoke("--held-out", "--count", 1, "--export-dir", tmp_path / "out")
    assert done.exit_code == 0, done.output
    spec = held_out()[0]
    folder = tmp_path / "out" / spec.name
    rgb = np.stack([np.asarray(Image.open(path)) for path in sorted((folder / "images").iterdir())])
    zeros = np.zeros(rgb.shape[:3])
    sample = Sample(rgb=rgb, depth=zeros, sky=zeros > 0, normal=np.zeros(rgb.shape), object_id=zeros.astype(int),
                    moving=zeros > 0, thin=zeros > 0, intrinsics=spec.cameras.intrinsics,
                    extrinsics=spec.cameras.extrinsics)  # fmt: skip
    assert verify(spec, sample).same
    assert np.load(folder / "scene.npz")["K"] == pytest.approx(spec.cameras.intrinsics)


def test_options_without_effect_are_named(tmp_path: Path) -> None:
    done = invoke("--held-out", "--count", 0, "--kind", "room", "--size", "64x64", "--export-dir", tmp_path / "out")
    assert done.exit_code == 2
    assert "--kind, --size: no effect" in done.output
    assert "--count" in done.output


def test_seeds_of_the_held_out_set_warn(tmp_path: Path) -> None:
    done = invoke("--seed", 1_000_000_000, "--kind", "room", "--export-dir", tmp_path / "out", *SMALL)
    assert done.exit_code == 0
    assert "do not train on them" in done.output


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--kind", "kitchen"), "corridor"),
        (("--trajectory", "fly"), "handheld"),
        (("--style", "wet"), "specular"),
        (("--size", "640"), "640x480"),
        (("--size", "4x4"), "at least 8"),
        (("--count", 0), "--count"),
        (("--views", 0), "--views"),
        (("--seed", -1), "--seed"),
        (("--samples", 0), "--samples"),
        (("--depth-format", "exr"), "png16"),
        (("--photos", "nowhere"), "nowhere"),
    ],
)
def test_wrong_arguments_write_nothing(arguments: tuple[object, ...], expected: str, tmp_path: Path) -> None:
    done = invoke("--export-dir", tmp_path / "out", *arguments)
    assert done.exit_code == 2, done.output
    assert expected in done.output
    assert not (tmp_path / "out").exists()


def test_a_full_folder_needs_overwrite(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    arguments = ("--kind", "tabletop", "--export-dir", tmp_path, *SMALL)
    refused = invoke(*arguments)
    assert refused.exit_code == 2
    assert "--overwrite" in refused.output
    assert invoke(*arguments, "--overwrite").exit_code == 0
    assert invoke(*arguments, "--overwrite").exit_code == 0
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "tabletop_0000000"]


def test_a_scene_that_fails_is_reported_and_the_others_are_written(tmp_path: Path) -> None:
    """Streets reach farther than 65 m, rooms do not; the seed chooses the kind."""
    done = invoke("--seed", 2, "--count", 2, "--depth-format", "png16", "--trajectory", "drive", "--json",
                  "--export-dir", tmp_path / "out", *SMALL)  # fmt: skip
    assert done.exit_code == 1, done.output
    report = json.loads(done.stdout)
    assert [scene["name"] for scene in report["scenes"]] == ["tabletop_0000002"]
    assert [failure["name"] for failure in report["failures"]] == ["street_0000003"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["tabletop_0000002"]


def test_help_lists_what_there_is() -> None:
    text = " ".join(invoke("--help").output.split())
    for name in (*KINDS, *TRAJECTORIES, *STYLES):
        assert name in text


def test_help_does_not_import_torch() -> None:
    program = "import sys\nfrom depth_anything_3.cli import main\nsys.argv = ['da3', 'synth', '--help']\n"
    program += "try:\n    main()\nexcept SystemExit as stop:\n    assert stop.code in (0, None)\n"
    program += "assert not {'torch', 'numpy'} & set(sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
