"""The endpoint client against a real HTTP server on this machine, the user's configuration, and a real local model."""

import gzip
import json
import logging
import socket
import threading
import time
import zlib
from collections.abc import Iterator
from functools import partialmethod
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from comfyui_spacetime.models.text.captions import expand
from comfyui_spacetime.models.text.configuration import FILE, Configuration, covers, read_configuration
from comfyui_spacetime.models.text.exchange import Exchange
from comfyui_spacetime.models.text.hiding import SHARED, hide, plain_address
from comfyui_spacetime.models.text.interface import Question
from comfyui_spacetime.models.text.language_models import LIMITS, Endpoint, LanguageModelError
from comfyui_spacetime.models.text.local_models import LocalModel, find_model_folders

KEY = "sk-very-secret-123"
PNG = b"\x89PNG\r\n\x1a\n0000"


def answer(text, **more):
    return 200, {"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop", **more}]}


class Server(ThreadingHTTPServer):
    """Speaks the OpenAI protocol; `script` holds what each request gets, the last one for all that follow."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.seen = [answer("A caption.")], []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, *_):
        """The client hangs up in some tests."""


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((self.path, dict(self.headers), json.loads(body)))
        step = self.server.script[min(len(self.server.seen), len(self.server.script)) - 1]
        if callable(step):
            return step(self)
        status, content, *headers = step
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        return None

    def do_GET(self):
        self.server.seen.append((self.path, dict(self.headers), None))
        self.send_error(404)

    def log_message(self, *_):
        """Quiet."""


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield running
    running.shutdown()
    running.server_close()


def endpoint(server, **settings):
    return Endpoint(**{"name": "mine", "url": server.url, "model": "m1", "key": KEY, "backoff": 0.01, **settings})


def ask(one, **more):
    return one(Question("Write a caption.", "a red ball", **more))


def failure(one):
    with pytest.raises(LanguageModelError) as caught:
        ask(one)
    assert KEY not in str(caught.value)
    assert KEY not in repr(one)
    return str(caught.value)


def test_the_request_is_an_openai_chat_completion(server):
    text = ask(endpoint(server, options={"top_p": 0.5, "seed": None}), seed=7, images=(PNG,))
    path, headers, body = server.seen[0]
    assert (text, path) == ("A caption.", "/v1/chat/completions")
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert (body["model"], body["stream"], body["top_p"]) == ("m1", False, 0.5)
    assert "seed" not in body, "null takes a field out"
    assert body["messages"][0] == {"role": "system", "content": "Write a caption."}
    assert body["messages"][1]["content"][0] == {"type": "text", "text": "a red ball"}
    assert body["messages"][1]["content"][1]["image_url"]["url"].startswith("data:image/png;base64,iVBOR")


def test_without_a_key_no_header_is_sent(server):
    ask(endpoint(server, key=""), seed=2**40 + 5)
    assert "Authorization" not in server.seen[0][1]
    assert server.seen[0][2]["seed"] < 2**31


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_passing_trouble_is_retried(server, status):
    server.script = [(status, {"error": {"message": "busy"}}), (status, b""), answer("A caption.")]
    assert ask(endpoint(server)) == "A caption."
    assert len(server.seen) == 3


def test_retry_after_is_respected(server):
    server.script = [(429, {}, ("Retry-After", "0.3")), answer("A caption.")]
    start = time.monotonic()
    assert ask(endpoint(server)) == "A caption."
    assert time.monotonic() - start >= 0.3


def test_retries_end(server):
    server.script = [(500, {"error": {"message": "the model crashed"}})]
    assert "HTTP 500 (the model crashed)" in failure(endpoint(server))
    assert len(server.seen) == 3


@pytest.mark.parametrize(
    ("status", "said"), [(400, "HTTP 400"), (401, "check its key"), (403, "key and rights"), (404, "ends in /v1")]
)
def test_a_lasting_refusal_is_not_retried(server, status, said):
    server.script = [(status, {"error": {"message": f"Incorrect API key provided: {KEY}"}})]
    message = failure(endpoint(server))
    assert said in message
    assert "[key]" in message
    assert len(server.seen) == 1


@pytest.mark.parametrize("status", [200, 404, 502])
def test_a_web_page_is_named(server, status):
    server.script = [(status, b"<!DOCTYPE html><html><body>Welcome</body></html>")]
    message = failure(endpoint(server))
    assert "web page" in message
    assert "Welcome" not in message


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"not json",
        b'{"choices": []}',
        b'{"choices": [{"message": {"content": null}}]}',
        b'{"choices": [{"message": {"content": 5}}]}',
        b'{"choices": [{"message": {"content": "  "}}]}',
        b"\xff\xfe",
    ],
)
def test_an_answer_without_text_is_one_sentence(server, content):
    server.script = [(200, content)]
    assert "without text" in failure(endpoint(server))


def test_parts_refusals_and_cut_answers(server):
    server.script = [answer([{"type": "text", "text": "A "}, {"type": "text", "text": "ball."}])]
    assert ask(endpoint(server)) == "A ball."
    server.script = [(200, {"choices": [{"message": {"content": None, "refusal": "I'm sorry."}}]})]
    assert ask(endpoint(server)) == "I'm sorry."
    server.script = [answer("A ball rolls. It hits a wa", finish_reason="length")]
    assert ask(endpoint(server)) == "A ball rolls."
    server.script = [answer(f"A ball with {KEY} on it.")]
    assert KEY not in ask(endpoint(server))


def slow(handler):
    time.sleep(2)


def drip(handler):
    handler.send_response(200)
    handler.end_headers()
    for _ in range(200):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.02)


@pytest.mark.parametrize("behaviour", [slow, drip])
def test_a_slow_server_meets_the_timeout(server, behaviour):
    server.script = [behaviour]
    start = time.monotonic()
    assert "nothing within 0.3 s" in failure(endpoint(server, timeout=0.3, attempts=2))
    assert time.monotonic() - start < 2
    assert len(server.seen) == 2


def endless(first, again):
    """A server that sends a beginning, and then something again and again, slowly."""

    def behave(handler):
        handler.wfile.write(first)
        for _ in range(400):
            handler.wfile.write(again)
            handler.wfile.flush()
            time.sleep(0.02)

    return behave


HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "behaviour",
    [
        endless(b"HTTP/1.1 200 O", b"K"),
        endless(b"HTTP/1.1 200 OK\r\n", b"X-More: yes\r\n"),
        endless(b"HTTP/1.1 200 OK\r\nX-Long: ", b"y"),
        endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        endless(HEAD + b"5;", b"extension"),
        endless(HEAD, b"1\r\n \r\n"),
        endless(HEAD + b"0\r\n", b"X-Trailer: yes\r\n"),
    ],
)
def test_one_watchdog_ends_the_whole_exchange(server, behaviour):
    server.script = [behaviour]
    start = time.monotonic()
    failure(endpoint(server, timeout=0.4, attempts=1))
    assert time.monotonic() - start < 3


@pytest.mark.parametrize("wish", ["3600", "1e9", "31"])
def test_a_server_that_asks_for_a_long_pause_is_not_waited_for(server, wish):
    server.script = [(429, {"error": {"message": "busy"}}, ("Retry-After", wish))]
    start = time.monotonic()
    assert "it asks to wait" in failure(endpoint(server))
    assert time.monotonic() - start < 3


EVENTS = [
    {"choices": [{"delta": {"role": "assistant"}}]},
    {"choices": [{"delta": {"content": "A red "}}]},
    {"choices": [{"delta": {"content": "ball \ud83d\ude00."}, "finish_reason": "stop"}]},
    {"choices": []},
]
CHAT = [{"message": {"role": "assistant", "content": part}, "done": False} for part in ("A red ", "ball \U0001f600.")]


@pytest.mark.parametrize(
    "body",
    [
        b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in EVENTS) + b"data: [DONE]\n\n",
        b": ping\r\n" + b"".join(b"data:" + json.dumps(event).encode() + b"\r\n\r\n" for event in EVENTS),
        b"\n".join(json.dumps(line).encode() for line in [*CHAT, {"done": True, "done_reason": "stop"}]),
        json.dumps({"model": "m", "message": {"content": "A red ball \U0001f600."}, "done": True}).encode(),
        json.dumps({"response": "A red ball \U0001f600.", "done": True}).encode(),
        b"\xef\xbb\xbf" + json.dumps({"choices": [{"text": "A red ball \U0001f600."}]}).encode(),
        json.dumps(answer("A red ball \ud83d\ude00\ud83d.")[1]).encode(),
    ],
)
@pytest.mark.parametrize("packing", ["", "gzip", "deflate", "raw", "unsaid"])
def test_streams_ollama_and_packed_answers_are_read(server, body, packing):
    pack = {
        "gzip": gzip.compress,
        "deflate": zlib.compress,
        "raw": lambda data: zlib.compress(data)[2:-4],
        "unsaid": gzip.compress,
    }
    said = {"gzip": "gzip", "deflate": "deflate", "raw": "deflate"}.get(packing)
    server.script = [(200, pack.get(packing, bytes)(body), *([("Content-Encoding", said)] if said else []))]
    assert ask(endpoint(server)) == "A red ball \U0001f600."


def test_packed_floods_and_unknown_packings_are_one_sentence(server):
    server.script = [(200, gzip.compress(b" " * 10**7), ("Content-Encoding", "gzip"))]
    assert "more than 2 MB" in failure(endpoint(server, attempts=1))
    server.script = [(200, b"xx", ("Content-Encoding", "br"))]
    assert "'br'" in failure(endpoint(server, attempts=1))
    server.script = [(200, b"\x1f\x8bxx", ("Content-Encoding", "gzip"))]
    assert "damaged" in failure(endpoint(server, attempts=1))


def test_thinking_that_uses_up_the_tokens_says_what_to_change(server):
    server.script = [
        (200, {"choices": [{"message": {"content": "", "reasoning_content": "The user"}, "finish_reason": "length"}]})
    ]
    assert "raise max_tokens" in failure(endpoint(server))
    server.script = [(200, {"message": {"content": "", "thinking": "The user"}, "done_reason": "length"})]
    assert "raise max_tokens" in failure(endpoint(server))


def shares(text, key=KEY):
    plain = "".join(filter(str.isalnum, text))
    letters = "".join(filter(str.isalnum, key))
    return any(key[i : i + SHARED] in text for i in range(len(key) - SHARED + 1)) or any(
        letters[i : i + SHARED] in plain for i in range(len(letters) - SHARED + 1)
    )


@pytest.mark.parametrize(
    "echo",
    [
        KEY,
        KEY[:9],
        KEY[6:],
        f"{KEY[:7]} {KEY[7:]}",
        "-".join(KEY),
        f"{KEY[:8]}\n{KEY[8:]}",
        f"{KEY[:5]}***{KEY[-7:]}",
        "x" * 190 + KEY,
        "x" * 197 + KEY,
        "x" * 185 + KEY,
        KEY * 3,
        f"{KEY[:4]}\u200b{KEY[4:]}",
        "y" * 49_990 + KEY,
    ],
)
@pytest.mark.parametrize("status", [400, 200, 503])
def test_nothing_of_the_key_is_shown_however_a_server_repeats_it(server, echo, status):
    server.script = [(status, {"error": {"message": f"Bad key {echo}"}})]
    said = failure(endpoint(server, attempts=1))
    assert not shares(said)
    assert len(said) < 500


def test_a_caption_loses_the_key_but_no_common_words(server):
    server.script = [answer(f"A ball with {KEY[:12]} on it, very secret.")]
    said = ask(endpoint(server))
    assert KEY[:12] not in said
    assert said.endswith("on it, very secret.")
    assert hide("no key here", "EMPTY") == "no key here"


@pytest.mark.parametrize(
    "url",
    [
        "http://me:pass/word@host/v1",
        "http://me:p@ss@word@host/v1",
        "http://me:pass?word@host/v1",
        "http://me:pass#word@host/v1",
        "me:password@host",
        "http:/me:password@host/v1",
        "http://me/password@host/v1",
        "http://host/v1?mail=a@b&key=password",
        "http://host/v1?key=password",
        "http://host/v1#password",
    ],
)
def test_addresses_never_show_a_password(url):
    assert "pass" not in plain_address(url)
    with pytest.raises(ValueError, match="address") as caught:
        Endpoint(name="mine", url=url)
    assert "pass" not in str(caught.value).replace("a password or", "")


def test_a_flood_is_cut_off(server, monkeypatch):
    monkeypatch.setattr(Exchange, "__init__", partialmethod(Exchange.__init__, most=10_000))
    server.script = [(200, b" " * 100_000)]
    assert "more than" in failure(endpoint(server, attempts=1))


def test_a_dead_server_is_one_sentence():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    dead = Endpoint(name="mine", url=f"http://127.0.0.1:{port}/v1", key=KEY, backoff=0.01)
    assert "is the server running?" in failure(dead)


def test_a_hangup_is_retried(server):
    server.script = [lambda handler: handler.connection.close(), answer("A caption.")]
    assert ask(endpoint(server)) == "A caption."


def test_redirects_are_not_followed_so_the_key_stays(server):
    other = Server()
    threading.Thread(target=other.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    server.script = [(302, b"", ("Location", f"{other.url}/steal"))]
    assert "redirects" in failure(endpoint(server))
    server.script = [(307, b"", ("Location", f"{other.url}/steal"))]
    failure(endpoint(server))
    assert other.seen == []
    other.shutdown()
    other.server_close()


def test_cancel_ends_the_wait_at_once(server):
    class CancelError(Exception):
        pass

    start = time.monotonic()

    def on_wait():
        if time.monotonic() - start > 0.2:
            raise CancelError

    server.script = [slow]
    with pytest.raises(CancelError):
        ask(endpoint(server, on_wait=on_wait))
    assert time.monotonic() - start < 1.5


def test_nothing_secret_is_logged(server, caplog):
    caplog.set_level(logging.DEBUG)
    server.script = [(401, {"error": {"message": KEY}})]
    failure(endpoint(server))
    assert KEY not in caplog.text


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ftp://host/v1",
        "file:///etc/passwd",
        "http://",
        "http://user:pw@host/v1",
        "https://host/v1?key=sk-1",
        "http://host:99999/v1",
        "http://ho st/v1",
        "http://host/\r\nX: y",
        "host:8080/v1",
    ],
)
def test_odd_addresses_are_refused_without_their_secrets(url):
    with pytest.raises(ValueError, match="address") as caught:
        Endpoint(name="mine", url=url)
    assert "pw" not in str(caught.value)
    assert "sk-1" not in str(caught.value)


def test_a_key_with_odd_characters_is_refused_without_showing_it():
    with pytest.raises(ValueError, match="copy it again") as caught:
        Endpoint(name="mine", url="http://host/v1", key="sk-1\r\nX: y")
    assert "sk-1" not in str(caught.value)


def test_an_endpoint_expands_a_prompt(server):
    text = "A bright red ball bounces on a smooth floor in soft light while everything else stays still."
    server.script = [(500, {}), answer(f"<think>hm</think>Here is the caption:\n{text}")]
    result = expand("a red ball bounces", "model", language_model=endpoint(server))
    assert (result.source, result.text) == ("model", text)
    server.script = [(401, {"error": {"message": KEY}})]
    result = expand("a red ball bounces", "model", language_model=endpoint(server))
    assert result.source == "offline"
    assert "HTTP 401" in result.reason
    assert KEY not in result.reason


@pytest.fixture
def configuration(tmp_path):
    def write(content, environ=None) -> Configuration:
        path = tmp_path / FILE
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return read_configuration(path, environ or {})

    return write


def test_the_file_names_endpoints_and_the_environment_may_hold_keys(configuration):
    mine = configuration(
        {
            "endpoints": {
                "a": {"url": "http://h/v1", "key_env": "A_KEY", "timeout": 5},
                "b": {"url": "http://h/v1", "key": " k "},
            }
        }
    )
    assert mine.endpoint("a", {"A_KEY": KEY}).key == KEY
    assert mine.endpoint("b").key == "k"
    with pytest.raises(ValueError, match="A_KEY, which is not set"):
        mine.endpoint("a", {})
    with pytest.raises(ValueError, match=r"'c' is configured.*there: a, b") as caught:
        mine.endpoint("c")
    assert FILE in str(caught.value)


def test_no_file_is_fine_and_the_environment_makes_an_endpoint(tmp_path):
    empty = read_configuration(tmp_path / "none.json", {})
    assert (dict(empty.endpoints), empty.allowed) == ({}, ())
    set_up = {"SPACETIME_LLM_URL": "http://h/v1", "SPACETIME_LLM_MODEL": "m", "SPACETIME_LLM_KEY": KEY}
    mine = read_configuration(tmp_path / "none.json", set_up)
    assert mine.endpoint("environment").key == KEY
    assert KEY not in repr(mine)


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"keys": {}}',
        '{"endpoints": []}',
        '{"allowed_urls": "x"}',
        '{"endpoints": {"a": {"model": "m"}}}',
        '{"endpoints": {"a": {"url": "http://h/v1", "apikey": "sk-secret"}}}',
        '{"endpoints": {"a": 5}}',
        '{"endpoints": {"a": {"url": "http://h/v1", "key": ["sk-secret"]}}}',
        '{"allowed_urls": ["not an address"]}',
        '{"endpoints": {"a": {"url": "http://h/v1", "timeout": true}}}',
    ],
)
def test_a_wrong_file_is_named_and_its_secrets_are_not(configuration, content):
    with pytest.raises(ValueError, match=r"\w") as caught:
        configuration(content)
    assert "sk-secret" not in str(caught.value)


@pytest.mark.parametrize("field", LIMITS)
def test_a_number_out_of_its_range_is_refused_with_the_range(configuration, field):
    low, high = LIMITS[field]
    for value in (low, high):
        configuration({"endpoints": {"a": {"url": "http://h/v1", field: int(value) or value}}}).endpoint("a")
    for value in (low - 1, high + 1, -1, 10**30):
        mine = configuration({"endpoints": {"a": {"url": "http://h/v1", field: int(value)}, "b": {"url": "http://h"}}})
        with pytest.raises(ValueError, match=f"^the {field} of endpoint 'a' is .* from .* to .*: mend it in ") as said:
            mine.endpoint("a")
        assert FILE in str(said.value)
        assert mine.endpoint("b").url == "http://h"


def test_an_address_of_a_workflow_is_called_only_when_allowed_and_never_with_a_key(configuration, server):
    theirs = {"url": server.url, "key": KEY}
    mine = configuration({"endpoints": {"a": theirs}, "allowed_urls": []})
    with pytest.raises(ValueError, match="allowed_urls"):
        mine.address(server.url)
    assert server.seen == []
    mine = configuration({"endpoints": {"a": theirs}, "allowed_urls": [server.url]})
    assert ask(mine.address(server.url)) == "A caption."
    assert "Authorization" not in server.seen[0][1]


@pytest.mark.parametrize(
    ("allowed", "url", "good"),
    [
        ("http://h:80/v1", "http://h/v1", True),
        ("http://h/v1", "http://H/v1/", True),
        ("http://h/v1", "http://h/v1/sub", True),
        ("http://h", "http://h/anything", True),
        ("http://h/v1", "http://h/v10", False),
        ("http://h/v1", "http://h/v1/../admin", False),
        ("http://h/v1", "http://h/v1/%2e%2e/admin", False),
        ("http://h/v1", "https://h/v1", False),
        ("http://h/v1", "http://h:81/v1", False),
        ("http://h/v1", "http://h.evil.com/v1", False),
    ],
)
def test_what_an_allowed_address_covers(allowed, url, good):
    assert covers(allowed, url) is good


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    """A real, tiny, untrained Llama with a tokenizer, saved as transformers saves them."""
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    import torch

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("LLM") / "maker" / "tiny"
    words = ["[UNK]", "</s>", *"abcdefghijklmnopqrstuvwxyz", *(f"w{i}" for i in range(100))]
    raw = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]")
    )
    raw.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="</s>", unk_token="[UNK]")
    tokenizer.save_pretrained(folder)
    config = transformers.LlamaConfig(
        vocab_size=len(words),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        eos_token_id=1,
        bos_token_id=None,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder, safe_serialization=True)
    return folder


def test_a_local_model_answers_and_the_seed_decides(model_folder):
    import torch

    model = LocalModel(path=model_folder, max_tokens=12, temperature=1.0)
    state = torch.random.get_rng_state()
    first = ask(model, seed=1)
    assert first == ask(model, seed=1)
    assert first != ask(model, seed=2)
    assert torch.equal(state, torch.random.get_rng_state())
    with pytest.raises(LanguageModelError, match="cannot see pictures"):
        ask(model, images=(PNG,))


def test_cancel_ends_a_local_answer_between_two_tokens(model_folder):
    class CancelError(Exception):
        pass

    calls = []

    def on_wait():
        calls.append(1)
        if len(calls) == 3:
            raise CancelError

    with pytest.raises(CancelError):
        ask(LocalModel(path=model_folder, max_tokens=50, on_wait=on_wait))
    assert len(calls) == 3


def test_only_whole_safetensors_folders_are_found(model_folder, tmp_path):
    root = model_folder.parents[1]
    assert find_model_folders([root]) == {"maker/tiny": model_folder}
    assert find_model_folders([tmp_path, tmp_path / "missing"]) == {}
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    for name in ("config.json", "tokenizer.json"):
        (pickled / name).write_bytes((model_folder / name).read_bytes())
    (pickled / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    assert find_model_folders([tmp_path]) == {}
    with pytest.raises(LanguageModelError, match="can not be loaded"):
        ask(LocalModel(path=pickled))
