"""Formats, options, checks, and running several exporters."""

from __future__ import annotations

import dataclasses
import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from depth_anything_3.errors import CapabilityError, InputError, UnknownNameError
from depth_anything_3.export import base, glb, npz
from depth_anything_3.export.base import (
    EXPORTERS,
    available_fields,
    check_exportable,
    export_all,
    parse_formats,
    planned_files,
    resolve_options,
    shared_defaults,
)
from depth_anything_3.types.prediction import Prediction

Contents = Callable[[Path], dict[str, bytes]]
FORMATS = ["mini_npz", "npz", "glb", "depth_vis", "ply", "depth_raw", "colmap", "nerfstudio", "tum", "kitti", "preview"]
FUSED_FORMATS = ["mesh"]
SOME = ["mini_npz", "npz", "glb", "depth_vis"]
FEATURE_FORMATS = ["feat_vis"]
EXTRA_FORMATS = ["rerun"]  # its recordings hold the time at which they were made
GAUSSIAN_FORMATS = ["gs_ply", "gs_splat", "gs_spz", "gs_video"]


def test_formats_are_split_in_order_without_duplicates() -> None:
    assert parse_formats("glb-npz-glb-depth_vis") == ["glb", "npz", "depth_vis"]
    assert parse_formats("mini_npz") == ["mini_npz"]


@pytest.mark.parametrize("text", ["", "glb-", "-", "glb--npz", None, ["glb"]])
def test_no_format_is_an_error(text: Any) -> None:
    with pytest.raises(InputError, match=r"^export_format: got .*mini_npz"):
        parse_formats(text)


def test_unknown_format_lists_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"^export_format: got 'gbl'.*glb.*mini_npz.*npz"):
        parse_formats("npz-gbl")


@pytest.mark.parametrize("name", [*FORMATS, *FUSED_FORMATS, *FEATURE_FORMATS, *EXTRA_FORMATS, *GAUSSIAN_FORMATS])
def test_every_exporter_is_one_module_with_the_same_parts(name: str) -> None:
    module = importlib.import_module(f"depth_anything_3.export.{name}")
    exporter = EXPORTERS[name]
    assert exporter is module.EXPORTER
    assert (exporter.options, exporter.needs) == (module.Options, module.NEEDS)
    assert exporter.needs <= {field.name for field in dataclasses.fields(Prediction)}
    fields = dataclasses.fields(exporter.options)
    assert all(field.kw_only for field in fields) and exporter.options.__doc__
    options = exporter.options()
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.anything = 1


def test_every_public_module_is_an_exporter() -> None:
    """Helpers of exporters have a leading underscore, or they would be offered as formats."""
    assert EXPORTERS.names() == sorted([*FORMATS, *FUSED_FORMATS, *FEATURE_FORMATS, *EXTRA_FORMATS, *GAUSSIAN_FORMATS])
    for name in EXPORTERS:
        assert isinstance(EXPORTERS[name], base.Exporter), name


