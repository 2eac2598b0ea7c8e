"""The job queue: one way to end for every job, whatever dies; limits; batches; cancelling; retention."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.serving import incoming, png, settings_for, until

from depth_anything_3.errors import ImageError, InputError
from depth_anything_3.serve.intake import IncomingImage, TooLargeError
from depth_anything_3.serve.jobs import JobQueue
from depth_anything_3.serve.locks import LockedError, ProcessLock
from depth_anything_3.serve.sandbox import ForbiddenPathError
from depth_anything_3.serve.store import Job, JobBusyError, QueueFullError, UnknownJobError


def is_running(queue: JobQueue, job: Job) -> Callable[[], bool]:
    return lambda: queue.get(job.id).stage == "network"


def runs(queue: JobQueue) -> list[str]:
    """The jobs that were begun, in order."""
    log = queue.folders.root / "runs.txt"
    return [line.split()[0] for line in log.read_text().splitlines()] if log.exists() else []


def test_a_job_from_submission_to_its_end(tmp_path: Path) -> None:
    with JobQueue(settings_for(tmp_path)) as queue:
        job = queue.submit(incoming("../../a b.png", "b.jpg"), {"process_res": 56, "show_cameras": False})
        assert job.status == "queued" and job.images == ("a b.png", "b.jpg")
        seen: list[str] = []
        done = queue.wait(job.id, timeout=20, on_change=lambda j: seen.append(j.status))
        assert done.status == "completed" and seen[-1] == "completed"
        assert [file.name for file in done.files] == ["depth_vis/0000.jpg", "exports.json"]
        assert '"process_res": 56' in queue.result(job.id, "exports.json").read_text()
        for wrong in ("../inputs/0000/a b.png", "exports.json/", "/etc/passwd", "", "depth_vis"):
            with pytest.raises(InputError, match="a file of this job"):
                queue.result(job.id, wrong)
        assert runs(queue) == [job.id] and done.runs == 1
        assert queue.store.usage("")[0]["images"] == 2
        with pytest.raises(UnknownJobError):
            queue.get(job.id, owner="somebody else")
        queue.delete(job.id)
        assert not (queue.folders.jobs / job.id).exists() and queue.find() == []


def test_cancelling_running_stuck_and_queued_jobs(tmp_path: Path) -> None:
    with JobQueue(settings_for(tmp_path, limits={"batch": 1})) as queue:
        slow, stuck, waiting = (queue.submit(incoming(f"{name}.png")) for name in ("slow", "stuck", "c"))
        assert queue.cancel(waiting.id).status == "cancelled"
        until(is_running(queue, slow))
        with pytest.raises(JobBusyError):
            queue.delete(slow.id)
        assert queue.cancel(slow.id).cancelling
        assert queue.wait(slow.id, timeout=5).status == "cancelled"
        until(lambda: queue.get(stuck.id).status == "running")
        queue.cancel(stuck.id)
        assert queue.wait(stuck.id, timeout=10).status == "cancelled", "a worker that does not listen is ended"
        assert queue.wait(queue.submit(incoming("after.png")).id, timeout=10).status == "completed"
        assert waiting.id not in runs(queue)


def test_a_job_that_kills_its_worker_fails_after_its_tries_and_takes_no_other_down(tmp_path: Path) -> None:
    with JobQueue(settings_for(tmp_path, limits={"tries": 2})) as queue:
        hold = queue.submit(incoming("slow.png", "x.png"))
        bad = queue.submit(incoming("crash.png"))
        good = [queue.submit(incoming(f"{i}.png")) for i in range(2)]
        until(is_running(queue, hold))
        queue.cancel(hold.id)
        ended = queue.wait(bad.id, timeout=20)
        assert (ended.status, ended.error_type, ended.deaths) == ("failed", "WorkerDied", 2)
        assert all(queue.wait(job.id, timeout=20).status == "completed" for job in good)
        assert runs(queue).count(bad.id) == 2


def test_one_bad_image_fails_alone_and_internal_errors_tell_nothing(tmp_path: Path) -> None:
    with JobQueue(settings_for(tmp_path)) as queue:
        hold = queue.submit(incoming("slow.png", "x.png"))
        jobs = [queue.submit(incoming(f"{name}.png")) for name in ("a", "broken", "b", "raise")]
        until(is_running(queue, hold))
        queue.cancel(hold.id)
        good, broken, also_good, raising = (queue.wait(job.id, timeout=20) for job in jobs)
        assert good.status == also_good.status == "completed"
        assert broken.status == "failed" and str(tmp_path) not in broken.message and "broken.png" in broken.message
        assert raising.message == "an internal error; see the log" and raising.error_type == "RuntimeError"


def test_compatible_images_run_together_and_others_do_not(tmp_path: Path) -> None:
    with JobQueue(settings_for(tmp_path, limits={"batch": 3})) as queue:
        hold = queue.submit(incoming("slow.png", "x.png"))
        until(is_running(queue, hold))
        alike = [queue.submit(incoming(f"{i}.png"), {"process_res": 56}) for i in range(4)]
        other = queue.submit(incoming("o.png"), {"process_res": 70})
        several = queue.submit(incoming("p.png", "q.png"), {"process_res": 56})
        queue.cancel(hold.id)
        done = [queue.wait(job.id, timeout=20) for job in (*alike, other, several)]
        assert [(job.summary or {})["together"] for job in done] == [3, 3, 3, 1, 1, 1]


def test_a_job_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    with JobQueue(settings_for(tmp_path, limits={"job_seconds": 1.0})) as queue:
        slow = queue.wait(queue.submit(incoming("slow.png")).id, timeout=20)
        assert (slow.status, slow.error_type) == ("failed", "TimeLimit") and "1 seconds" in slow.message


def test_a_job_that_takes_too_much_memory_is_ended_and_the_next_one_runs(tmp_path: Path) -> None:
    with JobQueue(settings_for(tmp_path, limits={"worker_bytes": 280_000_000})) as queue:
        hungry = queue.wait(queue.submit(incoming("hungry.png")).id, timeout=20)
        assert (hungry.status, hungry.error_type) == ("failed", "MemoryLimit")
        assert queue.wait(queue.submit(incoming("a.png")).id, timeout=20).status == "completed"


def test_a_second_server_may_not_use_the_same_folder(tmp_path: Path) -> None:
    queue = JobQueue(settings_for(tmp_path))
    with ProcessLock(queue.folders.locks / "server"), pytest.raises(LockedError):
        ProcessLock(queue.folders.locks / "server", timeout=0.1).__enter__()


SERVER = """
import sys, time
from pathlib import Path
from support.serving import settings_for
from depth_anything_3.serve.jobs import JobQueue
with JobQueue(settings_for(Path(sys.argv[1]))):
    print("up", flush=True)
    time.sleep(60)
