"""From a filled-in form to a job: videos, files of cameras, cancelling. The jobs run without a network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra 'serve' is not installed")
pytest.importorskip("httpx", reason="the extra 'serve' is not installed")
from support.serving import PREDICTOR, png, until, worker_environment
from support.videos import write_video

from depth_anything_3.errors import InputError
from depth_anything_3.serve.store import Job
from depth_anything_3.webui.choices import ModelChoice
from depth_anything_3.webui.desk import Desk, describe, submit_form
from depth_anything_3.webui.intake import Uploads, previews, video_frames
from depth_anything_3.webui.jobs import Form
from depth_anything_3.webui.queues import ModelQueues
from depth_anything_3.webui.session import Session

MODEL = "bundled"


@pytest.fixture(scope="module")
def uploads(tmp_path_factory: pytest.TempPathFactory) -> Uploads:
    folder = tmp_path_factory.mktemp("uploads")
    for index, name in enumerate(("a.png", "b.png", "slow.png")):
        (folder / name).write_bytes(png(seed=index))
    write_video(folder / "film.avi", 12, fps=4)
    (folder / "transforms.json").write_text("{}")
    (folder / "lens.txt").write_text("70 70 40 30\n")
    return Uploads(folder)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with (
        worker_environment(),
        ModelQueues(tmp_path_factory.mktemp("jobs"), device="cpu", predictor=PREDICTOR) as queues,
    ):
        yield Desk(queues, [ModelChoice(MODEL, MODEL, "")], None)


def form(uploads: Uploads, **filled: Any) -> dict[str, Any]:
    """What the page sends; values that are names of uploads become their paths."""
    empty = {"images": None, "video": None, "fps": 1.0, "model": MODEL, "poses": None, "lens": None, "fov": ""}
    for name in ("video", "poses", "lens"):
        if name in filled:
            filled[name] = str(uploads.folder / filled[name])
    images = [str(uploads.folder / name) for name in filled.pop("images", ())]
    return {**empty, **asdict(Form()), "keep_as": "", "images": images, **filled}


def finished(desk: Desk, session: Session) -> Job:
    return list(desk.watch(session))[-1]


def test_frames_of_a_video_are_the_views(desk: Desk, uploads: Uploads) -> None:
    shown = previews(video_frames(uploads.folder / "film.avi", fps=2))
    assert [time for _, time in shown] == ["00000.00s", "00000.50s", "00001.00s", "00001.50s", "00002.00s", "00002.50s"]
    job = finished(desk, submit_form(desk, uploads, form(uploads, video="film.avi", fps=2.0)))
    assert job.status == "completed" and list(job.images) == [f"{time}.png" for _, time in shown]


@pytest.mark.parametrize(
    ("files", "arrived"),
    [
        ({"poses": "transforms.json"}, {"poses": ["transforms.json"]}),
        ({"poses": "transforms.json", "lens": "lens.txt"}, {"poses": ["transforms.json"], "intrinsics": ["lens.txt"]}),
        ({"lens": "lens.txt", "fov": "60deg"}, {"intrinsics": ["lens.txt"]}),
        ({"fov": " 59.49deg"}, {"intrinsics": ["field_of_view.txt"]}),
    ],
)
def test_files_of_cameras_reach_the_job(
    desk: Desk, uploads: Uploads, files: dict[str, str], arrived: dict[str, list[str]]
) -> None:
    session = submit_form(desk, uploads, form(uploads, images=["a.png", "b.png"], **files))
    job = finished(desk, session)
    assert job.status == "completed" and job.images == ("a.png", "b.png"), job.message
    queue = desk.queue_of(session.job)
    assert queue is not None
    assert json.loads(queue.result(session.job, "exports.json").read_text())["files"] == arrived


@pytest.mark.parametrize(
    ("filled", "message"),
    [
        ({"images": ["a.png"], "video": "film.avi"}, "one of the two"),
        ({}, "photos, or a video"),
        ({"images": ["a.png"], "poses": "../other.json"}, "not uploaded here"),
        ({"images": ["a.png"], "fov": "60 degrees"}, "field of view: got '60 degrees'"),
        ({"images": ["a.png"], "model": "other"}, "one of the models of the list"),
        ({"images": ["a.png"], "keep_as": "name"}, "keeps no gallery"),
    ],
)
def test_wrong_forms(desk: Desk, uploads: Uploads, filled: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        submit_form(desk, uploads, form(uploads, **filled))


def test_cancelling_a_running_job(desk: Desk, uploads: Uploads) -> None:
    session = submit_form(desk, uploads, form(uploads, images=["slow.png"]))
    queue = desk.queue_of(session.job)
    assert queue is not None
    until(lambda: queue.get(session.job).status == "running")
    desk.cancel(session)
    job = finished(desk, session)
    assert job.status == "cancelled" and describe(job).startswith("cancelled")
    assert desk.finished(session) is None and desk.arrays(session) is None
    desk.cancel(Session())
