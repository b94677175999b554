"""A server in the test process that behaves like the hosted fine-tuning service: its jobs, files, events, checkpoints
and results, page by page, its errors, its base64 of result files, its deleted files, its limits, and its tuned models'
answers. Whatever would change something is refused and noted.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import tiny

KEY = "sk-proj-very-secret-0123456789"
BASE = "gpt-4o-mini-2024-07-18"
CSV = "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy\n1,0.9,0.5,1.1,0.4\n2,0.4,0.8,,\n"
USUAL = {"n_epochs": 3, "batch_size": 4, "learning_rate_multiplier": 1.8}
Trouble = tuple[int, dict[str, str], dict[str, Any]]
"""Status, headers, body."""


@dataclass
class Hosted:
    """What the service holds, what it is asked, and how it misbehaves."""

    jobs: list[dict[str, Any]] = field(default_factory=list)
    events: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    checkpoints: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    models: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = field(default_factory=dict)
    """By name: what is asked to the message that is said."""
    page: int = 2
    """The most things on a page, whatever is asked for: cursors are needed."""
    trouble: Callable[[int, str, str], Trouble | str | None] = lambda number, method, path: None
    """Of request number, method and path: what goes wrong; "hang up" ends the connection, "half" in the middle."""
    halfway: Callable[[], None] = lambda: None
    """Called when half of an answer is out, before the connection ends."""
    url: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)
    """(method, path with its query) of every request."""
    questions: list[dict[str, Any]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    """Requests that would have changed something, or came without the key."""

    def paths(self, method: str = "GET") -> list[str]:
        """The paths asked for, without their queries."""
        return [path.partition("?")[0] for name, path in self.asked if name == method]

    def add_file(self, id: str, content: bytes, purpose: str = "fine-tune", name: str = "rows.jsonl") -> str:
        """A file of the service's."""
        told = {"id": id, "object": "file", "bytes": len(content), "created_at": 1_700_000_000, "filename": name}
        self.files[id] = told | {"purpose": purpose, "status": "processed", "status_details": None}
        self.contents[id] = content
        return id

    def add_job(self, id: str, training: str, **other: Any) -> dict[str, Any]:
        """A job as the live service tells it, the newest first, with its events and checkpoints."""
        job = {
            "object": "fine_tuning.job", "id": id, "model": BASE, "created_at": 1_700_000_000 + len(self.jobs),
            "finished_at": 1_700_000_900, "fine_tuned_model": f"ft:{BASE}:personal::{id[-8:]}",
            "organization_id": "org-1", "result_files": [], "status": "succeeded", "validation_file": None,
            "training_file": training, "hyperparameters": USUAL,
            "trained_tokens": 5049, "error": {}, "user_provided_suffix": None, "seed": 683058546,
            "estimated_finish": None, "integrations": [], "metadata": None, "usage_metrics": None,
            "shared_with_openai": False,
            "method": {"type": "supervised", "supervised": {"hyperparameters": USUAL}},
        } | other  # fmt: skip
        self.jobs.insert(0, job)
        told = ["Created fine-tuning job: " + id, "Fine-tuning job started", "Step 1/2: training loss=0.90",
                "Step 2/2: training loss=0.40", "The job has successfully completed"]  # fmt: skip
        self.events[id] = [
            {"object": "fine_tuning.job.event", "id": f"ftevent-{id}-{n}", "created_at": 1_700_000_000 + n,
             "level": "info", "message": text, "type": "metrics" if "Step" in text else "message", "data": {}}
            for n, text in enumerate(told)
        ][::-1]  # fmt: skip
        self.checkpoints[id] = [
            {"object": "fine_tuning.job.checkpoint", "id": f"ftckpt_{id}_{step}", "created_at": 1_700_000_000 + step,
             "fine_tuned_model_checkpoint": f"ft:{BASE}:personal::x:ckpt-step-{step}", "fine_tuning_job_id": id,
             "step_number": step, "metrics": {"step": step, "train_loss": 0.4}}
            for step in (3, 2, 1)
        ]  # fmt: skip
        if job["fine_tuned_model"]:
            self.models[str(job["fine_tuned_model"])] = lambda asked: {"role": "assistant", "content": _answer(asked)}
        return job


