"""Options are defined once: the Python API and the command line offer what the dataclasses say, with their defaults."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any, get_args, get_type_hints

import pytest

from depth_anything_3.api import DepthAnything3
from depth_anything_3.batch.engine import EngineOptions
from depth_anything_3.cli import COMMANDS
from depth_anything_3.cli._lazy import load
from depth_anything_3.cli._options import (
    FLAGS,
    BackendOptions,
    FileOptions,
    KnownCameras,
    ModelOptions,
    RefinementOptions,
    ReportOptions,
    SphereOptions,
    TileOptions,
    ViewOptions,
    flag_name,
)
from depth_anything_3.export.base import EXPORTERS, shared_defaults
from depth_anything_3.types.options import FolderOptions, InferOptions, PreprocessOptions, StreamOptions, VideoOptions

PUBLISHED_SIGNATURE = {
    "image": inspect.Parameter.empty,
    "extrinsics": None,
    "intrinsics": None,
    "align_to_input_ext_scale": True,
    "infer_gs": False,
    "use_ray_pose": False,
    "ref_view_strategy": "saddle_balanced",
    "render_exts": None,
    "render_ixts": None,
    "render_hw": None,
    "process_res": None,  # published: 504, which is what None means for every published model
    "process_res_method": "upper_bound_resize",
    "export_dir": None,
    "export_format": "mini_npz",
    "export_feat_layers": None,
    "conf_thresh_percentile": 40.0,
    "num_max_points": 1_000_000,
    "show_cameras": True,
    "feat_vis_fps": 15,
    "export_kwargs": None,  # published: a mutable {}, which leaks from one call into the next
}
OWN_ARGUMENTS = {
    "anchors",
    "alpha",
    "progress",
    "cancel",
    "refine",
    "matcher",
    "extrinsics_convention",
    "intrinsics_origin",
    "metric_focal",
    "metric_res",
    "output_size",
    "shared_intrinsics",
    "square_pixels",
    "derive_confidence",
    "max_memory",
    "key_pooling",
    "rig",
    "gs_source",
    "gs_refine",
    "video",
    "masks",
    "clean",
    "mixed_sizes",
}

PUBLISHED_FLAGS: dict[str, object] = {
    "model_dir": None,  # published: a model that must not be used commercially
    "export_dir": None,  # published: workspace/gallery/scene, whatever the input is called
    "export_format": "glb",
    "device": "auto",  # published: cuda
    "process_res": None,  # the model's own: 504 for every published one
    "process_res_method": "upper_bound_resize",
    "export_feat_layers": "",
    "overwrite": False,
    "use_ray_pose": False,
    "ref_view_strategy": "saddle_balanced",
    "conf_thresh_percentile": 40.0,
    "num_max_points": 1_000_000,
    "show_cameras": True,
    "feat_vis_fps": 15,
    "use_backend": False,
    "backend_url": "http://localhost:8008",
}
"""Of the five commands with a scene."""

PUBLISHED_EXTRAS: dict[str, dict[str, object]] = {
    "auto": {"fps": None, "sparse_subdir": "", "align_to_input_ext_scale": True},
    "image": {},
    "images": {"extensions": "png,jpg,jpeg"},
    "video": {"fps": None},  # None is 1.0, or all that --stride takes
    "colmap": {"sparse_subdir": "", "align_to_input_ext_scale": True},
}
SCENES = tuple(PUBLISHED_EXTRAS)
GROUPS = (
    PreprocessOptions,
    InferOptions,
    RefinementOptions,
    FileOptions,
    KnownCameras,
    ModelOptions,
    BackendOptions,
    ReportOptions,
)
"""What every command with a scene offers."""
GENERAL = {"conf_thresh_percentile", "num_max_points", "show_cameras", "feat_vis_fps", "clean"}
"""Arguments of the API that belong to several formats; other options of a format are reached through export_kwargs."""


def defaults(cls: type) -> dict[str, Any]:
    return {field.name: field.default for field in dataclasses.fields(cls)}


def api_parameters() -> dict[str, inspect.Parameter]:
    parameters = dict(inspect.signature(DepthAnything3.inference).parameters)
    del parameters["self"]
    return parameters


def cli_parameters(name: str) -> dict[str, Any]:
    """Name -> parameter of a command, as Typer builds it."""
    return {p.name: p for p in load(next(entry for entry in COMMANDS if entry.name == name)).params}


def default_of(parameter: Any) -> Any:
    return parameter.default


OPTIONS: dict[str, Any] = {**defaults(PreprocessOptions), **defaults(InferOptions)}


# --- the Python API ---------------------------------------------------------------------------------------------------


def test_the_published_signature_holds() -> None:
    parameters = api_parameters()
    positional = [p for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert {p.name: p.default for p in positional} == PUBLISHED_SIGNATURE
    assert [p.name for p in positional] == list(PUBLISHED_SIGNATURE), "scripts may pass arguments by position"
    assert {type(p.default) for p in positional if p.name == "num_max_points"} == {int}


def test_what_was_added_is_given_by_name() -> None:
    added = {name: p for name, p in api_parameters().items() if name not in PUBLISHED_SIGNATURE}
    assert added.keys() == OWN_ARGUMENTS
    assert all(p.kind is p.KEYWORD_ONLY for p in added.values())


def test_no_default_is_shared_between_calls() -> None:
    for parameter in api_parameters().values():
        assert not isinstance(parameter.default, (dict, list, set))


def test_no_option_has_two_homes() -> None:
    """Two formats may both have a limit of points; what is computed before them is decided once."""
    assert not defaults(PreprocessOptions).keys() & defaults(InferOptions).keys()
    for name in EXPORTERS:
        assert not defaults(EXPORTERS[name].options).keys() & OPTIONS.keys()


@pytest.mark.parametrize("name", OPTIONS)
def test_the_api_offers_every_option_with_its_default(name: str) -> None:
    parameter = api_parameters()[name]
    if name == "process_res":
        assert parameter.default is None and DepthAnything3.process_res == OPTIONS[name]
        return
    assert (parameter.default or ()) == OPTIONS[name] if OPTIONS[name] == () else parameter.default == OPTIONS[name]
    assert type(parameter.default) is type(OPTIONS[name]) or parameter.default is None


# --- the command line -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", SCENES)
def test_every_published_flag_works_with_its_default(command: str) -> None:
    parameters = cli_parameters(command)
    for name, default in {**PUBLISHED_FLAGS, **PUBLISHED_EXTRAS[command]}.items():
        assert parameters[name].default == default, name
        published = {"overwrite": "--auto-cleanup", "extensions": "--image-extensions"}
        assert published.get(name, flag_name(name)) in parameters[name].opts


@pytest.mark.parametrize("command", SCENES)
def test_the_commands_have_the_same_options(command: str) -> None:
    """All of the dataclasses and nothing else, but for the input and how its parts are chosen."""
    shared = {field.name for cls in (*GROUPS, ViewOptions) for field in dataclasses.fields(cls)}
    choosing = {field.name for cls in (FolderOptions, VideoOptions) for field in dataclasses.fields(cls)}
    offered = set(cli_parameters(command))
    assert shared <= offered
    assert len(offered - shared - choosing - {"sparse_subdir"}) == 1, "the input"


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("command", SCENES)
def test_the_command_line_has_the_defaults_of_the_dataclasses(command: str, name: str) -> None:
    parameter = cli_parameters(command)[name]
    left_to_the_model = {"process_res": None, "refine": None, "export_feat_layers": ""}
    expected = left_to_the_model.get(name, OPTIONS[name])
    assert parameter.default == expected and type(parameter.default) is type(expected)


def test_general_options_have_the_defaults_of_every_format_that_has_them() -> None:
    parameters, offered = api_parameters(), defaults(FileOptions)
    for name in GENERAL:
        assert parameters[name].default == offered[name], name
        for exporter, options in shared_defaults({name: offered[name]}).items():
            (spelled,) = options
            assert defaults(EXPORTERS[exporter].options)[spelled] == offered[name] or name == "num_max_points"


def test_every_exporter_with_such_an_option_gets_it() -> None:
    for name in GENERAL - {"feat_vis_fps"}:
        reached = set(shared_defaults({name: object()}))
        having = {exporter for exporter in EXPORTERS if name in defaults(EXPORTERS[exporter].options)}
        # colmap has a limit of its own, ten times lower: every point is seen by several views
        assert reached == having - ({"colmap"} if name == "num_max_points" else set())


@pytest.mark.parametrize("command", [entry.name for entry in COMMANDS if ":app" not in entry.target])
def test_an_option_is_typed_as_it_is_called(command: str) -> None:
    for name, parameter in cli_parameters(command).items():
        if parameter.param_type_name != "option" or name not in FLAGS:
            continue
        assert parameter.opts[0] == flag_name(name) and parameter.help
        assert all(not other.startswith("--no-") for other in parameter.opts)


def test_switches_can_be_switched_both_ways() -> None:
    hints = {name: hint for cls in (PreprocessOptions, InferOptions) for name, hint in get_type_hints(cls).items()}
    for name, parameter in cli_parameters("auto").items():
        if hints.get(name) is bool:
            assert parameter.secondary_opts == [f"--no-{name.replace('_', '-')}"]


def test_choices_are_in_the_help() -> None:
    parameters = cli_parameters("auto")
    for cls in (PreprocessOptions, InferOptions):
        for name, hint in get_type_hints(cls).items():
            switches = ("export_feat_layers", "max_memory", "metric_res", "refine")  # numbers; --refine and --no-refine
            for choice in get_args(hint) if name not in switches else ():
                assert str(choice) in parameters[name].help, (name, choice)


def test_every_option_is_explained_and_no_explanation_is_left_over() -> None:
    more = (ViewOptions, TileOptions, SphereOptions, FolderOptions, VideoOptions, StreamOptions, EngineOptions)
    classes = (*GROUPS, *more)
    fields = {field.name for cls in classes for field in dataclasses.fields(cls)}
    assert fields - {"when_full"} == FLAGS.keys(), "when_full is for streams that cannot wait: cameras, not files"


@pytest.mark.parametrize(
    "cls",
    [PreprocessOptions, FolderOptions, VideoOptions, InferOptions, *(EXPORTERS[name].options for name in EXPORTERS)],
)
def test_option_classes_are_frozen_keyword_only_and_complete(cls: type) -> None:
    assert cls.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert all(field.kw_only for field in dataclasses.fields(cls))
    assert all(value is not dataclasses.MISSING for value in defaults(cls).values())
    cls()


@pytest.mark.parametrize("method", ["from_pretrained", "__init__"])
def test_devices_and_precisions_are_chosen_by_themselves(method: str) -> None:
    parameters = inspect.signature(getattr(DepthAnything3, method)).parameters
    for name in ("device", "dtype"):
        assert parameters[name].default is None
        assert cli_parameters("auto")[name].default == "auto"


def test_a_summary_is_the_first_line_of_the_help() -> None:
    for entry in COMMANDS:
        assert (load(entry).help or "").partition("\n\n")[0] == entry.summary, entry.name
