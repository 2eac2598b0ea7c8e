"""What all commands share: exit codes, errors and warnings of one line, progress bars; and a root that is instant."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import depth_anything_3
from depth_anything_3.cli import COMMANDS, app
from depth_anything_3.cli._console import command_errors, human_size, progress_bars
from depth_anything_3.cli._lazy import Entry, load
from depth_anything_3.errors import (
    Cancelled,
    CapabilityError,
    CheckpointError,
    ConfigError,
    DA3Error,
    HubError,
    ImageError,
    InputError,
    MissingExtraError,
    UnknownNameError,
)
from depth_anything_3.types.progress import Progress

FAILURES: list[tuple[BaseException, int]] = [
    (InputError("a", "b", "c"), 2),
    (UnknownNameError("a", "b", "c", ("d",)), 2),
    (ConfigError("a", "b", "c"), 2),
    (ImageError("a", "b", "c"), 2),
    (CapabilityError("a", "b", "c"), 2),
    (CheckpointError("damaged"), 1),
    (HubError("out of reach"), 1),
    (MissingExtraError("pip install"), 1),
    (Cancelled("stopped"), 1),
    (DA3Error("other"), 1),
    (PermissionError(13, "Permission denied", "out"), 1),
]


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("failure", "code"), FAILURES, ids=lambda value: type(value).__name__)
def test_an_error_is_one_line_and_an_exit_code(
    failure: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as stop, command_errors():
        raise failure
    assert stop.value.exit_code == code
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err == f"error: {failure}\n"


@pytest.mark.parametrize(("failure", "code"), FAILURES, ids=lambda value: type(value).__name__)
def test_an_error_as_json_is_one_object(failure: BaseException, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as stop, command_errors(as_json=True):
        raise failure
    assert stop.value.exit_code == code
    printed = capsys.readouterr()
    assert printed.err == "" and printed.out.count("\n") == 1
    expected: dict[str, object] = {"type": type(failure).__name__, "message": str(failure), "exit_code": code}
    if isinstance(failure, InputError):
        parts = {"argument": "a", "got": "b", "expected": "c", "valid": list(failure.alternatives)}
        expected |= parts
    assert json.loads(printed.out) == {"error": expected}


WORDS = {"export_dir": "--export-dir", "stride": "--stride", "image_path": "IMAGE_PATH"}


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (InputError("stride", "0", "1"), "--stride: got 0; expected 1"),
        (InputError("export_dir", "x", "y"), "--export-dir: got x; expected y"),
        (
            InputError("image_path", "a stride of export_dir", "b"),
            "IMAGE_PATH: got a stride of --export-dir; expected b",
        ),
        (InputError("export_kwargs[glb].clean", "1", "2"), "--export-kwargs glb:clean: got 1; expected 2"),
        (InputError("export_kwargs[glb]", "1", "2"), "--export-kwargs glb: got 1; expected 2"),
        (InputError("image[2]", "x/export_dir/y", "z"), "image[2]: got x/export_dir/y; expected z"),
        (CheckpointError("export_dir is full"), "--export-dir is full"),
    ],
)
def test_errors_speak_the_language_of_the_command_line(
    failure: DA3Error, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit), command_errors(spelled=WORDS):
        raise failure
    assert capsys.readouterr().err == f"error: {told}\n"


def test_warnings_do_too(capsys: pytest.CaptureFixture[str]) -> None:
    with command_errors(spelled=WORDS):
        warnings.warn("export_dir: no effect", stacklevel=1)
    assert capsys.readouterr().err == "warning: --export-dir: no effect\n"


def test_an_interruption_has_the_exit_code_of_shells(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as stop, command_errors():
        raise KeyboardInterrupt
    assert stop.value.exit_code == 130 and capsys.readouterr().err == "error: interrupted\n"


def test_long_messages_become_one_line_in_text_and_stay_as_they_are_in_json(
    capsys: pytest.CaptureFixture[str],
) -> None:
    message = "first\n  second\n\tthird"
    with pytest.raises(typer.Exit), command_errors():
        raise CheckpointError(message)
    assert capsys.readouterr().err == "error: first second third\n"
    with pytest.raises(typer.Exit), command_errors(as_json=True):
        raise CheckpointError(message)
    assert json.loads(capsys.readouterr().out)["error"]["message"] == message


@pytest.mark.parametrize("kind", [ZeroDivisionError, ValueError, AssertionError])
def test_our_own_mistakes_are_not_dressed_up(kind: type[Exception], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(kind), command_errors():
        raise kind("a bug")
    assert capsys.readouterr() == ("", "")


def test_nothing_happens_without_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with command_errors():
        pass
    assert capsys.readouterr() == ("", "")


# --- warnings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_json", [True, False])
def test_a_warning_is_one_plain_line(as_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    with command_errors(as_json=as_json):
        warnings.warn("no effect:\n  nothing reads it", stacklevel=1)
    assert capsys.readouterr() == ("", "warning: no effect: nothing reads it\n")


def test_warnings_are_as_before_afterwards() -> None:
    before = warnings.showwarning
    with pytest.raises(typer.Exit), command_errors():
        raise InputError("a", "b", "c")
    assert warnings.showwarning is before
    with command_errors():
        pass
    assert warnings.showwarning is before


# --- progress ---------------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    """A stream that somebody watches."""

    def isatty(self) -> bool:
        return True


def watch(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Somebody watches standard error. Called by the test itself, because pytest replaces the stream before it."""
    stream = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "stderr", stream)
    return stream


