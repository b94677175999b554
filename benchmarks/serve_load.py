"""Many callers of a real `tunesmith serve` for some minutes: errors, latencies, and whether its memory stays flat.

    python benchmarks/serve_load.py [--seconds 300] [--callers 100] [--base bundled/tunesmith-8m] [--out FILE]

The server runs in a process of its own over a new home, without a worker. Each caller asks one thing after the other,
drawn by weight: chats (streamed and not), files uploaded, read and deleted, lists of files, jobs and models. Errors are
what is not answered with 200, what breaks off or says an error in its stream, and every broken connection; a 429 is no
error where `--requests-per-minute` sets a limit. The callers share the machine's cores with the server. Memory is the
resident set of the server's process, taken every second, once the base is loaded and the warm-up (asks of the same
kinds) is over: the slope by least squares, and the medians of the first and the last minute. The figures belong into
`benchmarks/results/`, measured while the machine does nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import psutil
import written

ROWS = b"".join(
    json.dumps({"messages": [{"role": "user", "content": f"{i}?"}, {"role": "assistant", "content": "yes"}]}).encode()
    + b"\n"
    for i in range(12)
)
QUESTIONS = (
    "Where is my order?", "I want a refund for the lamp.", "Play some music", "Book a table for two in Rome",
    "What is the weather in Oslo tomorrow?", "Please send me the bill by email.", "The parcel came open, what now?",
)  # fmt: skip
WEIGHTS = {"chat": 35, "chat_stream": 35, "file": 8, "files": 7, "jobs": 10, "models": 5}
JOBS = 30
"""Jobs that wait in the queue, so that a list has something to show."""
KEYS = 10
WARM_SECONDS = 60.0
"""Until batches of every size have been at work: the heap grows to what the largest takes, and then no more."""


@dataclass
class Seen:
    """What came of all asks."""

    took: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Seconds until the whole answer, by kind."""
    first: list[float] = field(default_factory=list)
    """Seconds until a stream's first text."""
    errors: Counter[str] = field(default_factory=Counter)
    limited: int = 0
    tokens: int = 0


class LimitedError(Exception):
    """429: to be asked again after so many seconds."""

    def __init__(self, seconds: float):
        super().__init__("limited")
        self.seconds = seconds


class Caller:
    """Asks one thing after the other."""

    def __init__(self, client: httpx2.AsyncClient, key: str, model: str, tokens: int, seen: Seen, seed: int):
        self._client, self._model, self._tokens, self._seen = client, model, tokens, seen
        self._headers = {"authorization": f"Bearer {key}"}
        self._draw = random.Random(seed)  # noqa: S311
        self._kinds: dict[str, Callable[[], Awaitable[None]]] = {
            "chat": self._chat, "chat_stream": self._stream, "file": self._file,
            "files": lambda: self._list("/files"), "jobs": lambda: self._list("/fine_tuning/jobs"),
            "models": lambda: self._list("/models"),
        }  # fmt: skip

    async def ask_until(self, end: float) -> None:
        """Until the clock says so; what has begun is waited for."""
        while time.monotonic() < end:
            (kind,) = self._draw.choices(list(WEIGHTS), list(WEIGHTS.values()))
            begun = time.perf_counter()
            try:
                await self._kinds[kind]()
            except LimitedError as limited:
                self._seen.limited += 1
                await asyncio.sleep(limited.seconds)
            except (httpx2.HTTPError, ValueError, KeyError) as error:
                self._seen.errors[f"{kind}: {type(error).__name__}: {error}"[:200]] += 1
            else:
                self._seen.took[kind].append(time.perf_counter() - begun)

    def _body(self, **more: Any) -> dict[str, Any]:
        asked = [{"role": "user", "content": self._draw.choice(QUESTIONS)}]
        return {"model": self._model, "messages": asked, "max_tokens": self._tokens} | more

    async def _request(self, method: str, path: str, **options: Any) -> Any:
        return _good(await self._client.request(method, path, headers=self._headers, **options)).json()

    async def _chat(self) -> None:
        said = await self._request("POST", "/chat/completions", json=self._body())
        self._seen.tokens += int(said["usage"]["completion_tokens"])

    async def _stream(self) -> None:
        begun, first, ended = time.perf_counter(), 0.0, False
        body = self._body(stream=True, stream_options={"include_usage": True})
        async with self._client.stream("POST", "/chat/completions", headers=self._headers, json=body) as answer:
            _good(answer)
            async for line in answer.aiter_lines():
                text = line.removeprefix("data: ")
                ended = ended or text == "[DONE]"
                if not text or ended:
                    continue
                event = json.loads(text)
                if "error" in event:
                    raise ValueError(f"in the stream: {event['error']['code']}")
                first = first or time.perf_counter() - begun
                self._seen.tokens += (event.get("usage") or {}).get("completion_tokens", 0)
        if not ended:
            raise ValueError("the stream broke off")
        self._seen.first.append(first)

    async def _file(self) -> None:
        """A file's whole life."""
        files = {"file": ("rows.jsonl", ROWS)}
        id = (await self._request("POST", "/files", files=files, data={"purpose": "fine-tune"}))["id"]
        content = _good(await self._client.get(f"/files/{id}/content", headers=self._headers)).content
        if content != ROWS:
            raise ValueError("another content came back")
        await self._request("DELETE", f"/files/{id}")

    async def _list(self, path: str) -> None:
        if not isinstance((await self._request("GET", path))["data"], list):
            raise ValueError("no list")