"""


def test_a_killed_server_loses_no_job_and_runs_none_twice(tmp_path: Path) -> None:
    def start() -> subprocess.Popen[str]:
        process = subprocess.Popen([sys.executable, "-c", SERVER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None and process.stdout.readline() == "up\n"
        return process

    queue = JobQueue(settings_for(tmp_path))
    server = start()
    slow = queue.submit(incoming("slow.png", "x.png"))
    jobs = [queue.submit(incoming(f"{i}.png")) for i in range(3)]
    until(is_running(queue, slow))
    orphan = int(queue.store.workers()["0-auto"]["pid"])
    (queue.folders.incoming / "half-uploaded").mkdir()
    server.send_signal(signal.SIGKILL)
    server.wait()
    until(lambda: not Path(f"/proc/{orphan}").exists() or _zombie(orphan))
    assert queue.get(slow.id).status == "running", "nobody was there to say otherwise"
    server = start()
    try:
        until(lambda: queue.get(slow.id).runs == 2)
        queue.cancel(slow.id)
        assert queue.wait(slow.id, timeout=10).status == "cancelled"
        assert all(queue.wait(job.id, timeout=10).status == "completed" for job in jobs)
        assert [runs(queue).count(job.id) for job in jobs] == [1, 1, 1]
        assert not any(queue.folders.incoming.iterdir())
    finally:
        server.kill()
        server.wait()


def _zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"


def test_a_run_that_came_to_its_end_is_not_run_again(tmp_path: Path) -> None:
    """The worker died after it had written everything and before it could say so."""
    settings = settings_for(tmp_path)
    queue = JobQueue(settings)
    job = queue.submit(incoming("a.png"))
    (claimed,) = queue.store.claim("0-auto")
    queue.folders.results(claimed).mkdir()
    from depth_anything_3.serve.store import Outcome

    queue.folders.mark_complete(claimed, Outcome(status="completed"))
    with queue:
        assert queue.get(job.id).status == "completed" and runs(queue) == []


def test_what_comes_from_a_lost_claim_changes_nothing(tmp_path: Path) -> None:
    queue = JobQueue(settings_for(tmp_path))
    queue.submit(incoming("a.png"))
    (old,) = queue.store.claim("one")
    queue.store.recover("one", counted=False, tries=3, runs=9, complete=lambda job: None)
    (new,) = queue.store.claim("two")
    from depth_anything_3.serve.store import Outcome
    from depth_anything_3.types.progress import Progress

    assert not queue.store.finish(old, Outcome(status="failed"))
    assert queue.store.progress(old, Progress("network", 1, 2)), "its run is told to stop"
    assert queue.store.finish(new, Outcome(status="completed"))
    assert not queue.store.finish(new, Outcome(status="failed"))
    assert queue.get(new.id).status == "completed"


def test_limits_of_a_submission(tmp_path: Path) -> None:
    limits = {"images": 2, "file_bytes": 20_000, "image_pixels": 10_000, "queued": 2, "processed_pixels": 300_000}
    queue = JobQueue(settings_for(tmp_path, limits=limits))
    with pytest.raises(TooLargeError, match="at most 2"):
        queue.submit(incoming("a.png", "b.png", "c.png"))
    with pytest.raises(TooLargeError, match="20000 bytes"):
        queue.submit([IncomingImage("a.png", io.BytesIO(os.urandom(30_000)))])
    with pytest.raises(TooLargeError, match="10000 pixels"):
        queue.submit([IncomingImage("a.png", io.BytesIO(png(101, 100)[:19_000]))])
    with pytest.raises(TooLargeError, match="300000"):
        queue.submit(incoming("a.png"), {"process_res": 1400})
    with pytest.raises(ImageError, match=r"image\[0\].*not recognised"):
        queue.submit([IncomingImage("a.png", io.BytesIO(b"PK\x03\x04 a zip"))])
    with pytest.raises(InputError, match="proces_res: got an unknown option"):
        queue.submit(incoming("a.png"), {"proces_res": 56})
    with pytest.raises(InputError, match="export_format"):
        queue.submit(incoming("a.png"), {"export_format": "exe"})
    with pytest.raises(ForbiddenPathError, match="--root"):
        queue.submit(incoming("a.png"), export_dir=str(tmp_path / "elsewhere"))
    assert not any(queue.folders.jobs.iterdir()) and not any(queue.folders.incoming.iterdir())
    first = queue.submit(incoming("a.png"), idempotency_key="k")
    assert queue.submit(incoming("a.png"), idempotency_key="k").id == first.id
    queue.submit(incoming("a.png"))
    with pytest.raises(QueueFullError):
        queue.submit(incoming("a.png"))
    assert len(list(queue.folders.jobs.iterdir())) == 2


def test_old_jobs_go(tmp_path: Path) -> None:
    with JobQueue(settings_for(tmp_path)) as queue:
        jobs = [queue.submit(incoming(f"{i}.png")) for i in range(3)]
        for job in jobs:
            queue.wait(job.id, timeout=20)
        assert queue.clean() == 0
        assert queue.clean(keep=1) == 2
        assert queue.clean(older_than=-1) == 1
        assert not any(queue.folders.jobs.iterdir())


def test_results_are_delivered_below_a_root(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with JobQueue(settings_for(tmp_path, roots=(str(root),))) as queue:
        job = queue.wait(queue.submit(incoming("a.png"), export_dir="out/scene").id, timeout=20)
        assert job.status == "completed"
        assert sorted(p.name for p in (root / "out/scene").rglob("*")) == ["0000.jpg", "depth_vis", "exports.json"]
        with pytest.raises(InputError, match="holds files"):
            queue.submit(incoming("a.png"), export_dir="out/scene")