def test_one_bar_per_stage_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    terminal = watch(monkeypatch)
    with progress_bars(quiet=False) as report:
        assert report is not None
        for done in (1, 2, 3):
            report(Progress("preprocess", done, 3))
        report(Progress("network", 12, 12))
        report(Progress("load", 1, 1))
        report(Progress("postprocess", 1, 1))
        for done in (0, 5):
            report(Progress("export", done, 5, "glb"))
        report(Progress("export", 0, 2, "npz"))
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue()).replace("\r", "\n").split("\n")
    lines = [line for line in shown if line.strip()][-4:]
    assert [re.sub(r"\s+\S*[━╸╺]\S*.*?(\d+/\d+).*", r" \1", line) for line in lines] == [
        "Reading images 3/3",
        "Running the network 12/12",
        "Writing glb 5/5",
        "Writing npz 0/2",
    ]
    assert capsys.readouterr().out == ""


def test_no_bars_where_nobody_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = watch(monkeypatch)
    with progress_bars(quiet=True) as report:
        assert report is None
    assert terminal.getvalue() == ""
    pipe = io.StringIO()
    monkeypatch.setattr(sys, "stderr", pipe)
    with progress_bars(quiet=False) as report:
        assert report is None
    assert pipe.getvalue() == ""


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (1234, "1.2 kB"),
        (5_600_000, "5.6 MB"),
        (7.8e9, "7.8 GB"),
        (9e12, "9000.0 GB"),
    ],
)
def test_sizes_for_people(count: float, text: str) -> None:
    assert human_size(count) == text


# --- help -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("entry", COMMANDS, ids=lambda entry: entry.name)
def test_help_fits_the_window_and_cuts_no_name(entry: Entry, width: int) -> None:
    command = load(entry)
    context = command.make_context(entry.name, [], resilient_parsing=True, terminal_width=width)
    text = command.get_help(context)
    lines = text.splitlines()
    assert 50 < max(len(line) for line in lines) <= width
    for parameter in command.params:
        for name in (*parameter.opts, *parameter.secondary_opts):
            assert parameter.param_type_name == "argument" or name in text
    assert width == 80 or max(len(line) for line in lines) > 80, "a wide window is used"


def test_completion() -> None:
    """What a shell is told for ``da3 v<TAB>``, and for formats, which are joined by dashes."""

    def completed(words: str, at: int) -> str:
        environment = {"_DA3_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(at)}
        return CliRunner().invoke(app, [], prog_name="da3", env=environment).stdout

    assert completed("da3 vi", 1).split() == ["video", "view"]
    assert completed("da3 auto --export-format glb-mini", 3).split() == ["glb-mini_npz"]


# --- the root command -------------------------------------------------------------------------------------------------

HEAVY = ("torch", "cv2", "numpy.random", "safetensors", "jaxtyping")


def imported(*arguments: str, home: Path) -> tuple[str, set[str]]:
    """What the console script prints, and the modules that it imports on the way."""
    script = shutil.which("da3", path=str(Path(sys.executable).parent))
    if script is None:
        pytest.skip("the package is not installed here, so there is no console script")
    result = subprocess.run(
        [script, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPROFILEIMPORTTIME": "1", "HF_HOME": str(home), "COLUMNS": "200"},
    )
    assert result.returncode == 0, result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("import time:")]
    assert len(lines) == len(result.stderr.splitlines()), "nothing else is said"
    return result.stdout, {line.rsplit("|", 1)[1].strip() for line in lines}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--version"], f"da3 {depth_anything_3.__version__}\n"),
        (["--help"], "models"),
        (["auto", "--help"], "--export-format"),
        (["models"], "depth-anything/DA3-BASE"),
        (["models", "--json"], '"hub_id": "depth-anything/DA3-BASE"'),
    ],
    ids=["version", "help", "help of auto", "models", "models as JSON"],
)
def test_what_only_tells_is_instant(arguments: list[str], expected: str, tmp_path: Path) -> None:
    printed, modules = imported(*arguments, home=tmp_path / "home")
    assert expected in printed
    assert "depth_anything_3.cli" in modules, "the list of modules is complete"
    heavy = {name for name in modules if name in HEAVY or name.split(".")[0] in HEAVY}
    assert not heavy
    assert not (tmp_path / "home").exists()


def test_version_is_one_line_and_nothing_else() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"da3 {depth_anything_3.__version__}\n", "")


def test_without_arguments_help_is_shown() -> None:
    result = CliRunner().invoke(app, [])
    assert "auto" in result.output and "models" in result.output and "Usage:" in result.output


def test_an_unknown_command_is_a_usage_error() -> None:
    result = CliRunner().invoke(app, ["atuo"])
    assert result.exit_code == 2 and "atuo" in result.stderr and result.stdout == ""


def test_the_module_has_the_names_that_scripts_use() -> None:
    from depth_anything_3 import cli

    assert type(cli.app) is typer.Typer
    assert callable(cli.main)


def test_the_package_runs_as_a_module() -> None:
    ran = subprocess.run([sys.executable, "-m", "depth_anything_3", "--version"], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (0, f"da3 {depth_anything_3.__version__}\n")
