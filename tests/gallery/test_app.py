"""The gallery over HTTP: what is there comes, and nothing else does."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
from PIL import Image
from starlette.testclient import TestClient

from depth_anything_3.gallery.app import make_app
from depth_anything_3.gallery.thumbnails import thumbnail
from depth_anything_3.web.pages import DATA_POLICY


def test_every_result_and_file_is_reached(client: TestClient, root: Path) -> None:
    for scene in client.get("/api/scenes").json()["scenes"]:
        details = client.get(f"/api/scenes/{scene['id']}").json()
        assert details["files"]
        for file in details["files"]:
            answer = client.get(f"/files/{file['path']}")
            assert answer.status_code == 200
            assert answer.content == (root / file["path"]).read_bytes()
            assert answer.headers["Content-Security-Policy"] == DATA_POLICY
            assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_parts_and_attachments(client: TestClient, root: Path) -> None:
    part = client.get("/files/bench/scene.glb", headers={"Range": "bytes=0-3"})
    assert (part.status_code, part.content, part.headers["Content-Type"]) == (206, b"glTF", "model/gltf-binary")
    assert "attachment" in client.get("/files/bench/scene.glb?download").headers["Content-Disposition"]


def test_thumbnail_and_archive(client: TestClient) -> None:
    with Image.open(io.BytesIO(client.get("/thumbnails/group/one").content)) as picture:
        assert max(picture.size) <= 480
    with zipfile.ZipFile(io.BytesIO(client.get("/archives/group/one").content)) as archive:
        assert archive.testzip() is None
        assert set(archive.namelist()) >= {"scene.glb", "exports.json"}
        assert not any(name.startswith(("/", "..")) for name in archive.namelist())


def test_published_manifests(client: TestClient) -> None:
    assert client.get("/manifest.json").json()["groups"] == [
        {"id": ".", "title": "gallery"},
        {"id": "group", "title": "group"},
    ]
    (item,) = client.get("/manifest/group.json").json()["items"]
    assert (item["id"], item["title"]) == ("one", "one")
    for address in (item["model"], item["thumbnail"], *item["depth_images"]):
        assert client.get(address).status_code == 200
    assert client.get("/manifest/..%2Fgroup.json").status_code == 400
    assert client.get("/manifest/other.json").status_code == 404


def test_addresses_hold_where_the_gallery_is_mounted(root: Path) -> None:
    from starlette.applications import Starlette
    from starlette.routing import Mount

    with TestClient(Starlette(routes=[Mount("/gallery", make_app(root))])) as mounted:
        (item,) = mounted.get("/gallery/manifest/group.json").json()["items"]
        assert mounted.get(item["model"]).status_code == 200
        assert mounted.get("/gallery/").status_code == 200
        assert mounted.get("/gallery/static/viewer.html").status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/files/secret.txt",
        "/files/../secret.txt",
        "/files/bench/../secret.txt",
        "/files/bench/..%2f..%2fsecret.txt",
        "/files/bench/%2e%2e/secret.txt",
        "/files/bench/..%5csecret.txt",
        "/files//etc/passwd",
        "/files/%2fetc%2fpasswd",
        "/files/bench/scene.glb%00.jpg",
        "/files/bench",
        "/files/group/scene.glb",
        "/files/bench/link.jpg",
        "/files/bench/away/secret.txt",
        "/files/bench/.hidden.json",
        "/files/bench/page.html",
        "/files/bench/picture.svg",
        "/files/" + "a/" * 2000,
        "/files/" + "a" * 5000,
        "/api/scenes/..",
        "/api/scenes/bench%2f..",
        "/thumbnails/..%2fgallery",
        "/archives/..%2f..",
        "/static/../web/pages.py",
        "/static/..%2fweb%2fpages.py",
        "/static/vendor/%2e%2e/%2e%2e/__init__.py",
    ],
)
def test_nothing_else_is_reached(root: Path, tmp_path: Path, path: str) -> None:
    import shutil

    mine = tmp_path / "gallery"
    shutil.copytree(root, mine)
    (mine / "bench" / "link.jpg").symlink_to(mine / "secret.txt")
    (mine / "bench" / "away").symlink_to(mine)
    for name in (".hidden.json", "page.html", "picture.svg"):
        (mine / "bench" / name).write_text("not of a result")
    with TestClient(make_app(mine), base_url="http://127.0.0.1") as client:
        answer = client.get(path)
        assert answer.status_code in (400, 404), answer.text[:200]
        assert "not of a result" not in answer.text and "root:" not in answer.text


def test_a_neighbour_whose_name_begins_alike_is_not_served(root: Path, tmp_path: Path) -> None:
    (tmp_path / "gal2").mkdir()
    (tmp_path / "gal2" / "scene.glb").write_bytes(b"other")
    (tmp_path / "gal").mkdir()
    (tmp_path / "gal" / "scene").symlink_to(tmp_path / "gal2")
    with TestClient(make_app(tmp_path / "gal")) as client:
        assert client.get("/files/scene/scene.glb").status_code == 404
        assert client.get("/files/../gal2/scene.glb").status_code == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_nothing_can_be_changed(client: TestClient, method: str) -> None:
    assert client.request(method, "/files/bench/scene.glb").status_code == 405


def test_a_picture_that_is_a_bomb_has_no_thumbnail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (400, 400)).save(tmp_path / "preview.jpg")
    (tmp_path / "exports.json").write_text("{}")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with TestClient(make_app(tmp_path)) as client:
        assert [scene["id"] for scene in client.get("/api/scenes").json()["scenes"]] == ["."]
    assert thumbnail(tmp_path / "preview.jpg") is None
