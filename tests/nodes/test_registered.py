"""Every node that is written is registered, so that moving one between modules cannot lose it."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "web" / "docs"


@pytest.mark.usefixtures("comfy_host")
def test_every_node_in_the_source_and_every_page_has_its_node():
    from comfyui_spacetime.nodes import load_nodes

    registered = {node.__name__ for node in load_nodes()}
    written = {
        one.name
        for path in (ROOT / "nodes").rglob("*.py")
        for one in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(one, ast.ClassDef)
        and any(isinstance(part, ast.FunctionDef) and part.name == "define_schema" for part in one.body)
    }
    assert written == registered
    ids = {node.define_schema().node_id for node in load_nodes()}
    assert {path.stem for path in PAGES.glob("Spacetime*.md")} == ids
