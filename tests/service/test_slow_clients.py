"""Connections that send too slowly, over real sockets: closed after a while, and in nobody's way until then."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from said import live_house
from serving import ROWS, House

HEAD = "POST /v1/files HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
FORM = HEAD + "Content-Type: multipart/form-data; boundary=xx\r\nContent-Length: 100000\r\n\r\n"
PART = b'--xx\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
LIMITS = {
    "seconds_for_headers": 0.5, "seconds_between_pieces": 1.0, "least_bytes_per_second": 200, "uploads_at_once": 1
}  # fmt: skip


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A server of little patience, which takes one file at a time."""
    with House.open(tmp_path / "home", limits=LIMITS) as made:
        yield made


@pytest.fixture
def port(house: House) -> Iterator[int]:
    with live_house(house) as url:
        yield int(url.rpartition(":")[2].split("/")[0])


def _drip(port: int, first: bytes, drop: bytes, every: float = 0.1) -> bytes:
    """Send `first`, then a drop now and then, until the server has had enough; what it said."""
    said = b""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(first)
        connection.settimeout(every)
        until = time.monotonic() + 20
        while time.monotonic() < until:
            try:
                connection.sendall(drop)
                piece = connection.recv(65536)
            except TimeoutError:
                continue
            except OSError:  # it was closed while we sent
                return said
            if not piece:
                return said
            said += piece
    pytest.fail("it waits for ever")


def test_headers_that_never_end(port: int) -> None:
    assert _drip(port, b"", b"") == b""  # nothing at all
    assert _drip(port, b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n", b"x: y\r\n") == b""


def test_headers_that_never_end_behind_an_answer(port: int) -> None:
    whole = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    said = _drip(port, whole, b"G")
    assert said.startswith(b"HTTP/1.1 200")


def test_a_body_nobody_waits_for_is_not_read_for_ever(port: int) -> None:
    """Answered before its body came, for it has no key."""
    said = _drip(port, FORM.format(key="no").encode(), b"x")
    assert said.startswith(b"HTTP/1.1 401")


@pytest.mark.parametrize("first", [PART[:40], PART], ids=["in a header of the form", "in the file"])
def test_a_body_that_drips(port: int, house: House, first: bytes) -> None:
    said = _drip(port, FORM.format(key=house.keys["train"]).encode() + first, b"x")
    assert said.startswith(b"HTTP/1.1 408")
    assert b"connection: close" in said.lower()
    assert house.blobs() == 0
    assert house.upload().status_code == 200  # the one place is free again


def test_a_body_in_pieces_at_a_fair_pace_comes_through(port: int, house: House) -> None:
    """Slower than the patience as a whole, and never standing still."""
    ending = b'\r\n--xx\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n--xx--\r\n'
    body = PART + ROWS + ending
    head = HEAD.format(key=house.keys["train"]) + "Content-Type: multipart/form-data; boundary=xx\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode())
        for start in range(0, len(body), 100):
            connection.sendall(body[start : start + 100])
            time.sleep(0.1)
        said = b"".join(iter(lambda: connection.recv(65536), b""))
    assert said.startswith(b"HTTP/1.1 200"), said


def test_others_are_answered_while_slow_ones_wait(port: int) -> None:
    slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(60)]
    for connection in slow:
        connection.sendall(b"GET /health HTTP/1.1\r\n")
    try:
        answer = httpx2.get(f"http://127.0.0.1:{port}/health", trust_env=False, timeout=20)
        assert answer.status_code == 200
        for connection in slow:
            connection.settimeout(20)
            assert connection.recv(1) == b""
    finally:
        for connection in slow:
            connection.close()
