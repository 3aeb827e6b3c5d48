"""What the pack's scripts cost whenever the editor opens."""

import pytest

pytestmark = pytest.mark.browser
MOST = 50  # milliseconds of the browser's work


def test_loading_the_scripts_takes_no_time_that_one_notices(classic_editor):
    """The browser compiles them; what they register takes no time worth measuring."""
    names = classic_editor.page.evaluate("async () => await (await fetch('/extensions')).json()")
    ours = [name for name in names if name.startswith("/extensions/spacetime/")]
    assert len(ours) >= 7
    spent = classic_editor.page.evaluate(
        """async (names) => {
          const texts = await Promise.all(names.map(async (name) => (await fetch(name)).text()))
          const bodies = texts.map((text) => text.replace(/^import .*$/gm, '').replace(/^export /gm, ''))
          const begin = performance.now()
          for (const body of bodies) new Function('app', 'api', `return async () => {${body}}`)
          return performance.now() - begin
        }""",
        ours,
    )
    assert spent < MOST


def test_none_of_our_scripts_complains(editor):
    complaints = []
    editor.page.on("console", lambda message: complaints.append((message.type, message.text, message.location)))
    editor.page.on("pageerror", lambda error: complaints.append(("error", str(error), {"url": str(error.stack)})))
    editor.page.reload()
    editor.page.wait_for_function(
        "() => window.app?.extensionManager && window.LiteGraph?.registered_node_types?.SaveVideo"
    )
    editor.open_template("spacetime", "text_to_video")
    editor.page.wait_for_timeout(1000)
    ours = [
        (kind, text)
        for kind, text, place in complaints
        if kind in ("error", "warning") and "/extensions/spacetime/" in place.get("url", "") + text
    ]
    assert not ours
