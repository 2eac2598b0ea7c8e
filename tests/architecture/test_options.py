"""Options are defined once: the Python API and the command line offer what the dataclasses say, with their defaults."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, get_type_hints

import pytest
import typer.main

from depth_anything_3.api import DepthAnything3
from depth_anything_3.cli import app
from depth_anything_3.export.base import EXPORTERS
from depth_anything_3.export.glb import Options as GlbOptions
from depth_anything_3.types.options import FolderOptions, InferOptions, PreprocessOptions

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
OWN_ARGUMENTS = {"alpha", "progress", "cancel", "refine", "extrinsics_convention", "metric_focal", "gs_source", "video"}
OWN_ARGUMENTS |= {"clean"}

# Named glb options of the API; the others are reached through export_kwargs.
GLB_ARGUMENTS = {"conf_thresh_percentile", "num_max_points", "show_cameras"}

SPELLED_DIFFERENTLY = {"export_feat_layers": "export_feat"}

OWN_SWITCHES = {
    "input_path",
    "poses",
    "intrinsics",
    "model_dir",
    "revision",
    "export_dir",
    "export_format",
    "device",
    "dtype",
    "overwrite",
    "dry_run",
    "as_json",
    "quiet",
}

ABSENT = object()


def defaults(cls: type) -> dict[str, Any]:
    return {field.name: field.default for field in dataclasses.fields(cls)}


def api_parameters() -> dict[str, inspect.Parameter]:
    parameters = dict(inspect.signature(DepthAnything3.inference).parameters)
    del parameters["self"]
    return parameters


def cli_parameters() -> dict[str, Any]:
    """Name -> parameter of ``da3 auto``, as Typer builds the command."""
    command = typer.main.get_command(app)
    auto = command.commands["auto"]  # type: ignore[attr-defined]
    return {parameter.name: parameter for parameter in auto.params}


OPTIONS: dict[str, Any] = {
    **defaults(PreprocessOptions),
    **defaults(InferOptions),
    **{name: value for name, value in defaults(GlbOptions).items() if name in GLB_ARGUMENTS},
}
TYPES: dict[str, Any] = {
    name: hint for cls in (PreprocessOptions, InferOptions, GlbOptions) for name, hint in get_type_hints(cls).items()
}


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
        assert not defaults(EXPORTERS[name].options).keys() & {**defaults(PreprocessOptions), **defaults(InferOptions)}


@pytest.mark.parametrize("name", OPTIONS)
def test_the_api_offers_every_option_with_its_default(name: str) -> None:
    parameter = api_parameters()[name]
    if name == "process_res":
        assert parameter.default is None and DepthAnything3.process_res == OPTIONS[name]
        return
    assert (parameter.default or ()) == OPTIONS[name] if OPTIONS[name] == () else parameter.default == OPTIONS[name]
    assert type(parameter.default) is type(OPTIONS[name]) or parameter.default is None


@pytest.mark.parametrize("name", OPTIONS)
def test_the_command_line_offers_every_option_with_its_default(name: str) -> None:
    spelling = SPELLED_DIFFERENTLY.get(name, name)
    parameter = cli_parameters().get(spelling, ABSENT)
    assert parameter is not ABSENT, f"da3 auto has no --{spelling.replace('_', '-')}"
    assert parameter.opts[0] == f"--{spelling.replace('_', '-')}"
    default = parameter.default
    if name == "export_feat_layers":
        assert default == ""
    elif name == "process_res":
        assert default is None, "the model's own"
    elif name == "refine":
        assert default is None and parameter.secondary_opts == ["--no-refine"], "full, where it can be done"
    else:
        assert default == OPTIONS[name] and type(default) is type(OPTIONS[name])


def test_switches_can_be_switched_both_ways() -> None:
    for name, parameter in cli_parameters().items():
        if TYPES.get(name) is bool:
            assert parameter.secondary_opts == [f"--no-{name.replace('_', '-')}"]


def test_the_command_line_chooses_photos_of_a_folder() -> None:
    """In Python that is ``list_images`` and a slice."""
    offered = cli_parameters()
    assert {name: offered[name].default for name in defaults(FolderOptions)} == defaults(FolderOptions)


def test_the_command_line_offers_nothing_else() -> None:
    expected = set(defaults(FolderOptions))
    expected |= {SPELLED_DIFFERENTLY.get(name, name) for name in OPTIONS}
    assert set(cli_parameters()) == expected | OWN_SWITCHES


@pytest.mark.parametrize("parameter", ["api", "cli"])
def test_named_glb_arguments_are_options_of_the_exporter(parameter: str) -> None:
    offered: dict[str, Callable[[], dict[str, Any]]] = {"api": api_parameters, "cli": cli_parameters}
    names = offered[parameter]().keys()
    assert {field.name for field in dataclasses.fields(GlbOptions)} & names == GLB_ARGUMENTS


@pytest.mark.parametrize(
    "cls", [PreprocessOptions, FolderOptions, InferOptions, *(EXPORTERS[name].options for name in EXPORTERS)]
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
        assert cli_parameters()[name].default == "auto"
