"""All adapters: what they load is where the truth is, and the check that says so notices every kind of mistake."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from datasets.cases import CASES, Case, mutated, shots_of
from datasets.check import check, mutate_view
from datasets.world import MUTATIONS
from depth_anything_3.datasets.base import DATASETS, CorruptSample, Dataset, View
from depth_anything_3.errors import InputError


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    """One data set; skipped where the package that reads its files is not installed."""
    case = CASES[request.param]
    for module in case.needs:
        pytest.importorskip(module)
    return case


@pytest.fixture(scope="module")
def dataset(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A correctly written data set, opened."""
    root = tmp_path_factory.mktemp(case.name)
    case.write(root, shots_of(case.name))
    return case.open(root)


@pytest.fixture(scope="module")
def views(case: Case, dataset: Dataset) -> dict[str, View]:
    """All frames of the scene."""
    return {frame: dataset.load(case.scene, frame) for frame in dataset.frames(case.scene)}


def test_every_adapter_is_tested() -> None:
    assert set(CASES) == set(DATASETS) - {"procedural", "shards"}  # made, and written: they have tests of their own


def test_points_are_where_they_are(case: Case, views: dict[str, View]) -> None:
    check(views, shots_of(case.name), **case.tolerances)


@pytest.mark.parametrize("kind", MUTATIONS)
def test_a_mistake_in_what_was_loaded_is_noticed(case: Case, views: dict[str, View], kind: str) -> None:
    if kind not in case.in_views:
        pytest.skip("no mistake: it leaves these cameras as they are to each other")
    wrong = {frame: mutate_view(view, shots_of(case.name)[frame], kind) for frame, view in views.items()}
    with pytest.raises(AssertionError):
        check(wrong, shots_of(case.name), **case.tolerances)


MISTAKES = [(name, kind) for name, case in CASES.items() for kind in case.in_files]


@pytest.mark.parametrize(("name", "kind"), MISTAKES)
def test_a_mistake_in_the_files_is_noticed(name: str, kind: str, tmp_path: Path) -> None:
    case = CASES[name]
    for module in case.needs:
        pytest.importorskip(module)
    case.write(tmp_path, mutated(name, kind))
    dataset = case.open(tmp_path)
    with pytest.raises((AssertionError, CorruptSample)):
        loaded = {frame: dataset.load(case.scene, frame) for frame in dataset.frames(case.scene)}
        check(loaded, shots_of(name), **case.tolerances)


def test_lists(case: Case, dataset: Dataset) -> None:
    assert dataset.scenes() == (case.scene,)
    assert dataset.frames(case.scene) == tuple(shots_of(case.name))
    assert (dataset.name, dataset.metric, dataset.real) == (case.name, case.metric, case.real)
    assert not any(dataset.skipped().values())


def test_cameras_without_pictures(case: Case, dataset: Dataset, views: dict[str, View]) -> None:
    cameras = dataset.cameras(case.scene)
    for index, view in enumerate(views.values()):
        np.testing.assert_array_equal(cameras.intrinsics[index], view.intrinsics)
        assert cameras.extrinsics is not None
        np.testing.assert_array_equal(cameras.extrinsics[index], view.extrinsics)


def test_sky_and_mask_are_the_truth(case: Case, views: dict[str, View]) -> None:
    for frame, view in views.items():
        shot = shots_of(case.name)[frame]
        if view.mask is not None:
            np.testing.assert_array_equal(view.mask, shot.hit)
        if view.sky is not None and case.name != "unreal_stereo_4k":  # no disparity: unknown
            np.testing.assert_array_equal(view.sky, ~shot.hit)
        if view.sky is not None:
            assert not (view.sky & (view.depth > 0)).any()


def test_views_are_read_only(views: dict[str, View]) -> None:
    for view in views.values():
        for array in (view.image, view.depth, view.sky, view.mask, view.intrinsics, view.extrinsics):
            assert array is None or not array.flags.writeable


def test_a_second_process_reads_the_same(case: Case, dataset: Dataset, views: dict[str, View]) -> None:
    copy = pickle.loads(pickle.dumps(dataset))
    frame = next(iter(views))
    np.testing.assert_array_equal(copy.load(case.scene, frame).image, views[frame].image)


def test_unknown_names(case: Case, dataset: Dataset) -> None:
    with pytest.raises(InputError, match=f"scene: got 'nowhere'.*one of the 1 scenes.*{case.scene}"):
        dataset.frames("nowhere")
    with pytest.raises(InputError, match="frame: got 'nothing'"):
        dataset.load(case.scene, "nothing")


def test_wrong_roots(case: Case, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"root: got .*missing, which is not a folder"):
        case.open(tmp_path / "missing")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "1.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"root: got .*, which has nothing of the kind; expected "):
        case.open(tmp_path)
