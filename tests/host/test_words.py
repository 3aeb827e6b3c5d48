"""Expand Caption in the real host: in line before the text encoder, and with a server of the OpenAI protocol."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from comfyui_spacetime.tools.client import load_workflow
from comfyui_spacetime.tools.terminal import Trouble

WORKFLOW = Path(__file__).resolve().parents[2] / "workflows" / "expand_caption.json"
IN_LINE = WORKFLOW.with_name("text_to_video_expanded.json")
ANSWER = "A shiny red ball bounces to the right over a smooth floor, slowly and evenly, in soft light."


@pytest.fixture
def server():
    """Answers every question with ANSWER; remembers the keys it was given."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.server.keys.append(self.headers.get("Authorization"))
            data = json.dumps({"choices": [{"message": {"content": ANSWER}}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            """Quiet."""

    running = HTTPServer(("127.0.0.1", 0), Handler)
    running.keys = []
    threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield running
    running.shutdown()
    running.server_close()


def words_only(host, workflow=WORKFLOW):
    """The workflow without everything after the caption."""
    prompt = host.client.prompt_of(load_workflow(workflow))
    keep = ("SpacetimeExpandCaption", "SpacetimeLoadLanguageModel", "PreviewAny")
    return {key: node for key, node in prompt.items() if node["class_type"] in keep}


def test_the_caption_is_shown_and_the_model_is_not_asked_offline(host):
    (text,) = host.run(words_only(host)).texts()
    assert text.startswith("a red ball bounces to the right. The background is")


def test_a_prompt_becomes_a_video_by_way_of_its_caption(host):
    """With the packaged model where it is installed, else by grammar: either way the node says which."""
    small = {"SpacetimeEmptyVideo.width": 64, "SpacetimeEmptyVideo.height": 48, "SpacetimeEmptyVideo.seconds": 0.75}
    wish = {**small, "KSampler.steps": 2, "SpacetimeExpandCaption.prompt": "a man chops wood"}
    result = host.run(IN_LINE, set=wish)
    caption, done = sorted(result.texts(), key=lambda text: not text.startswith("a man chops wood"))
    assert caption.startswith("a man chops wood. ")
    assert len(caption) > 40
    assert "by the language model" in done or "language model" in done.split("\n")[-1]
    (video,) = [file for file in result.files() if file["type"] == "output"]
    assert video["filename"].endswith(".mp4")


def test_an_endpoint_of_the_users_configuration_is_asked_with_its_key(host, server):
    url = f"http://127.0.0.1:{server.server_port}/v1"
    file = host.base / "user" / "default" / "spacetime_language_models.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    wish = {"SpacetimeExpandCaption.mode": "language model", "SpacetimeLoadLanguageModel.address": url}
    with pytest.raises(Trouble, match="allowed_urls"):
        host.run(words_only(host), set=wish)
    assert server.keys == []
    try:
        mine = {"url": url, "key": "sk-1"}
        file.write_text(json.dumps({"endpoints": {"mine": mine}, "allowed_urls": [url]}), encoding="utf-8")
        assert host.run(words_only(host), set=wish).texts() == [ANSWER]
        prompt = words_only(host)
        for node in prompt.values():
            if node["class_type"] == "SpacetimeLoadLanguageModel":
                node["inputs"]["model"] = "endpoint: mine"
        assert host.run(prompt, set={"SpacetimeExpandCaption.mode": "language model"}).texts() == [ANSWER]
        assert server.keys == [None, "Bearer sk-1"]
    finally:
        file.unlink(missing_ok=True)
