"""The editor in a real Chromium: what the pictures and the browser tests do in it. Nothing leaves the machine."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..development import CHROMIUM
from ..terminal import Trouble

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page, Playwright

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
READY = "() => window.app?.graph && window.app?.extensionManager && window.LiteGraph?.registered_node_types?.SaveVideo"


@dataclass(frozen=True)
class Editor:
    """A page with the editor, and what one does in it."""

    page: "Page"
    url: str
    vue: bool

    def load(self, workflow: dict[str, Any]) -> None:
        """Open a workflow, as dropping its file on the canvas does."""
        self.page.evaluate("async (w) => { await app.loadGraphData(w) }", workflow)

    def prompt(self) -> dict[str, Any]:
        """The API prompt that the frontend makes of the open graph."""
        return dict(self.page.evaluate("async () => (await app.graphToPrompt()).output"))

    def open_template(self, pack: str, name: str) -> None:
        """Choose a workflow of a pack in the template browser."""
        self.page.evaluate("app.extensionManager.command.execute('Comfy.BrowseTemplates')")
        dialog = self.page.locator("[role=dialog]").last
        dialog.get_by_text(pack, exact=True).first.click()
        dialog.get_by_role("textbox").first.fill(name)  # only the first of many templates are drawn before one scrolls
        dialog.get_by_text(name, exact=True).first.click()
        dialog.wait_for(state="hidden")

    def press_run(self, seconds: float = 120) -> None:
        """Press Run and wait until the queue is empty again; fails when the server refuses or a node fails."""
        self.page.evaluate(
            """() => {
              window.ended = null
              for (const kind of ['execution_success', 'execution_error', 'execution_interrupted'])
                app.api.addEventListener(kind, (event) => { window.ended = {kind, detail: event.detail} }, {once: true})
            }"""
        )
        with self.page.expect_response(lambda r: r.url.endswith("/prompt") and r.request.method == "POST") as answer:
            self.page.get_by_test_id("queue-button").click()
        assert answer.value.ok, answer.value.text()
        self.page.wait_for_function("() => window.ended", timeout=seconds * 1000)
        ended = self.page.evaluate("window.ended")
        assert ended["kind"] == "execution_success", ended

    def outputs(self) -> dict[str, Any]:
        """What the nodes show after a run, by node id."""
        return dict(self.page.evaluate("app.nodeOutputs"))

    def screenshot(self, path: Path) -> None:
        """Save what is visible."""
        self.page.screenshot(path=str(path))


def open_browser(
    playwright: "Playwright", url: str, profile: Path, size: tuple[int, int] = (1400, 900)
) -> "BrowserContext":
    """Chromium with a profile of its own that reaches the host and nothing else."""
    chromium = next((path for name in CHROMIUM if (path := shutil.which(name))), None)
    if chromium is None:
        raise Trouble("Chromium is missing: python3 run.py test installs it as root, or install it yourself.")
    context = playwright.chromium.launch_persistent_context(
        profile,
        executable_path=chromium,
        headless=True,
        viewport={"width": size[0], "height": size[1]},
        args=FLAGS,
    )
    context.set_default_timeout(60_000)
    context.add_init_script("localStorage.setItem('vueNodesBannerDismissed', 'true')")
    # the frontend asks for news and models elsewhere; a test must not depend on that
    context.route(lambda address: not address.startswith(url), lambda route: route.abort())
    return context


def visit(page: "Page", url: str) -> None:
    """Open the editor and wait until its app is usable."""
    page.goto(url, wait_until="domcontentloaded")
    page.wait_for_function(READY, timeout=60_000)
    page.wait_for_timeout(500)
