"""The editor in a real Chromium. `editor` is a page with the app loaded; nothing leaves the machine."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
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


@pytest.fixture(scope="session")
def open_editor(host, playwright_session) -> Callable[..., AbstractContextManager[Editor]]:
    """A page in a fresh profile: `with open_editor(folder, drawing) as editor`, drawing "classic" or "nodes 2.0"."""

    @contextmanager
    def opened(folder: Path, drawing: str) -> Iterator[Editor]:
        context = open_browser(playwright_session, host.url, folder / "profile")
        page = context.pages[0]
        try:
            visit(page, host.url)
            vue = drawing == "nodes 2.0"
            page.evaluate("(on) => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)", vue)
            yield Editor(page, host.url, vue)
        finally:
            context.close()

    return opened


@pytest.fixture(params=["classic", "nodes 2.0"])
def editor(request, open_editor, tmp_path) -> Iterator[Editor]:
    """A fresh profile with the editor; the test runs once for each way of drawing nodes."""
    with open_editor(tmp_path, request.param) as opened:
        yield opened


@pytest.fixture
def classic_editor(open_editor, tmp_path) -> Iterator[Editor]:
    """One that draws nothing, for what does not depend on it."""
    with open_editor(tmp_path, "classic") as opened:
        opened.page.evaluate("app.canvas.stopRendering?.()")  # nobody looks, and drawing in software is slow
        yield opened
