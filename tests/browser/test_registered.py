"""Commands, keys and settings of the pack as the editor knows them."""

import pytest

pytestmark = pytest.mark.browser

COMMANDS = ("Spacetime.Swap", "Spacetime.Needs", "Spacetime.Patches")
USUAL = [f"Spacetime.Usual.{name}" for name in ("Address", "Clips", "Runs", "Trained")]
SETTINGS = {"Spacetime.Swap.Listed": 8, "Spacetime.Share.Tell": True, **dict.fromkeys(USUAL, "")}
NEW = {  # type of a node -> its widget, and what that is with and without settings
    "SpacetimeLoadLanguageModel": ("address", "http://127.0.0.1:1234/v1", ""),
    "SpacetimeClipsFromFolder": ("folder", "footage", "clips"),
    "SpacetimeSaveRun": ("filename_prefix", "kept/today/spacetime", "runs/spacetime"),
    "SpacetimeTrainVAE": ("name", "street_my_vae", "my_vae"),
    "SpacetimeTrainDiT": ("name", "street_my_model", "my_model"),
    "SpacetimeTrainCaptioner": ("name", "street_my_captioner", "my_captioner"),
    "SpacetimeDistillDiT": ("name", "street_my_model_4_steps", "my_model_4_steps"),
}


def test_the_editor_has_our_commands_and_settings(classic_editor):
    page = classic_editor.page
    known = page.evaluate("app.extensionManager.command.commands.map(({id, label}) => [id, label])")
    labels = dict(known)
    assert all(labels.get(one) for one in COMMANDS)
    for name, usual in SETTINGS.items():
        assert page.evaluate("(name) => app.extensionManager.setting.get(name)", name) == usual


def test_settings_do_what_they_say(classic_editor):
    page = classic_editor.page
    listed = page.evaluate(
        """async () => {
          const workflow = await (await fetch('/api/workflow_templates/spacetime/text_to_video.json')).json()
          await app.loadGraphData(workflow)
          const node = app.graph.nodes.find((one) => one.type === 'SpacetimeScheduler')
          const lines = async (number) => {
            await app.extensionManager.setting.set('Spacetime.Swap.Listed', number)
            const entries = app.collectNodeMenuItems(node).filter((one) => one?.content?.startsWith('Swap for'))
            return entries[0].submenu.options.map(({content}) => content)
          }
          const found = [await lines(2), await lines(0)]
          await app.extensionManager.setting.set('Spacetime.Swap.Listed', 8)  // the host keeps settings
          return found
        }"""
    )
    assert [len(one) for one in listed] == [3, 1]
    assert all(one[-1].startswith("More (") for one in listed)


def test_the_settings_dialog_has_a_part_of_ours(classic_editor):
    page = classic_editor.page
    page.evaluate("void app.extensionManager.command.execute('Comfy.ShowSettingsDialog')")
    dialog = page.get_by_role("dialog").last
    dialog.get_by_text("Spacetime", exact=True).first.click()
    dialog.get_by_text("Nodes that the menu lists").first.wait_for()
    dialog.get_by_text("Say when an opened workflow was made with other versions or weights").first.wait_for()


def test_new_nodes_begin_with_the_settings_and_loaded_ones_keep_what_they_have(classic_editor):
    """Also one whose file lacks the value, one that is pasted, and what undo brings back."""
    found = classic_editor.page.evaluate(
        """async ([settings, nodes]) => {
          const set = (name, value) => app.extensionManager.setting.set(name, value)
          const widget = (node) => node.widgets.find((one) => one.name === nodes[node.type])
          const added = () => Object.keys(nodes).map((type) => app.graph.add(LiteGraph.createNode(type)))
          const shown = () => Object.fromEntries(app.graph.nodes.map((node) => [node.type, widget(node).value]))
          app.graph.clear()
          added()
          const [plain, usual, saved] = [app.graph.serialize(), shown(), app.graph.serialize()]
          for (const node of saved.nodes) node.widgets_values = node.widgets_values.slice(0, 0)
          for (const [name, value] of Object.entries(settings)) await set(name, value)
          await app.loadGraphData(plain)
          const loaded = shown()
          await app.loadGraphData(saved)
          const short = shown()
          await app.loadGraphData(plain)
          app.canvas.selectItems(app.graph.nodes)
          app.canvas.copyToClipboard()
          app.graph.clear()
          app.canvas.pasteFromClipboard()
          const pasted = shown()
          app.graph.clear()
          added()
          const fresh = shown()
          for (const name of Object.keys(settings)) await set(name, '')  // the host keeps settings
          app.graph.clear()
          added()
          return {usual, loaded, short, pasted, fresh, cleared: shown()}
        }""",
        [
            dict(zip(USUAL, ("http://127.0.0.1:1234/v1", " footage ", "kept/today/", "street_"), strict=True)),
            {node: widget for node, (widget, *_) in NEW.items()},
        ],
    )
    assert found.pop("fresh") == {node: given for node, (_, given, _) in NEW.items()}
    usual = {node: plain for node, (*_, plain) in NEW.items()}
    assert found == dict.fromkeys(("usual", "loaded", "short", "pasted", "cleared"), usual)
