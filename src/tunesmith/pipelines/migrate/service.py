"""The old service over HTTP. It is read: every request is a GET, but for the one that asks a tuned model a question
(`POST /chat/completions`); nothing there can be made, changed or deleted from here.

What passes by itself is tried again: a connection that breaks, silence, 408, 409, 429 and 5xx, as `x-should-retry`
overrides. The waits double from half a second to a minute; where the service says how long (`retry-after-ms`,
`retry-after` in seconds or as a date), that is waited for, up to five minutes. Requests keep a distance, so that a
migration does not eat up the limits that production lives on.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, BinaryIO

import httpx2

from ... import __version__
from ...core.errors import MissingError, NotAllowedError, TunesmithError

HOSTED = "https://api.openai.com/v1"
"""Where the service is unless OPENAI_BASE_URL says otherwise."""
AGAIN = "run the same command again later: what was fetched is kept"
_PAGE = 100
"""Things asked for at a time."""
_RETRIES = 6
_LONGEST_WAIT, _LONGEST_ASKED_FOR = 60.0, 300.0
_PASSING = frozenset({408, 409, 429, *range(500, 600)})
_SPENT = ("insufficient_quota", "billing_hard_limit_reached")
"""Codes of a 429 that no waiting mends."""
_HIDDEN = "[the key]"


class RefusedError(TunesmithError):
    """The service refuses one request, and would refuse it again; the others may go on."""

    exit_code = 4

    def __init__(self, what: str, *, status: int, why: str, code: str | None = None, param: str | None = None):
        super().__init__(what, why=why)
        self.status, self.code, self.param = status, code, param


@dataclass(frozen=True)
class Login:
    """Where the service is and who asks. The key is sent to that address, and goes nowhere else."""

    url: str
    key: str = field(repr=False)
    organization: str | None = None
    project: str | None = None

    @staticmethod
    def read(environment: Mapping[str, str]) -> Login:
        """From OPENAI_API_KEY, OPENAI_BASE_URL, OPENAI_ORG_ID and OPENAI_PROJECT_ID. MissingError without a key."""
        key = environment.get("OPENAI_API_KEY", "").strip()
        if not key:
            raise MissingError(
                "OPENAI_API_KEY is not set", why="the old service tells nothing without your key there",
                mend="export OPENAI_API_KEY=...; or --offline, to work with what an earlier call has fetched",
            )  # fmt: skip
        return Login(
            service_url(environment), key, environment.get("OPENAI_ORG_ID"), environment.get("OPENAI_PROJECT_ID")
        )

    def headers(self) -> dict[str, str]:
        """What every request carries."""
        named = {"OpenAI-Organization": self.organization, "OpenAI-Project": self.project}
        given = {name: value for name, value in named.items() if value}
        return {"Authorization": f"Bearer {self.key}", "User-Agent": f"tunesmith/{__version__}"} | given


def service_url(environment: Mapping[str, str]) -> str:
    """OPENAI_BASE_URL, else the hosted service's own address; without a slash at the end."""
    return (environment.get("OPENAI_BASE_URL", "").strip() or HOSTED).rstrip("/")


