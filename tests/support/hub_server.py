"""A model hub on the loopback interface that the real ``huggingface_hub`` client can talk to.

It speaks the part of the protocol that downloading needs: metadata by HEAD, files by GET with ranges, commits behind
branches, the hub's error codes, and the two repository listings. Faults can be switched on per file.

In a subprocess, as a user would::

    with HubServer() as hub:
        hub.add_model("someone/tiny", {"config.json": b"{}", "model.safetensors": path})
        subprocess.run(command, env={**os.environ, **hub.environment(cache_home)})

In the test's own process: ``hub.connect(monkeypatch, cache_folder)``.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    import pytest

LARGE = (".safetensors", ".bin", ".zip")
"""Files with these endings are announced as large ones: by SHA-256 instead of git's hash."""

_FILE = re.compile(r"(?:/datasets)?/(?P<id>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<name>.+)")
_API = re.compile(r"/api/models/(?P<id>[^/]+/[^/]+?)(?:/(?P<what>revision|tree)/(?P<revision>[^/]+))?")


@dataclass(frozen=True)
class Request:
    """What arrived: method, path, and the Range header (empty if none)."""

    method: str
    path: str
    range: str = ""


@dataclass
class _Model:
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def commit_of(self, revision: str) -> str | None:
        revision = self.branches.get(revision, revision)
        return revision if revision in self.commits else None


class HubServer:
    """A hub with the models that were added to it; a context manager that serves while it is open.

    Attributes:
        requests: everything that arrived, in order.
        status: answer every request with this HTTP status instead; None answers properly.
        gated: ids that need an accepted licence.
    """

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.status: int | None = None
        self.gated: set[str] = set()
        self._models: dict[str, _Model] = {}
        self._cuts: dict[str, list[int]] = {}
        self._damaged: set[str] = set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self._server.daemon_threads = True
        self._connections: set[socket.socket] = set()
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    def __enter__(self) -> HubServer:
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Stop serving: open connections end, new ones are refused."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
        for connection in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    @property
    def url(self) -> str:
        """Address for ``HF_ENDPOINT``."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def add_model(self, hub_id: str, files: Mapping[str, bytes | str | Path], *, branch: str = "main") -> str:
        """Add a commit to a repository (a new one if need be), move ``branch`` to it, and return its hash.

        Values are contents, or paths to read them from.
        """
        contents = {name: _content(value) for name, value in files.items()}
        summary = "".join(f"{name}{_sha256(data)}" for name, data in sorted(contents.items()))
        commit = hashlib.sha1(f"{hub_id}{summary}".encode()).hexdigest()
        model = self._models.setdefault(hub_id, _Model())
        model.commits[commit] = contents
        model.branches[branch] = commit
        return commit

    def cut(self, name: str, *sent: int) -> None:
        """Break off the next downloads of ``name``: after ``sent[0]`` bytes, then after ``sent[1]``, and so on."""
        self._cuts[name] = list(sent)

    def damage(self, name: str, damaged: bool = True) -> None:
        """Send other bytes than announced for ``name``, of the same length; ``False`` repairs it."""
        (self._damaged.add if damaged else self._damaged.discard)(name)

    def environment(self, home: str | os.PathLike[str], *, offline: bool = False) -> dict[str, str]:
        """Environment variables that a subprocess needs to use this hub, with its cache under ``home``."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": os.fspath(home),
            "HF_HUB_OFFLINE": "1" if offline else "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }

    def connect(self, monkeypatch: pytest.MonkeyPatch, cache: str | os.PathLike[str]) -> None:
        """Let the client in this process use this hub, with ``cache`` as its cache folder, for one test.

        The client read its environment when it was imported, so what it keeps of it is replaced, too; the package
        passes the address of the hub on by itself.
        """
        from huggingface_hub import constants

        for name, value in self.environment(Path(cache).parent).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", os.fspath(cache))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)

    def asked(self, method: str = "", ending: str = "") -> int:
        """How many requests of this method came for files with this ending."""
        files = [r for r in self.requests if _FILE.fullmatch(r.path)]
        return sum(method in ("", r.method) and r.path.endswith(ending) for r in files)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: HubServer

    def setup(self) -> None:
        super().setup()
        self.hub._connections.add(self.connection)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def _answer(self, *, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(Request(self.command, path, self.headers.get("Range", "")))
        if self.hub.status is not None:
            return self._fail(self.hub.status, "", {})
        found = _FILE.fullmatch(path) or _API.fullmatch(path)
        if found is None:
            return self._fail(404, "", {})
        model = self.hub._models.get(found["id"])
        if model is None:
            return self._fail(404, "RepoNotFound", {})
        if found["id"] in self.hub.gated:
            return self._fail(403, "GatedRepo", {})
        commit = model.commit_of(found["revision"] or "main")
        if commit is None:
            return self._fail(404, "RevisionNotFound", {})
        if "name" in found.groupdict():
            return self._file(commit, found["name"], model.commits[commit], body=body)
        return self._listing(found["id"], found["what"], commit, model.commits[commit])

    def _file(self, commit: str, name: str, files: Mapping[str, bytes], *, body: bool) -> None:
        if name not in files:
            return self._fail(404, "EntryNotFound", {"X-Repo-Commit": commit})
        data = files[name]
        start = self._start(len(data))
        headers = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes", "Content-Length": str(len(data) - start)}
        if name.endswith(LARGE):
            headers |= {"ETag": f'"{_sha256(data)}"', "X-Linked-Etag": f'"{_sha256(data)}"'}
            headers["X-Linked-Size"] = str(len(data))
        else:
            headers["ETag"] = f'"{git_sha1(data)}"'
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self._headers(206 if start else 200, headers)
        if body:
            self._body(name, data[start:])
        return None

    def _start(self, size: int) -> int:
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        return min(int(wanted[1]), size) if wanted else 0

    def _body(self, name: str, data: bytes) -> None:
        if name in self.hub._damaged:
            data = bytes(byte ^ 0x55 for byte in data)
        cuts = self.hub._cuts.get(name)
        if not cuts:
            self.wfile.write(data)
            return
        self.wfile.write(data[: cuts.pop(0)])
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _listing(self, hub_id: str, what: str | None, commit: str, files: Mapping[str, bytes]) -> None:
        listing: object = {"id": hub_id, "sha": commit, "siblings": [{"rfilename": name} for name in files]}
        if what == "tree":
            listing = [{"type": "file", "path": name, "size": len(data)} for name, data in files.items()]
        body = json.dumps(listing).encode()
        self._headers(200, {"Content-Type": "application/json", "Content-Length": str(len(body))})
        if self.command != "HEAD":
            self.wfile.write(body)

    def _fail(self, status: int, code: str, headers: Mapping[str, str]) -> None:
        extra = {"X-Error-Code": code, "X-Error-Message": code} if code else {}
        self._headers(status, {**extra, **headers, "Content-Length": "0"})

    def _headers(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


def git_sha1(data: bytes) -> str:
    """The hash by which git, and with it the hub, names a small file."""
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _content(value: bytes | str | Path) -> bytes:
    if isinstance(value, Path):
        return value.read_bytes()
    return value.encode() if isinstance(value, str) else value
