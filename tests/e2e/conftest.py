"""One tiny base and one small trained run for all tests of whole journeys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import tiny


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny random Llama and the packaged tokenizer."""
    return tiny.base_folder(tmp_path_factory.mktemp("base") / "llama")


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str]) -> Callable[..., tiny.Result]:
    """The command line inside this process: arguments to exit code, stdout and stderr."""
    from tunesmith.cli.main import _run

    def call(*arguments: object) -> tiny.Result:
        capfd.readouterr()
        code = _run([str(a) for a in arguments])
        out, err = capfd.readouterr()
        return tiny.Result(code, out, err)

    return call


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Path:
    """The folder of one finished run, made by the command line in a process of its own. Do not change it."""
    folder = tmp_path_factory.mktemp("trained")
    recipe = tiny.write_task(folder, base)
    done = tiny.tunesmith("run", recipe, "--out", folder / "run", "--json")
    assert done.returncode == 0, done.stderr
    (folder / "stdout.json").write_text(done.stdout, "utf-8")
    return folder / "run"