def _answer(asked: dict[str, Any]) -> str:
    """What the tiny task wants: the thing in the question."""
    text = asked["messages"][-1]["content"]
    return next((thing for thing in tiny.THINGS if f" a {thing}" in text), "?")


def jsonl(rows: list[dict[str, Any]]) -> bytes:
    """Rows as the bytes of a file."""
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def preferences(first: int, count: int) -> list[dict[str, Any]]:
    """Preference rows in the service's shape."""
    return [
        {
            "input": {"messages": row["messages"][:1]},
            "preferred_output": row["messages"][1:],
            "non_preferred_output": [{"role": "assistant", "content": "I do not know that."}],
        }
        for row in tiny.rows(first, count)
    ]


def chats(first: int, count: int) -> list[dict[str, Any]]:
    """Chat rows with nothing but messages, as the service takes them."""
    return [{"messages": row["messages"]} for row in tiny.rows(first, count)]


def usual() -> Hosted:
    """A service with a job of every sort that there is."""
    made = Hosted()
    made.add_file("file-train1", jsonl(chats(0, 40)))
    made.add_file("file-valid1", jsonl(chats(100, 8)))
    made.add_file("file-dpo1", jsonl(preferences(0, 40)))
    made.add_file("file-result1", base64.b64encode(CSV.encode()), "fine-tune-results", "step_metrics.csv")
    made.add_file("file-result2", CSV.encode(), "fine-tune-results", "step_metrics.csv")
    made.add_job("ftjob-sft00001", "file-train1", validation_file="file-valid1", result_files=["file-result1"])
    made.add_job(
        "ftjob-dpo00001", "file-dpo1", result_files=["file-result2"], hyperparameters=None, metadata={"team": "a"},
        method={"type": "dpo", "dpo": {"hyperparameters": {
            "n_epochs": 2, "batch_size": 8, "learning_rate_multiplier": 1.0, "beta": 0.2}}},
    )  # fmt: skip
    error = {"code": "invalid_n_examples", "param": "training_file",
             "message": "Training file has 7 example(s), but must have at least 10 examples"}  # fmt: skip
    made.add_file("file-seven", jsonl(chats(0, 7)))
    made.add_job(
        "ftjob-failed01", "file-seven", status="failed", fine_tuned_model=None, error=error, trained_tokens=None,
        hyperparameters={"n_epochs": "auto", "batch_size": "auto", "learning_rate_multiplier": "auto"},
    )  # fmt: skip
    made.add_job("ftjob-deleted1", "file-deleted", result_files=["file-gone"])
    made.add_job(
        "ftjob-rft00001", "file-train1", validation_file="file-valid1", model="o4-mini-2025-04-16",
        fine_tuned_model="ft:o4-mini-2025-04-16:personal::rft00001", hyperparameters=None,
        method={"type": "reinforcement", "reinforcement": {"hyperparameters": {"n_epochs": 1}}},
    )  # fmt: skip
    return made


@contextmanager
def serving(service: Hosted) -> Iterator[Hosted]:
    """The service at an address, for as long as the block lasts."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(service))
    service.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()


def _error(status: int, message: str, code: str | None = None, param: str | None = None) -> Trouble:
    kind = {401: "authentication_error", 429: "rate_limit_error"}.get(status, "invalid_request_error")
    return status, {}, {"error": {"message": message, "type": kind, "param": param, "code": code}}


def _handler(of: Hosted) -> type[BaseHTTPRequestHandler]:
    """The handler of one service's requests."""

    class Handler(_Handler):
        service = of

    for method in ("GET", "POST", "DELETE", "PUT", "PATCH"):
        setattr(Handler, f"do_{method}", Handler.reply)
    return Handler


