"""Several clients on one server: priorities, quotas, and what Prometheus reads."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from support.serving import incoming, png, settings_for

from depth_anything_3.errors import InputError
from depth_anything_3.serve.app import create_app
from depth_anything_3.serve.jobs import JobQueue
from depth_anything_3.serve.keys import KeyFile
from depth_anything_3.serve.store import JobStore, Outcome, QueueFullError, QuotaError


def test_what_is_urgent_is_begun_first(tmp_path: Path) -> None:
    queue = JobQueue(settings_for(tmp_path))
    given = ("low", "normal", "high", "normal", "high")
    jobs = [queue.submit(incoming("a.png", "b.png"), priority=priority) for priority in given]
    assert [queue.store.position(job.id) for job in jobs] == [4, 2, 0, 3, 1]
    begun = [queue.store.claim("one")[0].id for _ in jobs]
    assert begun == [jobs[index].id for index in (2, 4, 1, 3, 0)]
    with pytest.raises(InputError, match="priority"):
        queue.submit(incoming("a.png"), priority="urgent")  # type: ignore[arg-type]


def test_one_client_cannot_take_what_is_meant_for_all(tmp_path: Path) -> None:
    queue = JobQueue(settings_for(tmp_path, limits={"owner_queued": 2, "owner_images_per_day": 5, "queued": 4}))
    for _ in range(2):
        queue.submit(incoming("a.png", "b.png"), owner="greedy")
    with pytest.raises(QuotaError, match="2 of your jobs wait already"):
        queue.submit(incoming("a.png"), owner="greedy")
    queue.submit(incoming("a.png"), owner="modest")
    for _ in range(2):
        (job,) = queue.store.claim("one")
        queue.store.finish(job, Outcome(status="completed"))
    queue.submit(incoming("c.png"), owner="greedy")
    with pytest.raises(QuotaError, match="6 images today"):
        queue.submit(incoming("d.png"), owner="greedy")
    assert queue.submit(incoming("a.png"), owner="modest").priority == "normal"
    queue.submit(incoming("a.png"), owner="third")
    with pytest.raises(QueueFullError):
        queue.submit(incoming("a.png"), owner="fourth")


def test_keys_say_who_may_overtake(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    plain, urgent = keys.add("plain"), keys.add("urgent", high_priority=True)
    settings = settings_for(tmp_path, keys_file=str(keys.path), limits={"owner_queued": 1})
    with TestClient(create_app(settings), base_url="http://localhost") as client:

        def submit(key: str, name: str = "slow.png", **fields: str) -> tuple[int, str | None]:
            headers = {"Authorization": f"Bearer {key}"}
            answer = client.post("/v1/jobs", files={"images": (name, png())}, data=fields, headers=headers)
            return answer.status_code, (answer.json().get("error") or {}).get("code")

        assert submit(plain, priority="high") == (403, "priority_not_allowed")
        assert submit(urgent, priority="high") == (202, None)
        assert submit(plain, priority="soon") == (400, "invalid_value")
        answers = [submit(plain, priority="low") for _ in range(3)]
        assert (429, "quota_exceeded") in answers and answers[0] == (202, None)
        assert client.get("/metrics").status_code == 401


def test_metrics_are_what_happened(tmp_path: Path) -> None:
    with TestClient(create_app(settings_for(tmp_path)), base_url="http://localhost") as client:
        job = client.post("/v1/jobs", files={"images": ("a.png", png())}).json()["id"]
        client.app.state.queue.wait(job, timeout=20)  # type: ignore[attr-defined]
        client.get(f"/v1/jobs/{job}")
        client.get("/nothing/of/the kind")
        answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    sample = re.compile(r'[a-z0-9_]+(\{([a-z_]+="[^"\\]*",?)+\})? [0-9.e+-]+')
    said = dict(line.rsplit(" ", 1) for line in answer.text.splitlines() if not line.startswith("#"))
    assert all(line.startswith(("# HELP ", "# TYPE ")) or sample.fullmatch(line) for line in answer.text.splitlines())
    assert said['da3_jobs{status="completed"}'] == "1" and said["da3_completed_images_total"] == "1"
    assert said['da3_http_requests_total{method="GET",route="/v1/jobs/{job_id}",status="200"}'] == "1"
    assert said['da3_http_request_seconds_bucket{route="/v1/jobs/{job_id}",le="+Inf"}'] == "1"
    assert said['da3_http_requests_total{method="GET",route="none",status="404"}'] == "1"
    assert float(said['da3_processor_seconds_total{process="server"}']) > 0
    assert int(said['da3_resident_bytes{process="server"}']) > 1e7 and int(said["da3_job_bytes"]) > 0


def test_a_queue_file_of_before_goes_on(tmp_path: Path) -> None:
    queue = JobQueue(settings_for(tmp_path))
    old = queue.submit(incoming("a.png"))
    size = queue.store.held_bytes()
    with sqlite3.connect(queue.folders.database) as db:
        db.execute("DROP INDEX jobs_by_turn")
        db.execute("ALTER TABLE jobs DROP COLUMN priority")
        for name in ("held_more", "held_other", "held_less"):
            db.execute(f"DROP TRIGGER {name}")
        db.execute("DROP TABLE held")
    store = JobStore(queue.folders.database)
    assert store.get(old.id).priority == "normal" and store.held_bytes() == size > 0
    assert store.counts()["queued"] == 1
    store.cancel(old.id)
    store.delete(old.id)
    assert store.held_bytes() == 0
