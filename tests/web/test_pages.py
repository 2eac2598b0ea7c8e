"""The pages: vendored files unmodified, nothing from elsewhere, a policy that allows what is there and no more."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="the extra 'serve' is not installed")
from depth_anything_3.errors import InputError
from depth_anything_3.web.pages import STATIC, content_security_policy
from depth_anything_3.web.run import listen

PAGES = sorted(STATIC.glob("*.html"))
OURS = [*PAGES, *STATIC.glob("*.css"), *(STATIC / "js").glob("*.js")]


def test_vendored_files_are_those_of_the_package(repository: Path) -> None:
    done = subprocess.run(
        [sys.executable, repository / "tools" / "vendor_three.py"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_nothing_comes_from_elsewhere_and_nothing_becomes_html(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"https?://|//[a-z]+\.[a-z]+/", text)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_a_page_holds_no_script_but_its_import_map(page: Path) -> None:
    html = page.read_text()
    inline = [text for text in re.findall(r"<script[^>]*>(.*?)</script>", html, re.DOTALL) if text.strip()]
    policy = content_security_policy(html)
    assert policy.count("sha256-") == len(inline) <= 1
    assert "unsafe" not in policy
    assert not re.search(r"\son[a-z]+=|\sstyle=", html)


def test_an_address_that_is_taken_is_said() -> None:
    with listen("127.0.0.1", 0) as taken, pytest.raises(InputError, match="--port"):
        listen("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(InputError, match="65535"):
        listen("127.0.0.1", 70000)
    with pytest.warns(UserWarning, match="other machines"):
        listen("0.0.0.0", 0).close()
