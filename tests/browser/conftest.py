"""Pages in Chromium. Everything here is skipped where there is none, or no playwright.

``DA3_CHROMIUM`` names the browser where it is not on the PATH; pictures are kept in the folder ``DA3_SCREENSHOTS``.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

# Form controls without a name, pictures without `alt`, frames without a title, and what a page needs once.
ACCESSIBILITY = """() => {
  const wrong = [];
  const named = (e) => e.labels?.length || e.title || e.textContent.trim()
    || e.getAttribute('aria-label') || e.getAttribute('aria-labelledby') || e.querySelector('[aria-label], img[alt]');
  for (const e of document.querySelectorAll('input, select, textarea, button, a')) {
    if (e.type !== 'hidden' && e.getClientRects().length && !named(e)) wrong.push(e.outerHTML.slice(0, 120));
  }
  const silent = document.querySelectorAll('img:not([alt]), iframe:not([title])');
  for (const e of silent) wrong.push(e.outerHTML.slice(0, 120));
  if (!document.documentElement.lang) wrong.push('no language');
  if (!document.title) wrong.push('no title');
  if (document.querySelectorAll('h1').length !== 1) wrong.push('not one h1');
  return wrong;
}"""


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium without a window, drawing in software."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    pytest.importorskip("starlette", reason="the extra 'serve' is not installed")
    found = os.environ.get("DA3_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is on the PATH, and DA3_CHROMIUM is not set")
    arguments = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        arguments.append("--no-sandbox")  # the sandbox of Chromium does not work for the superuser
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=found, args=arguments)
        yield opened
        opened.close()


class Watched:
    """A page and everything that went wrong on it."""

    def __init__(self, page: Any) -> None:
        self.page, self.errors, self.elsewhere = page, [], []
        page.on("console", lambda message: message.type == "error" and self.errors.append(message.text))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("dialog", lambda dialog: (self.errors.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", self._note)

    def _note(self, request: Any) -> None:
        if not request.url.startswith(("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:")):
            self.elsewhere.append(request.url)

    def until(self, expression: str, seconds: float = 20) -> None:
        """Wait until an expression holds on the page; playwright's own way is forbidden by the page's policy."""
        limit = time.monotonic() + seconds
        while not self.page.evaluate(f"() => Boolean({expression})"):
            assert time.monotonic() < limit, expression
            self.page.wait_for_timeout(50)

    def upload(self, box: str, files: Path | list[Path]) -> None:
        """Choose files and wait until the page has sent them: it shows their names before that."""
        self.page.locator(f"{box} input[type=file]").set_input_files(files)
        self.page.locator(f"{box} [data-testid=download-link]").first.wait_for()

    def check(self) -> None:
        """Nothing was reported on the console, nothing was asked of another server, everything has a name."""
        assert self.errors == []
        assert self.elsewhere == []
        assert self.page.evaluate(ACCESSIBILITY) == []


@pytest.fixture
def watched(browser: Any) -> Iterator[Watched]:
    """A fresh page."""
    page = browser.new_page(viewport={"width": 1100, "height": 700})
    page.set_default_timeout(20_000)
    yield Watched(page)
    page.close()


@pytest.fixture
def keep(request: pytest.FixtureRequest) -> Callable[[Any, str], None]:
    """Keep a picture of a page, if somebody wants pictures."""

    def shoot(page: Any, name: str) -> None:
        if folder := os.environ.get("DA3_SCREENSHOTS"):
            page.screenshot(path=Path(folder) / f"{name}.jpg", type="jpeg", quality=60)

    return shoot


@contextmanager
def served(app: Any) -> Iterator[str]:
    """The address of an application that runs in a thread, behind the guard."""
    import uvicorn

    from depth_anything_3.web.guard import Guard
    from depth_anything_3.web.run import listen

    with listen("127.0.0.1", 0) as opened:
        server = uvicorn.Server(uvicorn.Config(Guard(app), log_level="warning", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{opened.getsockname()[1]}"
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="session")
def serve() -> Callable[[Any], Any]:
    """``with serve(app) as address``."""
    return served
