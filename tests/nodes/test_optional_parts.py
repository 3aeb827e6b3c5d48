"""What is optional is said before it is missed: on the node that needs it, in its tooltips, and on its page."""

import pytest

from comfyui_spacetime.models.extras import EXTRAS, WEIGHTS_ONLY, install
from comfyui_spacetime.tools.environment import ROOT
from comfyui_spacetime.tools.locales import schemas

# ComfyUI has transformers and brings it anew with each release; these two help it where llama.cpp is not there
BESIDE = {"transformers", "gguf", "accelerate"}
PACKAGES = [*(one for packages in EXTRAS.values() for one in packages), *WEIGHTS_ONLY]


def said(schema):
    """All texts of a node."""
    return "\n".join([schema.description, *(one.tooltip or "" for one in schema.inputs)])


def page(schema):
    return (ROOT / "web" / "docs" / f"{schema.node_id}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("package", [one for one in PACKAGES if one not in BESIDE])
def test_some_node_names_the_command_and_its_page_does(comfy_host, package):
    command = install(package)
    nodes = [one for one in schemas() if command in said(one)]
    assert nodes, f"no node says {command}"
    assert [one.node_id for one in nodes if command not in page(one)] == [], f"pages without {command}"


@pytest.mark.parametrize("package", sorted(BESIDE - {"transformers"}))
def test_what_only_helps_is_on_the_page(package):
    text = (ROOT / "web" / "docs" / "SpacetimeLoadLanguageModel.md").read_text(encoding="utf-8")
    assert f"`{package}`" in text


def test_no_node_and_no_page_names_another_command(comfy_host):
    """A page may join what one node needs; it never reinstalls or upgrades."""
    for schema in schemas():
        for text in (said(schema), page(schema)):
            assert "--force-reinstall" not in text
            assert "--upgrade" not in text
            for command in text.split("pip install ")[1:]:
                words = command.split("`")[0].split(". ")[0].replace("--no-deps ", "", 1).replace('"', "").split()
                assert words[0].rstrip(",.:") in PACKAGES, (schema.node_id, command[:60])