def _good(answer: httpx2.Response) -> httpx2.Response:
    """The answer, where it is one. LimitedError, ValueError."""
    if answer.status_code == 429:
        raise LimitedError(float(answer.headers.get("retry-after", "1")))
    if answer.status_code != 200:
        raise ValueError(f"status {answer.status_code}")
    return answer


@dataclass
class Memory:
    """The server's process over time."""

    process: psutil.Process
    samples: list[tuple[float, int]] = field(default_factory=list)
    """(seconds since the first, bytes)."""
    files: list[int] = field(default_factory=list)
    """Open files and sockets."""

    async def watch(self) -> None:
        """Every second, until it is cancelled."""
        begun = time.monotonic()
        while True:
            self.samples.append((time.monotonic() - begun, self.process.memory_info().rss))
            self.files.append(self.process.num_fds())
            await asyncio.sleep(1.0)

    def figures(self) -> dict[str, Any]:
        """In MB (10^6 bytes)."""
        times, sizes = (np.array(part, dtype=float) for part in zip(*self.samples, strict=True))
        sizes /= 1e6
        slope = np.polyfit(times / 60, sizes, 1)[0] if len(times) > 1 else 0.0
        minute = min(60.0, times[-1] / 2)
        return {
            "samples": len(times), "slope_mb_a_minute": round(float(slope), 3),
            "first_minute_median_mb": round(float(np.median(sizes[times <= minute])), 1),
            "last_minute_median_mb": round(float(np.median(sizes[times >= times[-1] - minute])), 1),
            "highest_mb": round(float(sizes.max()), 1), "threads": self.process.num_threads(),
            "open_files_median": statistics.median(self.files), "open_files_highest": max(self.files),
            "each_ten_seconds_mb": [round(float(size), 1) for size in sizes[::10]],
        }  # fmt: skip


def start(home: Path, settings: dict[str, Any]) -> tuple[subprocess.Popen[str], str, str]:
    """The server's process, its URL and its first key."""
    (home / "server.yaml").write_text(json.dumps(settings), "utf-8")
    with (home / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tunesmith", "serve", "--port", "0", "--no-worker"], stdout=subprocess.PIPE,
            stderr=log, text=True, env={**os.environ, "TUNESMITH_HOME": str(home), "HF_HUB_OFFLINE": "1"},
        )  # fmt: skip
    assert process.stdout is not None  # noqa: S101
    url, key = process.stdout.readline().strip(), process.stdout.readline().rpartition(" ")[2].strip()
    if not url or not key:
        raise SystemExit(f"the server did not start:\n{(home / 'log.txt').read_text()}")
    return process, url, key


