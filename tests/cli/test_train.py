"""``da3 train``: recipes from the command line; everything wrong is said before anything is trained."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from support.rgbd_rooms import damage, write_room
from support.training import ANY_VIEW, SINGLE_VIEW, any_view, log_of
from typer.testing import CliRunner, Result

from depth_anything_3.cli import app
from depth_anything_3.train.ablations import ABLATIONS
from depth_anything_3.train.recipes import RECIPES
from depth_anything_3.train.trainer import Trainer


def invoke(*arguments: object) -> Result:
    result = CliRunner().invoke(app, ["train", *map(str, arguments)], env={"COLUMNS": "200"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def settings(**values: Any) -> list[str]:
    """``--set`` for each of them; double underscores stand for dots."""
    given = [f"{name.replace('__', '.')}={json.dumps(value)}" for name, value in values.items()]
    return [part for text in given for part in ("--set", text)]


SMALL: dict[str, Any] = {
    "model": list(SINGLE_VIEW),
    "precision": "float32",
    "phases__0__data__sizes": [[42, 56]],
    "phases__0__data__tokens": 24,
    "log_every": 1,
}
"""A step of some hundredths of a second."""

NO_AUGMENTATION = {"augment__noise": 0, "augment__blur": 0, "augment__jpeg": 0}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One rendered scene."""
    folder = tmp_path_factory.mktemp("scenes")
    done = invoke("teacher_tiny", "--fill-cache", 1, *settings(cache=str(folder)))
    assert done.exit_code == 0, done.output
    return folder


def teacher(cache: Path, out: Path, *more: object, **changes: Any) -> Result:
    """The tiny teacher's recipe for four steps on the one scene."""
    scene = {"cache": str(cache), "sources__0__0__count": 1, "sources__0__0__most": 1, "steps": 4}
    return invoke("teacher_tiny", "--out", out, *settings(**scene, **SMALL, **changes), *more)


# What there is ---------------------------------------------------------------------------------------------


def test_the_list() -> None:
    done = invoke("--list")
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    for name in RECIPES:
        (line,) = (line for line in lines if line.split()[:1] == [name])
        assert len(line.split()) > 4
    assert lines[-1] == f"variants: {', '.join(ABLATIONS)}"


def test_the_list_as_json() -> None:
    shown = json.loads(invoke("--list", "--json").stdout)
    assert list(shown["recipes"]) == RECIPES.names()
    assert shown["variants"] == list(ABLATIONS)
    assert all("\n\n" not in text and text for text in shown["recipes"].values())


def test_listing_imports_no_torch_before_it_must() -> None:
    code = "import sys; import depth_anything_3.cli.train; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Dry runs --------------------------------------------------------------------------------------------------


def test_a_dry_run_says_what_it_would_take(tmp_path: Path) -> None:
    done = invoke("da3_small", "--dry-run", "--out", tmp_path / "run")
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "da3_small: da3-small, 200000 steps",
        "parameters       34,299,463 (33,993,874 trained)",
        "tokens per step  41,472 in each process",
        "memory           681.1 MB of state, ~20.8 GB more",
    ]
    assert not (tmp_path / "run").exists()


def test_a_dry_run_as_json() -> None:
    shown = json.loads(invoke("da3_giant_paper", "--dry-run", "--json").stdout)
    assert (shown["recipe"], shown["preset"], shown["steps"]) == ("da3_giant_paper", "da3-giant", 200_000)
    assert shown["parameters"] == 1_355_674_125
    assert set(shown) >= {"trained", "tokens_per_step", "state_bytes", "activation_bytes"}


def test_settings_and_variants_count() -> None:
    def plan(*arguments: object) -> dict[str, Any]:
        shown: dict[str, Any] = json.loads(invoke("da3_tiny", "--dry-run", "--json", *arguments).stdout)
        return shown

    plain = plan()
    fewer = plan(*settings(phases__0__steps=5, steps=[10, 20, 30]))
    assert (plain["steps"], fewer["steps"]) == (4_000, 55)
    assert plan(*settings(phases__2__data__tokens=5_000))["tokens_per_step"] == 5_000
    extra = plan("--variant", "extra_blocks")
    assert extra["parameters"] > 1.3 * plain["parameters"]
    assert plan("--variant", "depth_camera")["trained"] < plain["trained"]
    both = plan("--variant", "separate_heads", *settings(init__frozen=["backbone.pretrained."]))
    assert both["parameters"] > plain["parameters"] and both["trained"] < plain["trained"]


# Mistakes --------------------------------------------------------------------------------------------------

MISTAKES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "no recipe": ((), ("RECIPE: got nothing", "da3_tiny_confidence, da3metric_large")),
    "another recipe": (("da3_huge",), ("recipe: got 'da3_huge'", "da3_giant_paper")),
    "another variant": (("da3_tiny", "--variant", "no_depth"), ("variant: got 'no_depth'", "separate_heads")),
    "not key=value": (("da3_tiny", "--set", "seed"), ("set: got 'seed'", "key=value")),
    "not YAML": (("da3_tiny", "--set", "seed=[1"), ("set: got 'seed=[1'", "YAML")),
    "another field": (("da3_tiny", "--set", "sede=1"), ("set: got 'sede'", "a field of TrainConfig", "seed")),
    "a field below": (
        ("da3_tiny", "--set", "optimiser.lr=1"),
        ("set: got 'optimiser.lr'", "a field of OptimiserOptions", "backbone_rate"),
    ),
    "wrong type": (("da3_tiny", "--set", "seed=x"), ("set: got seed='x'", "a whole number")),
    "wrong type of an argument": (("da3_tiny", "--set", "steps=5"), ("set: got steps=5", "a list [a whole number")),
    "wrong value": (("da3_tiny", "--set", "precision=int8"), ("precision='int8'", "float32, bfloat16")),
    "an index": (("da3_tiny", "--set", "phases.9.steps=1"), ("phases.9.steps", "an index from 0 to 2")),
    "a way": (("finetune", "--set", "how=all"), ("how: got 'all'", "whole, lora, heads")),
    "no cache": (("da3_tiny", "--fill-cache", "3"), ("fill-cache: got 3", "--set cache=FOLDER")),
    "no data": (("da3_small", "--set", "data=/nowhere"), ("root", "/nowhere")),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(mistake: str, tmp_path: Path) -> None:
    arguments, parts = MISTAKES[mistake]
    done = invoke(*arguments, "--out", tmp_path / "run")
    assert done.exit_code == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    for part in parts:
        assert part in line
    shown = json.loads(invoke(*arguments, "--json", "--out", tmp_path / "run").stdout)["error"]
    assert shown["exit_code"] == 2 and parts[0] in shown["message"]
    assert not (tmp_path / "run").exists()


