"""``da3 auto``: photos in, files out; everything wrong is said before anything is computed."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support import camera_files as files
from support import command_line
from support.networks import fill_weights, miniature
from typer.testing import Result

from depth_anything_3.api import DepthAnything3
from depth_anything_3.errors import HubError, InputError
from depth_anything_3.export.base import EXPORTERS, parse_formats, planned_files, resolve_options
from depth_anything_3.io.cameras.given import open_views
from depth_anything_3.types.options import FolderOptions
from depth_anything_3.types.prediction import Prediction
from depth_anything_3.zoo.default import DefaultModel

FORMATS = ", ".join(EXPORTERS.names())
GLB_FILES = ["scene.glb", "depth_vis/0000.jpg", "scene.jpg", "exports.json"]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint with weights that depend on their names alone; do not write into it."""
    model = DepthAnything3("da3-small", config=miniature(), device="cpu")
    fill_weights(model.model)
    return model.save_pretrained(tmp_path_factory.mktemp("checkpoint") / "miniature")


@pytest.fixture(autouse=True)
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test runs in an empty folder of its own."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def write_photo(path: Path, *, size: tuple[int, int] = (80, 60), seed: int = 0, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    return write_photo(tmp_path / "Photo of a cup.png")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three photos whose natural order is not the order of their letters, and a file that is none."""
    for index, name in enumerate(("img2.png", "img10.png", "IMG1.PNG")):
        write_photo(tmp_path / "scene" / name, seed=index)
    (tmp_path / "scene" / "notes.txt").write_text("no photo")
    return tmp_path / "scene"


invoke = functools.partial(command_line.invoke, "auto")


@pytest.fixture
def run(checkpoint: Path) -> Callable[..., Result]:
    """The command with the small model at 56 pixels."""

    def with_model(*arguments: object) -> Result:
        return invoke("--model-dir", checkpoint, "--process-res", 56, "--device", "cpu", *arguments)

    return with_model


Run = Callable[..., Result]


def as_json(result: Result) -> dict[str, Any]:
    """Standard output, which is one JSON object and nothing else."""
    assert result.stdout.endswith("}\n") and result.stdout.count("\n") == 1, result.stdout
    read = json.loads(result.stdout)
    assert isinstance(read, dict)
    return read