def test_listing_and_options_need_neither_torch_nor_numpy() -> None:
    code = """
import sys
from depth_anything_3.export.base import *
formats = EXPORTERS.names()
options = resolve_options(formats)
planned_files(3, options)
check_exportable(["npz"], [])
print({"torch", "numpy", "PIL"} & set(sys.modules))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


def test_exporters_of_other_packages_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shouting.py").write_text(
        "from dataclasses import dataclass\n"
        "from depth_anything_3.export.base import Exporter\n"
        "@dataclass(frozen=True, kw_only=True)\n"
        "class Options:\n    word: str = 'hey'\n"
        "def export(prediction, folder, options):\n"
        "    path = folder / 'shout.txt'\n    path.write_text(options.word.upper())\n    return [path]\n"
        "EXPORTER = Exporter(options=Options, export=export, planned_files=lambda count, options: ['shout.txt'])\n"
    )
    info = tmp_path / "shouting-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shouting\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[depth_anything_3.exporter]\nshout = shouting:EXPORTER\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(base, "EXPORTERS", base._find_exporters())
    options = resolve_options(parse_formats("shout-npz"), {"shout": {"word": "ho"}})
    folder = tmp_path / "out"
    folder.mkdir()
    depth = np.ones((1, 2, 2), np.float32)
    paths = export_all(Prediction(depth=depth, is_metric=False), folder, options)
    assert paths[0].read_text() == "HO"
    assert [path.relative_to(folder).as_posix() for path in paths] == planned_files(1, options)


def test_user_options_win_over_defaults_and_nothing_is_changed() -> None:
    user: dict[str, dict[str, object]] = {"glb": {"conf_thresh_percentile": 10}}
    defaults: dict[str, dict[str, object]] = {
        "glb": {"conf_thresh_percentile": 40.0, "num_max_points": 7},
        "colmap": {"anything": 1},
    }
    options = resolve_options(["npz", "glb"], user, defaults)
    assert list(options) == ["npz", "glb"]
    assert options["glb"] == glb.Options(conf_thresh_percentile=10.0, num_max_points=7)
    assert isinstance(options["glb"].conf_thresh_percentile, float)
    assert options["npz"] == npz.Options()
    assert user == {"glb": {"conf_thresh_percentile": 10}}
    assert defaults["glb"] == {"conf_thresh_percentile": 40.0, "num_max_points": 7}


def test_published_defaults_of_glb() -> None:
    assert dataclasses.asdict(glb.Options()) == {
        "num_max_points": 1_000_000,
        "conf_thresh": 1.05,
        "filter_black_bg": False,
        "filter_white_bg": False,
        "conf_thresh_percentile": 40.0,
        "ensure_thresh_percentile": 90.0,
        "clean": None,  # published: there is none
        "show_cameras": True,
        "camera_size": 0.03,
        "frame": "first_camera",  # published: no choice
        "export_depth_vis": True,
    }


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"glb": {"foo": 1}}, r"^export_kwargs\[glb\]\.foo: .*num_max_points.*camera_size"),
        ({"npz": {"foo": 1}}, r"^export_kwargs\[npz\]\.foo: "),
        ({"glb": {"num_max_points": "many"}}, r"^export_kwargs\[glb\]\.num_max_points: got 'many'.*whole number"),
        ({"glb": {"num_max_points": 1.5}}, r"whole number"),
        ({"glb": {"num_max_points": True}}, r"whole number"),
        ({"glb": {"num_max_points": 0}}, r"^export_kwargs\[glb\]\.num_max_points: got 0; expected at least 1"),
        ({"glb": {"show_cameras": 1}}, r"^export_kwargs\[glb\]\.show_cameras: got 1; expected True or False"),
        ({"glb": {"conf_thresh": None}}, r"^export_kwargs\[glb\]\.conf_thresh: got None; expected a number"),
        ({"glb": {"conf_thresh_percentile": 101}}, r"^export_kwargs\[glb\]\.conf_thresh_percentile: .*0 to 100"),
        ({"glb": {"ensure_thresh_percentile": float("nan")}}, r"ensure_thresh_percentile: got nan"),
        ({"glb": {"conf_thresh": float("nan")}}, r"^export_kwargs\[glb\]\.conf_thresh: got nan"),
        ({"glb": {"camera_size": 0.0}}, r"^export_kwargs\[glb\]\.camera_size"),
        ({"glb": 3}, r"^export_kwargs\[glb\]: got 3"),
        ({"gbl": {}}, r"^export_kwargs: got 'gbl'.*glb"),
        (["glb"], r"^export_kwargs: "),
    ],
)
def test_wrong_options_are_named_as_the_user_spells_them(kwargs: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve_options(["glb", "npz"], kwargs)


def test_wrong_default_is_named_without_export_kwargs() -> None:
    with pytest.raises(InputError, match=r"^num_max_points: got -1"):
        resolve_options(["glb"], {"glb": {"camera_size": 1}}, {"glb": {"num_max_points": -1}})


def test_options_take_numpy_numbers() -> None:
    options = resolve_options(["glb"], {"glb": {"num_max_points": np.int64(5), "conf_thresh": np.float32(2)}})
    assert (type(options["glb"].num_max_points), type(options["glb"].conf_thresh)) == (int, float)


def test_options_for_a_format_that_is_not_exported_are_a_warning() -> None:
    with pytest.warns(UserWarning, match=r"export_kwargs\[glb\] has no effect.*npz"):
        resolve_options(["npz"], {"glb": {"num_max_points": 5}})


def test_formats_without_their_fields_are_refused_early() -> None:
    check_exportable(FORMATS, {"extrinsics", "intrinsics", "processed_images"})
    with pytest.raises(
        CapabilityError,
        match=r"^export_format: got 'glb', which needs extrinsics and intrinsics .*"
        r"\(valid: depth_raw, depth_vis, mini_npz, npz, preview\)$",
    ):
        check_exportable(["npz", "glb"], {"processed_images"})


def test_prediction_is_checked_before_anything_is_written(tmp_path: Path, make_prediction: Any) -> None:
    prediction = make_prediction(extrinsics=None)
    with pytest.raises(CapabilityError, match="extrinsics"):
        export_all(prediction, tmp_path / "out", resolve_options(["npz", "glb"]))
    with pytest.raises(InputError, match=r"options\[glb\]"):
        export_all(make_prediction(), tmp_path / "out", {"npz": npz.Options(), "glb": npz.Options()})
    assert not (tmp_path / "out").exists()


def test_available_fields(make_prediction: Any) -> None:
    everything = {"depth", "conf", "extrinsics", "intrinsics", "processed_images", "names"}
    assert available_fields(make_prediction()) == everything
    bare = Prediction(depth=np.ones((1, 2, 2), np.float32), is_metric=False)
    assert available_fields(bare) == {"depth"}


def test_a_file_is_no_folder(tmp_path: Path, make_prediction: Any) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(InputError, match="export_dir"):
        export_all(make_prediction(), tmp_path / "out", resolve_options(["npz"]))


def test_no_views_is_an_error(tmp_path: Path) -> None:
    empty = Prediction(depth=np.ones((0, 2, 2), np.float32), is_metric=False)
    with pytest.raises(InputError, match="no views"):
        export_all(empty, tmp_path, resolve_options(["npz"]))


@pytest.mark.filterwarnings("ignore:colmap")
def test_every_format_writes_what_was_planned(
    variant: Prediction, tmp_path: Path, contents: Contents, fingerprint: Callable[[Prediction], str]
) -> None:
    before = fingerprint(variant)
    seen: list[tuple[str, int, int]] = []
    options = resolve_options(FORMATS)
    paths = export_all(variant, tmp_path, options, on_format=lambda *told: seen.append(told))
    assert [name for name, *_ in seen[::2]] == [name for name, *_ in seen[1::2]] == list(options)
    assert all(
        begun[1:] == (0, done[2]) and done[1] == done[2] for begun, done in zip(seen[::2], seen[1::2], strict=True)
    )
    names = [path.relative_to(tmp_path).as_posix() for path in paths]
    assert names == planned_files(len(variant.depth), options)
    assert sorted(contents(tmp_path)) == sorted(names)
    assert fingerprint(variant) == before


@pytest.mark.filterwarnings("ignore:colmap")
def test_order_and_company_of_formats_change_no_byte(tmp_path: Path, make_prediction: Any, contents: Contents) -> None:
    features = {"feat_layer_2": np.random.default_rng(0).normal(size=(2, 2, 3, 8)).astype(np.float32)}
    prediction = make_prediction(2, aux=features)
    kwargs = {"glb": {"filter_black_bg": True, "filter_white_bg": True, "num_max_points": 500}}
    formats = [*FORMATS, "feat_vis"]
    shuffled = np.random.default_rng(0).permutation(formats).tolist()
    results = []
    for index, order in enumerate((formats, formats[::-1], shuffled)):
        export_all(prediction, tmp_path / str(index), resolve_options(order, kwargs))
        results.append(contents(tmp_path / str(index)))
    assert results[0] == results[1] == results[2]
    assert results[0]["scene.jpg"] == results[0]["depth_vis/0000.jpg"]
    for name in formats:
        export_all(prediction, tmp_path / name, resolve_options([name], {k: v for k, v in kwargs.items() if k == name}))
        alone = contents(tmp_path / name)
        del alone["exports.json"]
        assert alone and alone == {file: results[0][file] for file in alone}


def test_the_manifest_says_what_was_made_of_what(tmp_path: Path, make_prediction: Any) -> None:
    options = resolve_options(["npz", "glb"], {"glb": {"conf_thresh": float("-inf"), "export_depth_vis": False}})
    model = {"source": "someone/a-model", "revision": "abc", "licence": "Apache-2.0"}
    export_all(make_prediction(2), tmp_path, options, model=model)
    text = (tmp_path / "exports.json").read_text(encoding="utf-8")
    written = json.loads(text)
    assert text == json.dumps(written, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    assert written["model"] == {"model_name": "da3-small", **model}
    assert (written["scale"], written["unit"], written["refinement"]) == ("metric", "metre", None)
    assert [entry["name"] for entry in written["inputs"]] == ["photo 0 é.png", "photo 1 é.png"]
    assert written["formats"]["npz"] == {"options": {}, "files": ["exports/npz/results.npz"]}
    assert written["formats"]["glb"]["options"]["conf_thresh"] == "-inf"
    assert written["formats"]["glb"]["files"] == ["scene.glb"]
    assert written["versions"]["numpy"] == np.__version__


def test_general_arguments_reach_the_formats_that_have_them() -> None:
    defaults = shared_defaults(
        {
            "conf_thresh_percentile": 5.0,
            "num_max_points": 7,
            "show_cameras": False,
            "feat_vis_fps": 3,
            "export_feat_layers": (2,),
        }
    )
    options = resolve_options(["glb", "ply", "colmap", "feat_vis", "npz"], None, defaults)
    assert (options["glb"].num_max_points, options["glb"].show_cameras) == (7, False)
    assert (options["ply"].num_max_points, options["ply"].conf_thresh_percentile) == (7, 5.0)
    assert (options["colmap"].num_max_points, options["colmap"].conf_thresh_percentile) == (100_000, 5.0)
    assert (options["feat_vis"].fps, options["feat_vis"].layers) == (3.0, (2,))


def test_exporting_again_replaces_only_our_files(tmp_path: Path, make_prediction: Any, contents: Contents) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    export_all(make_prediction(seed=1), tmp_path, resolve_options(SOME))
    export_all(make_prediction(seed=2), tmp_path, resolve_options(SOME))
    export_all(make_prediction(seed=2), tmp_path / "fresh", resolve_options(SOME))
    again = contents(tmp_path)
    assert again["notes.txt"] == b"mine"
    for name, data in contents(tmp_path / "fresh").items():
        assert again[name] == data
