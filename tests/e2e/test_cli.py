"""Every command on one small trained run, and what a run's folder holds."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from tunesmith.data import identity
from tunesmith.data.load import load
from tunesmith.pipelines.rundir import RunDir

Cli = Callable[..., tiny.Result]
HEAVY = ("torch", "transformers", "matplotlib", "sklearn", "peft", "pandas")
SLOW = (*HEAVY, "pydantic", "numpy", "pyarrow")
"""What `--help` does without, so that it answers at once."""


def _read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def _loaded_after(code: str, packages: tuple[str, ...] = HEAVY) -> set[str]:
    """Which of these packages are loaded after some lines of Python, in a process of its own."""
    told = f"\nimport sys; print([m for m in {packages!r} if m in sys.modules], file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code + told], capture_output=True, text=True, timeout=60, check=True,
        env={**os.environ, **tiny.ENVIRONMENT},
    )  # fmt: skip
    return set(json.loads(done.stderr.strip().splitlines()[-1].replace("'", '"')))


def test_help_loads_nothing_heavy() -> None:
    overview = "from tunesmith.cli.main import _run\nassert _run(['--help']) == 0"
    assert _loaded_after(overview, SLOW) == set()
    assert _loaded_after(overview + "\nassert _run(['run', '--help']) == 0") == set()
    assert "torch" in _loaded_after("import tunesmith.pipelines.journey"), "the check sees nothing"


def test_reading_a_recipe_loads_nothing_heavy(tmp_path: Path, base: Path) -> None:
    recipe = tiny.write_task(tmp_path, base)
    code = (
        "from pathlib import Path\nfrom tunesmith.pipelines.read_recipe import read_recipe\n"
        f"assert read_recipe(Path({str(recipe)!r})).name == 'small'"
    )
    assert _loaded_after(code) == set()


def test_run_writes_every_file_of_a_run(trained: Path) -> None:
    files = {p.name for p in trained.iterdir()}
    assert files == {
        "recipe.lock.yaml", "run.json", "metrics.jsonl", "checkpoints", "adapter", "evaluation.json",
        "predictions.jsonl", "report.html", "data-audit.json", "training-rows.tsv",
        "lost-rows.jsonl", "answers.jsonl", "judged.json", "draws.safetensors",
    }  # fmt: skip
    for checkpoint in (trained / "checkpoints").iterdir():
        listed = _read(checkpoint / "MANIFEST.json")["files"]
        assert {p.name for p in checkpoint.iterdir()} == {"MANIFEST.json", *listed}
        for name, facts in listed.items():
            assert facts == {"size": (checkpoint / name).stat().st_size, "sha256": tiny.sha256(checkpoint / name)}
    suffixes = {p.suffix for p in trained.rglob("*") if p.is_file()}
    assert suffixes <= {".yaml", ".json", ".jsonl", ".html", ".safetensors", ".jinja", ".tsv"}, (
        "nothing is ever pickled"
    )


def test_run_json_and_the_audit_say_which_rows_these_were(trained: Path) -> None:
    audit = _read(trained / "data-audit.json")
    train, test = (f["root"] for f in audit["files"])
    assert audit["forecast"]["tokens"] > audit["lengths"]["tokens_per_epoch"] > 0
    page = (trained / "report.html").read_text("utf-8")
    assert all(title in page for title in ("Tokens per epoch", "Forecast: work", "What the prompts are about"))
    used = _read(trained / "run.json")["data_root"]
    assert len({train, test, used}) == 3, "the validation share is not trained on"
    assert all(len(root) == 64 for root in (train, test, used))


def test_each_row_that_was_trained_on_is_named_by_its_digest(trained: Path) -> None:
    head, *lines = (trained / "training-rows.tsv").read_text("utf-8").splitlines()
    assert head == "digest\ttimes\trow"
    told = {row: (bytes.fromhex(digest), int(times)) for digest, times, row in (line.split("\t") for line in lines)}
    spec = RunDir(trained).recipe()
    read = {row.origin: row for row in load(Path(spec.data.train[0].path)).records}
    assert len(told) == len(lines) == round(0.9 * len(read)), "a tenth is validation"
    assert all(identity.digest(read[row]) == digest for row, (digest, _) in told.items())
    digests = identity.joined(bytearray(b"".join(digest for digest, _ in told.values())))
    root = identity.root(digests, [times for _, times in told.values()])
    assert root == _read(trained / "run.json")["data_root"]


def test_skills_and_training_rows_are_asked_too(trained: Path) -> None:
    facts = _read(trained / "evaluation.json")
    assert facts["skills"]["all"]["items"] == sum(one["items"] for k, one in facts["skills"].items() if k != "all")
    verbatim = facts["memorisation"]["verbatim"]
    assert verbatim["rows"] == 50
    assert verbatim["base"]["mean_share"] < verbatim["tuned"]["mean_share"], "it learned its rows"
    assert facts["memorisation"]["membership"]["held_out"] == 8
    page = (trained / "report.html").read_text("utf-8")
    assert "Skills kept" in page
    assert "Memorised rows" in page


def test_what_speaks_to_a_lost_row_is_told(trained: Path) -> None:
    rows = [json.loads(line) for line in (trained / "predictions.jsonl").read_text("utf-8").splitlines()]
    wrong = [row for row in rows if row["outcome"] in ("loss", "tie_wrong")]
    assert wrong
    assert [row for row in rows if "lost" in row] == wrong
    assert sum(_read(trained / "evaluation.json")["lost"].values()) == len(wrong)
    again = [json.loads(line) for line in (trained / "lost-rows.jsonl").read_text("utf-8").splitlines()]
    assert [row["messages"][-1]["content"] for row in again] == [row["reference"] for row in wrong]
    assert load(trained / "lost-rows.jsonl").records, "it reads back as rows"
    page = (trained / "report.html").read_text("utf-8")
    assert page.count("Why wrong") == len(wrong)


def test_evaluation_json_has_its_keys(trained: Path) -> None:
    facts = _read(trained / "evaluation.json")
    assert facts["verdict"] == "pass"
    assert facts["rows"] == 8
    assert all(set(reason) == {"ok", "text"} for reason in facts["reasons"])
    names = [m["name"] for m in facts["metrics"]]
    assert names == ["exact_match", "token_f1", "loss", "perplexity"]
    for metric in facts["metrics"]:
        assert metric["delta"] == pytest.approx(metric["tuned"] - metric["base"])
        low, high = metric["ci95"]
        assert low <= metric["delta"] <= high
    loss = facts["metrics"][2]
    assert loss["tuned"] < 0.8 * loss["base"], "nothing was learned"
    forgetting = facts["forgetting"]
    assert forgetting["delta"] == pytest.approx(forgetting["tuned_loss"] - forgetting["base_loss"])
    assert {"verdict", "best_step", "last_step"} <= facts["overfitting"].keys()
    assert facts["overfitting"]["last_step"] == 30
    assert sum(part["rows"] for part in facts["slices"]) == 8
    assert sum(facts["outcomes"].values()) == 8


def test_run_json_has_its_keys(trained: Path) -> None:
    facts = _read(trained / "run.json")
    assert facts["status"] == "finished"
    assert (facts["steps"], facts["planned_steps"], facts["skipped_steps"]) == (30, 30, [])
    for key in ("tokens_per_s", "trained_tokens", "peak_memory_mb", "wall_seconds"):
        assert facts[key] > 0, key
    for key in ("data", "base", "tokenizer", "recipe"):
        assert re.fullmatch("[0-9a-f]{64}", facts[f"{key}_fingerprint"])
    assert facts["times"].keys() == {"check", "load", "score base", "train", "score tuned", "report"}
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text("utf-8").splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert [line["step"] for line in steps] == list(range(1, 31))
    assert sum(line["tokens"] for line in steps) == facts["trained_tokens"]


def test_predictions_and_report_show_the_test_rows(trained: Path) -> None:
    rows = [json.loads(line) for line in (trained / "predictions.jsonl").read_text("utf-8").splitlines()]
    assert [row["reference"] for row in rows] == [r["messages"][1]["content"] for r in tiny.rows(100, 8)]
    assert [row["source"] for row in rows] == [f"test.jsonl:{i}" for i in range(1, 9)]
    page = (trained / "report.html").read_text("utf-8")
    assert "test.jsonl:8" in page
    assert not re.search(r"(src|href)=.https?:", page), "the report must stand alone"


def test_run_json_flag_gives_one_object_on_stdout(trained: Path) -> None:
    printed = _read(trained.parent / "stdout.json")
    assert printed == _read(trained / "evaluation.json") | {"run": str(trained)}


def test_the_lock_is_a_recipe_that_says_the_same(trained: Path) -> None:
    from tunesmith.pipelines.read_recipe import read_recipe
    from tunesmith.pipelines.rundir import RunDir

    spec = read_recipe(trained / "recipe.lock.yaml", environment={})
    assert spec == RunDir(trained).recipe()
    assert "auto" not in {str(v) for part in (spec.training, spec.evaluation) for v in part.model_dump().values()}
    assert spec.training_fingerprint() == _read(trained / "run.json")["recipe_fingerprint"]


def test_the_gate_says_no_with_exit_10(tmp_path: Path, base: Path, cli: Cli) -> None:
    gate = {"require": {"exact_match": 0.99}, "max_forgetting": None}
    recipe = tiny.write_task(tmp_path, base, gate=gate)
    done = cli("run", recipe, "--out", tmp_path / "run", "--set", "training.max_steps=2", "--json")
    assert done.code == 10
    assert json.loads(done.out)["verdict"] == "fail"
    assert "error: the gate said no" in done.err
    assert "exact_match gains at least" in done.err
    assert "mend:" in done.err
    assert _read(tmp_path / "run" / "run.json")["verdict"] == "fail"
    assert (tmp_path / "run" / "adapter").is_dir()
    assert (tmp_path / "run" / "report.html").is_file()


def test_tables_for_people_and_the_next_commands(tmp_path: Path, base: Path, cli: Cli) -> None:
    recipe = tiny.write_task(tmp_path, base)
    done = cli("run", recipe, "--out", tmp_path / "run", "--set", "training.max_steps=2")
    assert done.code == 0
    for phrase in ("verdict: pass", "exact_match", "forgetting:", "overfitting:", "test.jsonl:", "tunesmith chat"):
        assert phrase in done.out
    assert f"report   {tmp_path / 'run' / 'report.html'}\n" in done.out, "a path must not be broken over lines"
    quiet = cli("--quiet", "train", recipe, "--out", tmp_path / "quiet", "--set", "training.max_steps=1")
    assert quiet.err == ""


def test_full_fine_tuning_from_run_to_export(tmp_path: Path, base: Path, cli: Cli) -> None:
    recipe = tiny.write_task(tmp_path, base, adapter={"type": "full"})
    run = tmp_path / "run"
    done = cli("run", recipe, "--out", run, "--set", "training.max_steps=6", "--json")
    assert done.code == 0, done.err
    before = json.loads(done.out)
    assert not (run / "adapter").exists()
    again = cli("evaluate", run, "--fresh", "--json")
    assert again.code == 0, again.err
    assert json.loads(again.out)["metrics"] == [m | {} for m in before["metrics"]]
    exported = json.loads(cli("export", run, "--json").out)
    assert exported["largest_difference"] == 0
    for more in ([], ["--base"]):
        assert cli("generate", run, "--prompt", "Tom?", "--max-tokens", 4, *more).code == 0


def test_runs_lists_and_compares(trained: Path, cli: Cli) -> None:
    [row] = json.loads(cli("runs", trained.parent, "--json").out)["runs"]
    assert (row["path"], row["status"], row["verdict"]) == (str(trained), "finished", "pass")
    assert "exact_match" in cli("runs", trained.parent).out
    same = json.loads(cli("runs", trained, trained, "--json").out)
    assert same["same_test_rows"] is True
    assert same["recipe"] == []
    assert [m["difference"] for m in same["metrics"]] == [0, 0, 0, 0]
    assert "Tuned models" in cli("runs", trained, trained).out


def test_runs_tells_damaged_ones_and_empty_folders(trained: Path, tmp_path: Path, cli: Cli) -> None:
    assert "no runs below" in cli("runs", tmp_path).out
    for name, file in (("a", "run.json"), ("b", "evaluation.json")):
        shutil.copytree(trained, tmp_path / name)
        (tmp_path / name / file).write_text('{"status": ')
    rows = {row["path"]: row["status"] for row in json.loads(cli("runs", tmp_path, "--json").out)["runs"]}
    assert rows == {str(tmp_path / "a"): "damaged", str(tmp_path / "b"): "damaged"}
    damaged = cli("report", tmp_path / "b")
    assert damaged.code == 3
    assert "is damaged" in damaged.err


def test_report_is_built_again(trained: Path, tmp_path: Path, cli: Cli) -> None:
    shutil.copytree(trained, tmp_path / "run")
    before = (tmp_path / "run" / "report.html").read_bytes()
    (tmp_path / "run" / "report.html").unlink()
    assert cli("report", tmp_path / "run").code == 0
    assert (tmp_path / "run" / "report.html").stat().st_size == pytest.approx(len(before), rel=0.05)


def test_evaluate_gives_the_same_figures_again(trained: Path, tmp_path: Path, cli: Cli) -> None:
    shutil.copytree(trained, tmp_path / "run")
    times = _read(trained / "run.json")["times"]
    done = cli("evaluate", tmp_path / "run", "--fresh", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out) == _read(trained / "evaluation.json")
    after = _read(tmp_path / "run" / "run.json")
    assert after["times"]["train"] == times["train"], "how long the training took is not forgotten"
    assert after["status"] == "finished"


def test_evaluate_takes_other_rows_and_another_gate(trained: Path, tmp_path: Path, cli: Cli) -> None:
    shutil.copytree(trained, tmp_path / "run")
    other = tiny.write_rows(tmp_path / "other.jsonl", tiny.rows(200, 6))
    done = cli("evaluate", tmp_path / "run", "--data", other, "--gate", "exact_match=0.99", "--json")
    assert done.code == 10, done.err
    told = json.loads(done.out)
    assert told["rows"] == 6
    assert told["reasons"][0]["ok"] is False
    assert told == _read(tmp_path / "run/evaluations/other/evaluation.json")
    assert _read(tmp_path / "run/evaluation.json") == _read(trained / "evaluation.json"), "the run's own figures"
    wrong = cli("evaluate", tmp_path / "run", "--gate", "exact_match")
    assert (wrong.code, "--gate takes METRIC=NUMBER" in wrong.err) == (2, True)


@pytest.mark.parametrize("test", ["file", 0.2], ids=["drop", "drawn"])
def test_other_rows_need_the_training_rows_that_the_test_rows_chose(
    test: str | float, tmp_path: Path, base: Path, cli: Cli
) -> None:
    recipe = tiny.write_task(tmp_path, base)
    settings = ["data.on_overlap=drop" if test == "file" else f"data.test={test}", "training.max_steps=2"]
    both = [json.loads(line) for line in (tmp_path / "test.jsonl").read_text("utf-8").splitlines()]
    if test == "file":  # some of the training rows are test rows as well, and are left out
        with (tmp_path / "train.jsonl").open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in both[:3])
    asked = [word for setting in settings for word in ("--set", setting)]
    assert cli("run", recipe, "--out", tmp_path / "run", *asked).code in (0, 10)
    other = tiny.write_rows(tmp_path / "other.jsonl", [*tiny.rows(200, 6), *(both[:3] if test == "file" else [])])
    done = cli("evaluate", tmp_path / "run", "--data", other, "--json")
    assert done.code in (0, 10), done.err
    assert json.loads(done.out)["rows"] == (9 if test == "file" else 6)
    known = tiny.write_rows(tmp_path / "known.jsonl", [*tiny.rows(200, 3), *tiny.rows(0, 30)])
    refused = cli("evaluate", tmp_path / "run", "--data", known)
    assert (refused.code, "is also in the test file" in refused.err) == (3, True)


def test_rows_that_were_trained_on_are_no_test(trained: Path, tmp_path: Path, cli: Cli) -> None:
    shutil.copytree(trained, tmp_path / "run")
    known = tiny.write_rows(tmp_path / "known.jsonl", [*tiny.rows(200, 3), *tiny.rows(0, 2)])
    done = cli("evaluate", tmp_path / "run", "--data", known)
    assert done.code == 3
    assert "is also in the test file" in done.err
    assert not (tmp_path / "run/evaluations").exists()


def test_evaluate_refuses_other_data(tmp_path: Path, base: Path, cli: Cli) -> None:
    recipe = tiny.write_task(tmp_path, base)
    assert cli("train", recipe, "--out", tmp_path / "run", "--set", "training.max_steps=2", "--json").code == 0
    assert _read(tmp_path / "run" / "run.json")["status"] == "trained"
    tiny.write_rows(tmp_path / "test.jsonl", tiny.rows(200, 8))
    done = cli("evaluate", tmp_path / "run")
    assert done.code == 3
    assert "data files have changed" in done.err


def test_generate_answers_as_it_was_scored(trained: Path, cli: Cli) -> None:
    [row, *_] = [json.loads(line) for line in (trained / "predictions.jsonl").read_text("utf-8").splitlines()]
    prompt = row["prompt"][0]["content"]
    answers = {}
    for who, more in (("tuned", []), ("base", ["--base"])):
        done = cli("generate", trained, "--prompt", prompt, "--max-tokens", 8, "--json", *more)
        assert done.code == 0, done.err
        answers[who] = json.loads(done.out)
        assert answers[who]["text"].strip() == row[who]
        assert answers[who]["completion_tokens"] <= 8
    assert answers["tuned"] != answers["base"]
    assert cli("generate", trained, "--prompt", prompt, "--max-tokens", 8).out.strip() == row["tuned"]


def test_generate_reads_stdin_and_bounds_the_prompt(trained: Path) -> None:
    done = tiny.tunesmith("generate", trained, "--prompt", "-", "--max-tokens", 3, "--json", stdin="Tom has?")
    assert done.returncode == 0
    assert json.loads(done.stdout)["completion_tokens"] <= 3
    long = tiny.tunesmith("generate", trained, "--prompt", "-", stdin="a b c " * 200)
    assert long.returncode == 3
    assert "the model takes 160" in long.stderr
    assert "Traceback" not in long.stderr


def test_export_is_loaded_by_plain_transformers(trained: Path, tmp_path: Path, cli: Cli) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    done = cli("export", trained, "--to", "merged", "--out", tmp_path / "merged", "--json")
    assert done.code == 0, done.err
    facts = json.loads(done.out)
    assert facts["dtype"] == "float32"
    assert facts["largest_difference"] < 1e-3
    assert (facts["prompts"], facts["same_answers"]) == (8, 1.0)
    small = facts["quantized"]["int8"]
    assert facts["largest_difference"] < small["largest_difference"], "eight bits lose something"
    assert small["same_best_token"] > 0.5
    assert small["prompts"] == 8
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    [row, *_] = [json.loads(line) for line in (trained / "predictions.jsonl").read_text("utf-8").splitlines()]
    ids = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        out = model.generate(ids, max_new_tokens=8, do_sample=False)
    assert tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True).strip() == row["tuned"]
    assert [p.name for p in tmp_path.iterdir()] == ["merged"]


# PEFT asks transformers 5 a question that is going out of use; any other warning of its loading fails the test.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_the_saved_adapter_is_loaded_by_peft(trained: Path, base: Path) -> None:
    import warnings

    from transformers import AutoModelForCausalLM

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its imports, not of what is tested
        peft = pytest.importorskip("peft")
    theirs = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), trained / "adapter")
    from tunesmith.pipelines import bench
    from tunesmith.pipelines.rundir import RunDir

    ours = bench.open_run(RunDir(trained)).model
    ids = torch.tensor([[1, 40, 50, 60, 70]])
    with torch.no_grad():
        torch.testing.assert_close(theirs(input_ids=ids).logits, ours(input_ids=ids).logits, rtol=1e-5, atol=1e-5)


def test_chat_switches_voices_and_ends(trained: Path) -> None:
    [row, *_] = [json.loads(line) for line in (trained / "predictions.jsonl").read_text("utf-8").splitlines()]
    ask = row["prompt"][0]["content"]
    lines = [ask, "/new", "/base", ask, "/new", "/both", ask, "/nonsense", "/new", "x " * 300, "/quit", "never"]
    done = tiny.tunesmith("chat", trained, "--max-tokens", 8, stdin="\n".join(lines))
    assert done.returncode == 0, done.stderr
    first, second, *_ = done.stdout.splitlines()
    assert (first.strip(), second.strip()) == (row["tuned"], row["base"])
    assert "base" in done.stdout
    assert "tuned" in done.stdout
    assert done.stderr.count("/quit ends") == 2, "once at the start, once for what it does not know"
    assert "the model takes 160" in done.stderr, "too long a message is told, and the chat goes on"
    assert "Traceback" not in done.stderr


def test_doctor_tells_of_this_machine(cli: Cli) -> None:
    checks = json.loads(cli("doctor", "--json").out)["checks"]
    assert {"versions", "processor", "memory", "disk", "GPU", "bundled bases"} <= {c["name"] for c in checks}
    assert all(c["state"] in ("ok", "warn", "missing") for c in checks)
    assert "bundled/tunesmith-8m" in cli("doctor").out


def test_init_writes_a_recipe_that_reads_and_checks(tmp_path: Path, base: Path, cli: Cli) -> None:
    from tunesmith.pipelines.read_recipe import read_recipe

    mine = tiny.write_rows(tmp_path / "mine.jsonl", tiny.rows(0, 60))
    before = mine.read_bytes()
    recipe = tmp_path / "new" / "recipe.yaml"
    done = cli("init", mine, "--out", recipe, "--base", base)
    assert done.code == 0, done.err
    spec = read_recipe(recipe, environment={})
    assert spec.data.test is not None
    parts = [Path(spec.data.train[0].path), Path(spec.data.test.path)]
    counts = [len(p.read_text("utf-8").splitlines()) for p in parts]
    assert counts == [50, 10]
    assert mine.read_bytes() == before
    assert cli("check", recipe).code == 0
    again = cli("init", mine, "--out", recipe)
    assert again.code == 6
    assert "is there already" in again.err


def test_init_schema_is_a_json_schema(cli: Cli) -> None:
    schema = json.loads(cli("init", "--schema").out)
    assert schema["additionalProperties"] is False
    assert {"data", "adapter", "training", "gate"} <= schema["properties"].keys()


def test_check_gives_the_audit_as_json(tmp_path: Path, base: Path, cli: Cli) -> None:
    recipe = tiny.write_task(tmp_path, base)
    done = cli("check", recipe, "--json")
    assert done.code == 0, done.err
    facts = json.loads(done.out)
    assert [(f["role"], f["rows"], f["accepted"]) for f in facts["files"]] == [("train", 60, 60), ("test", 8, 8)]
    assert facts["tokens"]["labelled_tokens"] > 0
    bad = tiny.write_rows(tmp_path / "bad.jsonl", [*tiny.rows(0, 60), {"messages": []}])
    done = cli("check", bad, "--base", base, "--json")
    assert done.code == 3
    findings = json.loads(done.out)["findings"]
    assert findings[0]["severity"] == "block"
    assert findings[0]["rows"] == ["bad.jsonl:61"]
    assert "mend:" in done.err


def test_debug_works_behind_the_command_and_version_is_told(cli: Cli, tmp_path: Path) -> None:
    from tunesmith import __version__

    assert cli("--version").out.strip() == __version__
    done = tiny.tunesmith("generate", tmp_path, "--prompt", "x", "--debug")
    assert done.returncode == 4
    assert "Traceback" in done.stderr


@pytest.mark.parametrize("kind", ["gpt2", "gemma2"])
def test_other_architectures_go_the_whole_way(kind: str, tmp_path: Path, cli: Cli) -> None:
    recipe = tiny.write_task(tmp_path, tiny.base_folder(tmp_path / "base", kind))
    done = cli("run", recipe, "--out", tmp_path / "run", "--set", "training.max_steps=8", "--json")
    assert done.code == 0, done.err
    loss = {m["name"]: m for m in json.loads(done.out)["metrics"]}["loss"]
    assert loss["tuned"] < loss["base"]
    exported = json.loads(cli("export", tmp_path / "run", "--json").out)
    assert exported["largest_difference"] < 1e-3
    assert exported["same_best_token"] == 1
