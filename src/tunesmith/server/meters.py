"""What `/metrics` counts. Names of models, keys and projects are not among it."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Meters:
    """The counters of one app, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "tunesmith_requests", "Requests answered.", ["route", "method", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "tunesmith_request_seconds", "Time until a request was answered in full.", ["route", "method"],
            buckets=_BUCKETS, registry=self.registry,
        )  # fmt: skip
        self.jobs = Gauge("tunesmith_jobs", "Fine-tuning jobs by status.", ["status"], registry=self.registry)
        self.tokens = Counter(
            "tunesmith_tokens", "Tokens of answered requests.", ["kind"], registry=self.registry
        )  # fmt: skip

    def observe(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one request; odd methods are counted together, for a client chooses them."""
        method = method if method in ("GET", "POST", "DELETE", "HEAD", "OPTIONS") else "other"
        self.requests.labels(route, method, str(status)).inc()
        self.seconds.labels(route, method).observe(seconds)

    def text(self) -> bytes:
        """All of it in Prometheus' format."""
        return generate_latest(self.registry)
