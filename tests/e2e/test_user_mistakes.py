"""What people get wrong: each mistake has its exit code, says what and how to mend it, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import save_file

import tiny
from tunesmith.core import files
from tunesmith.core.errors import MissingError, OutputError
from tunesmith.data import hub as data_hub
from tunesmith.models import hub


@dataclass(frozen=True)
class Case:
    """A mistake: made in a folder that holds a good recipe and good data, it must end like this."""

    make: Callable[[Path], list[object]]
    """Spoils the folder and gives the command line; RUN stands for `run recipe.yaml --out out`."""
    code: int
    says: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)


def _run(folder: Path, *more: str) -> list[object]:
    return ["run", folder / "recipe.yaml", "--out", folder / "out", *more]


def _with_text(text: str) -> Callable[[Path], list[object]]:
    def make(folder: Path) -> list[object]:
        (folder / "recipe.yaml").write_text(text, "utf-8")
        return _run(folder)

    return make


def _with(**sections: Any) -> Callable[[Path], list[object]]:
    """The good recipe with some sections replaced; a dict goes over the section that is there."""

    def make(folder: Path) -> list[object]:
        path = folder / "recipe.yaml"
        values = json.loads(path.read_text("utf-8"))
        for key, value in sections.items():
            values[key] = values[key] | value if isinstance(value, dict) and key in values else value
        path.write_text(json.dumps(values, indent=1), "utf-8")
        return _run(folder)

    return make


def _settings(*settings: str) -> Callable[[Path], list[object]]:
    return lambda folder: _run(folder, *(part for setting in settings for part in ("--set", setting)))


def _train_bytes(content: bytes) -> Callable[[Path], list[object]]:
    def make(folder: Path) -> list[object]:
        (folder / "train.jsonl").write_bytes(content)
        return _run(folder)

    return make


def _train_rows(*extra: dict[str, Any]) -> Callable[[Path], list[object]]:
    """The good rows and behind them, as rows 61 and following, bad ones."""

    def make(folder: Path) -> list[object]:
        tiny.write_rows(folder / "train.jsonl", [*tiny.rows(0, 60), *extra])
        return _run(folder)

    return make


def _broken_line_17(folder: Path) -> list[object]:
    lines = (folder / "train.jsonl").read_text("utf-8").splitlines()
    lines[16] = lines[16][:-3]
    (folder / "train.jsonl").write_text("\n".join(lines), "utf-8")
    return _run(folder)


def _utf16(folder: Path) -> list[object]:
    path = folder / "train.jsonl"
    path.write_bytes(path.read_text("utf-8").encode("utf-16"))
    return _run(folder)


def _overlap(folder: Path) -> list[object]:
    tiny.write_rows(folder / "test.jsonl", [*tiny.rows(100, 8), *tiny.rows(4, 1)])
    return _run(folder)


def _empty_base(folder: Path) -> list[object]:
    (folder / "nomodel").mkdir()
    return _settings("base=nomodel")(folder)


def _torn_weights(folder: Path) -> list[object]:
    values = json.loads((folder / "recipe.yaml").read_text("utf-8"))
    copy = folder / "torn"
    copy.mkdir()
    for file in Path(values["base"]).iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    return _settings("base=torn")(folder)


def _out_is_there(folder: Path) -> list[object]:
    (folder / "out").mkdir()
    (folder / "out" / "mine.txt").write_text("mine")
    return _run(folder)


def _out_is_a_file(folder: Path) -> list[object]:
    (folder / "out").write_text("mine")
    return _run(folder)


def _out_below_a_file(folder: Path) -> list[object]:
    (folder / "file").write_text("mine")
    return ["run", folder / "recipe.yaml", "--out", folder / "file" / "out"]


def _no_recipe(folder: Path) -> list[object]:
    (folder / "recipe.yaml").unlink()
    return _run(folder)


def _turns(*turns: tuple[str, str], **last: Any) -> dict[str, Any]:
    messages: list[dict[str, Any]] = [{"role": role, "content": content} for role, content in turns]
    messages[-1] |= last
    return {"messages": messages}


LONG = _turns(("user", "a b c d e f g " * 60), ("assistant", "x"))
UNWEIGHTED = _turns(("user", "Weigh this"), ("assistant", "nothing"), weight=0)

CASES = {
    "misspelt key": Case(
        _with_text("base: x\ndata: {train: train.jsonl}\ntraining:\n  epochs: 1\n  learning_rat: 0.1\n"),
        3, ("unknown key 'training.learning_rat'", "did you mean 'learning_rate'", "recipe.yaml:5")),
    "misspelt section": Case(
        _with_text("data: {train: train.jsonl}\ntrainning: {epochs: 1}\n"),
        3, ("unknown key 'trainning'", "did you mean 'training'", "recipe.yaml:2")),
    "wrong type": Case(
        _with_text("data:\n  train: train.jsonl\nadapter:\n  type: lora\n  r: sixteen\n"),
        3, ("adapter.r", "integer", "recipe.yaml:5", "sixteen")),
    "value out of bounds": Case(_with(adapter={"dropout": 1.5}), 3, ("adapter.dropout", "less than 1")),
    "two batch limits": Case(_with(training={"batch_tokens": 64}), 3, ("batch_size or batch_tokens", "recipe.yaml:")),
    "duplicated key": Case(
        _with_text("data: {train: train.jsonl}\nseed: 1\nseed: 2\n"), 3, ("'seed'", "twice", "recipe.yaml:3")),
    "broken yaml": Case(
        _with_text("data:\n  train: [train.jsonl\nseed: 1\n"), 3, ("not valid YAML", "recipe.yaml:3")),
    "recipe is a list": Case(_with_text("- train.jsonl\n"), 3, ("holds no recipe",)),
    "recipe without data": Case(_with_text("seed: 1\n"), 3, ("'data'", "missing")),
    "empty recipe": Case(_with_text(""), 3, ("holds no recipe", "tunesmith init")),
    "missing recipe": Case(_no_recipe, 4, ("no such recipe", "tunesmith init")),
    "missing data file": Case(_with(data={"train": "trian.jsonl"}), 4, ("no such file", "trian.jsonl")),
    "data is a folder": Case(_with(data={"train": "."}), 3, ("not a file",)),
    "empty data file": Case(_train_bytes(b"\n \n"), 3, ("train.jsonl is empty",)),
    "no assistant turn": Case(
        _train_rows(_turns(("user", "Hello?"))), 3, ("no assistant turn", "train.jsonl:61")),
    "only weight 0": Case(_train_rows(UNWEIGHTED), 3, ("weight 0", "train.jsonl:61")),
    "invalid JSON": Case(_broken_line_17, 3, ("invalid JSON", "train.jsonl:17")),
    "UTF-16": Case(_utf16, 3, ("not in UTF-8", "UTF-16", "iconv -f UTF-16")),
    "test rows in training": Case(_overlap, 3, ("train.jsonl:5", "test.jsonl:9", "on_overlap: drop")),
    "row too long": Case(_train_rows(LONG), 3, ("longer than 160 tokens", "train.jsonl:61", "on_long")),
    "max_length above the context": Case(
        _settings("training.max_length=4096"), 3, ("training.max_length is 4096", "at most 160")),
    "base is no model": Case(_empty_base, 4, ("no model folder", "config.json")),
    "base's weights are torn": Case(_torn_weights, 3, ("cannot load the weights", "torn")),
    "unknown bundled base": Case(
        _settings("base=bundled/tunesmith-8b"), 4, ("no bundled base", "did you mean 'bundled/tunesmith-8m'")),
    "base named badly": Case(_settings("base=no-such-model"), 4, ("no base 'no-such-model'", "bundled/tunesmith-8m")),
    "hub base while offline": Case(
        _settings("base=owner/name"), 4, ("owner/name", "HF_HUB_OFFLINE", "bundled/tunesmith-8m"),
        {"HF_HUB_OFFLINE": "1"}),
    "unknown metric": Case(
        _with(evaluation={"metrics": ["exact_mach"]}), 3, ("exact_mach", "did you mean 'exact_match'")),
    "gate names an unmeasured metric": Case(
        _with(gate={"require": {"field_f1": 0.1}}), 3, ("gate.require", "field_f1", "exact_match")),
    "unknown LoRA target": Case(
        _settings("adapter.targets=[q_prj]"), 3, ("no linear layer 'q_prj'", "did you mean 'q_proj'")),
    "LoRA's keys in full fine-tuning": Case(_with(adapter={"type": "full"}), 3, ("unknown key 'adapter.r'",)),
    "rehearsal in full fine-tuning": Case(
        _settings("adapter={type: full}", "method.rehearsal.rows=4"), 3, ("rehearsal needs an adapter",)),
    "out is there": Case(_out_is_there, 6, ("is there already", "--resume")),
    "resume where no run is": Case(
        lambda folder: [*_out_is_there(folder), "--resume"], 6, ("holds other things", "choose another --out")),
    "out is a file": Case(_out_is_a_file, 7, ("cannot write", "no folder")),
    "out below a file": Case(_out_below_a_file, 7, ("cannot write", "not a folder")),
    "out in /proc": Case(
        lambda folder: ["run", folder / "recipe.yaml", "--out", "/proc/out"], 7, ("cannot write /proc/out",)),
    "unset variable": Case(
        _with(data={"train": "${NO_SUCH_FOLDER}/a.jsonl"}), 4, ("NO_SUCH_FOLDER is not set", "export NO_SUCH_FOLDER")),
    "--set without =": Case(_settings("training.epochs"), 2, ("key=value", "training.epochs")),
    "--set of an unknown key": Case(
        _settings("training.epoch=2"), 3, ("training.epoch", "did you mean 'epochs'", "--set training.epoch=2")),
    "unknown format": Case(
        _with(data={"train": {"path": "train.jsonl", "format": "chatt"}}), 3, ("chatt", "did you mean 'chat'")),
    "no test file": Case(_with(data={"test": None}), 3, ("no test file", "data.test", "tunesmith train")),
    "not UTF-8": Case(_train_bytes(b'{"messages": "\xff\xfe\xfa"}\n'), 3, ("train.jsonl:1", "JSON")),
    "generate without a run": Case(
        lambda folder: ["generate", folder, "--prompt", "x"], 4, ("no run at", "tunesmith runs")),
    "chat without a run": Case(lambda folder: ["chat", folder / "nowhere"], 4, ("no run at",)),
    "evaluate without a run": Case(lambda folder: ["evaluate", folder], 4, ("no run at",)),
    "report without a run": Case(lambda folder: ["report", folder], 4, ("no run at",)),
    "export without a run": Case(lambda folder: ["export", folder], 4, ("no run at",)),
    "compare without runs": Case(lambda folder: ["runs", folder, folder], 4, ("no run at",)),
    "three runs": Case(lambda folder: ["runs", folder, folder, folder], 2, ("two runs",)),
    "check of nothing there": Case(lambda folder: ["check", folder / "gone.jsonl"], 4, ("no such file", "gone.jsonl")),
    "init without a file": Case(lambda folder: ["init"], 2, ("tunesmith init FILE",)),
    "init of nothing there": Case(lambda folder: ["init", folder / "gone.jsonl"], 4, ("no such file",)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_explained(
    name: str, tmp_path: Path, base: Path, cli: Callable[..., tiny.Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    tiny.write_task(tmp_path, base)
    monkeypatch.chdir(tmp_path)
    for key, value in case.environment.items():
        monkeypatch.setenv(key, value)
    arguments = case.make(tmp_path)
    before = sorted(p for p in tmp_path.rglob("*"))
    done = cli(*arguments)
    assert done.code == case.code, done.err
    explained(done.err, case.says)
    assert done.out == ""
    assert sorted(p for p in tmp_path.rglob("*")) == before, "something was left behind"


def explained(err: str, says: tuple[str, ...]) -> None:
    """One error with a mend, the key phrases, and no traceback."""
    assert err.count("error:") == 1, err
    assert "mend:" in err, err
    assert "error: unexpected" not in err
    assert "Traceback" not in err
    for phrase in says:
        assert phrase in err, f"{phrase!r} is not in:\n{err}"


def test_export_onto_a_folder_that_is_there(trained: Path, tmp_path: Path, cli: Callable[..., tiny.Result]) -> None:
    (tmp_path / "merged").mkdir()
    done = cli("export", trained, "--to", "merged", "--out", tmp_path / "merged")
    assert done.code == 6
    explained(done.err, ("merged is there already",))
    assert list((tmp_path / "merged").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("trian", "recipe.yaml"), "No such command 'trian'"),
        (("run", "recipe.yaml"), "Missing option '--out'"),
        (("run", "recipe.yaml", "--out", "o", "--resum"), "No such option"),
        (("generate", "x", "--prompt", "p", "--max-tokens", "0"), "--max-tokens"),
        (("export", "x", "--to", "gguff"), "gguff"),
    ],
)
def test_a_wrong_command_line_is_exit_2(arguments: tuple[str, ...], says: str, cli: Callable[..., tiny.Result]) -> None:
    done = cli(*arguments)
    assert done.code == 2
    assert says in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("silent", [False, True], ids=["refuses", "never answers"])
def test_a_hub_out_of_reach_is_told(tmp_path: Path, base: Path, silent: bool) -> None:
    """Who waits for a hub that never answers would never end."""
    recipe = tiny.write_task(tmp_path, base)
    with _silent_server() if silent else contextlib.nullcontext(9) as port:
        done = tiny.tunesmith(
            "run", recipe, "--out", tmp_path / "out", "--set", "base=owner/name",
            HF_HUB_OFFLINE="0", HF_ENDPOINT=f"http://127.0.0.1:{port}", HF_HOME=str(tmp_path / "hf"),
        )  # fmt: skip
    assert done.returncode == 4, done.stderr
    explained(done.stderr, ("owner/name", "bundled/tunesmith-8m", "HF_HUB_OFFLINE"))
    assert not (tmp_path / "out").exists()


def test_a_silent_hub_is_given_up_after_its_patience(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's own time-out is never reached: name look-ups and proxies ignore it."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(hub, "HUB_SECONDS", 0.2)
    monkeypatch.setattr(hub, "snapshot_download", _not_in_the_cache)
    with Answers() as answers:
        monkeypatch.setattr(hub, "HfApi", lambda: answers)
        with pytest.raises(MissingError, match="cannot be reached") as error:
            hub.fetch("owner/name")
    assert answers.asked == [("owner/name", 0.2)]
    assert "no answer within 0.2 s" in str(error.value.why)


def test_both_hubs_have_the_same_short_patience() -> None:
    assert hub.HUB_SECONDS == data_hub.HUB_SECONDS == 4.0


class Answers:
    """A hub that answers only when the test is over."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, float]] = []
        self._over = threading.Event()

    def __enter__(self) -> Answers:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def model_info(self, name: str, timeout: float) -> None:
        self.asked.append((name, timeout))
        self._over.wait()


