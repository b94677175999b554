"""Requests made from our own description: no 5xx, no status that it does not tell of, no body but the envelope."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from fuzzing import fuzz
from said import live_house
from serving import House

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
FULL = int(os.environ.get("TUNESMITH_FUZZ_CASES", "20000"))
"""Cases of the slow test, all routes together."""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A server that all cases share, so that what one makes another meets."""
    with House.open(tmp_path_factory.mktemp("fuzzed") / "home", limits={"requests_per_minute": 10**9}) as made:
        for _ in range(3):
            made.job()
        yield made


@pytest.fixture(scope="module")
def url(house: House) -> Iterator[str]:
    """The same over a socket."""
    with live_house(house) as made:
        yield made.removesuffix("/v1")


def _fuzz(house: House, url: str, cases: int) -> Counter[str]:
    """So many cases for each route; how often each route was asked."""
    seen: Counter[str] = Counter()
    known: dict[str, dict[str, str]] = {}

    def before(case: Any) -> None:
        label, path = case.operation.label, case.operation.path
        seen[label] += 1
        if path not in known:
            known[path] = _ids(house, path)
        if known[path] and seen[label] % 2:
            case.path_parameters = dict(case.path_parameters or {}) | known[path]

    fuzz(house, url, cases, CHECKS, before=before)
    return seen


def _ids(house: House, path: str) -> dict[str, str]:
    """Names of things that are there, for half of the cases."""
    jobs = house.ask("GET", "/v1/fine_tuning/jobs").json()["data"]
    known = {"job_id": jobs[0]["id"], "file_id": jobs[0]["training_file"], "model": "bundled/tunesmith-8m"}
    return {name: value for name, value in known.items() if f"{{{name}}}" in path}


def test_a_few_cases_of_each_route(house: House, url: str) -> None:
    seen = _fuzz(house, url, 8)
    paths = house.client.get("/openapi.json").json()["paths"]
    assert set(seen) == {f"{method.upper()} {path}" for path, found in paths.items() for method in found}
    assert sum(seen.values()) >= 150


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_twenty_thousand_cases(house: House, url: str) -> None:
    varied = sum(count > 2 for count in _fuzz(house, url, 4).values())  # the others have one case: no parameters
    seen = _fuzz(house, url, -(-FULL // varied))
    assert sum(seen.values()) >= FULL
