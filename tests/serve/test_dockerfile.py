"""The container file, read and not built: the rules that linters of such files have, and what the server wants."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

INSTRUCTIONS = {"FROM", "WORKDIR", "COPY", "RUN", "ARG", "ENV", "USER", "VOLUME", "EXPOSE", "HEALTHCHECK"}
INSTRUCTIONS |= {"ENTRYPOINT", "CMD"}


@pytest.fixture(scope="module")
def steps(repository: Path) -> list[tuple[str, str]]:
    """Instructions and what follows them, continued lines joined."""
    text = re.sub(r"^#.*\n", "", (repository / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    return [(name, " ".join(rest.split())) for name, _, rest in (line.partition(" ") for line in lines)]


def last(steps: list[tuple[str, str]], name: str) -> str:
    return [rest for found, rest in steps if found == name][-1]


def test_every_step_keeps_the_rules(steps: list[tuple[str, str]], repository: Path) -> None:
    assert {name for name, _ in steps} <= INSTRUCTIONS, "no ADD, no SHELL, nothing that is out of date"
    for name, rest in steps:
        if name == "FROM":
            assert re.match(r"[a-z]+:\d+\.\d+[\w.-]*( AS \w+)?$", rest), "an image with its version"
        if name == "WORKDIR":
            assert rest.startswith("/")
        if name == "COPY":
            assert all((repository / source).exists() for source in rest.split()[:-1])
        if name == "RUN":
            assert not re.search(r"\b(sudo|apt-get|curl|wget|chmod 777)\b", rest)
            assert rest.count("pip ") == rest.count("--no-cache-dir"), "no caches in layers"
        if name in ("ENTRYPOINT", "CMD"):
            assert json.loads(rest), "a list: a shell in between would not pass signals on"
    bound = re.findall(r"--mount=type=bind,source=([^,]+)", " ".join(rest for _, rest in steps))
    assert bound and all((repository / source).is_file() for source in bound)
    user = last(steps, "USER")
    assert user.isdigit() and int(user) > 0, "not the superuser, and by number"
    after = [name for name, _ in steps][[name for name, _ in steps].index("USER") :]
    assert "RUN" not in after and "COPY" not in after


def test_it_starts_the_server_that_the_project_has(
    steps: list[tuple[str, str]], repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = re.search(r"torch==[\d.]+", (repository / "Makefile").read_text())
    assert torch is not None and torch[0] in last(steps, "RUN"), "the version that everything is tested with"
    assert f":{last(steps, 'EXPOSE')}/readyz" in last(steps, "HEALTHCHECK")
    pytest.importorskip("uvicorn")
    import typer

    from depth_anything_3.cli import backend
    from depth_anything_3.serve import app

    started = []
    monkeypatch.setattr(app, "serve", lambda settings, pages=None: started.append(settings))
    (tmp_path / "keys.json").write_text('{"keys": []}')
    typed = [word.replace("/data", str(tmp_path)) for word in json.loads(last(steps, "CMD"))]
    result = CliRunner().invoke(typer.main.get_command(backend.app), typed)
    assert result.exit_code == 0, result.output
    assert started[0].port == int(last(steps, "EXPOSE")) and started[0].roots == () and started[0].keys_file
    assert last(steps, "ENTRYPOINT") == '["da3", "backend"]' and last(steps, "VOLUME") == "/data"
