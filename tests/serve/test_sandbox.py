"""Paths and URLs of clients: no attack succeeds, and a hole in a copy of the code is noticed."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from support.attacks import PUBLIC, Internet, answer, attacks_on_fetching, attacks_on_paths

from depth_anything_3.errors import DA3Error
from depth_anything_3.serve import fetch, sandbox
from depth_anything_3.serve.intake import TooLargeError
from depth_anything_3.serve.settings import Limits


def test_no_path_leads_out(tmp_path: Path) -> None:
    assert attacks_on_paths(sandbox, tmp_path) == []


def test_no_url_leads_in() -> None:
    assert attacks_on_fetching(fetch) == []


HOLES: dict[str, tuple[ModuleType, str, str]] = {
    "path join": (sandbox, 'if ".." in parts:', "if False:"),
    "path prefix": (sandbox, "parts[: len(folder.parts)] == folder.parts", "path.startswith(str(folder))"),
    "symlink to a folder": (sandbox, "os.O_DIRECTORY | os.O_NOFOLLOW", "os.O_DIRECTORY"),
    "symlink to a file": (sandbox, "os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK", "os.O_RDONLY | os.O_NONBLOCK"),
    "redirect": (fetch, "connection = self._connect(parts, end)", "connection = self._connect(parts, end, _)"),
    "rebinding": (fetch, "self._dial(addresses[0], port,", "self._dial(self._resolve(host, port)[0], port,"),
    "mapped address": (fetch, "ip.ipv4_mapped, ip.sixtofour", "None"),
}


@pytest.mark.parametrize("hole", HOLES)
def test_a_hole_is_noticed(hole: str, tmp_path: Path) -> None:
    module, right, wrong = HOLES[hole]
    source = Path(str(module.__file__)).read_text()
    assert source.count(right) >= 1
    source = source.replace(right, wrong)
    if hole == "redirect":  # only the first hop is checked
        source = source.replace("_connect(self, parts: SplitResult, end: float)", "_connect(self, parts, end, hop)")
        source = source.replace("if not addresses or not all(", "if not hop and not all(")
    if hole == "path prefix":
        source = source.replace(
            "tuple(parts[len(folder.parts) :])", 'tuple(("../" + path[len(str(folder.parent)) + 1:]).split("/"))'
        )
    copy = tmp_path / "planted.py"
    copy.write_text(source)
    attack: Callable[..., list[str]] = attacks_on_paths if module is sandbox else attacks_on_fetching
    arguments: list[Any] = [_load(copy), *([tmp_path / "trap"] if module is sandbox else [])]
    assert attack(*arguments), f"nobody noticed: {hole}"


def _load(path: Path) -> ModuleType:
    import sys

    spec = importlib.util.spec_from_file_location("planted", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["planted"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("reply", "error", "message"),
    [
        (answer("200 OK", "Content-Type: text/html", body=b"x"), fetch.FetchError, "not lead to an image"),
        (answer("404 No", "Content-Type: image/png", body=b"x"), fetch.FetchError, "status 404"),
        (answer("200 OK", "Content-Type: image/png", "Content-Encoding: gzip"), fetch.FetchError, "compressed"),
        (answer("200 OK", "Content-Type: image/png", body=b"x" * 20_000), TooLargeError, "10000 bytes"),
        (answer("302 Found", "Location: http://evil.example/next"), fetch.FetchError, "3 redirects"),
        (answer("302 Found", "Location: file:///etc/passwd"), fetch.FetchError, "only http and https"),
        (b"no http at all\r\n\r\n", fetch.FetchError, "answer as it should"),
        (b"", fetch.FetchError, "answer as it should"),
    ],
)
def test_answers_that_are_no_image(reply: bytes, error: type[DA3Error], message: str) -> None:
    net = Internet({"evil.example": [[PUBLIC]]}, {PUBLIC: reply})
    with pytest.raises(error, match=message):
        fetch.Fetcher(Limits(url_bytes=10_000, url_seconds=2), resolve=net.resolve, dial=net.dial).fetch(
            "http://evil.example/a.png"
        )


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("photo.jpg", "photo.jpg"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Windows\\evil.png", "evil.png"),
        ("<img src=x onerror=alert(1)>.png", "_img src_x onerror_alert_1_.png"),
        ("a\r\nSet-Cookie: x=1.png", "a_Set-Cookie_ x_1.png"),
        (".htaccess", "htaccess"),
        ("..", "image"),
        ("", "image"),
        ("\0\0", "_"),
        ("日本 語.jpg", "日本 語.jpg"),
        ("\u202egnp.exe", "_gnp.exe"),
    ],
)
def test_names_of_clients(name: str, safe: str) -> None:
    assert sandbox.safe_name(name) == safe


def test_long_names_fit_a_file_system() -> None:
    for name in ("x" * 5000 + ".png", "語" * 5000 + ".png", "." * 5000, "語" * 5000):
        assert 0 < len(sandbox.safe_name(name).encode()) <= 200
