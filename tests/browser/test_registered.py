"""Commands, keys and settings of the pack as the editor knows them."""

import pytest

pytestmark = pytest.mark.browser

COMMANDS = ("Spacetime.Swap", "Spacetime.Needs", "Spacetime.Patches")
SETTINGS = {"Spacetime.Swap.Listed": 8, "Spacetime.Share.Tell": True}


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
