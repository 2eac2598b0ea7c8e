"""A prediction is validated, frozen, and the same after a round trip through a file."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from depth_anything_3 import specs
from depth_anything_3.errors import InputError
from depth_anything_3.types.gaussians import Gaussians
from depth_anything_3.types.inputs import ResizeRecord
from depth_anything_3.types.prediction import Prediction

N, H, W = 3, 4, 5
ARRAYS = ("depth", "sky", "conf", "extrinsics", "intrinsics", "processed_images", "sky_prob", "valid")


def records(count: int = N) -> tuple[ResizeRecord, ...]:
    return tuple(
        ResizeRecord(
            source_hw=(1200 + i, 1600),
            processed_hw=(H, W),
            scale_xy=(1 / 3, 0.1 + i),
            offset_xy=(-1.5, 0.0),
            exif_orientation=6 if i else 1,
        )
        for i in range(count)
    )


def gaussians(count: int = 7) -> Gaussians:
    generator = torch.Generator().manual_seed(0)
    shapes = {"means": (3,), "scales": (3,), "rotations": (4,), "harmonics": (3, 9), "opacities": ()}
    return Gaussians(**{name: torch.rand(1, count, *shape, generator=generator) for name, shape in shapes.items()})


def fields(**changes: Any) -> dict[str, Any]:
    """The fields of a prediction in which nothing is missing."""
    rng = np.random.default_rng(0)

    def floats(*shape: int) -> Any:
        return rng.normal(size=shape).astype(np.float32)

    return {
        "depth": floats(N, H, W),
        "is_metric": True,
        "sky": rng.random((N, H, W)) < 0.5,
        "conf": floats(N, H, W),
        "extrinsics": floats(N, 3, 4),
        "intrinsics": floats(N, 3, 3),
        "processed_images": rng.integers(0, 256, (N, H, W, 3), np.uint8),
        "gaussians": gaussians(),
        "aux": {"feat_layer_5": floats(N, 1, 2, 8), "feat_layer_11": floats(N, 1, 2, 8)},
        "scale_factor": 1 / 3,
        "names": ("Straße 1.png", "写真.jpg", "ein 'name' \" mit \n allem 🙂"),
        "records": records(),
        "model_name": "da3nested-giant-large",
        "refinement": None,
        "alignment": None,
        "metric_focal": "given",
        "timestamps": (0.0, 1 / 3, 2.5),
        "sky_prob": rng.random((N, H, W), np.float32),
        "valid": rng.random((N, H, W)) < 0.5,
        **changes,
    }


def complete(**changes: Any) -> Prediction:
    return Prediction(**fields(**changes))


def bare(**changes: Any) -> Prediction:
    """The fields that must be given, and no others."""
    return Prediction(depth=np.ones((N, H, W), np.float32), is_metric=False, **changes)


def assert_bit_exact(a: Prediction, b: Prediction) -> None:
    for name in ARRAYS:
        assert_same_bits(getattr(a, name), getattr(b, name))
    assert a.aux.keys() == b.aux.keys()
    for name in a.aux:
        assert_same_bits(a.aux[name], b.aux[name])
    assert (a.gaussians is None) == (b.gaussians is None)
    for field in dataclasses.fields(Gaussians) if a.gaussians and b.gaussians else ():
        x, y = getattr(a.gaussians, field.name), getattr(b.gaussians, field.name)
        assert x.dtype == y.dtype and torch.equal(x, y)
    for name in ("is_metric", "scale_factor", "names", "records", "model_name", "metric_focal", "timestamps"):
        x, y = getattr(a, name), getattr(b, name)
        assert type(x) is type(y) and x == y, name


def assert_same_bits(a: Any, b: Any) -> None:
    assert (a is None) == (b is None)
    if a is not None:
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


# --- fields -----------------------------------------------------------------------------------------------------------


def test_the_published_fields_come_first_and_in_their_order() -> None:
    published = [
        "depth",
        "is_metric",
        "sky",
        "conf",
        "extrinsics",
        "intrinsics",
        "processed_images",
        "gaussians",
        "aux",
    ]
    names = [field.name for field in dataclasses.fields(Prediction)]
    assert names[:10] == [*published, "scale_factor"]
    assert names[10:17] == ["names", "records", "model_name", "refinement", "alignment", "metric_focal", "timestamps"]
    assert names[17:] == [
        "sky_prob",
        "valid",
        "ray_residual_deg",
        "rig",
        "confidence_map",
        "memory_plan",
        "observations",
        "gaussian_refinement",
    ]


def test_fields_may_be_given_by_position() -> None:
    values = fields()
    prediction = Prediction(*values.values())
    assert_bit_exact(prediction, Prediction(**values))


def test_what_is_not_given_is_none_or_empty() -> None:
    prediction = bare()
    missing = ("sky", "conf", "extrinsics", "intrinsics", "processed_images", "gaussians", "scale_factor")
    assert all(getattr(prediction, name) is None for name in missing)
    assert prediction.aux == {} and prediction.names == () and prediction.records == () and prediction.model_name == ""


def test_the_published_import_path() -> None:
    assert specs.Prediction is Prediction and specs.Gaussians is Gaussians


def test_features_can_be_read_as_attributes() -> None:
    prediction = complete()
    assert prediction.aux.feat_layer_5 is prediction.aux["feat_layer_5"]  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="feat_layer_5, feat_layer_11"):
        _ = prediction.aux.feat_layer_6  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("given", "scale"), [(True, "metric"), (False, "relative"), (1, "metric"), (0, "relative"), ({}, "relative")]
)
def test_scale_is_metric_or_relative(given: Any, scale: str) -> None:
    prediction = Prediction(np.ones((1, 2, 2), np.float32), given)
    assert prediction.scale == scale
    assert prediction.is_metric is (scale == "metric")


# --- validation -------------------------------------------------------------------------------------------------------

WRONG_SHAPES = {
    "depth": [(H, W), (1, N, H, W), ()],
    "sky": [(N, H), (N, H, W, 1), (N + 1, H, W), (N, W, H), (1, H, W)],
    "conf": [(N, H), (N, H, W, 1), (N + 1, H, W), (N, W, H), (1, H, W)],
    "extrinsics": [(N, 4, 4), (3, 4), (N - 1, 3, 4), (N, 4, 3), (1, N, 3, 4)],
    "intrinsics": [(N, 3, 4), (3, 3), (N - 1, 3, 3), (N, 9)],
    "processed_images": [(N, H, W), (N, 3, H, W), (N, H, W, 4), (N - 1, H, W, 3)],
}


@pytest.mark.parametrize(("name", "shape"), [(name, s) for name, shapes in WRONG_SHAPES.items() for s in shapes])
def test_a_wrong_shape_is_named(name: str, shape: tuple[int, ...]) -> None:
    wrong = np.zeros(shape, fields()[name].dtype)
    with pytest.raises(InputError, match=f"^{name}: got shape ") as caught:
        complete(**{name: wrong})
    assert caught.value.argument == name and str(shape) in caught.value.got
    assert caught.value.expected.startswith("shape (")


WRONG_TYPES = {
    "depth": ["complex64", "datetime64[s]", "U3", "O"],
    "sky": ["uint8", "float32", "int64"],
    "conf": ["complex128", "O"],
    "extrinsics": ["complex64", "O"],
    "intrinsics": ["complex64", "U1"],
    "processed_images": ["float32", "float64", "int64", "int8", "uint16"],
}


@pytest.mark.parametrize(("name", "dtype"), [(name, d) for name, dtypes in WRONG_TYPES.items() for d in dtypes])
def test_a_wrong_type_is_named(name: str, dtype: str) -> None:
    wrong = np.zeros(fields()[name].shape, dtype)
    with pytest.raises(InputError, match=f"^{name}: got dtype ") as caught:
        complete(**{name: wrong})
    assert str(wrong.dtype) in caught.value.got
    assert caught.value.expected == f"dtype {fields()[name].dtype}"


@pytest.mark.parametrize("name", ["depth", "conf", "extrinsics", "intrinsics"])
@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32, ">f4"])
def test_other_numbers_become_float32(name: str, dtype: Any) -> None:
    given = (10 * fields()[name]).astype(dtype)
    stored = getattr(complete(**{name: given}), name)
    assert stored.dtype == np.float32 and stored.dtype.isnative
    np.testing.assert_array_equal(stored, given.astype(np.float32))
    assert given.dtype == dtype


def test_nested_lists_become_arrays() -> None:
    prediction = Prediction(depth=[[[1.0, 2.0]]], is_metric=False, intrinsics=np.eye(3)[None].tolist())  # type: ignore[arg-type]
    assert prediction.depth.dtype == np.float32 and prediction.depth.shape == (1, 1, 2)
    assert prediction.intrinsics is not None and prediction.intrinsics.shape == (1, 3, 3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((N, 2, 8), np.float32), r"^aux\[feat\]: got shape \(3, 2, 8\); expected shape \(3, H/14, W/14, C\)"),
        (np.zeros((1, 1, 2, 8), np.float32), r"^aux\[feat\]: got shape"),
        (np.zeros((1, N, 1, 2, 8), np.float32), r"^aux\[feat\]: got shape"),
        (np.zeros((N, 1, 2, 8), np.complex64), r"^aux\[feat\]: got dtype complex64"),
        (np.zeros((N, 1, 2, 8), "U3"), r"^aux\[feat\]: got dtype"),
    ],
)
def test_wrong_features_are_named(given: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        complete(aux={"feat": given})


@pytest.mark.parametrize("name", ["names", "records"])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_names_and_records_are_one_per_view(name: str, count: int) -> None:
    entries = ("a", "b", "c", "d")[:count] if name == "names" else records(count)
    with pytest.raises(InputError, match=rf"^{name}: got {count} entries; expected one per view \(3\)"):
        complete(**{name: entries})


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("names", "abc"),  # three letters are not three names
        ("names", (Path("a"), Path("b"), Path("c"))),
        ("names", (1, 2, 3)),
        ("records", ({}, {}, {})),
        ("records", (None, None, None)),
    ],
)
def test_names_and_records_of_another_kind_are_named(name: str, wrong: Any) -> None:
    with pytest.raises(InputError, match=f"^{name}: got .*one per view"):
        complete(**{name: wrong})


def test_names_and_records_become_tuples() -> None:
    prediction = complete(names=["a", "b", "c"], records=list(records()))
    assert prediction.names == ("a", "b", "c") and prediction.records == records()


def test_something_else_for_gaussians_is_named() -> None:
    with pytest.raises(InputError, match=r"^gaussians: got an object of type dict; expected Gaussians or None"):
        complete(gaussians={"means": torch.zeros(1, 1, 3)})


@pytest.mark.parametrize("given", [np.float32(0.5), np.float64(0.5), 0.5, np.array(0.5), torch.tensor(0.5)])
def test_the_scale_factor_is_a_plain_number(given: Any) -> None:
    factor = complete(scale_factor=given).scale_factor
    assert type(factor) is float and factor == 0.5


# --- frozen -----------------------------------------------------------------------------------------------------------


def test_fields_cannot_be_replaced() -> None:
    prediction = complete()
    for field in dataclasses.fields(Prediction):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(prediction, field.name, None)


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_are_read_only_and_the_callers_own_stay_writeable(name: str) -> None:
    values = fields()
    prediction = Prediction(**values)
    stored = getattr(prediction, name)
    assert not stored.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        stored[0] = 0
    with pytest.raises(ValueError, match="read-only"):
        stored *= 1
    assert values[name].flags.writeable
    values[name][...] = 0


def test_features_are_read_only_and_the_callers_own_stay_writeable() -> None:
    given = {"feat_layer_5": np.zeros((N, 1, 2, 8), np.float32)}
    prediction = complete(aux=given)
    with pytest.raises(ValueError, match="read-only"):
        prediction.aux["feat_layer_5"][0] = 1
    assert given["feat_layer_5"].flags.writeable
    given["another"] = given["feat_layer_5"]
    assert list(prediction.aux) == ["feat_layer_5"]


def test_read_only_arrays_are_accepted() -> None:
    depth = np.ones((N, H, W), np.float32)
    depth.flags.writeable = False
    assert not Prediction(depth, False).depth.flags.writeable
    assert not depth.flags.writeable


def test_arrays_of_the_right_type_are_not_copied() -> None:
    values = fields()
    prediction = Prediction(**values)
    assert all(np.shares_memory(getattr(prediction, name), values[name]) for name in ARRAYS)


def test_replacing_a_field_gives_another_valid_prediction() -> None:
    prediction = complete()
    other = dataclasses.replace(prediction, depth=prediction.depth * 2, is_metric=False)
    np.testing.assert_array_equal(other.depth, 2 * prediction.depth)
    assert other.scale == "relative" and prediction.scale == "metric"
    assert other.names == prediction.names and not other.depth.flags.writeable
    with pytest.raises(InputError, match=r"^depth: "):
        dataclasses.replace(prediction, depth=prediction.depth[0])


def test_predictions_can_be_compared_hashed_and_printed() -> None:
    prediction = complete()
    assert prediction == prediction and prediction != complete()
    assert len({prediction, prediction}) == 1
    assert "da3nested" in repr(prediction)


def test_a_prediction_survives_copying_and_pickling() -> None:
    prediction = complete()
    assert_bit_exact(copy.deepcopy(prediction), prediction)
    assert_bit_exact(pickle.loads(pickle.dumps(prediction)), prediction)


# --- files ------------------------------------------------------------------------------------------------------------


def awkward_floats() -> Any:
    """Values that a careless writer changes: NaN with a payload, infinities, minus zero, subnormal numbers."""
    values = np.zeros((N, H, W), np.float32)
    values.view(np.uint32).reshape(-1)[:7] = [0x7FC01234, 0xFFC00000, 0x7F800000, 0xFF800000, 0x80000000, 1, 0x7F7FFFFF]
    return values


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"depth": awkward_floats(), "conf": awkward_floats()},
        {"aux": {}},
        {"aux": {"a.b/c ü": np.ones((N, 1, 1, 1), np.float32), "file": np.zeros((N, 2, 1, 3), np.float32)}},
        {"scale_factor": float(np.float32(0.1))},
        {"scale_factor": 5e-324},
        {"scale_factor": None, "is_metric": False},
        {"names": (), "records": ()},
        {"names": ("", " ", "\x00")},
        {"gaussians": None},
        {"sky": None, "conf": None},
        {"model_name": 'Ünïcode "quoted" \\ name'},
    ],
    ids=lambda changes: "-".join(changes) or "complete",
)
def test_a_round_trip_is_bit_exact(tmp_path: Path, changes: dict[str, Any]) -> None:
    prediction = complete(**changes)
    path = prediction.save(tmp_path / "prediction.npz")
    assert path == tmp_path / "prediction.npz"
    assert_bit_exact(Prediction.load(path), prediction)


def test_a_round_trip_of_the_least(tmp_path: Path) -> None:
    loaded = Prediction.load(bare().save(tmp_path / "bare.npz"))
    assert_bit_exact(loaded, bare())
    assert loaded.gaussians is None and loaded.aux == {}


def test_no_views_and_large_numbers_of_gaussians(tmp_path: Path) -> None:
    empty = Prediction(np.zeros((0, H, W), np.float32), False)
    assert Prediction.load(empty.save(tmp_path / "empty.npz")).depth.shape == (0, H, W)
    many = complete(gaussians=gaussians(1000))
    loaded = Prediction.load(many.save(tmp_path / "many.npz"))
    assert loaded.gaussians is not None and loaded.gaussians.means.device.type == "cpu"
    assert_bit_exact(loaded, many)


def test_what_is_loaded_is_as_strict(tmp_path: Path) -> None:
    loaded = Prediction.load(complete().save(tmp_path / "a.npz"))
    assert not loaded.depth.flags.writeable and not loaded.aux["feat_layer_5"].flags.writeable
    assert loaded.aux.feat_layer_5.shape == (N, 1, 2, 8)  # type: ignore[attr-defined]
    assert loaded.records == records() and {type(record.scale_xy) for record in loaded.records} == {tuple}


def test_arrays_that_are_not_contiguous_are_saved_as_they_look(tmp_path: Path) -> None:
    depth = np.arange(N * H * W * 2, dtype=np.float32).reshape(N, W, 2 * H)[:, :, ::2].transpose(0, 2, 1)
    prediction = complete(depth=depth)
    np.testing.assert_array_equal(Prediction.load(prediction.save(tmp_path / "a.npz")).depth, depth)


def test_saving_twice_gives_what_was_saved_last(tmp_path: Path) -> None:
    complete().save(tmp_path / "a.npz")
    bare().save(tmp_path / "a.npz")
    assert_bit_exact(Prediction.load(tmp_path / "a.npz"), bare())
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


def test_paths_may_be_strings_and_folders_are_made(tmp_path: Path) -> None:
    written = complete().save(str(tmp_path / "new folder" / "a.b.npz"))
    assert written == tmp_path / "new folder" / "a.b.npz" and written.is_file()
    assert_bit_exact(Prediction.load(str(written)), complete())


def test_gaussians_that_require_gradients_are_saved(tmp_path: Path) -> None:
    given = gaussians()
    given.means.requires_grad_()
    loaded = Prediction.load(complete(gaussians=given).save(tmp_path / "a.npz"))
    assert loaded.gaussians is not None
    assert torch.equal(loaded.gaussians.means, given.means.detach())


@pytest.mark.parametrize("name", ["a", "a.np", "a.npz.gz", "a.json", "npz"])
def test_another_suffix_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"^path: got .*ends in \.npz"):
        complete().save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("old", [None, b"precious"])
def test_an_interrupted_write_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: bytes | None
) -> None:
    target = tmp_path / "a.npz"
    if old is not None:
        target.write_bytes(old)

    def full_disk(file: Any, **arrays: Any) -> None:
        Path(file).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full_disk)
    with pytest.raises(OSError, match="No space"):
        complete().save(target)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == ([] if old is None else [old])


def test_a_file_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Prediction.load(tmp_path / "gone.npz")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_an_error(tmp_path: Path, share: float) -> None:
    whole = complete().save(tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(InputError, match=r"^path: got .*a\.npz .*written by Prediction\.save"):
        Prediction.load(tmp_path / "a.npz")


def test_flipped_bytes_are_noticed(tmp_path: Path) -> None:
    whole = bytearray(complete().save(tmp_path / "a.npz").read_bytes())
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        entry = next(info for info in archive.infolist() if info.filename == "depth.npy")
    start = entry.header_offset + 80
    whole[start : start + 8] = bytes(255 - byte for byte in whole[start : start + 8])
    (tmp_path / "a.npz").write_bytes(whole)
    with pytest.raises(InputError, match=r"^path: got "):
        Prediction.load(tmp_path / "a.npz")


def npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def as_metadata(value: Any) -> Any:
    return np.frombuffer(json.dumps(value).encode(), np.uint8)


DEPTH = np.ones((1, 2, 2), np.float32)


@pytest.mark.parametrize(
    "content",
    [
        b"no archive at all",
        npz(depth=DEPTH),
        npz(depth=DEPTH, metadata=np.zeros(3)),
        npz(depth=DEPTH, metadata=as_metadata([1])),
        npz(depth=DEPTH, metadata=as_metadata({"author": "someone"})),
        npz(metadata=as_metadata({"format_version": 1})),
        npy(DEPTH),
    ],
    ids=["text", "no metadata", "binary metadata", "a list", "other metadata", "no depth", "one array"],
)
def test_a_file_of_other_software_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"^path: got .*a\.npz.*written by Prediction\.save"):
        Prediction.load(tmp_path / "a.npz")


def test_a_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^path: got "):
        Prediction.load(tmp_path)


def test_a_later_format_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(npz(depth=DEPTH, metadata=as_metadata({"format_version": 2})))
    with pytest.raises(InputError, match=r"a\.npz, of another format version; expected format version 1"):
        Prediction.load(tmp_path / "a.npz")


class Exploit:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (self.mark.touch, ())


@pytest.mark.parametrize("as_archive", [True, False])
def test_nothing_is_unpickled(tmp_path: Path, as_archive: bool) -> None:
    mark = tmp_path / "executed"
    array = np.array([Exploit(mark)], object)
    path = tmp_path / "a.npz"
    path.write_bytes(
        npz(depth=array, metadata=as_metadata({"format_version": 1})) if as_archive else pickle.dumps(array)
    )
    with pytest.raises(InputError, match=r"^path: got .*pickle"):
        Prediction.load(path)
    assert not mark.exists()


def test_loading_without_gaussians_needs_no_torch(tmp_path: Path) -> None:
    bare().save(tmp_path / "a.npz")
    code = f"""
import sys
from depth_anything_3.types.prediction import Prediction
assert Prediction.load({str(tmp_path / "a.npz")!r}).depth.shape == {(N, H, W)}
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
