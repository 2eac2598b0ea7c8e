"""A predictor without a network, for tests of everything around it, and a real server on the loopback."""

from __future__ import annotations

import io
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from depth_anything_3.errors import InputError
from depth_anything_3.serve.intake import IncomingImage
from depth_anything_3.serve.predictors import Task
from depth_anything_3.serve.settings import Limits, ServerSettings
from depth_anything_3.types.progress import Progress

PREDICTOR = "support.serving:NamedPredictor"


class NamedPredictor:
    """Does what the name of the first image says: ``slow``, ``crash``, ``raise``, ``broken``, ``hungry``, or work."""

    def __init__(self, settings: ServerSettings, device: str) -> None:
        self._held: list[bytes] = []
        self._log = Path(settings.data_dir) / "runs.txt"

    def load(self) -> dict[str, Any]:
        return {"device": "none", "process_res": 252, "cameras": True, "model_name": "named"}

    def run(
        self, tasks: Sequence[Task], report: Callable[[Progress], None], cancel: threading.Event
    ) -> list[dict[str, Any]]:
        if len(tasks) > 1 and any("broken" in task.images[0].name for task in tasks):
            raise InputError("image[0]", "one that is broken", "another")
        return [self._one(task, len(tasks), report, cancel) for task in tasks]

    def _one(
        self, task: Task, together: int, report: Callable[[Progress], None], cancel: threading.Event
    ) -> dict[str, Any]:
        name, job = task.images[0].name, task.folder.parent.name
        with self._log.open("a") as log:
            log.write(f"{job} {together}\n")
        if "crash" in name:
            os._exit(1)
        if "raise" in name:
            raise RuntimeError(f"secret of {task.images[0]}")
        if "broken" in name:
            raise InputError("image[0]", f"{task.images[0]} (broken)", "another")
        if "hungry" in name:
            self._held.append(b"x" * 300_000_000)
        if "stuck" in name:
            time.sleep(60)
        steps = 600 if "slow" in name or "hungry" in name else 3
        for step in range(steps):
            report(Progress("network", step + 1, steps))
            time.sleep(0.05 if steps > 3 else 0.002)
        (task.folder / "depth_vis").mkdir(exist_ok=True)
        (task.folder / "depth_vis" / "0000.jpg").write_bytes(b"not really a picture")
        beside = {kind: [path.name for path in paths] for kind, paths in task.files.items() if paths}
        said = {"options": dict(task.request.given), **({"files": beside} if beside else {})}
        (task.folder / "exports.json").write_text(json.dumps(said))
        return {"views": [{"name": image.name} for image in task.images], "together": together}


def png(width: int = 80, height: int = 60, seed: int = 0) -> bytes:
    """A small picture."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def incoming(*names: str) -> list[IncomingImage]:
    """Pictures of these names, as a client would send them."""
    return [IncomingImage(name, io.BytesIO(png(seed=index))) for index, name in enumerate(names)]


def settings_for(folder: Path, **changes: Any) -> ServerSettings:
    """Settings of a server without a network, in a folder of its own; ``limits`` are changes of the defaults."""
    limits = Limits(**{"cancel_seconds": 1.0, "stop_seconds": 0.2, **changes.pop("limits", {})})
    return ServerSettings(**{"data_dir": str(folder / "data"), "predictor": PREDICTOR, "limits": limits, **changes})


@contextmanager
def worker_environment() -> Iterator[None]:
    """Workers find this module."""
    tests, source = Path(__file__).resolve().parents[1], Path(__file__).resolve().parents[2] / "src"
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(source), str(tests), *([before] if before else [])])
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


@contextmanager
def running_server(settings: ServerSettings, **arguments: Any) -> Iterator[str]:
    """The URL of a real server on a free port, in a thread; ``arguments`` are those of ``create_app``."""
    from depth_anything_3.serve.app import create_app, make_server

    server = make_server(create_app(settings, **arguments), settings)
    server.config.port = 0
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        until(lambda: server.started or not thread.is_alive())
        assert server.started, "the server did not start"
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.config.app.state.stopping.set()  # type: ignore[union-attr]
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive(), "the server did not stop"


def until(condition: Callable[[], Any], seconds: float = 10.0) -> Any:
    """The first true value of ``condition``."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.02)
    return value


HTTP = httpx.Client(verify=False, timeout=15.0, trust_env=False)
"""One client for all tests: making one loads certificates, which takes longer than most tests."""
