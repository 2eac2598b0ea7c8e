"""Published numbers are what was printed: the paper's own headlines follow from them."""

from __future__ import annotations

import numpy as np
import pytest

from depth_anything_3.bench.modes.base import MODES
from depth_anything_3.bench.published import published_rows, published_tables
from depth_anything_3.datasets.benchmark.base import BENCH_DATASETS


def gains(table: str, ours: str, theirs: str, lower: tuple[str, ...] = ()) -> list[float]:
    rows = published_tables()[table]["rows"]
    pairs = {name: (rows[ours][name][0], rows[theirs][name][0]) for name in rows[ours]}
    return [1 - a / b if name in lower else a / b - 1 for name, (a, b) in pairs.items()]


def test_headline_gains_follow_from_the_tables() -> None:
    headline = published_tables()["headline"]["rows"]["later"]
    assert 100 * np.mean(gains("pose", "DA3-Giant", "VGGT")) == pytest.approx(headline["pose"], abs=0.05)
    geometry = gains("recon_unposed", "DA3-Giant", "VGGT", lower=("dtu49",))
    assert 100 * np.mean(geometry) == pytest.approx(headline["geometry"], abs=0.06)


def test_printed_averages_follow_from_their_rows() -> None:
    documented = published_tables()["documentation_da3_giant"]["rows"]
    for name, values in documented.items():
        kept = [v for i, v in enumerate(values[1:]) if v is not None and not (i == 2 and "Auc" not in name)]
        assert np.mean(kept) == pytest.approx(values[0], abs=6e-5), name
    kitti = published_tables()["odometry_kitti"]
    for name, values in kitti["rows"].items():
        without = [v for i, v in enumerate(values[2:]) if i != 1]
        assert np.mean(values[2:]) == pytest.approx(values[0], abs=0.02), name
        assert np.mean(without) == pytest.approx(values[1], abs=0.02), name
    for name, values in published_tables()["odometry_tum"]["rows"].items():
        assert np.mean(values[1:]) == pytest.approx(values[0], abs=0.002), name


def test_ranks_of_monocular_depth_follow_from_its_rows() -> None:
    table = published_tables()["mono"]
    ranked = [name for name, rank in table["mean_rank"].items() if rank is not None]
    teacher = np.array([table["rows"]["DA3 teacher"][d][0] for d in table["rows"]["DA3 teacher"]])
    for name in ranked:
        assert (np.array([v[0] for v in table["rows"][name].values()]) <= teacher).all(), name


def test_every_file_names_its_source_and_its_rows_fit_our_scores() -> None:
    for name, table in published_tables().items():
        assert table["source"] and table["version"], name
        if table.get("mode") in MODES:
            for row in (r for rows in table["rows"].values() for r in rows):
                assert row in BENCH_DATASETS, (name, row)
            for dataset in next(iter(table["rows"].values())):
                for row in published_rows(dataset, table["mode"]):
                    assert set(row.scores) <= set(MODES[table["mode"]].columns), (name, row)
    assert published_rows("hiroom", "pose", "da3-giant")[0].scores["auc_3_first_camera"] == pytest.approx(0.803)