def files_under(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def error(result: Result, code: int = 2) -> str:
    """The one line that says what was wrong."""
    assert result.exit_code == code, (result.exit_code, result.stdout, result.stderr)
    assert result.stdout == ""
    line = result.stderr.splitlines()[-1]
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


# --- results ----------------------------------------------------------------------------------------------------------


def test_a_photo_goes_to_the_gallery(run: Run, photo: Path, working_directory: Path) -> None:
    result = run(photo)
    assert result.exit_code == 0, result.stderr
    target = working_directory / "workspace" / "gallery" / "Photo of a cup"
    assert files_under(working_directory) == sorted(f"workspace/gallery/Photo of a cup/{name}" for name in GLB_FILES), (
        "nothing but the results is written"
    )
    assert (target / "scene.glb").read_bytes()[:4] == b"glTF"
    with Image.open(target / "depth_vis" / "0000.jpg") as preview:
        assert preview.size[1] == 42
    first, *listed = result.stdout.splitlines()
    assert re.fullmatch(r"1 view\(s\) at 56 x 42, da3-small in float32 on cpu, \d+\.\d s, relative scale", first)
    assert [line.split("  (")[0].strip() for line in listed] == [
        f"workspace/gallery/Photo of a cup/{name}" for name in GLB_FILES
    ]
    assert all(re.search(r"\(\d+(\.\d)? (bytes|kB|MB)\)$", line) for line in listed)
    assert result.stderr == ""


def test_a_folder_gives_what_the_api_gives(run: Run, checkpoint: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run(folder, "--export-dir", out, "--export-format", "npz-mini_npz", "--use-ray-pose", "--json")
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    report = as_json(result)
    photos = [folder / name for name in ("IMG1.PNG", "img2.png", "img10.png")]
    expected_files = [str(out / "exports" / name / "results.npz") for name in ("npz", "mini_npz")]
    expected_files.append(str(out / "exports.json"))
    seconds = report.pop("seconds")
    assert isinstance(seconds, float) and 0 < seconds < 600
    assert "full" in report.pop("memory_plan")
    model = DepthAnything3.from_pretrained(checkpoint, device="cpu")
    direct = model.inference(photos, process_res=56, use_ray_pose=True, refine="full")
    assert direct.refinement is not None
    assert report == {
        "inputs": [str(path) for path in photos],
        "model": str(checkpoint),
        "model_name": "da3-small",
        "device": "cpu",
        "dtype": "float32",
        "views": 3,
        "processed_size": [56, 42],
        "map_size": [direct.depth.shape[2], direct.depth.shape[1]],
        "scale": "relative",
        "refinement": direct.refinement.as_dict(),
        "alignment": None,
        "metric_focal": None,
        "gaussian_refinement": None,
        "export_dir": str(out),
        "files": expected_files,
    }
    with np.load(expected_files[0]) as written:
        assert list(written["names"]) == ["IMG1.PNG", "img2.png", "img10.png"]
        np.testing.assert_array_equal(written["image"], direct.processed_images)
        np.testing.assert_array_equal(written["depth"], np.round(direct.depth, 6))
        np.testing.assert_array_equal(written["extrinsics"], direct.extrinsics)
        np.testing.assert_array_equal(written["intrinsics"], direct.intrinsics)


def test_the_next_free_folder_is_taken(run: Run, photo: Path, folder: Path, working_directory: Path) -> None:
    gallery = Path("workspace/gallery")

    def planned(path: object) -> str:
        return str(as_json(run(path, "--dry-run", "--json"))["export_dir"])

    assert planned(photo) == str(gallery / "Photo of a cup")
    (gallery / "Photo of a cup").mkdir(parents=True)
    assert planned(photo) == str(gallery / "Photo of a cup-2")
    (gallery / "Photo of a cup-2").touch()
    assert planned(photo) == str(gallery / "Photo of a cup-3")
    assert planned(folder) == planned(f"{folder}/") == str(gallery / "scene")
    result = run(photo)
    assert result.exit_code == 0, result.stderr
    assert files_under(gallery / "Photo of a cup-3") == sorted(GLB_FILES)
    assert files_under(gallery / "Photo of a cup") == []


def test_the_current_folder_as_input_is_called_by_its_name(run: Run, working_directory: Path) -> None:
    write_photo(working_directory / "a.png")
    assert as_json(run(".", "--dry-run", "--json"))["export_dir"] == str(Path("workspace/gallery/work"))


def test_photos_of_several_sizes_and_orientations(run: Run, tmp_path: Path) -> None:
    upright = Image.Exif()
    upright[0x0112] = 6
    write_photo(tmp_path / "mixed" / "a.jpg", size=(80, 60))
    write_photo(tmp_path / "mixed" / "b.jpg", size=(60, 80), exif=upright)
    write_photo(tmp_path / "mixed" / "c.jpg", size=(60, 80))
    plan = as_json(run(tmp_path / "mixed", "--dry-run", "--json"))
    result = run(
        tmp_path / "mixed", "--export-dir", tmp_path / "out", "--export-format", "npz", "--json", "--no-refine"
    )
    assert result.exit_code == 0, result.stderr
    assert as_json(result)["processed_size"] == plan["processed_size"] == [42, 42]
    with np.load(tmp_path / "out" / "exports" / "npz" / "results.npz") as written:
        assert written["depth"].shape == (3, 42, 42)
    assert result.stderr.startswith("warning: ") and result.stderr.count("\n") == 1, "the cut edges are not passed over"


def test_the_console_script(checkpoint: Path, photo: Path, working_directory: Path) -> None:
    script = shutil.which("da3", path=str(Path(sys.executable).parent))
    if script is None:
        pytest.skip("the package is not installed here, so there is no console script")
    result = subprocess.run(
        [script, "auto", photo, "--model-dir", checkpoint, "--process-res", "56", "--device", "cuda", "--json"],
        capture_output=True,
        text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONWARNINGS": "default"},
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == "warning: device: cuda is not available here; using the CPU\n"
    report = json.loads(result.stdout)
    assert report["device"] == "cpu" and result.stdout.count("\n") == 1
    assert sorted(report["files"]) == [f"workspace/gallery/Photo of a cup/{name}" for name in sorted(GLB_FILES)]
    assert all((working_directory / name).is_file() for name in report["files"])


# --- every switch reaches the model -----------------------------------------------------------------------------------


class Spy:
    """Stands for the model: notes what it was asked for and returns the least that can be summarised."""

    device, dtype, process_res = torch.device("cpu"), torch.float32, 504
    model = SimpleNamespace(abilities=frozenset({"cameras"}))
    source: Any = None
    loading: dict[str, Any] = {}  # noqa: RUF012
    images: Any = None
    asked: dict[str, Any] = {}  # noqa: RUF012
    failure: BaseException | None = None

    @classmethod
    def from_pretrained(cls, source: Any, **options: Any) -> Spy:
        cls.source, cls.loading = source, options
        return cls()

    def inference(self, image: Any, **options: Any) -> Prediction:
        type(self).images, type(self).asked = image, options
        if self.failure is not None:
            raise self.failure
        formats = resolve_options(parse_formats(options["export_format"]))
        for name in planned_files(len(image), formats):
            path = Path(options["export_dir"]) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return Prediction(np.ones((len(image), 14, 28), np.float32), True, model_name="spy")


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> type[Spy]:
    class FreshSpy(Spy):
        pass

    monkeypatch.setattr("depth_anything_3.api.DepthAnything3", FreshSpy)
    return FreshSpy


PUBLISHED = {
    "process_res": None,
    "process_res_method": "upper_bound_resize",
    "alpha": "composite",
    "mixed_sizes": "crop",
    "refine": "off",
    "metric_focal": "given",
    "metric_res": None,
    "output_size": "processed",
    "extrinsics": None,
    "intrinsics": None,
    "align_to_input_ext_scale": True,
    "use_ray_pose": False,
    "ref_view_strategy": "saddle_balanced",
    "export_feat_layers": (),
    "export_format": "glb",
    "conf_thresh_percentile": 40.0,
    "num_max_points": 1_000_000,
    "show_cameras": True,
    "feat_vis_fps": 15,
    "clean": None,
    "export_kwargs": None,
    "infer_gs": False,
    "gs_source": "head",
    "gs_refine": 0,
    "shared_intrinsics": False,
    "square_pixels": False,
    "derive_confidence": False,
    "masks": None,
    "matcher": "sift",
    "max_memory": None,
    "key_pooling": 1,
    "rig": None,
    "intrinsics_origin": "given",
}
HOW_TO_LOAD = {"revision": None, "local_files_only": False, "device": "auto", "dtype": "auto"}


def test_without_switches_the_defaults_reach_the_model(spy: type[Spy], photo: Path) -> None:
    result = invoke(photo, "--model-dir", "someone/model")
    assert result.exit_code == 0, result.stderr
    assert spy.source == "someone/model"
    assert spy.loading == HOW_TO_LOAD
    assert spy.images == [photo]
    asked = dict(spy.asked)
    assert asked.pop("progress") is None, "no bars where nobody is watching"
    assert Path(asked.pop("export_dir")) == Path("workspace/gallery/Photo of a cup")
    assert asked == PUBLISHED
    assert result.stdout.splitlines()[0].startswith("1 view(s) at 28 x 14, spy in float32 on cpu, ")
    assert result.stdout.splitlines()[0].endswith(", metric scale")


def test_options_of_a_format_that_is_not_written_are_told_once(spy: type[Spy], photo: Path) -> None:
    typed = ("--export-format", "npz", "--export-kwargs", "glb:camera_size:0.1")
    result = invoke(photo, "--model-dir", "someone/model", *typed)
    assert result.stderr == "warning: --export-kwargs glb has no effect: the formats exported are npz\n"
    assert spy.asked["export_kwargs"] is None, "or the model would say it again"


CHOICES = {
    "in the cache": DefaultModel("depth-anything/DA3-BASE", cached=True),
    "on the hub": DefaultModel("depth-anything/DA3-BASE", cached=False),
    "neither": DefaultModel("bundled", cached=True, note="nothing else to be had"),
}


@pytest.mark.parametrize("where", CHOICES)
def test_where_no_model_is_named(spy: type[Spy], photo: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    choice = CHOICES[where]
    monkeypatch.setattr("depth_anything_3.zoo.default.default_model", lambda *, ask: choice)
    result = invoke(photo)
    assert result.exit_code == 0, result.stderr
    assert spy.source == choice.source
    assert spy.loading == {**HOW_TO_LOAD, "local_files_only": choice.cached}
    assert result.stderr == (f"warning: {choice.note}\n" if choice.note else "")
    assert as_json(invoke(photo, "--json"))["model"] == choice.source


def test_a_revision_without_a_model_is_one_of_the_default(spy: type[Spy], photo: Path) -> None:
    assert invoke(photo, "--revision", "v2").exit_code == 0
    assert spy.source == "depth-anything/DA3-BASE"
    assert spy.loading == {**HOW_TO_LOAD, "revision": "v2"}


def test_the_bundled_model_is_taken_where_nothing_else_is_in_reach(photo: Path, tmp_path: Path) -> None:
    """As a newcomer without a network: one line says what it is, and the files are there."""
    result = invoke(photo, "--export-dir", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    assert result.stderr.count("\n") == 1 and "demonstration model trained on synthetic scenes" in result.stderr
    assert "da3-tiny" in result.stdout
    assert files_under(tmp_path / "out") == sorted(GLB_FILES)


def test_a_dry_run_without_a_named_model_asks_nobody(photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def choose(*, ask: bool) -> DefaultModel:
        asked.append(ask)
        return CHOICES["on the hub"]

    monkeypatch.setattr("depth_anything_3.zoo.default.default_model", choose)
    model = as_json(invoke(photo, "--dry-run", "--json"))["model"]
    assert asked == [False]
    assert model["otherwise"] == "bundled, if the hub does not answer"


@pytest.mark.parametrize(
    ("switches", "change"),
    [
        (["--process-res", "280"], {"process_res": 280}),
        (["--process-res-method", "lower_bound_crop"], {"process_res_method": "lower_bound_crop"}),
        (["--alpha", "drop"], {"alpha": "drop"}),
        (["--use-ray-pose"], {"use_ray_pose": True}),
        (["--ref-view-strategy", "middle"], {"ref_view_strategy": "middle"}),
        (["--export-feat", "5, 11,"], {"export_feat_layers": (5, 11)}),
        (["--export-format", "npz-glb-depth_vis"], {"export_format": "npz-glb-depth_vis"}),
        (["--conf-thresh-percentile", "12.5"], {"conf_thresh_percentile": 12.5}),
        (["--num-max-points", "7"], {"num_max_points": 7}),
        (["--no-show-cameras"], {"show_cameras": False}),
        (["--refine", "--no-refine-depth"], {"refine": "poses"}),
        (["--infer-gs", "--export-format", "gs_ply"], {"infer_gs": True, "export_format": "gs_ply"}),
        (["--clean", "strict"], {"clean": "strict"}),
        (["--export-format", "feat_vis", "--feat-vis-fps", "5"], {"export_format": "feat_vis", "feat_vis_fps": 5}),
        (["--export-kwargs", "glb:camera_size:0.1"], {"export_kwargs": {"glb": {"camera_size": 0.1}}}),
    ],
)
def test_a_switch_reaches_the_model(spy: type[Spy], photo: Path, switches: list[str], change: dict[str, Any]) -> None:
    assert invoke(photo, *switches).exit_code == 0
    asked = {name: value for name, value in spy.asked.items() if name not in ("progress", "export_dir")}
    assert asked == {**PUBLISHED, **change}


@pytest.mark.parametrize(
    ("switches", "change"),
    [
        (["--device", "cpu"], {"device": "cpu"}),
        (["--dtype", "bfloat16"], {"dtype": "bfloat16"}),
        (["--revision", "v2"], {"revision": "v2"}),
    ],
)
def test_a_switch_reaches_the_loader(spy: type[Spy], photo: Path, switches: list[str], change: dict[str, Any]) -> None:
    assert invoke(photo, "--model-dir", "someone/model", *switches).exit_code == 0
    assert spy.source == "someone/model"
    assert spy.loading == {**HOW_TO_LOAD, **change}


# --- folders that hold files ------------------------------------------------------------------------------------------


def test_a_folder_that_holds_files_is_refused(run: Run, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    for extra in ((), ("--dry-run",)):
        message = error(run(photo, "--export-dir", tmp_path / "out", *extra))
        assert message.startswith(f"--export-dir: got {tmp_path / 'out'}, which holds files; ")
        assert "--overwrite" in message
    assert files_under(tmp_path / "out") == ["thesis.txt"]


def test_an_empty_folder_is_used(run: Run, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert run(photo, "--export-dir", tmp_path / "out").exit_code == 0
    assert files_under(tmp_path / "out") == sorted(GLB_FILES)


@pytest.mark.parametrize("switch", ["--overwrite", "--auto-cleanup"])
def test_overwriting_replaces_only_what_is_ours(run: Run, photo: Path, tmp_path: Path, switch: str) -> None:
    out = tmp_path / "out"
    foreign = {"thesis.txt": b"mine", "exports/x/y.npz": b"mine"}
    for name, content in foreign.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(content)
    assert run(photo, "--export-dir", out, switch, "--export-format", "glb-mini_npz").exit_code == 0
    (out / "scene.glb").write_bytes(b"old")
    (out / "depth_vis" / "notes").mkdir()
    result = run(photo, "--export-dir", out, switch)
    assert result.exit_code == 0, result.stderr
    assert "1 file(s) of an earlier result stay" in result.stderr and "mini_npz/results.npz" in result.stderr
    assert files_under(out) == sorted([*foreign, *GLB_FILES, "exports/mini_npz/results.npz"])
    assert all((out / name).read_bytes() == content for name, content in foreign.items())
    assert (out / "scene.glb").read_bytes()[:4] == b"glTF"
    assert (out / "depth_vis" / "notes").is_dir(), "no folder is ever deleted"

    # A file of the user that came later is not taken for ours; what an earlier result left still is.
    (out / "kitti.txt").write_bytes(b"mine")
    line = error(run(photo, "--export-dir", out, switch, "--export-format", "kitti"))
    assert "kitti.txt is not known to be ours: exports.json does not list it" in line
    assert (out / "kitti.txt").read_bytes() == b"mine"
    result = run(photo, "--export-dir", out, switch, "--export-format", "mini_npz")
    assert result.exit_code == 0 and "3 file(s) of an earlier result stay" in result.stderr


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="no folder is closed to this user")
def test_a_folder_that_may_not_be_written_is_found_out_first(spy: type[Spy], photo: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        assert "may not be written" in error(invoke(photo, "--export-dir", tmp_path / "out"))
    finally:
        tmp_path.chmod(0o700)
    assert spy.source is None


@pytest.mark.parametrize("manifest", [None, "{}", "[]", "no json", '{"format": "of somebody else", "formats": {}}'])
@pytest.mark.parametrize("name", ["scene.glb", "depth_vis/0000.jpg", "exports.json"])
def test_a_file_that_is_not_ours_is_never_replaced(
    spy: type[Spy], photo: Path, tmp_path: Path, manifest: str | None, name: str
) -> None:
    out = tmp_path / "out"
    (out / name).parent.mkdir(parents=True)
    (out / name).write_bytes(b"mine")
    if manifest is not None:
        (out / "exports.json").write_text(manifest)
    message = error(invoke(photo, "--export-dir", out, "--overwrite"))
    assert message.startswith(f"--export-dir: got {out}, where ") and "exports.json" in message
    assert name in ("exports.json", *message.split()) and spy.source is None
    assert (out / name).read_bytes() == (manifest or "mine").encode() if name == "exports.json" else b"mine"


def test_the_folder_of_the_photos_is_safe(run: Run, folder: Path) -> None:
    before = {name: (folder / name).read_bytes() for name in files_under(folder)}
    assert "holds files" in error(run(folder, "--export-dir", folder))
    result = run(folder, "--export-dir", folder, "--overwrite", "--export-format", "mini_npz")
    assert result.exit_code == 0, result.stderr
    assert files_under(folder) == sorted([*before, "exports.json", "exports/mini_npz/results.npz"])
    assert all((folder / name).read_bytes() == content for name, content in before.items())


@pytest.mark.parametrize("below", ["", "sub", "sub/folder"])
@pytest.mark.parametrize("switches", [(), ("--dry-run",), ("--overwrite",)])
def test_a_file_in_the_way_is_found_before_anything_runs(
    spy: type[Spy], photo: Path, tmp_path: Path, below: str, switches: tuple[str, ...]
) -> None:
    (tmp_path / "file").write_text("mine")
    target = tmp_path / "file" / below
    message = error(invoke(photo, "--export-dir", target, *switches))
    assert message == f"--export-dir: got {target}, where {tmp_path / 'file'} is a file; expected a folder"
    assert spy.source is None
    assert (tmp_path / "file").read_text() == "mine"


# --- dry runs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("formats", ["glb", "depth_vis-mini_npz-npz", "npz-npz"])
def test_a_dry_run_lists_exactly_what_the_run_writes(
    run: Run, folder: Path, working_directory: Path, tmp_path: Path, formats: str
) -> None:
    out = tmp_path / "out"
    arguments = (folder, "--export-dir", out, "--export-format", formats, "--no-refine")
    text, plan = run(*arguments, "--dry-run"), run(*arguments, "--dry-run", "--json")
    assert text.exit_code == plan.exit_code == 0
    assert text.stderr == plan.stderr == ""
    assert not out.exists() and files_under(working_directory) == []
    planned = as_json(plan)
    lines = text.stdout.splitlines()
    listed = [line.strip() for line in lines[lines.index("would write:") + 1 :]]
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    written = as_json(result)
    assert listed == planned["files"] == written["files"]
    assert sorted(listed) == [str(out / name) for name in files_under(out)]
    assert planned["inputs"] == written["inputs"] == [str(folder / n) for n in ("IMG1.PNG", "img2.png", "img10.png")]
    assert [line.strip() for line in lines[1:4]] == planned["inputs"]
    assert lines[0] == "3 image(s), processed at 56 x 42 pixels:"
    assert planned["processed_size"] == written["processed_size"] == [56, 42]
    assert planned["export_dir"] == written["export_dir"]


def test_a_dry_run_describes_the_model(run: Run, checkpoint: Path, photo: Path) -> None:
    plan = as_json(run(photo, "--dry-run", "--json"))
    assert list(plan) == ["inputs", "views", "given", "processed_size", "map_size", "model", "export_dir", "files"]
    parameters = sum(p.numel() for p in DepthAnything3.from_pretrained(checkpoint, device="cpu").parameters())
    assert plan["model"] == {
        "name": str(checkpoint),
        "preset": "da3-small",
        "parameters": parameters,
        "memory_plan": plan["model"]["memory_plan"],
    }
    assert re.fullmatch(r"full, \d+\.\d GB of \d+\.\d GB on cpu", plan["model"]["memory_plan"])
    lines = run(photo, "--dry-run").stdout.splitlines()
    assert f"model: {checkpoint}" in lines and f"  parameters: {parameters}" in lines


def test_a_dry_run_of_a_published_model_names_its_licence(photo: Path) -> None:
    model = as_json(invoke(photo, "--dry-run", "--json", "--model-dir", "depth-anything/da3-large"))["model"]
    assert model["name"] == "depth-anything/DA3-LARGE" and model["licence"] == "CC BY-NC 4.0"
    assert "no commercial use" in model["note"] and model["parameters"] == 410_941_767
    free = as_json(invoke(photo, "--dry-run", "--json", "--model-dir", "depth-anything/DA3-BASE"))["model"]
    assert free["licence"].startswith("Apache") and free["parameters"] == 135_366_599 and "note" not in free


def test_a_local_folder_wins_over_a_hub_id_of_the_same_spelling(
    photo: Path, checkpoint: Path, working_directory: Path
) -> None:
    (working_directory / "depth-anything").mkdir()
    (working_directory / "depth-anything" / "DA3-LARGE").symlink_to(checkpoint, target_is_directory=True)
    model = as_json(invoke(photo, "--dry-run", "--json", "--model-dir", "depth-anything/DA3-LARGE"))["model"]
    assert model["preset"] == "da3-small" and "licence" not in model


OFFLINE = """
import sys

def forbid(event, arguments):
    if event.startswith("socket.") and event != "socket.gethostname":
        raise AssertionError(f"{event} {arguments}")
    if event == "open" and str(arguments[0]).endswith(".safetensors"):
        raise AssertionError(f"reads weights: {arguments}")
    if event == "open" and set(str(arguments[1])) & set("wax+") and "__pycache__" not in str(arguments[0]):
        if str(arguments[0]) != "/dev/null":
            raise AssertionError(f"writes {arguments}")
    if event in ("os.mkdir", "os.rename", "os.remove", "shutil.rmtree") and "__pycache__" not in str(arguments[0]):
        raise AssertionError(f"changes {arguments}")

import torch._dynamo, huggingface_hub  # what they do when imported is theirs
sys.addaudithook(forbid)
sys.argv = ["da3", *sys.argv[1:]]
from depth_anything_3.cli import main
main()
"""


def test_a_dry_run_needs_neither_network_nor_weights(photo: Path, working_directory: Path, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    result = subprocess.run(
        [sys.executable, "-B", "-c", OFFLINE, "auto", photo, "--dry-run", "--json", "--export-format", "glb-npz"],
        capture_output=True,
        text=True,
        env={**environment, "HF_HOME": str(tmp_path / "empty")},
    )
    assert result.returncode == 0, result.stderr
    plan = json.loads(result.stdout)
    assert plan["model"]["name"] == "depth-anything/DA3-BASE"
    assert [Path(name).name for name in plan["files"]] == [
        "scene.glb",
        "0000.jpg",
        "scene.jpg",
        "results.npz",
        "exports.json",
    ]
    assert files_under(working_directory) == [] and not (tmp_path / "empty").exists()


def test_a_dry_run_reads_no_weights_of_a_local_model(
    run: Run, photo: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("weights are read")

    monkeypatch.setattr("depth_anything_3.zoo.checkpoints.load_strictly", refuse)
    assert run(photo, "--dry-run").exit_code == 0


def test_a_dry_run_says_that_an_unknown_model_is_unknown(photo: Path) -> None:
    result = invoke(photo, "--model-dir", "someone/never-heard-of", "--dry-run", "--json")
    assert result.exit_code == 0, result.stderr
    assert "unknown until downloaded" in as_json(result)["model"]["note"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "gpu"], r"^--device: got 'gpu'; expected the name of a device \(valid: auto, cpu, cuda"),
        (["--dtype", "int8"], r"^--dtype: got 'int8'; .*\(valid: auto, float32, bfloat16, float16\)"),
        (["--export-feat", "12"], r"^--export-feat: got \[12\]; expected block indices from 0 to 11"),
        (
            ["--model-dir", "depth-anything/DA3METRIC-LARGE"],
            r"^--export-format: got 'glb', which needs extrinsics .*\(valid: .*depth_vis.*npz",
        ),
        (["--model-dir", "DA3-BASE"], r"^--model-dir: .*\(valid: depth-anything/DA3-BASE\)"),
        (["--model-dir", "./nothing"], r"^--model-dir: got './nothing', a path that does not exist"),
    ],
)
def test_a_dry_run_finds_what_the_run_would_refuse(photo: Path, arguments: list[str], message: str) -> None:
    assert re.search(message, error(invoke(photo, "--dry-run", *arguments)))


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--export-format", "obj"], rf"^--export-format: got 'obj'; .*\(valid: {FORMATS}\)"),
        (["--export-format", "glb-"], r"^--export-format: got 'glb-'; .*valid: "),
        (["--export-format", ""], r"^--export-format: got ''; .*valid: "),
        (["--process-res-method", "resize"], r"^--process-res-method: got 'resize'; .*upper_bound_resize.*lower_bound"),
        (["--process-res", "13"], r"^--process-res: got 13; expected at least 14 pixels"),
        (["--alpha", "white"], r"^--alpha: got 'white'; .*\(valid: composite, mask, drop\)"),
        (["--ref-view-strategy", "empty"], r"^--ref-view-strategy: got 'empty'; .*\(valid: first, middle, saddle_bal"),
        (["--export-feat", "5,x"], r"^--export-feat: got '5,x'; expected block indices joined by commas"),
        (["--export-feat", "1.5"], r"^--export-feat: got '1\.5'"),
        (["--conf-thresh-percentile", "140"], r"^--conf-thresh-percentile: got 140\.0; .*from 0 to 100"),
        (["--num-max-points", "0"], r"^--num-max-points: got 0; expected at least 1"),
    ],
)
@pytest.mark.parametrize("dry", [True, False])
def test_a_wrong_option_is_named_before_anything_is_loaded(
    spy: type[Spy], photo: Path, working_directory: Path, arguments: list[str], message: str, dry: bool
) -> None:
    assert re.search(message, error(invoke(photo, *arguments, *(["--dry-run"] if dry else []))))
    assert spy.source is None and files_under(working_directory) == []


def test_missing_input(spy: type[Spy], tmp_path: Path) -> None:
    message = error(invoke(tmp_path / "gone.jpg"))
    assert message == (
        f"INPUT: got {tmp_path / 'gone.jpg'} (no such file or folder); "
        "expected a photo, a folder of photos, a video, or a folder with a COLMAP model"
    )


def make_empty_folder(path: Path) -> Path:
    path.mkdir()
    return path


def make_folder_of_text(path: Path) -> Path:
    path.mkdir()
    (path / "notes.txt").write_text("no photo")
    return path


def make_video(path: Path) -> Path:
    path.with_suffix(".mp4").write_bytes(b"\0\0\0\x18ftypmp42")
    return path.with_suffix(".mp4")


def make_text(path: Path) -> Path:
    path.with_suffix(".txt").write_text("no photo")
    return path.with_suffix(".txt")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (make_empty_folder, r"\(an empty folder\); expected a photo, or a folder of photos$"),
        (
            make_folder_of_text,
            r"none of them a photo, for example notes\.txt\); .* \(\.jpg, \.png, .* and [0-9]+ more extensions\)$",
        ),
        (make_video, r"no video stream that can be decoded"),
        (make_text, r"\(not an image\); .* \(\.jpg, .* more extensions\)$"),
    ],
)
def test_input_that_holds_no_photos(spy: type[Spy], tmp_path: Path, make: Callable[[Path], Path], message: str) -> None:
    source = make(tmp_path / "input")
    for switches in ((), ("--dry-run",)):
        line = error(invoke(source, *switches))
        assert line.startswith(f"INPUT: got {source} ") and re.search(message, line)
    assert spy.source is None


@pytest.mark.parametrize("content", [b"", b"not an image at all", "truncated"])
def test_an_unreadable_image_is_named(run: Run, folder: Path, working_directory: Path, content: bytes | str) -> None:
    broken = folder / "img3.png"
    if isinstance(content, str):
        whole = (folder / "img2.png").read_bytes()
        broken.write_bytes(whole[: len(whole) // 2])
    else:
        broken.write_bytes(content)
    message = error(run(folder))
    assert "img3.png" in message and message.startswith("image[2]")
    assert files_under(working_directory) == []


def test_a_feature_layer_that_the_model_lacks(run: Run, photo: Path, working_directory: Path) -> None:
    message = error(run(photo, "--export-feat", "3,99"))
    assert message == "--export-feat: got [99]; expected block indices from 0 to 11"
    assert files_under(working_directory) == []


@pytest.mark.parametrize(("option", "value"), [("--device", "gpu"), ("--dtype", "half")])
def test_an_unknown_device_or_precision_is_found_before_the_weights_are_read(
    run: Run, photo: Path, monkeypatch: pytest.MonkeyPatch, option: str, value: str
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("weights are looked for")

    monkeypatch.setattr("depth_anything_3.api.resolve", refuse)
    message = error(run(photo, option, value))
    assert message.startswith(f"{option}: got '{value}'; expected ") and "valid: auto" in message


def test_errors_as_json(spy: type[Spy], tmp_path: Path) -> None:
    result = invoke(tmp_path / "gone.jpg", "--json")
    assert result.exit_code == 2 and result.stderr == ""
    report = as_json(result)["error"]
    assert report["type"] == "InputError" and report["exit_code"] == 2
    assert report["message"].startswith("INPUT: got ")
    unknown = as_json(invoke(write_photo(tmp_path / "a.png"), "--json", "--export-format", "obj"))["error"]
    assert unknown["type"] == "UnknownNameError" and f"valid: {FORMATS}" in unknown["message"]


@pytest.mark.parametrize(
    ("failure", "code", "line"),
    [
        (InputError("a", "b", "c"), 2, "a: got b; expected c"),
        (HubError("no\n connection"), 1, "no connection"),
        (OSError(28, "No space left on device", "x.npz"), 1, "[Errno 28] No space left on device: 'x.npz'"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_what_goes_wrong_on_the_way_is_one_line(
    spy: type[Spy], photo: Path, failure: BaseException, code: int, line: str
) -> None:
    spy.failure = failure
    assert error(invoke(photo), code) == line
    report = as_json(invoke(photo, "--json"))["error"]
    assert report["exit_code"] == code and report["type"] == type(failure).__name__


BASE = ("--model-dir", "depth-anything/DA3-BASE")


def test_a_model_that_is_not_in_reach(photo: Path, tmp_path: Path, working_directory: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", "from depth_anything_3.cli import main; main()", "auto", photo, "--json", *BASE],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")},
    )
    assert result.returncode == 1, result.stderr
    assert result.stderr == ""
    report = json.loads(result.stdout)["error"]
    assert report["type"] == "HubError" and report["exit_code"] == 1
    assert "depth-anything/DA3-BASE" in report["message"] and "HF_HUB_OFFLINE" in report["message"]
    assert "Alternatives: a local folder" in report["message"]
    assert files_under(working_directory) == []


def test_a_damaged_checkpoint_is_no_wrong_input(photo: Path, tmp_path: Path, checkpoint: Path) -> None:
    shutil.copytree(checkpoint, tmp_path / "damaged", copy_function=os.link)
    (tmp_path / "damaged" / "model.safetensors").unlink()
    (tmp_path / "damaged" / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}")
    assert "model.safetensors" in error(invoke(photo, "--model-dir", tmp_path / "damaged", "--device", "cpu"), 1)


@pytest.mark.parametrize("arguments", [[], ["a.png", "--no-such-option"], ["a.png", "--process-res", "many"]])
def test_usage_errors_are_typers(arguments: list[str]) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2 and result.stdout == "" and "Usage:" in result.stderr


# --- what is said -----------------------------------------------------------------------------------------------------


def test_quiet_is_silent(run: Run, photo: Path, tmp_path: Path) -> None:
    for switch in ("--quiet", "-q"):
        result = run(photo, switch, "--export-dir", tmp_path / switch)
        assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
        assert files_under(tmp_path / switch) == sorted(GLB_FILES)


@pytest.mark.parametrize(("switch", "drawn"), [("--quiet", False), ("--json", False), ("--alpha=drop", True)])
def test_bars_are_drawn_unless_the_output_is_not_for_people(
    spy: type[Spy], photo: Path, monkeypatch: pytest.MonkeyPatch, switch: str, drawn: bool
) -> None:
    asked: list[bool] = []

    @contextmanager
    def bars(*, quiet: bool) -> Iterator[str]:
        asked.append(not quiet)
        yield "callback"

    monkeypatch.setattr("depth_anything_3.cli._scene.progress_bars", bars)
    assert invoke(photo, switch).exit_code == 0
    assert asked == [drawn] and spy.asked["progress"] == "callback"


def test_quiet_does_not_swallow_the_json_that_was_asked_for(spy: type[Spy], photo: Path) -> None:
    assert as_json(invoke(photo, "--quiet", "--json"))["model_name"] == "spy"


def test_a_device_that_is_not_there_gives_a_warning_and_the_cpu(
    photo: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    arguments = (photo, "--model-dir", checkpoint, "--process-res", 56, "--device", "cuda:3", "--json")
    result = invoke(*arguments, "--export-dir", tmp_path / "out", "--export-format", "mini_npz")
    assert result.exit_code == 0
    assert as_json(result)["device"] == "cpu"
    assert result.stderr == "warning: device: cuda:3 is not available here; using the CPU\n"
    dry = invoke(*arguments, "--dry-run")
    assert dry.exit_code == 0 and dry.stderr == result.stderr


@pytest.mark.parametrize(
    ("switches", "warning"),
    [
        (["--export-feat", "5"], "--export-feat: no effect on glb"),
        (
            ["--export-format", "npz-depth_vis", "--num-max-points", "5", "--no-show-cameras"],
            "--num-max-points, --show-cameras: no effect on npz, depth_vis",
        ),
        (["--export-format", "npz", "--conf-thresh-percentile", "5"], "--conf-thresh-percentile: no effect on npz"),
        (
            ["--ref-view-strategy", "first"],
            "--ref-view-strategy has no effect with given poses or fewer than three views",
        ),
    ],
)
def test_what_has_no_effect_is_said(run: Run, photo: Path, switches: list[str], warning: str) -> None:
    result = run(photo, "--dry-run", *switches)
    assert result.exit_code == 0
    assert result.stderr == f"warning: {warning}\n"


@pytest.mark.parametrize("switches", [[], ["--export-format", "glb-npz", "--num-max-points", "5"]])
def test_nothing_is_warned_of_without_reason(spy: type[Spy], photo: Path, switches: list[str]) -> None:
    assert invoke(photo, "--model-dir", "someone/model", *switches).stderr == ""


def test_help_names_every_option_and_every_format() -> None:
    text = " ".join(invoke("--help").stdout.split())
    for option in ("--model-dir", "--export-dir", "--export-format", "--dry-run", "--json", "--overwrite", "--quiet"):
        assert option in text
    listed = re.search(r"Format names joined by '-', of: ([\w, ]+)\.", text.replace("│", ""))
    assert listed is not None
    assert re.split(r",\s+", listed[1]) == EXPORTERS.names()


OUTSIDE = """
import sys
from typer.testing import CliRunner
from depth_anything_3.cli import app

for arguments in (["auto", "--help"], ["auto", sys.argv[1], "--dry-run", "--export-format", "text-glb"]):
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.stderr
    print(result.stdout)
"""

EXPORTER = """
from dataclasses import dataclass
from depth_anything_3.export.base import Exporter

@dataclass(frozen=True, kw_only=True)
class Options:
    shout: bool = False

def planned_files(count, options):
    return [f"view{i}.txt" for i in range(count)]

def export(prediction, folder, options):
    raise NotImplementedError

EXPORTER = Exporter(options=Options, export=export, planned_files=planned_files)
"""


def test_a_format_of_another_package_can_be_asked_for(photo: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    information = site / "outside-1.0.dist-info"
    information.mkdir(parents=True)
    (site / "outside.py").write_text(EXPORTER)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[depth_anything_3.exporter]\ntext = outside:EXPORTER\n")
    result = subprocess.run(
        [sys.executable, "-c", OUTSIDE, photo],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(site), *sys.path)), "HF_HOME": str(tmp_path / "home")},
    )
    assert result.returncode == 0, result.stderr
    formats = ", ".join(sorted((*EXPORTERS.names(), "text")))
    assert f"of: {formats}." in " ".join(result.stdout.replace("│", " ").split())
    assert "workspace/gallery/Photo of a cup/view0.txt" in result.stdout


@pytest.fixture(autouse=True)
def no_trace_in_the_repository(repository: Path) -> Iterator[None]:
    before = (repository / "workspace").exists()
    yield
    assert (repository / "workspace").exists() == before


# --- known cameras ----------------------------------------------------------------------------------------------------


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """A COLMAP folder with three photos taken through a lens."""
    written = files.scene()
    files.write_photos(tmp_path / "colmap" / "images", written)
    parameters = [70, 72, 41, 29.5, -0.1, 0.02, 0, 0]
    model = tmp_path / "colmap" / "sparse" / "0"
    files.write_colmap(model, written, model=("OPENCV", 4), parameters=parameters, binary=True)
    return tmp_path / "colmap"


def test_a_colmap_folder_gives_what_the_api_gives(run: Run, checkpoint: Path, scene: Path, tmp_path: Path) -> None:
    result = run(scene, "--export-dir", tmp_path / "out", "--export-format", "npz")
    assert result.exit_code == 0 and result.stderr == ""
    views = open_views(scene)
    expected = DepthAnything3.from_pretrained(checkpoint, device="cpu").inference(
        list(views.images), views.extrinsics, views.intrinsics, process_res=56, refine="full"
    )
    np.testing.assert_allclose(expected.extrinsics, views.extrinsics, atol=1e-6)
    with np.load(tmp_path / "out" / "exports" / "npz" / "results.npz") as stored:
        np.testing.assert_allclose(stored["extrinsics"], views.extrinsics, atol=1e-6)
        np.testing.assert_allclose(stored["depth"], expected.depth, atol=1e-5)


def test_a_dry_run_says_what_is_known(run: Run, scene: Path, folder: Path) -> None:
    known = ["intrinsics", "poses", "lens distortion, undone"]
    assert as_json(run(scene, "--dry-run", "--json"))["given"] == known
    assert f"given: {', '.join(known)}" in run(scene, "--dry-run").stdout.splitlines()
    assert as_json(run(folder, "--dry-run", "--json", "--intrinsics", "60deg"))["given"] == ["intrinsics"]
    assert as_json(run(folder, "--dry-run", "--json"))["given"] == []


def test_known_cameras_reach_the_model(spy: type[Spy], scene: Path) -> None:
    photos, model = scene / "images", scene / "sparse" / "0"
    result = invoke(photos, "--recursive", "--stride", 2, "--poses", model, "--intrinsics", "90deg")
    assert result.exit_code == 0, result.stderr
    views = open_views(photos, poses=model, intrinsics="90deg", options=FolderOptions(recursive=True, stride=2))
    assert spy.images == list(views.photos) and len(spy.images) == 2
    np.testing.assert_array_equal(spy.asked["extrinsics"], views.extrinsics)
    np.testing.assert_array_equal(spy.asked["intrinsics"], views.intrinsics)


@pytest.mark.parametrize(
    ("typed", "mode"),
    [(None, "full"), ("--refine", "full"), ("--no-refine-depth", "poses"), ("--no-refine", "off")],
)
def test_several_photos_are_refined_by_default(spy: type[Spy], folder: Path, typed: str | None, mode: str) -> None:
    assert invoke(folder, *([typed] if typed else [])).exit_code == 0
    assert spy.asked["refine"] == mode


def test_what_gives_no_cameras_is_not_refined_unless_asked_for(
    spy: type[Spy], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spy, "model", SimpleNamespace(abilities=frozenset()))
    assert invoke(folder).exit_code == 0
    assert spy.asked["refine"] == "off"


def test_a_part_of_a_folder(spy: type[Spy], folder: Path) -> None:
    assert invoke(folder, "--limit", 2).exit_code == 0
    assert spy.images == [folder / "IMG1.PNG", folder / "img2.png"]
    assert error(invoke(folder, "--stride", 0)) == "--stride: got 0; expected a whole number, at least 1"


@pytest.mark.parametrize("switches", [("--poses", "{}/gone.json"), ("--intrinsics", "{}/gone.json")])
def test_wrong_cameras_are_named_before_anything_is_loaded(
    spy: type[Spy], folder: Path, tmp_path: Path, switches: tuple[str, str]
) -> None:
    line = error(invoke(folder, switches[0], switches[1].format(tmp_path)))
    assert line.startswith(f"{switches[0]}: got {tmp_path}/gone.json (no such file")
    assert spy.source is None


def test_poses_of_other_photos(spy: type[Spy], folder: Path, scene: Path) -> None:
    line = error(invoke(folder, "--poses", scene))
    assert "no camera named IMG1.PNG" in line and "IMG 1.png" in line and spy.source is None


def test_alignment_without_poses_has_no_effect(spy: type[Spy], photo: Path) -> None:
    result = invoke(photo, "--no-align-to-input-ext-scale")
    assert "--no-align-to-input-ext-scale: no effect without poses" in result.stderr
