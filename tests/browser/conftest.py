"""The editor in a real Chromium. `editor` is a page with the app loaded; nothing leaves the machine."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

import pytest

from comfyui_spacetime.tools.pictures.editor import Editor, open_browser, visit

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Playwright

# what the editor kept for the next visit: open workflows, widths of its panels
FORGET = """async () => {
  localStorage.clear()
  for (const {name} of await indexedDB.databases()) indexedDB.deleteDatabase(name)
}"""


@pytest.fixture(scope="session")
def playwright_session() -> Iterator["Playwright"]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: python3 run.py setup")
    with sync_api.sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="session")
def browser(host, playwright_session, tmp_path_factory) -> Iterator["BrowserContext"]:
    """One Chromium for all tests, which keeps the scripts of the editor: most of the time to open it."""
    context = open_browser(playwright_session, host.url, tmp_path_factory.mktemp("profile"))
    yield context
    context.close()


@pytest.fixture(scope="session")
def open_editor(host, browser) -> Callable[[str], AbstractContextManager[Editor]]:
    """A page that remembers nothing: `with open_editor(drawing) as editor`, drawing "classic" or "nodes 2.0"."""

    @contextmanager
    def opened(drawing: str) -> Iterator[Editor]:
        page = browser.new_page()
        try:
            page.goto(f"{host.url}/system_stats")
            page.evaluate(FORGET)
            visit(page, host.url)
            vue = drawing == "nodes 2.0"
            page.evaluate("(on) => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)", vue)
            yield Editor(page, host.url, vue)
        finally:
            page.close()

    return opened


@pytest.fixture(params=["classic", "nodes 2.0"])
def editor(request, open_editor) -> Iterator[Editor]:
    """A page of its own with the editor; the test runs once for each way of drawing nodes."""
    with open_editor(request.param) as opened:
        yield opened


@pytest.fixture
def classic_editor(open_editor) -> Iterator[Editor]:
    """One that draws nothing, for what does not depend on it."""
    with open_editor("classic") as opened:
        opened.page.evaluate("app.canvas.stopRendering?.()")  # nobody looks, and drawing in software is slow
        yield opened
