"""The small websocket client, against frames written by hand."""

import socket

import pytest

from comfyui_spacetime.tools.websocket import WebSocket


def frame(kind, data, *, final=True):
    length = bytes([len(data)]) if len(data) < 126 else bytes([126]) + len(data).to_bytes(2, "big")
    return bytes([(0x80 if final else 0) | kind]) + length + data


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    yield WebSocket(ours), theirs
    ours.close()
    theirs.close()


def test_text_comes_through_and_pictures_are_skipped(pair):
    client, server = pair
    server.sendall(frame(2, b"picture") + frame(1, b"one") + frame(1, b"x" * 300))
    assert client.receive(1) == "one"
    assert client.receive(1) == "x" * 300


def test_a_message_in_parts_with_a_ping_between(pair):
    client, server = pair
    server.sendall(frame(1, b"he", final=False) + frame(9, b"?") + frame(0, b"llo"))
    assert client.receive(1) == "hello"
    answer = server.recv(100)
    assert answer[0] == 0x8A
    assert bytes(a ^ b for a, b in zip(answer[6:], answer[2:6], strict=False)) == b"?"


def test_a_pause_inside_a_message_loses_nothing(pair):
    client, server = pair
    whole = frame(1, b"patience")
    server.sendall(whole[:4])
    assert client.receive(0.05) is None
    server.sendall(whole[4:])
    assert client.receive(1) == "patience"


def test_the_end_of_the_connection_is_an_error(pair):
    client, server = pair
    server.close()
    with pytest.raises(OSError, match="closed"):
        client.receive(1)
