"""The HTTP server as clients meet it: own routes, published routes, the typed client; a real server on the loopback."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import io
import json
import sqlite3
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from support.results import small_prediction, write_result
from support.serving import HTTP, png, running_server, settings_for, until

from depth_anything_3.gallery.app import make_app
from depth_anything_3.serve import routes_jobs
from depth_anything_3.serve.app import create_app
from depth_anything_3.serve.client import Client, JobFailedError, ServerError
from depth_anything_3.serve.requests import OPTION_CLASSES, option_names
from depth_anything_3.serve.sandbox import Roots

FILES_OF_THEIR_OWN = {"masks"}
"""Arguments of the Python API that are files beside the images; see tests/serve/test_scene.py."""
OF_SEQUENCES = {"anchors"}
"""What a stream tells the windows of a sequence, which jobs do not have."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("root")
    (folder / "a.png").write_bytes(png())
    (folder / "slow.png").write_bytes(png())
    write_result(folder / "gallery" / "group" / "house", "glb-depth_vis", small_prediction())
    return folder


@pytest.fixture(scope="module")
def url(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    settings = settings_for(tmp_path_factory.mktemp("server"), roots=(str(root),))
    with running_server(settings, pages={"/gallery": make_app(root / "gallery")}) as address:
        until(lambda: HTTP.get(f"{address}/readyz").status_code == 200)
        yield address


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url) as connected:
        yield connected


def test_json_is_read_where_no_event_loop_waits(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, loops = routes_jobs._parsed, []

    def parsed(text: str | bytes) -> object:
        loops.append(asyncio._get_running_loop())
        return whole(text)

    monkeypatch.setattr(routes_jobs, "_parsed", parsed)
    poses = [[1.5, 2, 3, 4]] * 10_000
    answers = [
        HTTP.post(f"{url}/v1/jobs", json={"image_paths": ["a.png"], "extrinsics": poses}),
        HTTP.post(f"{url}/v1/jobs", data={"options": json.dumps({"extrinsics": poses})}, files={"images": png()}),
    ]
    for answer in answers:
        assert answer.status_code == 400 and len(answer.text) < 2000
    assert loops == [None, None]


def test_upload_watch_download_delete(client: Client, url: str, tmp_path: Path) -> None:
    photo = tmp_path / "ä <b> photo.png"
    photo.write_bytes(png())
    submitted = client.submit([photo, ("second.png", png(seed=1))], process_res=56, use_ray_pose=True)
    seen = []
    job = client.wait(submitted.id, on_change=lambda state: seen.append(state.progress))
    assert job.images == ("ä _b_ photo.png", "second.png") and seen[-1] == 1.0
    files = client.download(job, tmp_path / "out")
    assert [f.relative_to(tmp_path / "out").as_posix() for f in files] == ["depth_vis/0000.jpg", "exports.json"]
    assert json.loads(files[1].read_text()) == {"options": {"process_res": 56, "use_ray_pose": True}}
    archive = zipfile.ZipFile(io.BytesIO(HTTP.get(f"{url}/v1/jobs/{job.id}/results.zip").content))
    assert archive.read("exports.json") == files[1].read_bytes() and archive.testzip() is None
    part = HTTP.get(f"{url}/v1/jobs/{job.id}/files/exports.json", headers={"Range": "bytes=0-3"})
    assert part.status_code == 206 and part.content == b'{"op'
    assert job.id in {entry.id for entry in client.jobs(status="completed")}
    assert HTTP.get(f"{url}/v1/usage").json()["data"][0]["images"] >= 2
    client.delete(job.id)
    with pytest.raises(ServerError, match="404"):
        client.get(job.id)


def test_files_beside_the_images(client: Client, url: str, root: Path, tmp_path: Path) -> None:
    photos, masks = [("a.png", png()), ("b.png", png())], [("1.png", png()), ("2.png", png())]
    job = client.submit(photos, masks=masks, poses=("p.json", b"{}"), intrinsics=("k.txt", b"1 1 1 1"))
    said = client.download(client.wait(job.id), tmp_path)[-1].read_text()
    assert json.loads(said)["files"] == {"masks": ["1.png", "2.png"], "poses": ["p.json"], "intrinsics": ["k.txt"]}
    film = client.submit([("clip.mp4", b"\0\0\0 ftyp and so on")], video={"fps": 2.0, "max_frames": 5})
    assert client.wait(film.id).images == ("clip.mp4",)
    body = {"image_paths": ["a.png"], "mask_paths": ["a.png"], "poses_path": "slow.png"}
    there = HTTP.post(f"{url}/v1/jobs", json=body).json()
    assert [file.name for file in client.wait(there["id"]).files][-1] == "exports.json"
    with pytest.raises(ServerError, match="masks: got 1 files; expected one for each image"):
        client.submit(photos, masks=masks[:1])
    with pytest.raises(ServerError, match="one video alone"):
        client.submit([("clip.mp4", b""), photos[0]])
    with pytest.raises(ServerError, match=r"masks\[1\].*not recognised"):
        client.submit(photos, masks=[masks[0], ("2.png", b"nothing")])
    with pytest.raises(ServerError, match="intrinsics: got a value, and a file of poses"):
        client.submit(photos, poses=("p.json", b"{}"), intrinsics=[[[1, 0, 0], [0, 1, 0], [0, 0, 1]]] * 2)
    outside = HTTP.post(f"{url}/v1/jobs", json={**body, "poses_path": "../p.json"})
    assert outside.status_code == 403 and "--root" in outside.text


def test_status_waits_neither_for_busy_threads_nor_for_a_writer(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(tmp_path, roots=(str(root),))
    with running_server(settings) as address, Client(address) as other:
        job = other.submit([("a.png", png())])
        other.wait(job.id)
        gate = threading.Event()
        monkeypatch.setattr(Roots, "open", lambda self, path: gate.wait(20) and io.BytesIO(png()))
        with ThreadPoolExecutor(8) as pool, sqlite3.connect(tmp_path / "data" / "queue.sqlite") as writer:
            body = {"image_paths": ["a.png"]}
            held = [pool.submit(HTTP.post, f"{address}/v1/jobs", json=body) for _ in range(6)]
            try:
                writer.execute("BEGIN IMMEDIATE")
                assert HTTP.get(f"{address}/v1/jobs/{job.id}", timeout=5).json()["status"] == "completed"
            finally:
                writer.rollback()
                gate.set()
            assert all(answer.result().status_code == 202 for answer in held)


def test_failure_cancel_and_resubmission(client: Client) -> None:
    with pytest.raises(JobFailedError, match="broken"):
        client.wait(client.submit([("broken.png", png())]).id)
    slow = client.submit([("slow.png", png())], idempotency_key="again")
    assert client.submit([("slow.png", png())], idempotency_key="again").id == slow.id
    until(lambda: client.get(slow.id).status == "running")
    assert client.get(client.submit([("slow2.png", png())], idempotency_key="q").id).position == 0
    client.cancel(client.submit([("slow2.png", png())], idempotency_key="q").id)
    client.cancel(slow.id)
    with pytest.raises(JobFailedError, match="cancelled"):
        client.wait(slow.id)


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"nonsense": 1}, "nonsense"),
        ({"process_res": "504"}, "process_res"),
        ({"process_res_method": "resize"}, "process_res_method"),
        ({"ref_view_strategy": "empty"}, "ref_view_strategy"),
        ({"export_format": "glb-exe"}, "export_format"),
        ({"export_kwargs": {"glb": {"num": 1}}}, "export_kwargs[glb].num"),
        ({"conf_thresh_percentile": 300}, "conf_thresh_percentile"),
        ({"extrinsics": [[[1, 0, 0, 0]]]}, "extrinsics"),
        ({"intrinsics": "all"}, "intrinsics"),
        ({"video": {"fps": 2}}, "video"),
        ({"video": {"speed": 2}}, "video.speed"),
    ],
)
def test_wrong_options_are_named(url: str, options: dict[str, object], param: str) -> None:
    answer = HTTP.post(f"{url}/v1/jobs", files={"images": ("a.png", png())}, data={"options": json.dumps(options)})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param and answer.json()["error"]["type"] == "invalid_request_error"