async def prepare(client: httpx2.AsyncClient, key: str, model: str) -> list[str]:
    """Jobs that wait, and keys for the callers."""
    headers = {"authorization": f"Bearer {key}"}
    files = {"file": ("rows.jsonl", ROWS)}
    file = _good(await client.post("/files", headers=headers, files=files, data={"purpose": "fine-tune"})).json()["id"]
    for _ in range(JOBS):
        body = {"model": model, "training_file": file}
        _good(await client.post("/fine_tuning/jobs", headers=headers, json=body))
    asked = {"name": "caller", "scopes": ["read", "infer", "train"]}
    made = [_good(await client.post("/tunesmith/keys", headers=headers, json=asked)) for _ in range(KEYS)]
    return [str(answer.json()["value"]) for answer in made]


async def load(url: str, key: str, pid: int, asked: argparse.Namespace) -> tuple[Seen, Memory, float]:
    """Warm up, then ask for as long as it was told."""
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx2.AsyncClient(base_url=url, trust_env=False, timeout=120, limits=limits) as client:
        keys = await prepare(client, key, asked.base)

        async def call(seen: Seen, seconds: float) -> float:
            begun = time.monotonic()
            callers = [
                Caller(client, keys[i % KEYS], asked.base, asked.max_tokens, seen, seed=i) for i in range(asked.callers)
            ]
            await asyncio.gather(*(caller.ask_until(begun + seconds) for caller in callers))
            return time.monotonic() - begun

        await call(Seen(), WARM_SECONDS)
        seen, memory = Seen(), Memory(psutil.Process(pid))
        watching = asyncio.create_task(memory.watch())
        took = await call(seen, asked.seconds)
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        return seen, memory, took


def main() -> None:
    """Start, load, stop, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--callers", type=int, default=100)
    parser.add_argument("--base", default="bundled/tunesmith-8m", help="a bundled base, or a model's folder")
    parser.add_argument("--max-tokens", type=int, default=16)
    parser.add_argument("--requests-per-minute", type=int, help="of each key; above it 429 is no error")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    settings: dict[str, Any] = {}
    if Path(asked.base).is_dir():
        settings["aliases"] = {"base": str(Path(asked.base).absolute())}
        asked.base = "base"
    if asked.requests_per_minute:
        settings["limits"] = {"requests_per_minute": asked.requests_per_minute}
    with tempfile.TemporaryDirectory() as folder:
        process, url, key = start(Path(folder), settings)
        try:
            seen, memory, took = asyncio.run(load(url, key, process.pid, asked))
            figures = memory.figures()
        finally:
            process.terminate()
            code = process.wait(60)
        errors = (Path(folder) / "log.txt").read_text("utf-8").count("Traceback")
    asks = sum(map(len, seen.took.values()))
    if not asked.requests_per_minute:
        seen.errors["429 without a limit"] += seen.limited
    written.write(
        {
            "callers": asked.callers, "seconds": round(took, 1), "asks": asks,
            "asks_a_second": round(asks / took, 1), "answer_tokens_a_second": round(seen.tokens / took, 1),
            "errors": sum(seen.errors.values()), "errors_by_kind": dict((+seen.errors).most_common(20)),
            "limited_429": seen.limited, "tracebacks_in_the_log": errors, "server_exit_code": code,
            "latency_ms": {kind: written.told(seen.took[kind]) for kind in WEIGHTS if seen.took[kind]},
            "first_text_ms": written.told(seen.first) if seen.first else None, "memory": figures,
        },
        asked.out,
    )  # fmt: skip


if __name__ == "__main__":
    main()
