"""Attacks on paths and URLs, each with a way to see whether it succeeded; what comes back is the list of successes.

They take the module that they attack, so that tests can hand them a copy with a hole in it.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType

from depth_anything_3.errors import DA3Error
from depth_anything_3.serve.settings import Limits

SECRET = b"the secret of the machine"


def trap(folder: Path) -> Path:
    """A root full of bait: links of all kinds, neighbours with similar names, special files."""
    root, outside = folder / "root", folder / "outside"
    for path in (root / "sub", outside, folder / "root2"):
        path.mkdir(parents=True)
    (root / "ok.png").write_bytes(b"fine")
    (root / "sub" / "ok.png").write_bytes(b"fine")
    for path in (outside, folder / "root2", folder):
        (path / "secret.png").write_bytes(SECRET)
    (root / "link.png").symlink_to(outside / "secret.png")
    (root / "relative.png").symlink_to("../outside/secret.png")
    (root / "folder").symlink_to(outside, target_is_directory=True)
    (root / "sub" / "up").symlink_to("../..", target_is_directory=True)
    (root / "chain.png").symlink_to("link.png")
    (root / "inside.png").symlink_to("ok.png")
    (root / "environment").symlink_to("/proc/self/environ")
    os.mkfifo(root / "pipe.png")
    return root


def escapes(root: Path) -> list[str]:
    """Paths of clients that must not be opened."""
    outside = root.parent / "outside" / "secret.png"
    return [
        *(
            "../outside/secret.png",
            "sub/../../outside/secret.png",
            "./../secret.png",
            "sub/../../../outside/secret.png",
        ),
        *(
            str(outside),
            f"{root}/../outside/secret.png",
            f"{root}2/secret.png",
            f"//{outside}",
            f"{root}//..//secret.png",
        ),
        *("link.png", "relative.png", "folder/secret.png", "sub/up/secret.png", "sub/up/outside/secret.png"),
        *("chain.png", "inside.png", "environment", f"{root}/link.png", f"{root}/folder/secret.png", "pipe.png"),
        *("/etc/passwd", "/proc/self/environ", "/dev/zero", "/proc/self/cwd/secret.png", "~/.ssh/id_rsa"),
        *("file:///etc/passwd", "ok.png\0../../outside/secret.png", "", ".", "..", "/", "sub", "x" * 5000),
        *("..\\outside\\secret.png", "%2e%2e/outside/secret.png", "..%2foutside/secret.png", "ok.png/", "ok.png/x"),
    ]


def attacks_on_paths(sandbox: ModuleType, folder: Path) -> list[str]:
    """What could be read or written outside the root of ``sandbox.Roots``."""
    root = trap(folder)
    roots = sandbox.Roots([root])
    with roots.open("sub/ok.png") as file:
        assert file.read() == b"fine", "what is allowed must work, or nothing is proven"
    won = [f"read {path[:60]!r}" for path in escapes(root) if _reads(roots, path)]
    won += [f"wrote {path[:60]!r}" for path in escapes(root) if _writes(roots, path, folder)]
    return won + _race(roots, root)


def _reads(roots: object, path: str) -> bool:
    try:
        with roots.open(path) as file:  # type: ignore[attr-defined]
            return path != "ok.png/" or file.read() != b"fine"
    except (DA3Error, ValueError):
        return False


def _writes(roots: object, path: str, folder: Path) -> bool:
    source = folder / "source"
    source.mkdir(exist_ok=True)
    (source / "planted.txt").write_text("planted")
    try:
        roots.check_target(path)  # type: ignore[attr-defined]
        roots.deliver(source, ["planted.txt"], path)  # type: ignore[attr-defined]
    except (DA3Error, ValueError, OSError):
        pass
    planted = [p for p in folder.rglob("planted.txt") if p.parent != source and (folder / "root") not in p.parents]
    through_link = (folder / "outside" / "planted.txt").exists()
    for file in planted:
        file.unlink()
    return bool(planted) or through_link


def _race(roots: object, root: Path) -> list[str]:
    """A folder that becomes a link between the check and the opening."""
    stop, swapped = threading.Event(), root / "swapped"
    real, link = root / "real", root / "a-link"
    real.mkdir()
    (real / "secret.png").write_bytes(b"fine")
    link.symlink_to(root.parent / "outside")

    def swap() -> None:
        while not stop.is_set():
            for entry in (real, link):
                entry.rename(swapped)
                swapped.rename(entry)

    thread = threading.Thread(target=swap)
    thread.start()
    won = 0
    try:
        for _ in range(1500):
            try:
                with roots.open("swapped/secret.png") as file:  # type: ignore[attr-defined]
                    won += file.read() == SECRET
            except DA3Error:
                pass
    finally:
        stop.set()
        thread.join()
    return [f"won the race {won} times"] if won else []


# --- URLs --------------------------------------------------------------------------------------------------------

PUBLIC = "93.184.215.14"
PRIVATE = (
    *("127.0.0.1", "127.8.8.8", "0.0.0.0", "10.0.0.1", "172.16.5.5", "192.168.1.1", "169.254.169.254", "100.64.0.1"),
    *("192.0.0.8", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fe80::1%eth0"),
    *("fc00::1", "fd00:ec2::254", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "::127.0.0.1"),
    *("2002:7f00:1::", "2002:a00:1::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "64:ff9b:1::a00:1", "2001:db8::1"),
)
INSIDE = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 25\r\n\r\n" + SECRET


def answer(status: str, *headers: str, body: bytes = b"") -> bytes:
    """An answer of HTTP."""
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "Connection: close", "", ""]
    return "\r\n".join(lines).encode() + body


class Internet:
    """Names, addresses and what answers there; it remembers who was called."""

    def __init__(self, names: dict[str, list[list[str]]], answers: dict[str, bytes]) -> None:
        self._names = {name: iter([*replies, *[replies[-1]] * 20]) for name, replies in names.items()}
        self._answers = answers
        self.called: list[str] = []

    def resolve(self, host: str, port: int) -> list[str]:
        """What a name server says this time; numbers are what they are, in all their spellings."""
        if host in self._names:
            return next(self._names[host])
        return list({str(entry[4][0]) for entry in socket.getaddrinfo(host, port, flags=socket.AI_NUMERICHOST)})

    def dial(self, address: str, port: int, timeout: float) -> socket.socket:
        """A connection to what answers at an address."""
        self.called.append(address)
        ours, theirs = socket.socketpair()
        reply = self._answers.get(address, INSIDE)

        def serve() -> None:
            theirs.recv(65536)
            with suppress(OSError):
                theirs.sendall(reply)
            theirs.close()

        threading.Thread(target=serve, daemon=True).start()
        ours.settimeout(timeout)
        return ours


def attacks_on_fetching(fetch: ModuleType) -> list[str]:
    """What could be reached in our own network through ``fetch.Fetcher``."""
    limits = Limits(url_bytes=10_000, url_seconds=2.0)
    picture = answer("200 OK", "Content-Type: image/png", body=b"picture")

    def reached(url: str, net: Internet) -> bool:
        try:
            content = fetch.Fetcher(limits, resolve=net.resolve, dial=net.dial).fetch(url).content
        except (DA3Error, OSError):
            content = b""
        return content == SECRET or any(address != PUBLIC for address in net.called)

    fine = Internet({"good.example": [[PUBLIC]]}, {PUBLIC: picture})
    good = fetch.Fetcher(limits, resolve=fine.resolve, dial=fine.dial).fetch("http://good.example/a.png")
    assert good.content == b"picture" and good.name == "a.png", "what is allowed must work, or nothing is proven"

    won = []
    for address in PRIVATE:
        literal = f"[{address}]" if ":" in address else address
        cases = {
            f"number {address}": (f"http://{literal}/a.png", Internet({}, {})),
            f"name of {address}": ("http://evil.example/a", Internet({"evil.example": [[address]]}, {})),
            f"one of two is {address}": ("http://evil.example/a", Internet({"evil.example": [[PUBLIC, address]]}, {})),
            f"redirect to {address}": ("http://evil.example/a", _redirecting(f"http://{literal}/a.png")),
        }
        won += [name for name, (url, net) in cases.items() if reached(url, net)]
    rebinding = Internet({"evil.example": [[PUBLIC], ["127.0.0.1"]]}, {PUBLIC: picture})
    if reached("http://evil.example/a", rebinding):
        won.append("rebinding between the check and the connection")
    again = _redirecting("http://evil.example/again", names={"evil.example": [[PUBLIC], ["127.0.0.1"]]})
    if reached("http://evil.example/a", again):
        won.append("rebinding at a redirect")
    for url in _strange_urls():
        if reached(url, Internet({"good.example": [[PUBLIC]]}, {})):
            won.append(f"url {url!r}")
    return won


def _redirecting(location: str, names: dict[str, list[list[str]]] | None = None) -> Internet:
    return Internet(names or {"evil.example": [[PUBLIC]]}, {PUBLIC: answer("302 Found", f"Location: {location}")})


def _strange_urls() -> list[str]:
    return [
        *("http://2130706433/", "http://0x7f000001/", "http://0177.0.0.1/", "http://127.1/", "http://0/"),
        *(
            "http://good.example@127.0.0.1/",
            "http://127.0.0.1:80@good.example:8080/",
            "http://127.0.0.1#@good.example/",
        ),
        *("http://127.0.0.1\\@good.example/", "http://[::]/", "http://127。0。0。1/", "http://good.example:22/"),
        *("file:///etc/passwd", "ftp://127.0.0.1/a", "gopher://127.0.0.1/", "//127.0.0.1/a", "http:127.0.0.1/a"),
    ]


@contextmanager
def raw_connection(url: str) -> Iterator[Callable[[bytes], bytes]]:
    """A function that sends bytes to a server as they are, and returns what it says until it hangs up."""
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=3) as connection:

        def send(content: bytes) -> bytes:
            connection.sendall(content)
            received = b""
            try:
                while piece := connection.recv(65536):
                    received += piece
            except (TimeoutError, ConnectionError):
                pass
            return received

        yield send
