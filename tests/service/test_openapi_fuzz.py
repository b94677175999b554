"""Requests made from our own description: no 5xx, no status that it does not tell of, no body but the envelope."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import requests
import schemathesis
import uvicorn
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from serving import House, error
from tunesmith.server.listen import Place, bound

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
    listening = bound(Place(port=0))
    server = uvicorn.Server(uvicorn.Config(house.client.app, log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join()
    listening.close()


def _fuzz(house: House, url: str, cases: int) -> Counter[str]:
    """So many cases for each route, half of them wrong on purpose; how often each route was asked."""
    schema = schemathesis.openapi.from_dict(house.client.get("/openapi.json").json())
    seen: Counter[str] = Counter()
    with requests.Session() as session:
        session.trust_env = False
        session.headers["authorization"] = f"Bearer {house.keys['all']}"
        for found in schema.get_all_operations():
            operation = found.ok()
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                _ask(lambda case: case.call(base_url=url, session=session), operation, mode, -(-cases // 2), seen,
                     _ids(house, operation.path))  # fmt: skip
    return seen


def _ask(
    call: Callable[[Any], Any],
    operation: Any,
    mode: GenerationMode,
    cases: int,
    seen: Counter[str],
    ids: dict[str, str],
) -> None:
    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=cases, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    def ask(case: Any) -> None:
        seen[operation.label] += 1
        if ids and seen[operation.label] % 2:
            case.path_parameters = dict(case.path_parameters or {}) | ids
        response = call(case)
        case.validate_response(response, checks=CHECKS)
        if response.status_code >= 400:
            error(response)

    with suppress(Unsatisfiable):  # a route without parameters cannot be asked wrongly
        ask()


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