def test_labels_without_a_teacher(cache: Path, tmp_path: Path) -> None:
    done = invoke("da3mono_large", "--out", tmp_path / "run", *settings(data=str(tmp_path)))
    assert done.exit_code == 2 and done.stderr.startswith("error: ")


# Runs ------------------------------------------------------------------------------------------------------


def test_the_same_command_goes_on(cache: Path, tmp_path: Path) -> None:
    halted = teacher(cache, tmp_path / "halting", "--until", 2)
    assert halted.exit_code == 0, halted.output
    assert halted.stdout.splitlines()[-1] == "stopped after step 2 of 4; the same command goes on"
    assert not (tmp_path / "halting" / "trained").exists()
    went_on = teacher(cache, tmp_path / "halting")
    assert went_on.exit_code == 0, went_on.output
    assert [line.split()[0] for line in went_on.stdout.splitlines()[:-1]] == ["3", "4"]
    assert went_on.stdout.splitlines()[-1] == f"trained weights: {tmp_path / 'halting' / 'trained'}"
    straight = teacher(cache, tmp_path / "straight")
    assert [line.split()[0] for line in straight.stdout.splitlines()[:-1]] == ["1", "2", "3", "4"]
    one, other = (load_file(tmp_path / name / "trained" / "model.safetensors") for name in ("halting", "straight"))
    assert all((one[name] == other[name]).all() for name in one)
    logs = [[{**line, "seconds": 0} for line in log_of(tmp_path / name)] for name in ("halting", "straight")]
    assert logs[0] == logs[1] and len(logs[0]) == 4


def test_a_finished_run_does_nothing_again(cache: Path, tmp_path: Path) -> None:
    for expected in (5, 1):
        done = teacher(cache, tmp_path)
        assert len(done.stdout.splitlines()) == expected
    assert len(log_of(tmp_path)) == 4


def test_numbers_as_json(cache: Path, tmp_path: Path) -> None:
    done = teacher(cache, tmp_path, "--json")
    assert done.exit_code == 0, done.output
    shown = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["step"] for line in shown] == [1, 2, 3, 4]
    assert {"total", "global_local", "normal", "sky", "grad_norm", "rate", "seconds", "skipped"} <= set(shown[0])
    assert "trained weights" in done.stderr
    assert shown[-1]["total"] == pytest.approx(log_of(tmp_path)[-1]["total"], abs=1e-5)


def test_settings_reach_the_run(cache: Path, tmp_path: Path) -> None:
    teacher(cache, tmp_path / "plain")
    teacher(cache, tmp_path / "seed", seed=5)
    teacher(cache, tmp_path / "sky", objective__sky=0, objective__object=0, **NO_AUGMENTATION)
    plain, seed, sky = (log_of(tmp_path / name) for name in ("plain", "seed", "sky"))
    assert plain[0]["total"] != seed[0]["total"]
    assert "sky" in plain[0] and "sky" not in sky[0]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    return Trainer(any_view(1), folder / "run").export(folder / "trained", half=False)


def finetune(checkpoint: Path, data: Path, out: Path, *more: object) -> Result:
    small = {**SMALL, "model": list(ANY_VIEW), "phases__0__data__tokens": 24, "phases__0__data__views": [1, 2]}
    given = {"checkpoint": str(checkpoint), "preset": "da3-tiny", "data": str(data), "steps": 6, "accumulation": 1}
    return invoke("finetune", "--out", out, *settings(**given, **small), *more)


def test_damaged_samples_are_reported(checkpoint: Path, tmp_path: Path) -> None:
    write_room(tmp_path / "data" / "room", frames=3)
    damage(tmp_path / "data" / "room" / "images" / "001.png")
    done = finetune(checkpoint, tmp_path / "data", tmp_path / "run")
    assert done.exit_code == 0, done.output
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("skipped"))
    count = int(line.split()[1])
    assert line.startswith(f"skipped {count} times: ") and "001.png" in line
    assert log_of(tmp_path / "run")[-1]["skipped"] == count > 0


def test_benchmark_scenes_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    write_room(tmp_path / "data" / "princeton_box50")
    done = finetune(checkpoint, tmp_path / "data", tmp_path / "run")
    assert done.exit_code == 2
    assert "scenes that results are reported on: rgbd_folder/princeton_box50" in done.stderr


def test_nothing_but_damage_is_a_failure(checkpoint: Path, tmp_path: Path) -> None:
    write_room(tmp_path / "data" / "room", frames=2)
    for file in (tmp_path / "data" / "room" / "images").iterdir():
        damage(file)
    done = finetune(checkpoint, tmp_path / "data", tmp_path / "run")
    assert done.exit_code == 1
    assert "20 damaged samples in a row" in done.stderr
