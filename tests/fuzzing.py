"""Requests made from the server's own description of itself, half of them wrong on purpose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

from serving import House, error


def fuzz(
    house: House,
    url: str,
    cases: int,
    checks: Sequence[Any],
    *,
    prefixes: tuple[str, ...] = ("/",),
    before: Callable[[Any], None] = lambda case: None,
    after: Callable[[Any, Any, GenerationMode], None] = lambda case, response, mode: None,
) -> None:
    """So many cases of each route below `prefixes`: every answer passes the checks, every failure has the envelope.

    `before` may change a case, `after` sees it with its response.
    """
    schema = schemathesis.openapi.from_dict(house.client.get("/openapi.json").json())
    with requests.Session() as session:
        session.trust_env = False
        session.headers["authorization"] = f"Bearer {house.keys['all']}"

        def ask(case: Any, mode: GenerationMode) -> None:
            before(case)
            response = case.call(session=session, base_url=url)
            case.validate_response(response, checks=list(checks))
            if response.status_code >= 400:
                error(response)
            after(case, response, mode)

        for found in schema.get_all_operations():
            operation = found.ok()
            if operation.path.startswith(prefixes):
                for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                    _each(operation, mode, -(-cases // 2), ask)


def _each(operation: Any, mode: GenerationMode, cases: int, ask: Callable[[Any, GenerationMode], None]) -> None:
    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=cases, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    def one(case: Any) -> None:
        ask(case, mode)

    with suppress(Unsatisfiable):  # a route without parameters cannot be asked wrongly
        one()
