"""A real browser for the tests of the page: Debian's Chromium, axe in it, and screenshots that are kept.

Chromium is driven by playwright.  axe-core comes from npm's registry, in the version and
with the digest below, and is kept in pytest's cache.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, expect, sync_playwright

from tests.lab.engine import LabUnavailable, install_packages

AXE = "https://registry.npmjs.org/axe-core/-/axe-core-4.10.2.tgz"
AXE_SHA256 = "9ea2d2d6917da998122bdacfd3b473e31ead53f4b87146c716a12edf89158100"
SCREENSHOTS = Path(__file__).parents[1] / "screenshots"  # which git ignores
SIZES = {"phone": (390, 844), "laptop": (1280, 800), "wide": (1920, 1080)}
THEMES = ("light", "dark")
OPTIONS = (
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--no-proxy-server"),
)
PATIENCE_MS = 20_000
expect.set_options(timeout=PATIENCE_MS)


@dataclass
class Eyes:
    """A browser, and what may be seen in it."""

    browser: Browser
    axe: str
    complaints: list[str] = field(default_factory=list)

    @contextmanager
    def window(self, size: str = "laptop", theme: str = "light", **more: Any) -> Iterator[Page]:
        """A window of its own; what goes wrong in it is an error at the end, such as whatever the policy blocks."""
        width, height = SIZES[size]
        context = self.browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=theme,  # type: ignore[arg-type]
            reduced_motion="reduce",
            **more,
        )
        context.set_default_timeout(PATIENCE_MS)
        try:
            page = context.new_page()
            complaints: list[str] = []
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("console", lambda message: _noted(message, complaints))
            _only_here(context, complaints)
            yield page
            assert complaints == [], complaints
        finally:
            context.close()

    def violations(self, page: Page) -> list[str]:
        """What axe has against the page as it is now."""
        page.evaluate(self.axe)
        found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
        return [f"{it['id']}: {it['help']}: {node['html'][:200]}" for it in found for node in it["nodes"]]

    def keep(self, page: Page, name: str) -> None:
        """Keep a picture of the whole page."""
        SCREENSHOTS.mkdir(exist_ok=True)
        page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)


def _noted(message: ConsoleMessage, complaints: list[str]) -> None:
    if message.type == "error" and "Failed to load resource" not in message.text and "ERR_" not in message.text:
        complaints.append(message.text)


def _only_here(context: BrowserContext, complaints: list[str]) -> None:
    """Count a request as an error that goes to another scheme, host or port than what the test has opened first."""
    here: list[tuple[str, str]] = []

    def look(request: Request) -> None:
        here.append(_origin(request.url))
        if here[-1] != here[0]:
            complaints.append(f"asked {request.url}")

    context.on("request", look)


def _origin(url: str) -> tuple[str, str]:
    return urlsplit(url).scheme, urlsplit(url).netloc


def chromium() -> str:
    """The path of Debian's Chromium, which is installed if need be.  Raises LabUnavailable."""
    if not (path := shutil.which("chromium")):
        install_packages(lambda line: None, "chromium")
        path = shutil.which("chromium")
    if not path:
        raise LabUnavailable("the package `chromium` has no command of that name here")
    return path


@contextmanager
def opened(config: pytest.Config) -> Iterator[Eyes]:
    """Inside, there is a browser, installed if need be.  Skips the test, with what to do, where there can be none."""
    try:
        path = chromium()
    except LabUnavailable as why:
        pytest.skip(f"no chromium: {why}")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=list(OPTIONS))
        try:
            yield Eyes(browser, _axe(Path(config.cache.mkdir("axe")) if config.cache else Path("/tmp")))
        finally:
            browser.close()


def _axe(folder: Path) -> str:
    """The source of axe, out of the archive of this digest."""
    kept = folder / f"{AXE_SHA256}.tgz"
    if not kept.exists() or hashlib.sha256(kept.read_bytes()).hexdigest() != AXE_SHA256:
        answer = requests.get(AXE, timeout=60)
        answer.raise_for_status()
        assert hashlib.sha256(answer.content).hexdigest() == AXE_SHA256, "the archive of axe-core is another one"
        kept.write_bytes(answer.content)
    with tarfile.open(fileobj=io.BytesIO(kept.read_bytes())) as archive:
        source = archive.extractfile("package/axe.min.js")
        assert source
        return source.read().decode()