class _Handler(BaseHTTPRequestHandler):
    service: Hosted
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet, or the other side waits before it says that it has the first

    def reply(self) -> None:
        """Answer one request, of whatever method."""
        service, body = self.service, self.rfile.read(int(self.headers.get("Content-Length") or 0))
        split = urlsplit(self.path)
        path = unquote(split.path.removeprefix("/v1"))
        service.asked.append((self.command, self.path.removeprefix("/v1")))
        trouble = service.trouble(len(service.asked), self.command, path)
        if trouble == "hang up":
            self.close_connection = True
        elif isinstance(trouble, tuple):
            self._send(trouble, half=False)
        else:
            query = {name: values[0] for name, values in parse_qs(split.query).items()}
            self._send(self._answer(path, query, body), half=trouble == "half")

    def _answer(self, path: str, query: dict[str, str], body: bytes) -> Trouble | bytes:
        service, given = self.service, self.headers.get("Authorization")
        if given != f"Bearer {KEY}":
            service.wrong.append(f"no key: {self.command} {path}")
            return _error(401, f"Incorrect API key provided: {given}.", "invalid_api_key")
        if self.command == "POST" and path == "/chat/completions":
            return _said(service, json.loads(body))
        if self.command != "GET":
            service.wrong.append(f"{self.command} {path}")
            return _error(405, "Not allowed to invoke this method.")
        return _got(service, path.strip("/").split("/"), query)

    def _send(self, reply: Trouble | bytes, *, half: bool) -> None:
        status, headers, value = (200, {}, reply) if isinstance(reply, bytes) else reply
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        try:
            self.send_response(status)
            for name, text in (headers | {"x-request-id": "req_1", "Content-Length": str(len(content))}).items():
                self.send_header(name, text)
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if half else content)
            self.wfile.flush()
            if half:
                self.service.halfway()
            self.close_connection = half
        except (BrokenPipeError, ConnectionResetError):  # who asked has gone
            self.close_connection = True

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


def _got(service: Hosted, parts: list[str], query: dict[str, str]) -> Trouble | bytes:
    match parts:
        case ["fine_tuning", "jobs"]:
            return _listed(service, service.jobs, query)
        case ["fine_tuning", "jobs", id, *rest] if any(job["id"] == id for job in service.jobs):
            if not rest:
                return 200, {}, next(job for job in service.jobs if job["id"] == id)
            return _listed(service, {"events": service.events, "checkpoints": service.checkpoints}[rest[0]][id], query)
        case ["fine_tuning", "jobs", id, *_]:
            return _error(404, f"Could not find fine tune: {id}", "fine_tune_not_found", "fine_tune_id")
        case ["files", id] if id in service.files:
            return 200, {}, service.files[id]
        case ["files", id, "content"] if id in service.contents:
            return service.contents[id]
        case ["files", id, *_]:
            return _error(404, f"No such File object: {id}", None, "id")
    return _error(404, f"Invalid URL (GET /v1/{'/'.join(parts)})")


def _listed(service: Hosted, things: list[dict[str, Any]], query: dict[str, str]) -> Trouble:
    ids = [thing["id"] for thing in things]
    start = ids.index(query["after"]) + 1 if "after" in query else 0
    end = start + min(service.page, int(query.get("limit", 20)))
    return 200, {}, {"object": "list", "data": things[start:end], "has_more": end < len(things)}


def _said(service: Hosted, asked: dict[str, Any]) -> Trouble:
    model = asked["model"]
    if model not in service.models:
        return _error(404, f"The model `{model}` does not exist or you do not have access to it.", "model_not_found")
    if model.startswith("ft:o4") and "temperature" in asked:
        return _error(400, "Unsupported parameter: 'temperature' is not supported with this model.",
                      "unsupported_parameter", "temperature")  # fmt: skip
    service.questions.append(asked)
    message = service.models[model](asked)
    reason = "tool_calls" if message.get("tool_calls") else "stop"
    choice = {"index": 0, "message": {"refusal": None} | message, "logprobs": None, "finish_reason": reason}
    usage = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
    return 200, {}, {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": model,
                     "choices": [choice], "usage": usage}  # fmt: skip
