"""Attacks over HTTP on a real server; none of them may succeed."""

from __future__ import annotations

import ast
import base64
import io
import json
import logging
import os
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

import httpx
import pytest
from PIL import Image
from support.attacks import PUBLIC, SECRET, Internet, answer, escapes, raw_connection, trap
from support.serving import HTTP, png, running_server, settings_for, until

from depth_anything_3.errors import InputError
from depth_anything_3.serve.client import Client, ServerError
from depth_anything_3.serve.fetch import Fetcher
from depth_anything_3.serve.guard import Rate
from depth_anything_3.serve.keys import KeyFile
from depth_anything_3.serve.logs import JsonFormatter
from depth_anything_3.serve.settings import ServerSettings

LIMITS = {"body_bytes": 2_000_000, "file_bytes": 1_000_000, "images": 8, "body_seconds": 1.0, "streams": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("security")


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    with running_server(settings_for(folder, roots=(str(trap(folder)),), limits=LIMITS)) as address:
        yield address


@pytest.fixture(autouse=True)
def nothing_is_left_over(request: pytest.FixtureRequest) -> Iterator[None]:
    """After an attack there is no half a job, and the server still works."""
    yield
    if "url" in request.fixturenames:
        folder, url = request.getfixturevalue("folder"), request.getfixturevalue("url")
        until(lambda: not any((folder / "data" / "incoming").iterdir()))
        assert HTTP.get(f"{url}/healthz").status_code == 200


def jobs(url: str) -> int:
    return len(HTTP.get(f"{url}/v1/jobs", params={"limit": 500}).json()["data"])


# --- paths -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("route", ["/v1/jobs", "/inference"])
def test_no_path_of_a_client_is_opened_outside(url: str, folder: Path, route: str) -> None:
    before = jobs(url)
    for path in escapes(folder / "root"):
        if path == "ok.png/":
            continue
        answer = HTTP.post(f"{url}{route}", json={"image_paths": [path]})
        assert answer.status_code in (400, 403), (path, answer.text)
        assert SECRET.decode() not in answer.text and set(answer.json()) == {"error"}
        answer = HTTP.post(f"{url}{route}", json={"image_paths": ["ok.png"], "export_dir": path})
        assert answer.status_code in (400, 403), (path, answer.text)
    outside = HTTP.post(f"{url}{route}", json={"image_paths": ["/etc/passwd"]})
    assert outside.status_code == 403 and "--root" in outside.json()["error"]["message"]
    assert jobs(url) == before and sorted(p.name for p in (folder / "outside").iterdir()) == ["secret.png"]


def test_no_result_route_leads_anywhere_else(url: str, folder: Path) -> None:
    with Client(url) as client:
        job = client.wait(client.submit([("a.png", png())]).id)
    names = ["../inputs/0000/a.png", "..%2finputs%2f0000%2fa.png", "%2e%2e/%2e%2e/%2e%2e/queue.sqlite", "/etc/passwd"]
    names += ["exports.json%00.png", "depth_vis/..%5c..%5cqueue.sqlite", "....//....//queue.sqlite", "depth_vis", "%"]
    for name in names:
        for prefix in (f"/v1/jobs/{job.id}/files/", "/static/", "/gallery/", "/v1/jobs/", "/task/"):
            with raw_connection(url) as send:
                reply = send(f"GET {prefix}{name} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
            assert reply.split(b" ", 2)[1] in (b"404", b"405", b"400", b"307"), (prefix, name, reply[:200])


def test_names_of_uploads_are_only_names(url: str, folder: Path) -> None:
    evil = [
        "../../../evil.png",
        "/tmp/evil.png",
        "..\\evil.png",
        "<script>alert(1)</script>.png",
        "\u202e.png",
        "." * 300,
    ]
    answer = HTTP.post(f"{url}/v1/jobs", files=[("images", (name, png())) for name in evil])
    job = answer.json()
    assert answer.status_code == 202 and not set("<>/\\\r\n\0") & set("".join(job["images"]))
    stored = [path for path in (folder / "data/jobs" / job["id"] / "inputs").rglob("*") if path.is_file()]
    assert len(stored) == len(evil) and list(folder.rglob("evil.png"))
    assert all((folder / "data/jobs" / job["id"]) in path.parents for path in folder.rglob("evil.png"))


# --- files -------------------------------------------------------------------------------------------------------


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(width: int, height: int, *extra: bytes) -> bytes:
    """A PNG that says it is huge."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + chunk(b"IDAT", zlib.compress(bytes(100_000), 9))


def zipped(*entries: tuple[str, bytes], link: bool = False) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            info = zipfile.ZipInfo(name)
            if link:
                info.external_attr = 0o120777 << 16
            archive.writestr(info, content)
    return buffer.getvalue()


@cache
def damaged_files() -> dict[str, bytes]:
    huge_text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(200_000_000), 9))
    multi = io.BytesIO()
    Image.new("RGB", (4, 4)).save(multi, "TIFF")
    return {
        "bomb of pixels": bomb(60_000, 60_000),
        "longest sides": bomb(2**31 - 1, 2**31 - 1),
        "no size": bomb(0, 0),
        "needle": bomb(20_000, 2),
        "bomb of text": bomb(60_000, 60_000, huge_text),
        "zip with traversal": zipped(("../../evil.png", png())),
        "zip with absolute path": zipped(("/tmp/evil.png", png())),
        "zip with link": zipped(("link.png", b"/etc/passwd"), link=True),
        "zip bomb": zipped(("a.png", bytes(50_000_000))),
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n",
        "pickle": b"cos\nsystem\n(S'touch /tmp/evil'\ntR.",
        "npz": b"PK\x03\x04" + bytes(60),
        "html": b"<html><script>alert(1)</script>",
        "psd": b"8BPS\0\x01" + bytes(100),
        "playlist": b"#EXTM3U\n#EXTINF:1,\nhttp://169.254.169.254/\n",
        "nothing": b"",
        "cut tiff": multi.getvalue()[:40],
        "random": os.urandom(2000),
    }


@pytest.mark.parametrize("name", sorted(damaged_files()))
def test_no_harmful_file_is_accepted(url: str, name: str) -> None:
    before, content = jobs(url), damaged_files()[name]
    answer = HTTP.post(f"{url}/v1/jobs", files={"images": ("photo.png", content)})
    assert answer.status_code in (400, 413), answer.text
    assert answer.json()["error"]["message"] and "data/incoming" not in answer.text
    encoded = "data:image/png;base64," + base64.b64encode(content).decode()
    content_part = [{"type": "image_url", "image_url": {"url": encoded}}]
    body = {"model": "bundled", "messages": [{"role": "user", "content": content_part}]}
    assert HTTP.post(f"{url}/v1/chat/completions", json=body).status_code in (400, 413)
    assert jobs(url) == before


def test_extreme_sizes_are_refused_before_they_are_made(url: str) -> None:
    options = {"process_res": 8000, "process_res_method": "lower_bound_resize"}
    answer = HTTP.post(
        f"{url}/v1/jobs", files={"images": ("a.png", png(400, 30))}, data={"options": json.dumps(options)}
    )
    assert answer.status_code == 413 and "at most 64000000" in answer.text


# --- bodies ------------------------------------------------------------------------------------------------------


def test_bodies_that_are_too_large_too_slow_or_cut(url: str, folder: Path) -> None:
    before = jobs(url)
    assert HTTP.post(f"{url}/v1/jobs", files={"images": ("a.png", bytes(3_000_000))}).status_code == 413
    assert HTTP.post(f"{url}/v1/jobs", files={"images": ("a.png", png() + bytes(1_100_000))}).status_code == 413

    def pieces() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="images"; filename="a.png"\r\n\r\n'
        for _ in range(40):
            yield bytes(100_000)

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    with suppress(httpx.WriteError):  # without a length, it is counted as it comes, and the server hangs up on us
        assert HTTP.post(f"{url}/v1/jobs", content=pieces(), headers=headers).status_code == 413
    head = b"POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    part = b'--x\r\nContent-Disposition: form-data; name="images"; filename="a.png"\r\n\r\n' + png()
    with raw_connection(url) as send:
        assert b" 408 " in send(head + b"Content-Length: 999999\r\n\r\n" + part)
    with raw_connection(url) as send:  # the end of the form is missing
        cut = send(head + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(part) + part)
        assert b" 400 " in cut, cut
    assert jobs(url) == before


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b'{"image_paths": ["ok.png"]}', "text/plain", 415),
        (b'{"image_paths": ["ok.png"]}', "", 415),
        (b"image_paths=ok.png", "application/x-www-form-urlencoded", 415),
        (b"<x/>", "application/xml", 415),
        (b"[" * 100_000, "application/json", 400),
        (b'{"a":' * 50_000, "application/json", 400),
        (b'{"image_paths": ["ok.png"], "conf_thresh_percentile": NaN}', "application/json", 400),
        (b'{"image_paths": ["ok.png"], "process_res": 1e999}', "application/json", 400),
        (b'{"image_paths": ["ok.png"], "process_res": ' + b"9" * 5000 + b"}", "application/json", 400),
        (b'{"image_paths": ["ok.png"], "__class__": "x"}', "application/json", 400),
        (b'{"image_paths": "ok.png"}', "application/json", 400),
        (b'{"image_paths": [["ok.png"]]}', "application/json", 400),
        (b'{"image_paths": []}', "application/json", 400),
        (b'{"image_paths": ["ok.png"], "export_dir": 3}', "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"null", "application/json", 400),
        (b"no form", "multipart/form-data", 400),
        (b"--x\r\n\r\n", "multipart/form-data; boundary=x", 400),
    ],
)
def test_strange_bodies(url: str, content: bytes, kind: str, status: int) -> None:
    headers = {"Content-Type": kind} if kind else {}
    answer = HTTP.post(f"{url}/v1/jobs", content=content, headers=headers)
    assert answer.status_code == status and answer.json()["error"]["message"], answer.text


def test_unknown_and_too_many_parts(url: str) -> None:
    many = [("images", (f"{i}.png", png(8, 8))) for i in range(12)]
    assert HTTP.post(f"{url}/v1/jobs", files=many).status_code in (400, 413)
    assert HTTP.post(f"{url}/v1/jobs", files={"file": ("a.png", png())}).status_code == 400
    assert HTTP.post(f"{url}/v1/jobs", files={"images": ("a.png", png())}, data={"o": "1"}).status_code == 400


# --- headers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "evil.example:8008"},
        {"Host": "localhost@evil.example"},
        {"Host": ""},
        {"Host": "evil.example", "X-Forwarded-Host": "localhost", "Forwarded": "host=localhost"},
    ],
)
def test_foreign_host_names_are_refused(url: str, headers: dict[str, str]) -> None:
    """A page whose name server points to this machine after it was loaded (DNS rebinding)."""
    for path in ("/v1/jobs", "/tasks", "/", "/healthz", "/openapi.json"):
        assert HTTP.get(f"{url}{path}", headers=headers).status_code in (400, 421)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "file://"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example", "X-HTTP-Method-Override": "GET"},
    ],
)
def test_pages_of_others_change_nothing(url: str, headers: dict[str, str]) -> None:
    for path in ("/v1/jobs", "/inference", "/reload", "/cleanup", "/v1/chat/completions"):
        answer = HTTP.post(f"{url}{path}", headers=headers, files={"images": ("a.png", png())})
        assert answer.status_code == 403 and answer.json()["error"]["code"] == "cross_origin"
        assert not [name for name in answer.headers if name.startswith("access-control")]
    preflight = {**headers, "Access-Control-Request-Method": "DELETE"}
    assert "access-control-allow-origin" not in HTTP.options(f"{url}/v1/jobs", headers=preflight).headers


def test_requests_that_two_programs_read_differently(url: str) -> None:
    for extra in (
        b"Host: evil.example\r\n",
        b"Content-Length: 2\r\nContent-Length: 200\r\n",
        b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: 99999999999999999999999\r\n",
        b"X-Long: " + b"a" * 70_000 + b"\r\n",
        b"X-Bad: a\x00b\r\n",
        b"X-Folded: a\r\n\tb\r\n Host: evil\r\n",
        b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\n",
    ):
        with raw_connection(url) as send:
            head = (
                b"POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nConnection: close\r\n"
            )
            reply = send(head + extra + b"\r\n{}")
        assert b" 202 " not in reply[:20] and b" 200 " not in reply[:20] and b" 500 " not in reply[:20], (extra, reply)


def test_event_streams_are_bounded_and_hold_nothing_that_a_client_put_there(url: str) -> None:
    with Client(url) as client:
        name = "slow\r\nevent: end\r\ndata: {}\r\n\r\n.png"
        job = client.submit([(name, png()), ("b.png", png())])
        path = f"{url}/v1/jobs/{job.id}/events"
        for seen in ("-1", "1e9", "9" * 4000, "x", "٣"):
            headers = {"Last-Event-ID": seen.encode()}
            with HTTP.stream("GET", path, headers=headers) as answer:
                assert answer.status_code == 200
                assert next(answer.iter_lines()).startswith("id: ")
        streams = [HTTP.stream("GET", path) for _ in range(2)]
        opened = [stream.__enter__() for stream in streams]
        until(lambda: HTTP.get(path).status_code == 429)
        for stream in streams:
            stream.__exit__(None, None, None)
        assert all(answer.status_code == 200 for answer in opened)
        client.cancel(job.id)
        lines = until(lambda: t if "data: " in (t := HTTP.get(path).text) else None).splitlines()
        assert {line.partition(":")[0] for line in lines} <= {"id", "event", "data", ""}
        with raw_connection(url) as send:
            reply = send(
                f"GET /v1/jobs/{job.id}/events HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: 1\n2\r\n\r\n".encode()
            )
        assert b" 500 " not in reply[:20]


def test_every_answer_is_safe_in_a_browser(url: str) -> None:
    with Client(url) as client:
        job = client.wait(client.submit([("a.png", png())]).id)
    for path in ("/", "/v1/jobs", "/nothing", "/tasks", f"/v1/jobs/{job.id}/files/depth_vis/0000.jpg", "/healthz"):
        headers = HTTP.get(f"{url}{path}").headers
        framed = headers.get("x-frame-options") or headers["content-security-policy"].partition("frame-ancestors ")[2]
        assert headers["x-content-type-options"] == "nosniff" and framed in ("DENY", "'self'")
        assert "'none'" in headers["content-security-policy"] and "unsafe" not in headers["content-security-policy"]
        assert "set-cookie" not in headers and "server" not in headers
        assert not [name for name in headers if name.startswith("access-control")]
    file = HTTP.get(f"{url}/v1/jobs/{job.id}/files/exports.json").headers
    assert file["content-disposition"].startswith("attachment") and file["content-type"] == "application/json"


def test_named_origins_may_use_the_server(folder: Path, tmp_path: Path) -> None:
    origin = "https://viewer.example"
    with running_server(settings_for(tmp_path, origins=(origin,))) as url:
        asked = {"Origin": origin, "Access-Control-Request-Method": "DELETE"}
        assert HTTP.options(f"{url}/v1/jobs", headers=asked).headers["access-control-allow-origin"] == origin
        answer = HTTP.post(f"{url}/v1/jobs", files={"images": ("a.png", png())}, headers={"Origin": origin})
        assert answer.status_code == 202 and answer.headers["access-control-allow-origin"] == origin
        assert HTTP.post(f"{url}/reload", headers={"Origin": "https://other.example"}).status_code == 403
    with pytest.raises(InputError, match="by name"):
        settings_for(tmp_path, origins=("*",))


# --- keys --------------------------------------------------------------------------------------------------------


def test_other_machines_need_keys(tmp_path: Path) -> None:
    for host in ("0.0.0.0", "::", "192.168.0.2", "example.org"):
        with pytest.raises(InputError, match="--keys"):
            ServerSettings(data_dir=str(tmp_path), host=host)


def test_forged_stolen_and_replayed_keys(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = KeyFile(tmp_path / "keys.json")
    alice, bob, old = file.add("alice"), file.add("bob"), file.add("old", days=-1)
    stored = (tmp_path / "keys.json").read_text()
    assert alice not in stored and alice.rpartition("_")[2] not in stored
    assert (tmp_path / "keys.json").stat().st_mode & 0o077 == 0
    alice_id, hashed = alice.split("_")[1], json.loads(stored)["keys"][0]["sha256"]
    forged = [
        *(
            "",
            "x",
            alice[:-1],
            alice + "a",
            alice.upper(),
            alice.swapcase(),
            f"da3_{alice_id}_{hashed}"[:60],
            hashed,
            old,
        ),
        *(
            f"da3_{alice_id}_{bob.split('_', 2)[2]}",
            f"da3_{alice_id}_{'A' * 43}",
            alice.replace("da3", "da4"),
            "a" * 9000,
        ),
        *(f"{alice}\x00", f"'{alice}' OR 1=1", f"da3_{'0' * 12}_{'A' * 43}"),
    ]
    limits = {"wrong_keys_per_minute": 1000}
    settings = settings_for(tmp_path, keys_file=str(tmp_path / "keys.json"), limits=limits)
    with caplog.at_level(logging.INFO, "depth_anything_3"), running_server(settings) as url:
        for key in forged:
            for header in (f"Bearer {key}", f"Basic {base64.b64encode(key.encode()).decode()}", key):
                try:
                    answer = HTTP.get(f"{url}/v1/jobs", headers={"Authorization": header.encode()})
                except httpx.LocalProtocolError:
                    continue
                assert answer.status_code in (400, 401), key
        for other in ({"X-API-Key": alice}, {"Cookie": f"key={alice}"}):
            assert HTTP.get(f"{url}/v1/jobs", headers=other).status_code == 401
        assert HTTP.get(f"{url}/v1/jobs?api_key={alice}&key={alice}").status_code == 401
        for path in ("/", "/dashboard", "/tasks", "/status", "/openapi.json", "/static/js/dashboard.js", "/v1/models"):
            assert HTTP.get(f"{url}{path}").status_code == 401
        assert HTTP.get(f"{url}/healthz").status_code == 200
        with Client(url, api_key=alice) as a, Client(url, api_key=bob) as b:
            job = a.wait(a.submit([("a.png", png())]).id)
            for attempt in (b.get, b.cancel, b.delete):
                with pytest.raises(ServerError, match="404"):
                    attempt(job.id)
            assert b.jobs() == () and len(a.jobs()) == 1
            stolen = HTTP.get(f"{url}/v1/jobs/{job.id}/files/exports.json", headers={"Authorization": f"Bearer {bob}"})
            assert stolen.status_code == 404
            assert HTTP.get(f"{url}/task/{job.id}", headers={"Authorization": f"Bearer {bob}"}).status_code == 404
            same = b.submit([("b.png", png())], idempotency_key="k")
            assert a.submit([("b.png", png())], idempotency_key="k").id != same.id
            file.revoke(alice_id)
            with pytest.raises(ServerError, match="401"):
                a.get(job.id)
    lines = "\n".join(JsonFormatter().format(record) for record in caplog.records)
    assert alice_id in lines and alice not in lines and alice.split("_", 2)[2] not in lines and "a.png" not in lines


def test_guessing_keys_and_asking_too_often_is_slowed_down(tmp_path: Path) -> None:
    KeyFile(tmp_path / "keys.json").add("somebody")
    limits = {"wrong_keys_per_minute": 3}
    with running_server(settings_for(tmp_path, keys_file=str(tmp_path / "keys.json"), limits=limits)) as url:
        wrong = {"Authorization": f"Bearer da3_{'0' * 12}_{'A' * 43}"}
        statuses = [HTTP.get(f"{url}/v1/jobs", headers=wrong).status_code for _ in range(5)]
        assert statuses == [401, 401, 401, 429, 429]
    now = [0.0]
    rate = Rate(60, clock=lambda: now[0])
    assert [rate.take("a") for _ in range(60)] == [0.0] * 60 and rate.take("a") == pytest.approx(1.0)
    assert rate.take("b") == 0.0
    now[0] = 1.0
    assert rate.take("a") == 0.0 and rate.take("a") > 0
    for index in range(30_000):
        rate.take(str(index))
    assert len(rate._buckets) < 20_000, "memory is bounded"


# --- URLs over HTTP ----------------------------------------------------------------------------------------------


def test_urls_over_http(tmp_path: Path) -> None:
    picture = answer("200 OK", "Content-Type: image/png", body=png())
    net = Internet({"good.example": [[PUBLIC]], "evil.example": [["127.0.0.1"]]}, {PUBLIC: picture})
    settings = settings_for(tmp_path, allow_urls=True)
    fetcher = Fetcher(settings.limits, resolve=net.resolve, dial=net.dial)

    def ask(address: str) -> httpx.Response:
        parts = [{"type": "input_image", "image_url": address}]
        body = {"model": "bundled", "input": [{"role": "user", "content": parts}]}
        return HTTP.post(f"{url}/v1/responses", json=body, timeout=30)

    with running_server(settings, fetcher=fetcher) as url:
        good = ask("http://good.example/a.png")
        assert good.status_code == 200, good.text
        assert json.loads(good.json()["output"][0]["content"][0]["text"])["views"] == [{"name": "a.png"}]
        for address in ("http://evil.example/a.png", "http://127.0.0.1/a.png", f"http://localhost:{url[-4:]}/v1/jobs"):
            refused = ask(address)
            assert refused.status_code == 400 and refused.json()["error"]["code"] == "url_refused"
    assert set(net.called) == {PUBLIC}


# --- the code ----------------------------------------------------------------------------------------------------


def test_the_code_has_no_shell_no_pickle_and_no_html_from_strings(repository: Path) -> None:
    room = repository / "src" / "depth_anything_3" / "serve"
    for file in room.rglob("*.py"):
        tree = ast.parse(file.read_text())
        names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)} | {
            n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)
        }
        imported = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom) for a in n.names}
        assert not {"pickle", "marshal", "shelve", "yaml"} & imported, file
        assert not {"eval", "exec", "system", "popen", "unpickle", "HTMLResponse"} & names, file
        shell = [k for n in ast.walk(tree) if isinstance(n, ast.Call) for k in n.keywords if k.arg == "shell"]
        assert not shell, file
    scripts = "".join(file.read_text() for file in (room.parent / "static" / "js").glob("*.js"))
    assert "textContent" in scripts
    assert not [
        word for word in ("innerHTML", "outerHTML", "document.write", "eval(", "insertAdjacent") if word in scripts
    ]


def test_log_lines_cannot_be_forged() -> None:
    record = logging.LogRecord("x", logging.INFO, "f", 1, 'a\n{"event": "forged"}', None, None)
    record.authorization = "secret"
    line = JsonFormatter().format(record)
    assert "\n" not in line and "secret" not in line and json.loads(line)["event"].startswith("a\n")


def test_importing_the_server_loads_no_torch() -> None:
    code = "import sys, depth_anything_3.serve.app; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