def test_every_option_of_the_python_api_is_one_of_the_server(url: str) -> None:
    from depth_anything_3.api import DepthAnything3

    signature = inspect.signature(DepthAnything3.inference).parameters
    assert (
        set(option_names())
        == set(signature) - {"self", "image", "export_dir", "progress", "cancel"} - FILES_OF_THEIR_OWN - OF_SEQUENCES
    )
    for cls in OPTION_CLASSES:
        for field in dataclasses.fields(cls):
            if field.name not in ("process_res", "export_format", "export_feat_layers"):
                assert field.default == signature[field.name].default, field.name
    content = HTTP.get(f"{url}/openapi.json").json()["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]
    schema = content["application/json"]["schema"]
    beside = {"image_paths", "mask_paths", "poses_path", "intrinsics_path", "export_dir", "priority"}
    assert schema["properties"].keys() == {*option_names(), *beside}
    assert schema["additionalProperties"] is False
    assert schema["properties"]["ref_view_strategy"]["enum"][0] == "first"
    assert all("description" in entry for entry in schema["properties"].values())


def test_the_published_routes_keep_their_words(url: str, root: Path) -> None:
    body = {"image_paths": [str(root / "a.png")], "export_dir": str(root / "out"), "process_res": 56}
    answer = HTTP.post(f"{url}/inference", json={**body, "use_ray_pose": True, "ref_view_strategy": "first"})
    task = answer.json()
    assert set(task) == {"success", "message", "task_id", "export_dir", "export_format", "processing_time"}
    assert task["success"] is True and task["export_format"] == "mini_npz-glb" and task["processing_time"] is None

    def view() -> dict[str, object]:
        found: dict[str, object] = HTTP.get(f"{url}/task/{task['task_id']}").json()
        return found

    done = until(lambda: v if (v := view())["status"] == "completed" else None)
    assert set(done) == {
        *("task_id", "status", "message", "progress", "created_at", "started_at", "completed_at", "export_dir"),
        *("request", "num_images", "export_format", "process_res_method", "video_path"),
    }
    assert done["progress"] == 1.0 and done["num_images"] == 1 and (root / "out/exports.json").is_file()
    assert done["request"]["use_ray_pose"] is True, "the published server lost it"  # type: ignore[index]
    listed = HTTP.get(f"{url}/tasks").json()
    assert set(listed) == {"tasks", "active_tasks", "completed_tasks", "active_count", "total_count"}
    assert HTTP.delete(f"{url}/task/{task['task_id']}").json()["message"]
    assert HTTP.get(f"{url}/task/{task['task_id']}").json() == {"detail": "Task not found"}
    state = HTTP.get(f"{url}/status").json()
    assert list(state) == ["model_loaded", "model_dir", "device", "load_time", "last_used", "uptime", "gpu_memory"]
    assert state["model_loaded"] is True and state["device"] == "none"
    assert HTTP.get(f"{url}/gpu-memory").json()["available"] is False
    assert set(HTTP.post(f"{url}/cleanup").json()) == {"message", "active_tasks"}
    refused = HTTP.post(f"{url}/inference", json={**body, "unknown_field": 1})
    assert refused.status_code == 400 and refused.json()["error"]["param"] == "unknown_field"


def test_a_pending_task_cannot_be_deleted(url: str, root: Path, client: Client) -> None:
    task = HTTP.post(f"{url}/inference", json={"image_paths": ["slow.png"]}).json()["task_id"]
    answer = HTTP.delete(f"{url}/task/{task}")
    assert answer.status_code == 400 and "detail" in answer.json()
    client.cancel(task)
    with pytest.raises(JobFailedError):
        client.wait(task)


def test_reload_replaces_the_worker_and_loses_nothing(url: str, client: Client) -> None:
    jobs = [client.submit([(f"{i}.png", png())]) for i in range(3)]
    assert "message" in HTTP.post(f"{url}/reload").json()
    jobs.append(client.submit([("after.png", png())]))
    assert all(client.wait(job.id).status == "completed" for job in jobs)


def test_pages_and_their_policy(url: str) -> None:
    for path in ("/", "/dashboard", "/static/js/dashboard.js", "/static/dashboard.css"):
        answer = HTTP.get(f"{url}{path}")
        assert answer.status_code == 200
        assert "default-src" in answer.headers["content-security-policy"]
        assert "http:" not in answer.text and "https:" not in answer.text, "nothing comes from elsewhere"
    assert "script-src" not in answer.headers["content-security-policy"]
    assert "<script>" not in HTTP.get(url).text


def test_the_gallery_is_below_the_server_and_behind_its_guard(url: str) -> None:
    page = HTTP.get(f"{url}/gallery", follow_redirects=True)
    assert page.status_code == 200 and page.url.path == "/gallery/"
    assert "script-src 'self'" in page.headers["content-security-policy"] and "x-frame-options" not in page.headers
    (group,) = HTTP.get(f"{url}/gallery/manifest.json").json()["groups"]
    (item,) = HTTP.get(f"{url}/gallery/manifest/{group['id']}.json").json()["items"]
    assert item["model"].startswith("/gallery/") and HTTP.get(f"{url}{item['model']}").content[:4] == b"glTF"
    assert HTTP.get(f"{url}/gallery/static/viewer.html").headers["x-request-id"]
    for path in ("/gallery/", "/gallery/manifest.json", item["model"]):
        assert HTTP.get(f"{url}{path}", headers={"Host": "evil.example"}).status_code == 421


def test_without_a_gallery_the_answer_says_how_to_have_one(tmp_path: Path) -> None:
    with TestClient(create_app(settings_for(tmp_path)), base_url="http://localhost") as client:
        for path in ("/gallery", "/gallery/manifest.json"):
            answer = client.get(path)
            assert answer.status_code == 404 and "--gallery-dir" in answer.json()["error"]["message"]


def test_events_can_be_taken_up_again(url: str, client: Client) -> None:
    job = client.submit([("a.png", png())])
    client.wait(job.id)
    text = HTTP.get(f"{url}/v1/jobs/{job.id}/events", headers={"Last-Event-ID": "99999"}).text
    assert text.startswith("id: ") and "\nevent: end\n" in text and text.count("\ndata: ") == 1


def test_shutdown_ends_streams_and_keeps_jobs(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    with running_server(settings) as address, Client(address) as client:
        job = client.submit([("slow.png", png()), ("b.png", png())])
        until(lambda: client.get(job.id).status == "running")
        stream = HTTP.stream("GET", f"{address}/v1/jobs/{job.id}/events", timeout=30)
        answer = stream.__enter__()
        lines = answer.iter_lines()
        assert next(lines).startswith("id: ")
        slots = client.jobs()
    assert len(slots) == 1
    from depth_anything_3.serve.jobs import JobQueue

    assert JobQueue(settings).get(job.id).status == "queued"
