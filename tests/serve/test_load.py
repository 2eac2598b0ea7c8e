"""Short versions of the load benchmark, and requests made from the OpenAPI description."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.serving import HTTP, png, running_server, settings_for, until


def load(repository: Path, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, str(repository / "benchmarks" / "serve_load.py"), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    report: dict[str, Any] = json.loads(result.stdout)
    return report


@pytest.mark.slow
def test_under_load_no_job_is_lost(repository: Path) -> None:
    report = load(repository, "--clients", "200", "--seconds", "30", "--poll", "1")
    assert set(report["ends"]) == {"completed"} and report["accepted"] >= 200 and report["counted_once"]


def test_every_accepted_job_ends_once_whatever_is_killed(repository: Path) -> None:
    report = load(repository, "--clients", "4", "--seconds", "6", "--kills", "2", "--poll", "0.2", "--seed", "1")
    assert report["kills"] == {"server": 1, "worker": 1}
    assert set(report["ends"]) <= {"completed", "failed"} and report["accepted"] >= 4 and report["counted_once"]


def test_the_server_is_what_its_description_says(tmp_path: Path) -> None:
    schemathesis = pytest.importorskip("schemathesis")
    from hypothesis import HealthCheck, Phase, given, settings
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

    checks = (not_a_server_error, content_type_conformance, response_schema_conformance, status_code_conformance)
    with running_server(settings_for(tmp_path, limits={"answer_seconds": 2})) as url:
        schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
        quiet = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
        for operation in schema.get_all_operations():
            endpoint = operation.ok()
            if endpoint.path.endswith("/events"):
                continue

            @settings(
                max_examples=5, phases=[Phase.generate], suppress_health_check=quiet, database=None, derandomize=True
            )
            @given(case=endpoint.as_strategy())
            def conforms(case: Any) -> None:
                case.call_and_validate(checks=checks)

            conforms()


def test_what_the_links_of_the_description_lead_to(tmp_path: Path) -> None:
    """Submit, ask, fetch, cancel, delete, in the orders that the links allow; every answer is as described."""
    schemathesis = pytest.importorskip("schemathesis")
    from hypothesis import HealthCheck, Phase, settings
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi import checks

    checked = (
        not_a_server_error,
        checks.response_schema_conformance,
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.use_after_free,
    )
    seen: set[tuple[str, int]] = set()
    with running_server(settings_for(tmp_path)) as url:
        whole = schemathesis.openapi.from_url(f"{url}/openapi.json")
        schema = whole.include(path_regex=r"^/v1/jobs").exclude(method="GET", path="/v1/jobs")

        class Machine(schema.as_state_machine()):  # type: ignore[misc]
            def before_call(self, case: Any) -> None:
                if case.operation.label == "POST /v1/jobs":  # bytes at random are no picture
                    case.media_type, case.body = "multipart/form-data", {"images": [png()]}
                    case.headers = {"Host": "127.0.0.1"}

            def validate_response(self, response: Any, case: Any, **arguments: Any) -> None:
                seen.add((case.operation.label, response.status_code))
                case.validate_response(response, checks=checked)
                if response.status_code == 202:  # what comes next meets a finished job, whose results can be fetched
                    job_url = f"{url}/v1/jobs/{response.json()['id']}"
                    until(lambda: HTTP.get(job_url).json()["finished"])

        Machine.run(
            settings=settings(
                max_examples=10,
                stateful_step_count=10,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
                database=None,
                derandomize=True,
                deadline=None,
            )
        )
        # The walk is at random and seldom comes to the files of a job: this link is followed by hand.
        done = HTTP.post(f"{url}/v1/jobs", files={"images": ("a.png", png(), "image/png")}).json()
        until(lambda: HTTP.get(f"{url}/v1/jobs/{done['id']}").json()["finished"])
        name = HTTP.get(f"{url}/v1/jobs/{done['id']}").json()["files"][0]["name"]
        assert HTTP.get(f"{url}/v1/jobs/{done['id']}/files/{name}").status_code == 200
        answers = HTTP.get(f"{url}/openapi.json").json()["paths"]["/v1/jobs/{job_id}"]["get"]["responses"]
        assert answers["200"]["links"]["file"]["parameters"]["name"] == "$response.body#/files/0/name"
    job = "/v1/jobs/{job_id}"
    reached = {("POST /v1/jobs", 202), (f"GET {job}", 200), (f"POST {job}/cancel", 200), (f"DELETE {job}", 204)}
    assert reached | {(f"GET {job}", 404)} <= seen