class Service:
    """Asks the service, one request after the other; a context manager. `rate` is the most requests a second.

    MissingError where it cannot be reached, NotAllowedError where it does not let the key in, RefusedError where it
    refuses one request.
    """

    def __init__(
        self, login: Login, *, rate: float = 5.0, timeout: float = 120.0, wait: Callable[[float], None] = time.sleep
    ):
        self._login, self._distance, self._wait = login, 1 / rate, wait
        self._next = 0.0
        self.asked: Counter[str] = Counter()
        """Requests by method, those that were tried again included."""
        self._client = httpx2.Client(timeout=httpx2.Timeout(timeout, connect=10.0), headers=login.headers())

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *ended: object) -> None:
        self._client.close()

    def pages(self, path: str) -> Iterator[dict[str, Any]]:
        """Everything in a list, page by page, as the service orders it: the newest first."""
        after: str | None = None
        seen: set[str] = set()
        while True:
            page = self._json(path, {"limit": _PAGE} | ({"after": after} if after else {}))
            data = page.get("data")
            if not isinstance(data, list) or not all(isinstance(one, dict) and one.get("id") for one in data):
                raise self._trouble("does not answer as OpenAI's does", f"GET {path} gave no list of things with an id")
            yield from data
            if not data or not page.get("has_more"):
                return
            after = str(data[-1]["id"])
            if after in seen:
                raise self._trouble("goes round in a circle", f"GET {path} came to '{after}' twice")
            seen.add(after)

    def one(self, path: str) -> dict[str, Any]:
        """One object."""
        return self._json(path, {})

    def content(self, path: str, file: BinaryIO) -> None:
        """The bytes at `path`, into an empty file that is open for writing."""

        def take(response: httpx2.Response) -> None:
            file.seek(0)
            file.truncate()
            for piece in response.iter_bytes():
                file.write(piece)

        self._patiently("GET", path, take, headers={"Accept": "application/binary"})

    def answer(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """What a model says: the only request that is no GET. It is billed like every other."""
        return self._object(self._patiently("POST", "/chat/completions", httpx2.Response.read, json=dict(asked)))

    def _json(self, path: str, params: Mapping[str, Any]) -> dict[str, Any]:
        return self._object(self._patiently("GET", path, httpx2.Response.read, params=dict(params)))

    def _object(self, response: httpx2.Response) -> dict[str, Any]:
        try:
            value = response.json()
        except ValueError as error:
            raise self._trouble("does not answer as OpenAI's does", f"{error}; it said {response.text:.200}") from error
        if not isinstance(value, dict):
            raise self._trouble("does not answer as OpenAI's does", f"no object: {response.text:.200}")
        return value

    def _patiently(
        self, method: str, path: str, take: Callable[[httpx2.Response], object], **parts: Any
    ) -> httpx2.Response:  # fmt: skip
        """The first response that is none of those that pass, its body taken."""
        delay = 0.5
        for attempt in range(_RETRIES + 1):
            last = attempt == _RETRIES
            asked_for: float | None = None
            try:
                with self._sent(method, path, **parts) as response:
                    if response.status_code < 300:
                        take(response)
                        return response
                    response.read()
                if last or not self._passes(response):
                    raise self._refused(method, path, response)
                asked_for = _asked_for(response.headers)
            except (httpx2.UnsupportedProtocol, httpx2.InvalidURL) as error:
                raise self._trouble("has an address that cannot be asked", str(error)) from error
            except httpx2.HTTPError as error:
                if last:
                    raise self._trouble("cannot be reached", str(error) or type(error).__name__) from error
            if asked_for is not None and asked_for > _LONGEST_ASKED_FOR:
                raise self._trouble("is busy", f"it asks to be left alone for {asked_for:,.0f} s")
            self._wait(min(delay, _LONGEST_WAIT) if asked_for is None else asked_for)
            delay *= 2
        raise AssertionError("the last attempt returns or raises")

    @contextmanager
    def _sent(self, method: str, path: str, **parts: Any) -> Iterator[httpx2.Response]:
        if (method, path) != ("POST", "/chat/completions") and method != "GET":
            raise AssertionError(f"{method} {path} would change the old service")
        self._wait(max(0.0, self._next - time.monotonic()))
        self._next = time.monotonic() + self._distance
        self.asked[method] += 1
        with self._client.stream(method, f"{self._login.url}{path}", **parts) as response:
            yield response

    def _passes(self, response: httpx2.Response) -> bool:
        """Whether the same request may be answered later."""
        said = response.headers.get("x-should-retry")
        if said in ("true", "false"):
            return bool(said == "true")
        return response.status_code in _PASSING and _error(response).get("code") not in _SPENT

    def _refused(self, method: str, path: str, response: httpx2.Response) -> TunesmithError:
        error, status = _error(response), response.status_code
        why = self._hidden(str(error.get("message") or f"{response.text:.200}" or response.reason_phrase))
        if status == 401:
            return NotAllowedError(
                f"{self._login.url} does not take the key", why=why, mend="set OPENAI_API_KEY to a key of that service"
            )
        if status in _PASSING:
            return self._trouble(f"answers with an error ({status})", why)
        return RefusedError(
            f"{method} {path}: {status}", status=status, why=why, code=error.get("code"), param=error.get("param")
        )

    def _trouble(self, what: str, why: str) -> MissingError:
        return MissingError(f"{self._login.url} {what}", why=self._hidden(why), mend=AGAIN)

    def _hidden(self, text: str) -> str:
        """The text without the key, which a service may repeat in an error."""
        return text.replace(self._login.key, _HIDDEN)


def _error(response: httpx2.Response) -> dict[str, Any]:
    """The envelope's inside; empty where the answer has none."""
    try:
        error = response.json()["error"]
    except (ValueError, LookupError, TypeError):
        return {}
    return error if isinstance(error, dict) else {"message": str(error)}


def _asked_for(headers: Mapping[str, str]) -> float | None:
    """Seconds that the service asks to wait; None where it says nothing that can be read."""
    try:
        return max(0.0, float(headers["retry-after-ms"]) / 1000)
    except (KeyError, ValueError):
        pass
    said = headers.get("retry-after", "")
    try:
        return max(0.0, float(said))
    except ValueError:
        pass
    try:
        at = parsedate_to_datetime(said)
    except ValueError:
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
