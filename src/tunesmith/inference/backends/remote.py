"""A model behind an OpenAI-compatible endpoint (`POST /chat/completions`).

What passes by itself is tried again: a connection that cannot be made or breaks, silence, 408, 409, 425, 429 and 5xx.
The waits double from `first_wait` up to a minute; an endpoint that says `Retry-After` is waited for as long as it says,
up to five minutes. All else ends in a MissingError at once.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import Any

import httpx2

from ...core.errors import MissingError
from ...core.messages import Message
from ..generate import Sampling

_PASSING = frozenset({408, 409, 425, 429, *range(500, 600)})
_LONGEST_WAIT, _LONGEST_ASKED_FOR = 60.0, 300.0


@dataclass(frozen=True)
class Endpoint:
    """Where to ask, and how patiently. `timeout` and `first_wait` in seconds."""

    url: str
    model: str
    timeout: float = 120.0
    retries: int = 5
    concurrency: int = 4
    first_wait: float = 0.5


@dataclass(frozen=True)
class Question:
    """A conversation that waits for an answer."""

    messages: Sequence[Message]
    tools: Sequence[dict[str, Any]] | None = None
    seed: int = 0


@dataclass(frozen=True)
class Said:
    """An answer, and why it ended as the endpoint tells it: `stop`, `length`, or another word. Tokens as the endpoint
    counts them, None where it does not tell."""

    text: str
    finish_reason: str
    tokens_in: int | None = None
    tokens_out: int | None = None


class Remote:
    """Asks one endpoint. A context manager: leaving it ends what is under way.

    The key comes from OPENAI_API_KEY; without one none is sent.
    """

    def __init__(self, endpoint: Endpoint):
        self._endpoint = endpoint
        self._stopping = threading.Event()
        key = os.environ.get("OPENAI_API_KEY")
        self._client = httpx2.Client(
            timeout=endpoint.timeout, headers={"Authorization": f"Bearer {key}"} if key else {}
        )

    def __enter__(self) -> Remote:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._client.close()

    def answers(self, questions: Iterable[tuple[int, Question]], sampling: Sampling) -> Iterator[tuple[int, Said]]:
        """(number, answer) of every numbered question, as they come in; never more than `concurrency` are out.

        MissingError for the first that cannot be had: no further question is asked then, and the answers to those that
        are out come before it.
        """
        waiting = iter(questions)
        failure: BaseException | None = None
        with ThreadPoolExecutor(self._endpoint.concurrency) as pool:
            try:
                out: dict[Future[Said], int] = {}
                while True:
                    free = 0 if failure else self._endpoint.concurrency - len(out)
                    for number, question in islice(waiting, free):
                        out[pool.submit(self.answer, question, sampling)] = number
                    if not out:
                        break
                    for done in wait(out, return_when=FIRST_COMPLETED).done:
                        number, error = out.pop(done), done.exception()
                        if error is None:
                            yield number, done.result()
                        else:
                            failure = failure or error
                            self._stopping.set()
            except BaseException:
                self._stopping.set()
                raise
        if failure:
            raise failure

    def answer(self, question: Question, sampling: Sampling) -> Said:
        """One answer. MissingError where it cannot be had."""
        asked: dict[str, Any] = {
            "model": self._endpoint.model,
            "messages": [_wire(message) for message in question.messages],
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": question.seed,
        }
        if question.tools:
            asked["tools"] = list(question.tools)
        return self._read(self._posted(asked))

    def _posted(self, asked: dict[str, Any]) -> httpx2.Response:
        """The first response that is none of those that pass by themselves."""
        url = f"{self._endpoint.url.rstrip('/')}/chat/completions"
        delay = self._endpoint.first_wait
        for attempt in range(self._endpoint.retries + 1):
            last = attempt == self._endpoint.retries
            asked_for: float | None = None
            try:
                response = self._client.post(url, json=asked)
            except (httpx2.UnsupportedProtocol, httpx2.InvalidURL) as error:
                raise self._missing("has an address that cannot be asked", str(error), "correct its url") from error
            except httpx2.HTTPError as error:
                trouble = str(error) or type(error).__name__
                if last:
                    raise self._missing(
                        "cannot be reached", trouble, "start it, or correct its url; then run the same with --resume"
                    ) from error
            else:
                if response.status_code not in _PASSING or last:
                    return response
                asked_for = _retry_after(response)
            if self._stopping.wait(min(delay, _LONGEST_WAIT) if asked_for is None else asked_for):
                raise self._missing("was not asked further", "the run ended", "continue the run with --resume")
            delay *= 2
        raise AssertionError("the last attempt returns or raises")

    def _read(self, response: httpx2.Response) -> Said:
        status = response.status_code
        if status in (401, 403):
            raise self._missing("does not let you in", _told(response), "set OPENAI_API_KEY to a key that it takes")
        if status == 404:
            raise self._missing(f"has no model '{self._endpoint.model}'", _told(response), "correct url or model")
        if status >= 300:
            mend = "wait until it is well, then run the same with --resume" if status in _PASSING else "correct that"
            raise self._missing(f"answers with an error ({status})", _told(response), mend)
        try:
            answer = response.json()
            choice = answer["choices"][0]
            text, reason = choice["message"].get("content"), choice.get("finish_reason")
            if not isinstance(text, str | None):
                raise TypeError("the answer is no text")
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise self._missing(
                "does not answer as OpenAI's does", f"{type(error).__name__}: {error}; it said {response.text:.200}",
                "give the url that ends before /chat/completions, as https://api.openai.com/v1",
            ) from error  # fmt: skip
        used = answer.get("usage")
        return Said(text or "", str(reason), _count(used, "prompt_tokens"), _count(used, "completion_tokens"))

    def _missing(self, what: str, why: str, mend: str) -> MissingError:
        return MissingError(f"the endpoint {self._endpoint.url} {what}", why=why, mend=mend)


def _wire(message: Message) -> dict[str, Any]:
    """A turn as endpoints take it: thinking and weights are ours alone."""
    return message.model_dump(mode="json", exclude_none=True, exclude={"weight", "reasoning_content"})


def _count(used: object, name: str) -> int | None:
    """A number of tokens, where the endpoint tells one."""
    found = used.get(name) if isinstance(used, dict) else None
    return found if isinstance(found, int) else None


def _retry_after(response: httpx2.Response) -> float | None:
    """Seconds that the endpoint asks to wait; None where it gives none, or a date."""
    try:
        return max(0.0, min(float(response.headers["retry-after"]), _LONGEST_ASKED_FOR))
    except (KeyError, ValueError):
        return None


def _told(response: httpx2.Response) -> str:
    """The endpoint's own words about an error."""
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, LookupError, TypeError):
        return f"{response.status_code} {response.reason_phrase}: {response.text:.200}".rstrip(": ")
