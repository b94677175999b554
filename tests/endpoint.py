"""A real OpenAI-compatible server in the test process, which does as it is told: answers, errors, silence."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = tuple[int, dict[str, str], bytes]
"""Status, headers, body."""
Act = Callable[[dict[str, Any]], Reply]


@dataclass
class Endpoint:
    """What the server saw. `act` turns the JSON that is asked into a reply."""

    act: Act
    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    at_once: int = 0
    """The most requests that were under way together."""


def said(text: str | None, reason: str = "stop") -> Reply:
    """An answer as OpenAI's endpoint gives it."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": reason}
    return 200, {}, json.dumps({"object": "chat.completion", "choices": [choice]}).encode()


def refused(status: int, message: str, **headers: str) -> Reply:
    """An error as OpenAI's endpoint gives it."""
    return status, headers, json.dumps({"error": {"message": message, "type": "x"}}).encode()


@contextmanager
def serving(act: Act) -> Iterator[Endpoint]:
    """The server, for as long as the block lasts."""
    endpoint, lock = Endpoint(act), threading.Lock()
    under_way = 0

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            nonlocal under_way
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                endpoint.asked.append(asked)
                endpoint.keys.append(self.headers.get("Authorization"))
                endpoint.paths.append(self.path)
                under_way += 1
                endpoint.at_once = max(endpoint.at_once, under_way)
            try:
                status, headers, body = endpoint.act(asked)
            finally:
                with lock:
                    under_way -= 1
            if status == 0:  # hang up
                self.close_connection = True
                return
            try:
                self.send_response(status)
                for name, value in (headers | {"Content-Length": str(len(body))}).items():
                    self.send_header(name.replace("_", "-"), value)
                self.end_headers()
                self.wfile.write(body)
            except (BrokenPipeError, ConnectionResetError):  # who asked has gone
                pass

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    endpoint.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield endpoint
    finally:
        server.shutdown()
        server.server_close()


def slowly(seconds: float, reply: Reply) -> Act:
    """The reply, later."""

    def act(asked: dict[str, Any]) -> Reply:
        time.sleep(seconds)
        return reply

    return act
