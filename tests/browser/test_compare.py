"""Compare Videos in the editor: two and more videos in step, with a wipe and the numbers of the frame."""

import pytest

pytestmark = pytest.mark.browser


def still(color, frames):
    return {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 49, "batch_size": frames, "color": color}}


def graph(count):
    colors = (0xFF0000, 0xEE0000, 0x00FF00, 0x0000FF)
    names = ("frames", "reference", "third", "fourth")
    sources = {str(key + 1): still(colors[key], 6) for key in range(count)}
    inputs = {names[key]: [str(key + 1), 0] for key in range(count)}
    return {**sources, "9": {"class_type": "SpacetimeCompareVideos", "inputs": inputs}}


STATE = """() => {
  const panel = document.querySelector('.spacetime-compare')
  const videos = [...panel.querySelectorAll('video')]
  return {
    times: videos.map((video) => Math.floor(video.currentTime * 12 + 1e-6)),
    widths: videos.map((video) => video.videoWidth),
    clips: videos.map((video) => video.parentElement.style.clipPath), says: panel.querySelector('output').textContent,
    names: videos.map((video) => video.getAttribute('aria-label')),
  }
}"""
LOOK = """() => {
  const node = app.graph.nodes.find((one) => one.type === 'SpacetimeCompareVideos')
  app.canvas.ds.scale = 1
  app.canvas.ds.offset = [200 - node.pos[0], 150 - node.pos[1]]
  app.canvas.setDirty(true, true)
}"""
SETTLED = """(count) => {
  const videos = [...document.querySelectorAll('.spacetime-compare video')]
  return videos.length === count && videos.every((video) => video.readyState >= 2 && !video.seeking)
}"""


@pytest.mark.parametrize("count", [2, 4])
def test_the_videos_go_in_step(editor, count):
    page = editor.page
    page.evaluate("async (prompt) => app.loadApiJson(prompt, 'compare')", graph(count))
    page.evaluate(LOOK)
    page.locator(".spacetime-compare").wait_for(state="visible")
    editor.press_run()
    page.wait_for_function(SETTLED, arg=count)
    page.evaluate(LOOK)
    shown = page.evaluate(STATE)
    assert shown["widths"] == [64] * count
    assert shown["names"] == ["frames", "reference", "third", "fourth"][:count]
    assert len(set(shown["clips"])) == count, "each shows a strip of its own"
    assert shown["says"].startswith("frame 1 of 6 · PSNR ")
    assert ("PSNR of fourth" in shown["says"]) == (count == 4)

    slider = page.get_by_label("Frame", exact=True)
    slider.focus()
    for _ in range(3):
        slider.press("ArrowRight")
    page.wait_for_function(SETTLED, arg=count)
    assert page.evaluate(STATE)["times"] == [3] * count
    slider.press("ArrowLeft")
    page.wait_for_function(SETTLED, arg=count)
    assert page.evaluate(STATE)["times"] == [2] * count

    page.get_by_role("button", name="Side by side").click()
    assert set(page.evaluate(STATE)["clips"]) == {"none"}
    page.get_by_role("button", name="Play").click()
    page.wait_for_function("() => Number(document.querySelector('.spacetime-compare').dataset.frame) !== 2")
    page.get_by_role("button", name="Pause").click()
    page.wait_for_function(SETTLED, arg=count)
    assert len(set(page.evaluate(STATE)["times"])) == 1
    prompt = editor.prompt()["9"]["inputs"]
    assert set(prompt) == {"frames", "reference", "third", "fourth"} & set(prompt), "the view is no setting"
    assert len(prompt) == count
