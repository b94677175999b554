"""What docs/answers.md says is so."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from said import BASE, Fake, run, with_fake
from serving import House
from tunesmith.server.app import ROUTES
from tunesmith.server.engine import AnsweringSettings
from tunesmith.server.keeping import Keeping
from tunesmith.server.records.models import Served as Named

PAGE = (Path(__file__).parents[2] / "docs" / "answers.md").read_text("utf-8")


def test_the_defaults_on_the_page_are_the_codes() -> None:
    told: dict[str, Any] = {}
    for block in re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL):
        told |= yaml.safe_load(block)
    assert told == {"keep": Keeping().model_dump(), "answering": AnsweringSettings().model_dump()}


def test_every_call_on_the_page_is_there() -> None:
    named, methods = set(), list[str]()
    for row in (row.split("|")[1] for row in PAGE.splitlines() if row.startswith("| `")):
        for piece in row.split("`")[1::2]:  # `GET`, `DELETE /v1/x/ID`: both of that path
            method, _, path = piece.partition(" ")
            methods.append(method)
            if path:
                named |= {(one, path.replace("ID", "{}")) for one in methods}
                methods = []
    there = {
        (method, re.sub(r"{[^}]*}", "{}", route.path))  # type: ignore[attr-defined]
        for routes in ROUTES for route in routes.routes for method in route.methods  # type: ignore[attr-defined]
    }  # fmt: skip
    assert len(named) == 12
    assert named <= there


def test_the_feedback_on_the_page_is_taken(house: House) -> None:
    with_fake(house)
    id = house.ask(
        "POST",
        "/v1/chat/completions",
        json={"model": BASE, "messages": [{"role": "user", "content": "Hi"}], "store": True},
    ).json()["id"]
    match = re.search(r"-d '(\{.*?\})'", PAGE)
    assert match is not None
    said = json.loads(match.group(1)) | {"request_id": id}
    assert house.ask("POST", "/v1/tunesmith/feedback", json=said).status_code == 200


def test_a_deleted_model_leaves_memory(house: House, monkeypatch: Any, tmp_path: Path) -> None:
    fake: Fake = with_fake(house)
    weights = tmp_path / "adapter"
    monkeypatch.setattr(
        house.services.models, "resolve", lambda project, name: Named(name, "b", run=tmp_path, weights=weights)
    )
    monkeypatch.setattr(house.services.models, "delete", lambda who, name: None)
    ask = {"model": "ft:b:o::abcdefgh", "messages": [{"role": "user", "content": "Hi"}]}
    assert house.ask("POST", "/v1/chat/completions", json=ask).status_code == 200
    assert fake.asked[0].model == run(tmp_path, "ft:b:o::abcdefgh", weights)
    assert house.ask("DELETE", "/v1/models/ft:b:o::abcdefgh").status_code == 200
    assert fake.forgotten == [weights]
