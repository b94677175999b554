"""What the docs say is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tunesmith.cli.main import app
from tunesmith.cli.options import FORMAT_NAMES
from tunesmith.data.formats import FORMATS
from tunesmith.pipelines import reference
from tunesmith.pipelines.read_recipe import read_recipe

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def test_reference_pages_are_fresh(tmp_path: Path) -> None:
    reference.write(tmp_path)
    for name in ("recipe.md", "recipe.schema.json"):
        assert (tmp_path / name).read_text("utf-8") == (ROOT / "docs" / "reference" / name).read_text("utf-8"), (
            "run: python -m tunesmith.pipelines.reference docs/reference"
        )


def test_the_help_names_every_format() -> None:
    assert ", ".join(known.name for known in FORMATS) == FORMAT_NAMES


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text("utf-8"))
    missing = [link for link in links if not (page.parent / link).exists()]
    assert missing == []


def test_every_command_is_in_the_reference_and_the_other_way_round() -> None:
    text = (ROOT / "docs/reference/command-line.md").read_text("utf-8")
    known = {command.name for command in (*app.registered_commands, *app.registered_groups)}
    assert set(re.findall(r"^\| `tunesmith ([a-z]+)", text, flags=re.MULTILINE)) == known


def test_every_format_is_in_the_reference_and_the_other_way_round() -> None:
    text = (ROOT / "docs/reference/data-formats.md").read_text("utf-8")
    assert re.findall(r"^\| `([a-z_]+)` \|", text, flags=re.MULTILINE) == [format.name for format in FORMATS]


def test_the_readme_recipe_is_valid(tmp_path: Path) -> None:
    block = re.search(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), flags=re.DOTALL)
    assert block is not None
    (tmp_path / "recipe.yaml").write_text(block.group(1), "utf-8")
    assert read_recipe(tmp_path / "recipe.yaml", environment={}).gate.require == {"exact_match": 0.20}


@pytest.mark.parametrize("recipe", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda p: p.stem)
def test_recipes_are_valid(recipe: Path) -> None:
    names = ("SNIPS", "CORPUS", "BASE", "START", "BANKING77", "GSM8K", "E2E", "TEACHER", "STUDENT")
    assert read_recipe(recipe, environment=dict.fromkeys(names, "/data")).name == recipe.stem


def test_commands_in_the_readme_exist() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    known = {command.name for command in (*app.registered_commands, *app.registered_groups)}
    assert set(re.findall(r"^tunesmith ([a-z]+)", text, flags=re.MULTILINE)) <= known
