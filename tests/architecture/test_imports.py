"""The arrow of imports, and what must stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import tunesmith

SOURCE = Path(tunesmith.__file__).parent
HEAVY = ("torch", "transformers", "sklearn", "matplotlib", "safetensors")


def test_import_linter_contracts_hold() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-logo"],
        cwd=SOURCE.parents[1], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "module",
    [
        "tunesmith",
        "tunesmith.cli.main",
        "tunesmith.pipelines.recipe",
        "tunesmith.pipelines.read_recipe",
        "tunesmith.pipelines.runs",
        "tunesmith.data.load",
        "tunesmith.server.app",
    ],
)
def test_light_modules_load_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def _inner_imports(tree: ast.Module) -> list[tuple[str, int]]:
    """(innermost function, line) of every import inside a function."""
    found: list[tuple[str, int]] = []

    def visit(node: ast.AST, function: str | None) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import | ast.ImportFrom) and function:
                found.append((function, child.lineno))
            inside = child.name if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) else function
            visit(child, inside)

    visit(tree, None)
    return found


def test_imports_inside_functions_stand_only_where_the_design_allows_them() -> None:
    """`Spec.build()`, and the functions of a command that start a journey."""
    wrong = []
    for file in SOURCE.rglob("*.py"):
        command = file.parent.name == "cli"
        wrong += [
            f"{file.relative_to(SOURCE)}:{line} in {function}"
            for function, line in _inner_imports(ast.parse(file.read_text("utf-8")))
            if function != "build" and not command
        ]
    assert wrong == []


def test_no_pickle_and_no_remote_code() -> None:
    """Nothing is unpickled, and code that comes with a model is never run."""
    banned = ("import pickle", "allow_pickle=True", "torch.load(", "trust_remote_code=True", "shell=True", "yaml.load(")
    hits = [
        f"{file.relative_to(SOURCE)}: {word}"
        for file in SOURCE.rglob("*.py")
        for word in banned
        if word in file.read_text("utf-8")
    ]
    assert hits == []
