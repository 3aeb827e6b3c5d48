"""The editor in a real Chromium. `editor` is a page with the app loaded; nothing leaves the machine."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from comfyui_spacetime.tools.pictures.editor import Editor, open_browser, visit

if TYPE_CHECKING:
    from playwright.sync_api import Playwright


@pytest.fixture(scope="session")
def playwright_session() -> Iterator["Playwright"]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: python3 run.py setup")
    with sync_api.sync_playwright() as playwright:
        yield playwright


@pytest.fixture(params=["classic", "nodes 2.0"])
def editor(request, host, playwright_session, tmp_path) -> Iterator[Editor]:
    """A fresh profile with the editor; the test runs once for each way of drawing nodes."""
    context = open_browser(playwright_session, host.url, tmp_path / "profile")
    page = context.pages[0]
    try:
        visit(page, host.url)
        vue = request.param == "nodes 2.0"
        page.evaluate("(on) => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)", vue)
        yield Editor(page, host.url, vue)
    finally:
        context.close()


@pytest.fixture
def classic_editor(host, playwright_session, tmp_path) -> Iterator[Editor]:
    """One that draws nothing, for what does not depend on it."""
    context = open_browser(playwright_session, host.url, tmp_path / "profile")
    try:
        visit(context.pages[0], host.url)
        context.pages[0].evaluate("app.extensionManager.setting.set('Comfy.VueNodes.Enabled', false)")
        context.pages[0].evaluate("app.canvas.stopRendering?.()")  # nobody looks, and drawing in software is slow
        yield Editor(context.pages[0], host.url, vue=False)
    finally:
        context.close()
