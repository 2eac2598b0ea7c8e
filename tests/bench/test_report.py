"""Tables say what was measured, how sure it is, and what failed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from depth_anything_3.bench.evaluate import Run
from depth_anything_3.bench.report import COLUMNS, markdown, scoreboard, summarise, write_report, write_scoreboard
from depth_anything_3.errors import InputError
from depth_anything_3.metrics.bootstrap import bootstrap_interval


def run(predictor: str, scene: str, absrel: float | None, *, slices: tuple[str, ...] = (), views: int = 2) -> Run:
    return Run(
        predictor=predictor,
        scene=scene,
        slices=slices,
        views=views,
        given_cameras=False,
        scores={} if absrel is None else {"absrel": absrel},
        error="RuntimeError: broken" if absrel is None else None,
    )


RUNS = [
    run("ours", "a", 0.1, slices=("indoor",)),
    run("guess", "a", 0.4, slices=("indoor",)),
    run("ours", "b", 0.2, slices=("indoor", "real")),
    run("guess", "b", 0.5, slices=("indoor", "real")),
    run("ours", "c", 0.6, slices=("outdoor",)),
    run("guess", "c", None, slices=("outdoor",)),
]


def test_rows() -> None:
    rows = summarise(RUNS)
    assert [(r.slice, r.predictor, r.scenes) for r in rows] == [
        ("all", "ours", 3),
        ("all", "guess", 3),
        ("indoor", "ours", 2),
        ("indoor", "guess", 2),
        ("outdoor", "ours", 1),
        ("outdoor", "guess", 1),
        ("real", "ours", 1),
        ("real", "guess", 1),
    ]
    assert rows[0].scores["absrel"] == bootstrap_interval(np.array([0.1, 0.2, 0.6]))
    assert set(rows[0].scores) == {"absrel"}


def test_a_mean_is_withheld_where_a_scene_failed() -> None:
    rows = summarise(RUNS)
    assert rows[1].failed == ("c",)
    assert rows[1].scores == {}
    assert rows[3].failed == ()
    assert rows[3].scores["absrel"].estimate == pytest.approx(0.45)


def test_views_and_modes_are_rows_of_their_own() -> None:
    rows = summarise([run("ours", "a", 0.1, views=8), run("ours", "a", 0.3, views=1)])
    assert [(r.views, r.scores["absrel"].estimate) for r in rows] == [(1, 0.3), (8, 0.1)]


def test_markdown() -> None:
    text = markdown(summarise(RUNS), title="Results", notes={"resolution": "504"})
    assert text.startswith("# Results\n\n* resolution: 504\n")
    assert "| ours | 2 | no | 3 | 0.300 [0.100, 0.600] |" in text
    assert "| guess | 2 | no | 2 of 3 | withheld |" in text
    assert "| predictor | views | cameras given | scenes | AbsRel ↓ |" in text
    assert text.endswith("## Failed\n\n* guess, 2 views, no cameras given: c\n")
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## all",
        "## indoor",
        "## outdoor",
        "## real",
        "## Failed",
    ]


def test_a_score_of_some_scenes_says_of_how_many() -> None:
    poses_only = Run(predictor="ours", scene="d", slices=(), views=2, given_cameras=False, scores={"focal_error": 0.5})
    text = markdown(summarise([run("ours", "a", 0.1), poses_only, run("two | names", "a", 0.2)]), title="T")
    assert "| ours | 2 | no | 2 | 0.100 [0.100, 0.100] (of 1) | 0.500 [0.500, 0.500] (of 1) |" in text
    assert "| two \\| names | 2 | no | 1 | 0.200 [0.200, 0.200] | - |" in text


def test_files(tmp_path: Path) -> None:
    json_path, md_path = write_report(tmp_path / "new", RUNS, notes={"revision": "abc"})
    assert (json_path.name, md_path.name) == ("held_out.json", "held_out.md")
    content = json.loads(json_path.read_text(encoding="utf-8"))
    assert content["notes"] == {"revision": "abc"}
    assert content["runs"][0] == {
        "predictor": "ours",
        "scene": "a",
        "slices": ["indoor"],
        "views": 2,
        "given_cameras": False,
        "scores": {"absrel": 0.1},
        "error": None,
        "seconds": 0.0,
    }
    assert content["runs"][5]["error"] == "RuntimeError: broken"
    assert content["summaries"][0]["scores"]["absrel"]["count"] == 3
    assert md_path.read_text(encoding="utf-8") == markdown(
        summarise(RUNS), title="Held-out scenes", notes={"revision": "abc"}
    )
    assert sorted(p.name for p in json_path.parent.iterdir()) == ["held_out.json", "held_out.md"]
    with pytest.raises(InputError, match="runs"):
        write_report(tmp_path, [])


def mini(predictor: str, scene: str, views: int, *, given: bool = False, seconds: float = 1.0, **scores: float) -> Run:
    return Run(
        predictor=predictor,
        scene=scene,
        slices=(),
        views=views,
        given_cameras=given,
        scores=scores,
        error=None if scores else "RuntimeError: broken",
        seconds=seconds,
    )


MINI = [
    mini("net", "desk", 2, pose_auc_30=0.9),
    mini("net", "desk", 8, pose_auc_30=0.25, **{"delta_1.25": 0.5}, absrel=0.2),
    mini("sift", "desk", 8, pose_auc_30=0.75, seconds=2.5),
    mini("net", "desk", 8, given=True, absrel=0.125, **{"delta_1.25": 0.99}),
    mini("net", "desk", 16, pose_auc_30=0.99),
    mini("net", "pair", 2, pose_auc_30=0.5, focal_error=0.1),
    mini("sift", "pair", 2, pose_auc_30=0.25),
    mini("guess", "desk", 8, pose_auc_30=0.0),
    mini("guess", "pair", 2),
]


def test_a_scoreboard_at_a_glance() -> None:
    text = scoreboard(MINI, notes={"versions": "all of them"})
    poses = text[text.index("## Poses") : text.index("## Depth")].splitlines()
    assert poses[2:] == [
        "| scene | net | sift | guess |",
        "| --- | --- | --- | --- |",
        "| desk | 0.250 | **0.750** | 0.000 |",
        "| pair (2) | **0.500** | 0.250 | - |",
        "| mean | 0.375 | **0.500** | - |",  # not of those that failed somewhere
        "",
    ]
    depth = text[text.index("## Depth") : text.index("## How")]
    assert "| scene | net |\n| --- | --- |\n| desk | **0.500** |\n| mean | **0.500** |" in depth
    assert "* versions: all of them" in text


def test_a_scoreboard_in_detail() -> None:
    text = scoreboard(MINI)
    desk = text[text.index("### desk, no cameras given") : text.index("### desk, cameras given")]
    assert "| views | predictor | AbsRel ↓ | δ1.25 ↑ | pose AUC@30 ↑ |" in desk
    assert "| 2 | net | - | - | 0.900 |" in desk
    assert "| 16 | net | - | - | 0.990 |" in desk
    assert "| 8 | net | 0.125 | 0.990 |" in text[text.index("### desk, cameras given") :]
    assert "| 2 | guess (failed: RuntimeError: broken) | - | - |" in text
    assert "| desk | 1.0 | 2.5 | 1.0 |" in text[text.index("## Time") :]


def test_files_of_a_scoreboard(tmp_path: Path) -> None:
    json_path, md_path = write_scoreboard(tmp_path, MINI, notes={"a": "b"})
    assert (json_path.name, md_path.name) == ("scoreboard.json", "scoreboard.md")
    content = json.loads(json_path.read_text(encoding="utf-8"))
    assert content["notes"] == {"a": "b"}
    assert [run["scores"] for run in content["runs"]] == [run.scores for run in MINI]
    assert md_path.read_text(encoding="utf-8") == scoreboard(MINI, notes={"a": "b"})
    with pytest.raises(InputError, match="runs"):
        write_scoreboard(tmp_path, [])


def test_every_score_has_a_column() -> None:
    arrows = {name: title[-1] for name, title in COLUMNS.items()}
    assert {name for name, arrow in arrows.items() if arrow == "↓"} == {"absrel", "median_rotation_deg", "focal_error"}
    assert set(arrows.values()) == {"↑", "↓"}
