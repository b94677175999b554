"""Paths that lead where no data is: told at once, by a clear error; and a remark on those that leave the folder."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tunesmith.core.errors import ContentError, MissingError
from tunesmith.data.load import load
from tunesmith.pipelines.check import Request, check_files, check_recipe

ROWS = "".join(
    json.dumps({"prompt": f"What is {i} plus {i}?", "completion": f"It is {2 * i}"}) + "\n" for i in range(12)
)
pytestmark = pytest.mark.timeout(60)  # a read that waits, waits for ever


def fifo(folder: Path) -> Path:
    os.mkfifo(folder / "pipe.jsonl")
    return folder / "pipe.jsonl"


def circle(folder: Path) -> Path:
    (folder / "a.jsonl").symlink_to(folder / "b.jsonl")
    (folder / "b.jsonl").symlink_to(folder / "a.jsonl")
    return folder / "a.jsonl"


def below_a_circle(folder: Path) -> Path:
    (folder / "a").symlink_to(folder / "a")
    return folder / "a" / "rows.jsonl"


def link(to: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / "link.jsonl").symlink_to(to)
        return folder / "link.jsonl"

    return make


def link_to_pipe(folder: Path) -> Path:
    (folder / "link.jsonl").symlink_to(fifo(folder))
    return folder / "link.jsonl"


def a_socket(folder: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(folder / "s"))  # a socket's path must be short
    return folder / "s"


PLACES = {
    "pipe": (fifo, ContentError, "is a pipe"),
    "link to a pipe": (link_to_pipe, ContentError, "is a pipe"),
    "socket": (a_socket, ContentError, "is a socket"),
    "/dev/zero": (lambda _: Path("/dev/zero"), ContentError, "is a device"),
    "link to /dev/zero": (link("/dev/zero"), ContentError, "is a device"),
    "folder": (lambda folder: folder, ContentError, "is a folder"),
    "/proc": (lambda _: Path("/proc/self/environ"), ContentError, "is the system's own"),
    "link to /proc": (link("/proc/kmsg"), ContentError, "is the system's own"),
    "out of /proc and in": (lambda _: Path("/proc/self/root/proc/self/status"), ContentError, "is the system's own"),
    "circle": (circle, MissingError, "leads nowhere, or in a circle"),
    "below a circle": (below_a_circle, MissingError, "leads nowhere, or in a circle"),
    "link to nothing": (link("absent"), MissingError, "leads nowhere"),
    "below a file": (lambda folder: Path(__file__) / "x.jsonl", MissingError, "no such file"),
    "a name too long": (lambda folder: folder / ("x" * 300), MissingError, "cannot read"),
    "NUL in the name": (lambda folder: folder / "a\0b", MissingError, "cannot read"),
}


@pytest.mark.parametrize("name", PLACES)
def test_a_place_without_data_is_told_at_once(tmp_path: Path, name: str) -> None:
    make, kind, says = PLACES[name]
    started = time.monotonic()
    with pytest.raises(kind, match=says) as caught:
        load(make(tmp_path))
    assert time.monotonic() - started < 2
    assert caught.value.mend


@pytest.mark.parametrize("name", ["pipe", "link to /dev/zero", "link to /proc", "circle", "below a circle"])
def test_a_recipe_that_names_such_a_place_is_refused_alike(tmp_path: Path, name: str) -> None:
    make, kind, says = PLACES[name]
    (tmp_path / "recipe.yaml").write_text(f"data: {{train: {os.path.relpath(make(tmp_path), tmp_path)}}}\n", "utf-8")
    with pytest.raises(kind, match=says):
        check_recipe(tmp_path / "recipe.yaml")


def test_files_that_only_look_odd_are_read(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(ROWS, "utf-8")
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "link.jsonl").symlink_to("../rows.jsonl")
    for path in (tmp_path / "here" / "link.jsonl", tmp_path / "here" / ".." / "rows.jsonl",
                 Path("/proc/self/root") / (tmp_path / "rows.jsonl").relative_to("/")):  # fmt: skip
        assert load(path).rows == 12


def remarks(recipe: Path) -> list[tuple[str, ...]]:
    found = check_recipe(recipe).audit.findings
    assert all(f.severity == "info" for f in found if f.code == "outside_folder")
    return [f.rows for f in found if f.code == "outside_folder"]


def test_sources_outside_the_recipes_folder_are_a_remark(tmp_path: Path) -> None:
    home, shared = tmp_path / "home", tmp_path / "home-shared"
    for folder in (home / "data", shared):
        folder.mkdir(parents=True)
        (folder / "rows.jsonl").write_text(ROWS, "utf-8")
    (shared / "test.jsonl").write_text('{"prompt": "Who are you?", "completion": "Nobody."}\n', "utf-8")
    (home / "link.jsonl").symlink_to(shared / "rows.jsonl")
    recipe = home / "recipe.yaml"

    def told(*train: str, test: str = "null") -> list[tuple[str, ...]]:
        recipe.write_text(f"data: {{train: {json.dumps(train)}, validation: 0, test: {test}}}\n", "utf-8")
        return remarks(recipe)

    assert told("data/rows.jsonl") == []
    assert told("./data/../data/rows.jsonl") == []
    assert told(str(home / "data" / "rows.jsonl")) == []
    assert told("../home-shared/rows.jsonl") == [(str(shared / "rows.jsonl"),)]
    assert told("link.jsonl") == [(str(shared / "rows.jsonl"),)]
    both = told(
        "data/rows.jsonl", "../home-shared/rows.jsonl", str(shared / "rows.jsonl"), test="../home-shared/test.jsonl"
    )
    assert both == [(str(shared / "rows.jsonl"), str(shared / "test.jsonl"))]
    loose = check_files(Request([shared / "rows.jsonl"])).audit.findings
    assert "outside_folder" not in {f.code for f in loose}, "there is no recipe to be outside of"