def _not_in_the_cache(*_: object, **options: object) -> str:
    assert options["local_files_only"], "nothing is downloaded from a silent hub"
    raise LocalEntryNotFoundError("not here")


@contextlib.contextmanager
def _silent_server() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def test_a_real_process_explains_a_mistake_without_a_traceback(tmp_path: Path, base: Path) -> None:
    recipe = tiny.write_task(tmp_path, base, seed="seven")
    done = tiny.tunesmith("run", recipe, "--out", tmp_path / "out")
    assert done.returncode == 3
    explained(done.stderr, ("'seed'", "recipe.yaml:3"))
    assert "Traceback" in tiny.tunesmith("--debug", "run", recipe, "--out", tmp_path / "out").stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mounts a disk of so many KiB."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(kib: int) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(place)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"a small disk cannot be mounted here: {error}")
        return place

    yield mount
    subprocess.run(["umount", str(place)], check=False, capture_output=True)


@pytest.mark.parametrize("kib", [4, 60, 250], ids=["first file", "first checkpoint", "later checkpoint"])
def test_a_full_disk_is_exit_7_and_says_how_to_go_on(
    kib: int, tmp_path: Path, base: Path, cli: Callable[..., tiny.Result], small_disk: Callable[[int], Path]
) -> None:
    recipe = tiny.write_task(tmp_path / "task", base)
    done = cli("run", recipe, "--out", small_disk(kib) / "out")
    assert done.code == 7, done.err
    explained(done.err, ("cannot write", "the disk is full", "--resume"))


@pytest.mark.slow
@pytest.mark.parametrize("kib", range(8, 340, 12))
def test_a_disk_that_fills_up_anywhere_is_exit_7(
    kib: int, tmp_path: Path, base: Path, cli: Callable[..., tiny.Result], small_disk: Callable[[int], Path]
) -> None:
    test_a_full_disk_is_exit_7_and_says_how_to_go_on(kib, tmp_path, base, cli, small_disk)


def test_a_full_disk_under_safetensors_is_told_alike(small_disk: Callable[[int], Path]) -> None:
    """It raises an error of its own, no OSError."""
    place = small_disk(64)
    with pytest.raises(OutputError) as caught, files.writing(place):
        save_file({"weights": torch.zeros(100_000)}, place / "weights.safetensors")
    assert caught.value.why == "the disk is full"


def test_a_read_only_disk_is_exit_7(
    tmp_path: Path, base: Path, cli: Callable[..., tiny.Result], small_disk: Callable[[int], Path]
) -> None:
    recipe = tiny.write_task(tmp_path / "task", base)
    place = small_disk(400)
    subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
    done = cli("run", recipe, "--out", place / "out")
    assert done.code == 7, done.err
    explained(done.err, ("cannot write", "read-only"))
