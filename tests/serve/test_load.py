"""Short versions of the load script, and requests made from the OpenAPI description."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.serving import running_server, settings_for


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
