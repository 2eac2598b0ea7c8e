"""Options: the published defaults, and every wrong value named with the alternatives."""

from __future__ import annotations

import dataclasses
from typing import Any, get_args

import pytest

from depth_anything_3.errors import InputError
from depth_anything_3.types import options
from depth_anything_3.types.options import (
    CLEAN_PRESETS,
    CleanOptions,
    FolderOptions,
    FuseOptions,
    InferOptions,
    PreprocessOptions,
    StreamOptions,
    check_choice,
    clean_preset,
)


def defaults(cls: type) -> dict[str, Any]:
    return {field.name: field.default for field in dataclasses.fields(cls)}


def test_published_defaults() -> None:
    assert defaults(PreprocessOptions) == {
        "process_res": 504,
        "process_res_method": "upper_bound_resize",
        "alpha": "composite",
        "mixed_sizes": "crop",
    }
    assert defaults(InferOptions) == {
        "align_to_input_ext_scale": True,
        "infer_gs": False,
        "gs_source": "head",
        "gs_refine": 0,
        "use_ray_pose": False,
        "ref_view_strategy": "saddle_balanced",
        "export_feat_layers": (),
        "refine": "off",
        "matcher": "sift",
        "metric_focal": "given",
        "metric_res": None,
        "output_size": "processed",
        "shared_intrinsics": False,
        "square_pixels": False,
        "derive_confidence": False,
        "max_memory": None,
        "key_pooling": 1,
    }


def test_valid_names() -> None:
    methods = ("upper_bound_resize", "upper_bound_crop", "lower_bound_resize", "lower_bound_crop")
    assert get_args(options.ProcessMethod) == options.PROCESS_METHODS == methods
    strategies = ("first", "middle", "saddle_balanced", "saddle_sim_range")
    assert get_args(options.ReferenceViewStrategy) == options.REFERENCE_VIEW_STRATEGIES
    assert options.REFERENCE_VIEW_STRATEGIES[:4] == strategies, "the published ones, and then our own"
    assert get_args(options.AlphaMode) == options.ALPHA_MODES == ("composite", "mask", "drop")
    assert options.PATCH_SIZE == 14


@pytest.mark.parametrize(
    "values",
    [
        *({"process_res_method": name} for name in options.PROCESS_METHODS),
        *({"alpha": name} for name in options.ALPHA_MODES),
        {"process_res": 14},
        {"process_res": 100_000},
    ],
)
def test_valid_preprocessing(values: dict[str, Any]) -> None:
    assert {**defaults(PreprocessOptions), **values} == dataclasses.asdict(PreprocessOptions(**values))


@pytest.mark.parametrize("name", options.REFERENCE_VIEW_STRATEGIES)
def test_valid_strategies(name: Any) -> None:
    assert InferOptions(ref_view_strategy=name).ref_view_strategy == name


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("process_res", 13, "process_res: got 13; expected at least 14 pixels (one patch)"),
        ("process_res", 0, "process_res: got 0; expected at least 14"),
        ("process_res", -504, "process_res: got -504; expected at least 14"),
        ("process_res", 504.0, "process_res: got 504.0; expected a whole number of pixels"),
        ("process_res", "504", "process_res: got '504'; expected a whole number of pixels"),
        ("process_res", True, "process_res: got True; expected a whole number of pixels"),
        ("process_res", None, "process_res: got None; expected a whole number of pixels"),
        ("process_res_method", "resize", "process_res_method: got 'resize'; expected one of the valid names"),
        ("process_res_method", "UPPER_BOUND_RESIZE", "process_res_method: got 'UPPER_BOUND_RESIZE'"),
        ("process_res_method", "", "process_res_method: got ''"),
        ("process_res_method", None, "process_res_method: got None"),
        ("process_res_method", ["upper_bound_crop"], "process_res_method: got ['upper_bound_crop']"),
        ("alpha", "white", "alpha: got 'white'; expected one of the valid names (valid: composite, mask, drop)"),
        ("alpha", True, "alpha: got True"),
    ],
)
def test_invalid_preprocessing_is_named(name: str, value: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        PreprocessOptions(**{name: value})
    assert str(caught.value).startswith(message)
    assert caught.value.argument == name


@pytest.mark.parametrize("value", ["empty", "FIRST", "", None, 0, ("first",)])
def test_an_invalid_strategy_is_named(value: Any) -> None:
    with pytest.raises(InputError) as caught:
        InferOptions(ref_view_strategy=value)
    expected = "expected one of the valid names (valid: first, middle, saddle_balanced, saddle_sim_range"
    assert str(caught.value).startswith(f"ref_view_strategy: got {value!r}; {expected}")
    assert caught.value.alternatives == options.REFERENCE_VIEW_STRATEGIES


def test_all_methods_are_listed() -> None:
    with pytest.raises(InputError) as caught:
        check_choice("method", "x", options.PROCESS_METHODS)
    assert caught.value.alternatives == options.PROCESS_METHODS


@pytest.mark.parametrize("cls", [PreprocessOptions, InferOptions])
def test_options_are_frozen_and_keyword_only(cls: type) -> None:
    chosen = cls()
    assert chosen == cls() and hash(chosen) == hash(cls())
    for field in dataclasses.fields(cls):
        assert field.kw_only
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(chosen, field.name, None)
    with pytest.raises(TypeError):
        cls(504)
    with pytest.raises(TypeError, match="unknown"):
        cls(unknown=1)


@pytest.mark.parametrize("cls", [PreprocessOptions, InferOptions])
def test_every_option_is_explained(cls: type) -> None:
    assert all(f"{field.name}:" in (cls.__doc__ or "") for field in dataclasses.fields(cls))


def test_clean_presets_are_options_by_name() -> None:
    assert list(CLEAN_PRESETS) == ["raw", "clean", "strict"]
    assert clean_preset("clean") is CLEAN_PRESETS["clean"]
    with pytest.raises(InputError, match="raw, clean, strict"):
        clean_preset("spotless")


@pytest.mark.parametrize(
    "wrong",
    [{"conf_percentile": -1}, {"flying": -0.1}, {"voxel": float("inf")}, {"flying_width": 1}, {"neighbours": 0}],
)
def test_clean_options_are_checked(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        CleanOptions(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [{"voxel": 0.0}, {"truncation": 0.5}, {"max_blocks": 0}, {"min_weight": -1.0}])
def test_fuse_options_are_checked(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        FuseOptions(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(("options", "name"), [(InferOptions, "gs_refine"), (StreamOptions, "queue")])
def test_a_count_that_must_be_there_cannot_be_none(options: Any, name: str) -> None:
    with pytest.raises(InputError, match=f"{name}: got None; expected a whole number, at least [01]$"):
        options(**{name: None})


@pytest.mark.parametrize("name", ["stride", "limit"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True])
def test_photos_of_a_folder_are_counted(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"{name}: got .*at least 1"):
        FolderOptions(**{name: value})
