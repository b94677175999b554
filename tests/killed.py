"""A server that is killed while it answers one request: at the commit of what the request makes."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from starlette.testclient import TestClient

from tunesmith.server.app import create_app
from tunesmith.server.services import Services
from tunesmith.server.settings import Settings

if TYPE_CHECKING:
    from serving import House  # loads torch, which the killed process has no use for


def ask(house: House, table: str, moment: str, method: str, path: str, **options: Any) -> None:
    """Have a process of its own asked over the house's home. kill -9 strikes in the first transaction that inserts into
    `table`: `before` its commit, or `behind` it. AssertionError where it lived on."""
    options["headers"] = {"authorization": f"Bearer {house.keys['all']}"} | options.get("headers", {})
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["killed"])
    given = (house.services.settings.home, table, moment, {"method": method, "url": path} | options)
    process = context.Process(target=_answer, args=given)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL, "nobody killed it"


def _answer(home: Path, table: str, moment: str, request: dict[str, Any]) -> None:
    services = Services.open(Settings(home=home))
    _die_at_commit(services.store.engine, table, moment)
    client = TestClient(create_app(services.settings, services), base_url="http://127.0.0.1:8000")
    client.request(**request)


def _die_at_commit(engine: Any, table: str, moment: str) -> None:
    armed, commit = [False], engine.dialect.do_commit

    def seen(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        armed[0] = armed[0] or statement.startswith(f"INSERT INTO {table} ")

    def do_commit(connection: Any) -> None:
        if armed[0] and moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        commit(connection)
        if armed[0]:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(engine, "after_cursor_execute", seen)
    engine.dialect.do_commit = do_commit
