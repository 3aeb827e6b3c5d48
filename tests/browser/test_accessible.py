"""All that the pack draws in the editor: named for screen readers, by keyboard, readable in both themes, steady."""

import pytest

pytestmark = pytest.mark.browser

READABLE = 4.5  # contrast of text, as WCAG 2 AA wants it
KINDS = ["SpacetimeScheduler", "SpacetimePickRuns", "SpacetimeCompareVideos", "SpacetimeInspectTokens"]
PLACE = """async (kinds) => {
  app.graph.clear()
  kinds.forEach((kind, i) => {
    const node = LiteGraph.createNode(kind)
    node.pos = [40 + 360 * i, 80]
    app.graph.add(node)
  })
  app.canvas.ds.scale = 0.9
  app.canvas.ds.offset = [80, 80]
  app.canvas.setDirty(true, true)
}"""
# what runs show, as the server sends it
SHOW = """() => {
  const node = (kind) => app.graph.nodes.find((one) => one.type === kind)
  const picture = document.createElement('canvas')
  Object.assign(picture, {width: 128, height: 128})
  picture.getContext('2d').fillRect(0, 0, 64, 64)
  const jpeg = picture.toDataURL('image/jpeg').split(',')[1]
  const sprite = {jpeg, columns: 2, rows: 1, width: 64, height: 64}
  const id = String(node('SpacetimeInspectTokens').id)
  app.api.dispatchCustomEvent('progress_text', {nodeId: id, text: 'two lines\\nof text'})
  app.api.dispatchCustomEvent('spacetime.strip', {node: id, step: 1, total: 4, ...sprite, rows: 2})
  app.api.dispatchCustomEvent('spacetime.stoppable', {node_id: id, prompt_id: 'x', running: true})
  const sheet = {filename: 'none.webp', subfolder: '', type: 'temp', columns: 2, rows: 1, seeds: ['1', '2']}
  const explore = LiteGraph.createNode('SpacetimeExploreSeeds')
  explore.pos = [40, 700]
  app.graph.add(explore)
  explore.connect(0, node('SpacetimePickRuns'), 0)
  explore.onExecuted({spacetime_sheet: [sheet]})
  const bytes = btoa('\\x10\\x80'.repeat(4))
  node('SpacetimeInspectTokens').spacetimePatches = [{grids: [[2, 2, 2]], patch: [1, 2, 2, 16], sigma: 0.5,
    levels: bytes, sizes: bytes, largest: 1, colours: btoa('abc'.repeat(8)), shares: [0.5, 0.2, 0.1],
    pictures: {guess: sprite}, attention: {look: 'x', blocks: [0, 1], heads: 2}}]
}"""
OPENED = {
    "the view of patches": ("SpacetimeInspectTokens", "Spacetime.Patches", "dialog.spacetime-patches"),
    "the list of nodes": ("SpacetimeScheduler", "Spacetime.Swap", "dialog.spacetime-chooser"),
}
OPEN = """([kind, command]) => {
  app.canvas.deselectAll()
  app.canvas.selectNode(app.graph.nodes.find((one) => one.type === kind))
  app.extensionManager.command.execute(command)
}"""
# what is wrong with the elements under a selector
FAULTS = """([selector, readable]) => {
  const faults = []
  const named = (one) => one.ariaLabel || one.labels?.[0]?.textContent || one.title || one.alt ||
    one.textContent.trim() || document.getElementById(one.getAttribute('aria-labelledby'))?.textContent
  const numbers = (colour) => colour.match(/[\\d.]+/g)?.map(Number) ?? [0, 0, 0, 0]
  const light = ([r, g, b]) => [r, g, b].map((part) => part / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
    .reduce((sum, part, i) => sum + part * [0.2126, 0.7152, 0.0722][i], 0)
  const behind = (one) => {
    for (let at = one; at; at = at.parentElement) {
      const colour = numbers(getComputedStyle(at).backgroundColor)
      if ((colour[3] ?? 1) > 0.5) return colour
    }
    return [0, 0, 0]
  }
  const roots = [...document.querySelectorAll(selector)].filter((one) => one.isConnected)
  for (const root of roots) for (const one of [root, ...root.querySelectorAll('*')]) {
    if (['STYLE', 'OPTION'].includes(one.tagName)) continue
    const where = `${root.className} ${one.tagName}.${one.className?.baseVal ?? one.className}`
    const control = one.matches('button, input, select, textarea, a[href], [tabindex], dialog, [role=group]')
    if (control && !named(one)) faults.push(`${where} has no name`)
    if (one.matches('canvas, svg') && !(one.getAttribute('role') === 'img' && named(one)) && !one.ariaHidden)
      faults.push(`${where} is a picture without a name`)
    if (one.onclick && !one.matches('button, [role=option]')) faults.push(`${where} is clicked and no button`)
    const text = [...one.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim())
    if (!text || one.disabled || !one.checkVisibility()) continue
    const [a, b] = [light(numbers(getComputedStyle(one).color)), light(behind(one))].sort((x, y) => y - x)
    const contrast = (a + 0.05) / (b + 0.05)
    if (contrast < readable) faults.push(`${where}: contrast ${contrast.toFixed(1)}`)
  }
  return {faults, seen: roots.length}
}"""
IN_THEME = "(theme) => document.body.classList.contains('dark-theme') === (theme === 'dark')"
FOCUSED = "(selector) => document.querySelector(selector).contains(document.activeElement)"
ON_NODES = ".spacetime-picks, .spacetime-compare, .spacetime-strip, .spacetime-text, .spacetime-curve, .spacetime-stop"


def test_what_stands_on_nodes_and_opens_is_named_readable_and_steady(editor):
    page = editor.page
    page.evaluate(PLACE, KINDS)
    page.locator(".spacetime-picks").wait_for()
    heights = "() => ['.spacetime-picks', '.spacetime-compare'].map((one) => document.querySelector(one).offsetHeight)"
    before = page.evaluate(heights)
    page.evaluate(SHOW)
    page.wait_for_function("() => document.querySelector('.spacetime-strip')?.dataset.step === '1'")
    page.locator(".spacetime-picks button").first.wait_for()
    assert page.evaluate(heights) == before
    for theme in ("dark", "light"):
        page.evaluate("(theme) => app.extensionManager.setting.set('Comfy.ColorPalette', theme)", theme)
        page.wait_for_function(
            "(theme) => document.body.classList.contains('dark-theme') === (theme === 'dark')", arg=theme
        )
        found = page.evaluate(FAULTS, [ON_NODES, READABLE])
        assert found["seen"] >= 4
        assert found["faults"] == [], theme
        for name, (kind, command, selector) in OPENED.items():
            page.evaluate(OPEN, [kind, command])
            page.locator(selector).wait_for()
            assert page.evaluate(FAULTS, [selector, READABLE])["faults"] == [], f"{name}, {theme}"
            assert page.evaluate(
                "(selector) => document.querySelector(selector).contains(document.activeElement)", selector
            )
            page.keyboard.press("Escape")
            page.locator(selector).wait_for(state="detached")
