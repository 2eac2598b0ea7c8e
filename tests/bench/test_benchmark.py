"""The benchmark as a whole: a run is cached, resumed and reported; failures stay in sight; the truth is perfect."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.walls import Walls, oracle
from typer.testing import CliRunner

from depth_anything_3.bench.comparison import compare, reproduction
from depth_anything_3.bench.contenders import SavedPredictions, contenders
from depth_anything_3.bench.evaluate import Estimate
from depth_anything_3.bench.modes.base import MODES
from depth_anything_3.bench.modes.robustness import KINDS, STRENGTHS
from depth_anything_3.bench.pages import write_pages
from depth_anything_3.bench.published import known_model
from depth_anything_3.bench.results import load_results, result_file
from depth_anything_3.bench.run import run_bench
from depth_anything_3.bench.task import BenchOptions, Contender, Request
from depth_anything_3.cli import app
from depth_anything_3.errors import InputError

QUICK = BenchOptions(surface_points=20_000)


def asked(contender: Contender) -> int:
    return len(contender.asked)  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def perfect(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("perfect")
    run_bench(out, [data := Walls(1)], [oracle(data)], options=QUICK)
    return out


def test_the_truth_is_perfect_in_every_mode(perfect: Path) -> None:
    _, results = load_results(perfect)
    assert {row[1] for row in results} == set(Walls.modes)
    scores = {row[1]: found[0].scores for row, found in results.items() if found[0] is not None}
    for name in ("auc_3", "auc_30", "auc_3_first_camera", "rra_5", "rta_5"):
        assert scores["pose"][name] == pytest.approx(1, abs=1e-6), name
    for mode in ("recon_unposed", "recon_posed"):
        assert scores[mode]["f_score"] > 0.99 and scores[mode]["chamfer"] < 0.005, mode
    for name in ("affine", "scale", "disparity"):
        assert scores["mono"][f"delta_{name}"] == 1 and scores["mono"][f"absrel_{name}"] < 1e-5
    assert scores["metric"]["absrel"] < 1e-6 and scores["metric"]["scale"] == pytest.approx(1)
    assert scores["odometry"]["ate"] < 1e-5 and scores["odometry"]["ate_rigid"] > 0.1
    assert scores["odometry"]["scale"] == pytest.approx(1 / 3)
    assert len([name for name in scores["robustness"] if name.startswith("delta@")]) == 1 + len(KINDS) * 6
    assert scores["speed"]["views"] == 4 and scores["speed"]["fps"] > 0
    for mode, found in scores.items():
        assert set(found) & set(MODES[mode].columns), mode


def test_a_run_goes_on_where_it_was_and_knows_what_is_stale(tmp_path: Path) -> None:
    data = Walls(2)
    contender = oracle(data)
    run_bench(tmp_path, [data], [contender], modes=["pose"])
    assert asked(contender) == 2
    run_bench(tmp_path, [data], [contender], modes=["pose", "odometry"])
    assert asked(contender) == 2, "other modes use the predictions that are there"
    run_bench(tmp_path, [data], [other := oracle(data, scale=2.0)], modes=["pose"])
    assert asked(other) == 2, "other weights under the same name are another predictor"
    result_file(tmp_path, ("walls", "pose", "oracle"), "walls/1").unlink()
    _, results = load_results(tmp_path)
    assert [r is None for r in results["walls", "pose", "oracle"]] == [False, True]
    run_bench(tmp_path, [data], [other], modes=["pose"])
    assert asked(other) == 2, "predictions were kept apart from results"
    run_bench(tmp_path, [data], [other], modes=["pose"], options=BenchOptions(max_frames=3))
    assert asked(other) == 4


def test_a_failing_scene_withholds_the_mean(tmp_path: Path) -> None:
    data = Walls(2, broken="walls/1")
    results = run_bench(tmp_path, [data], [oracle(data)], modes=["mono"])
    assert [r.error for r in results] == [None, "CorruptSample: picture.png: torn"]
    _, (summary,) = write_pages(tmp_path)
    assert summary.means == {} and list(summary.failed) == ["walls/1"]
    text = (tmp_path / "report.md").read_text()
    assert "| oracle | 1 of 2 | withheld |" in text and "walls/1: CorruptSample" in text
    _, (summary,) = write_pages(tmp_path, partial=True)
    assert summary.means["delta_scale"] == 1 and summary.failed
    assert "must not be compared" in (tmp_path / "report.md").read_text()
    assert CliRunner().invoke(app, ["bench", "report", str(tmp_path)]).exit_code == 1
    data.broken = ""
    run_bench(tmp_path, [data], [oracle(data)], modes=["mono"])
    assert CliRunner().invoke(app, ["bench", "report", str(tmp_path)]).exit_code == 0, "what failed is tried again"


def test_a_predictor_that_cannot_is_left_out_with_the_reason(tmp_path: Path) -> None:
    data = Walls(1)
    pairs = replace(oracle(data), name="pairs", gives=frozenset({"pairs"}), given_cameras=False)
    depth = replace(oracle(data), name="depth", gives=frozenset({"depth"}), given_cameras=False)
    run_bench(tmp_path, [data], [pairs, depth], modes=["pose", "mono", "recon_posed"])
    plan, _ = load_results(tmp_path)
    assert {(row[1], row[2]): why for row, why in plan.left_out.items()} == {
        ("pose", "depth"): "gives no pairs or poses",
        ("mono", "pairs"): "gives no depth",
        ("recon_posed", "pairs"): "gives no depth",
        ("recon_posed", "depth"): "takes no given cameras",
    }


def test_pages_hold_everything_and_nothing_from_elsewhere(perfect: Path) -> None:
    paths, _ = write_pages(perfect)
    assert [path.name for path in paths] == ["report.md", "report.html", "summary.json"]
    page = (perfect / "report.html").read_text()
    assert page.count("<svg") == page.count("</svg>") >= 10
    # The only address is the name of SVG itself.
    assert page.replace("http://www.w3.org/2000/svg", "").count("http") == 0 and "<script" not in page
    for mode in Walls.modes:
        assert f"<h3>{mode}</h3>" in page and f"### {mode}" in (perfect / "report.md").read_text()


def test_two_runs_are_compared(perfect: Path, tmp_path: Path) -> None:
    data = Walls(1)
    contender = oracle(data)

    def blind(request: Request) -> Estimate:
        return replace(contender.answer(request), depth=np.ones((len(request.frames), 36, 48)))

    run_bench(tmp_path, [data], [replace(contender, identity="blind", answer=blind)], modes=["mono"])
    rows = {row.score: row for row in compare(perfect, tmp_path)}
    assert set(rows) <= set(MODES["mono"].columns)
    assert rows["absrel_scale"].difference == pytest.approx(rows["absrel_scale"].second, abs=1e-5)
    assert rows["absrel_scale"].second is not None and rows["absrel_scale"].second > 0.01


def test_a_published_row_stands_beside_ours(tmp_path: Path) -> None:
    data = Walls(1)
    data.name = "hiroom"  # type: ignore[misc]
    run_bench(tmp_path, [data], [oracle(data)], modes=["pose"])
    rows = {(row.dataset, row.mode, row.score): row for row in reproduction(tmp_path, "da3-giant")}
    ours = rows["hiroom", "pose", "auc_3_first_camera"]
    assert ours.first == pytest.approx(0.803) and ours.second == pytest.approx(1)
    assert ours.difference == pytest.approx(0.197)
    assert rows["eth3d", "pose", "auc_3_first_camera"].second is None
    assert rows["dtu49", "recon_posed", "chamfer"].first == 1.85
    with pytest.raises(InputError, match="DA3-Giant"):
        known_model("da3-gigantic")


def test_saved_predictions_of_other_systems_are_scored_by_the_same_code(tmp_path: Path) -> None:
    data = Walls(1)
    truth = data.walls["walls/0"]
    folder = tmp_path / "other" / "walls" / "0"
    folder.mkdir(parents=True)
    poses = np.concatenate([truth.extrinsics, np.tile([0, 0, 0, 1.0], (4, 1, 1))], 1)
    order = [2, 0, 3, 1]
    arrays = {"depth": truth.depth, "extrinsics": poses, "intrinsics": truth.intrinsics}
    np.savez(folder / "results.npz", frames=np.array(order).astype(str), **{k: v[order] for k, v in arrays.items()})
    (saved,) = contenders([f"npz={tmp_path / 'other'}"])
    results = run_bench(tmp_path / "out", [data], [saved], modes=["pose", "mono", "recon_posed"])
    assert [(r.mode, r.error) for r in results] == [("pose", None), ("mono", None)]
    assert results[0].scores["auc_3"] == pytest.approx(1, abs=1e-6) and results[1].scores["absrel_scale"] < 1e-6
    (folder / "results.npz").write_bytes(b"not an archive")
    (again,) = run_bench(
        tmp_path / "out", [data], [SavedPredictions(tmp_path / "other").contender()], modes=["pose"], force=True
    )
    assert again.error is not None and "results.npz" in again.error


def test_wrong_options_are_refused(tmp_path: Path) -> None:
    data = Walls(1)
    with pytest.raises(InputError, match="a registered bench_mode"):
        run_bench(tmp_path, [data], [], modes=["depth"])
    with pytest.raises(InputError, match="the id of a scene"):
        run_bench(tmp_path, [data], [], scenes=["7"])
    for spec, words in (
        ("bundled,size=3", "process_res"),
        ("bundled,cameras=eyes", "cameras"),
        ("npz=/nowhere", "npz"),
    ):
        with pytest.raises(InputError, match=words):
            contenders([spec])
    with pytest.raises(InputError, match="released, paper"):
        BenchOptions(frames="all")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="once"):
        contenders(["sift", "sift"])


def test_harm_grows_with_its_strength_and_is_the_same_again() -> None:
    y, x = np.mgrid[:96, :256]
    picture = np.stack([(x * 2) % 256, (y * 3) % 256, (x * y) % 256], -1).astype(np.uint8)
    for name, harm in KINDS.items():
        worse = [np.abs(harm(picture, 1, s, 0).astype(float) - picture).mean() for s in STRENGTHS]
        assert sorted(worse) == worse and worse[0] > 0.3, (name, worse)
        np.testing.assert_array_equal(harm(picture, 1, 3, 7), harm(picture, 1, 3, 7))
    brighter, darker = (KINDS["exposure_jump"](picture, i, 3, 0).mean() for i in (1, 0))
    assert brighter > picture.mean() > darker


def test_the_command_runs_a_procedural_scene(tmp_path: Path) -> None:
    arguments = ["bench", "run", "--data", "procedural", "--limit", "1", "--out", str(tmp_path), "--max-frames", "2"]
    result = CliRunner().invoke(app, [*arguments, "--mode", "pose", "--mode", "mono"])
    assert result.exit_code == 0, result.output
    assert "### pose" in (tmp_path / "report.md").read_text()
