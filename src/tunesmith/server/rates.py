"""How much a key may ask for: one bucket of requests and one of tokens, told in the headers that clients read.

In memory and per server process: a limit against runaway loops, no accounting. A bucket holds a minute's worth and
fills at an even rate.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from .errors import ApiError

_KEPT = 10_000
"""Keys whose buckets are remembered; the least recently seen are full again by then."""


class Bucket:
    """`limit` a minute. Not for several threads; `Rates` locks."""

    def __init__(self, limit: int, now: float):
        self.limit, self.level, self.at = limit, float(limit), now

    def fill(self, now: float) -> None:
        """Bring the level to the present."""
        self.level = min(self.limit, self.level + (now - self.at) * self.limit / 60)
        self.at = now

    def wait(self, amount: float) -> float:
        """Seconds until `amount` is there. What exceeds a whole bucket has to wait for a full one."""
        return max(0.0, (min(amount, self.limit) - self.level) * 60 / self.limit)


class Rates:
    """The buckets of all keys."""

    def __init__(self, requests: int, tokens: int, clock: Callable[[], float] = time.monotonic):
        self._limits, self._clock = {"requests": requests, "tokens": tokens}, clock
        self._buckets: OrderedDict[tuple[str, str], Bucket] = OrderedDict()
        self._lock = threading.Lock()

    def request(self, key_id: str) -> None:
        """Count a request of the key; ApiError 429 where there were too many."""
        self._take(key_id, "requests", 1)

    def tokens(self, key_id: str, amount: int) -> None:
        """Count tokens that a request wants at most; ApiError 429 where there were too many."""
        self._take(key_id, "tokens", amount)

    def give_back(self, key_id: str, amount: int) -> None:
        """Tokens that were counted and not used after all."""
        with self._lock:
            bucket = self._bucket(key_id, "tokens")
            bucket.level = min(bucket.limit, bucket.level + amount)

    def headers(self, key_id: str) -> dict[str, str]:
        """`x-ratelimit-{limit,remaining,reset}-{requests,tokens}`."""
        told: dict[str, str] = {}
        with self._lock:
            for kind, limit in self._limits.items():
                bucket = self._bucket(key_id, kind)
                told[f"x-ratelimit-limit-{kind}"] = str(limit)
                told[f"x-ratelimit-remaining-{kind}"] = str(max(0, int(bucket.level)))
                told[f"x-ratelimit-reset-{kind}"] = f"{round(1000 * bucket.wait(limit))}ms"
        return told

    def _take(self, key_id: str, kind: str, amount: float) -> None:
        with self._lock:
            bucket = self._bucket(key_id, kind)
            wait = bucket.wait(amount)
            if not wait:
                bucket.level -= amount
                return
        raise ApiError(
            429, f"Rate limit reached for {kind}: Limit {self._limits[kind]} / min. Please try again in {wait:.3f}s.",
            type=kind, code="rate_limit_exceeded",
            headers={"retry-after-ms": str(int(1000 * wait) + 1), "retry-after": str(int(wait) + 1)}
            | self.headers(key_id),
        )  # fmt: skip

    def _bucket(self, key_id: str, kind: str) -> Bucket:
        now = self._clock()
        bucket = self._buckets.setdefault((key_id, kind), Bucket(self._limits[kind], now))
        self._buckets.move_to_end((key_id, kind))
        if len(self._buckets) > _KEPT:
            self._buckets.popitem(last=False)
        bucket.fill(now)
        return bucket
