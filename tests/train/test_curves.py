"""Event files: TensorBoard's own reader finds in them what the log says."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from support.training import any_view, log_of

from depth_anything_3.errors import MissingExtraError
from depth_anything_3.train.trainer import Trainer


def test_event_files_hold_the_log_across_an_interruption(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    config = replace(any_view(5), tensorboard=True)
    first = Trainer(config, tmp_path)
    first.run(4)
    first._log({"step": 5.0, "total": 99.0})  # said after the checkpoint, then killed
    Trainer(config, tmp_path).run()
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    log = log_of(tmp_path)
    assert len(log) == 5
    for name in ("total", "depth", "grad_norm", "rate"):
        said = {event.step: event.value for event in events.Scalars(name)}
        assert said == pytest.approx({int(line["step"]): line[name] for line in log}, rel=1e-4, abs=1e-5)


def test_nothing_is_written_unasked(tmp_path: Path) -> None:
    Trainer(any_view(1), tmp_path).run()
    assert not (tmp_path / "tensorboard").exists()


def test_without_the_package_the_run_does_not_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingExtraError, match=r"depth-anything-3\[tensorboard\]"):
        Trainer(replace(any_view(1), tensorboard=True), tmp_path / "run")
    assert not (tmp_path / "run").exists()
