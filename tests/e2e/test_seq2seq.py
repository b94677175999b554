"""A whole run on a tiny random T5 with a tokenizer of T5's kind: no chat template, no start token, an end token that
the tokenizer itself puts behind a text, line breaks that are blanks.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import processes
import tiny
from tunesmith.core.messages import Message

Cli = Callable[..., tiny.Result]


def _read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def _tokenizer() -> Any:
    """Unigram, as T5's: <pad> 0, </s> 1, <unk> 2."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.Unigram())
    made.normalizer = normalizers.Replace(Regex(r"\s+"), " ")
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    texts = [message["content"] for row in tiny.rows(0, 200) for message in row["messages"]]
    special = ["<pad>", "</s>", "<unk>"]
    alphabet = [chr(code) for code in range(33, 127)]
    made.train_from_iterator(
        texts,
        trainers.UnigramTrainer(
            vocab_size=300, special_tokens=special, unk_token="<unk>", initial_alphabet=alphabet, show_progress=False
        ),
    )
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base's folder. Do not change it."""
    folder = tmp_path_factory.mktemp("base") / "t5"
    words = _tokenizer()
    config = tiny.config("t5 v1.1", vocabulary=len(words))
    config.eos_token_id, config.bos_token_id = 1, None
    tiny.random_model(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, t5: Path) -> Path:
    """A finished run, made by the command line in a process of its own. Do not change it."""
    folder = tmp_path_factory.mktemp("task")
    # Gently, so that answers still differ from prompt to prompt: this base is too small to learn to read.
    training = tiny.recipe(t5)["training"] | {"learning_rate": 0.0005}
    recipe = tiny.write_task(folder, t5, training=training)
    done = tiny.tunesmith("run", recipe, "--out", folder / "run", "--json")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return folder / "run"


def test_it_learns_is_scored_and_reported(run: Path) -> None:
    facts, evaluation = _read(run / "run.json"), _read(run / "evaluation.json")
    assert (facts["status"], facts["verdict"], facts["steps"]) == ("finished", "pass", 30)
    metrics = {m["name"]: m for m in evaluation["metrics"]}
    assert metrics["loss"]["tuned"] < 0.95 * metrics["loss"]["base"], "nothing was learned"
    forgetting = evaluation["forgetting"]
    assert forgetting["base_loss"] > 0
    assert forgetting["delta"] != 0
    assert "<html" in (run / "report.html").read_text("utf-8")
    assert len((run / "predictions.jsonl").read_text("utf-8").splitlines()) == 8


def test_generate_answers_as_it_was_scored(run: Path, cli: Cli) -> None:
    rows = [json.loads(line) for line in (run / "predictions.jsonl").read_text("utf-8").splitlines()]
    # How many answers differ after so short a training is the machine's rounding: those that do first, then others.
    differing = {row["tuned"]: row for row in reversed(rows)}.values()
    asked = sorted(rows, key=lambda row: not any(row is one for one in differing))[:3]
    for row in asked:
        for name, options in {"tuned": [], "base": ["--base"]}.items():
            prompt = row["prompt"][0]["content"]
            done = cli("generate", run, "--prompt", prompt, "--max-tokens", 8, "--json", *options)
            assert done.code == 0, done.err
            assert json.loads(done.out)["text"].strip() == row[name]


def test_the_prompt_is_read(run: Path) -> None:
    from tunesmith.data.tokenize import encode_prompt
    from tunesmith.pipelines import bench
    from tunesmith.pipelines.rundir import RunDir

    opened = bench.open_run(RunDir(run))
    asked = ["Tom has a car, no 105. What?", "Sue has a ball, no 7. What?"]
    prompts = [encode_prompt(opened.tokenizer, [Message(role="user", content=text)]) for text in asked]
    start = torch.tensor([[0]])
    with torch.no_grad():
        first, second = (opened.model(input_ids=torch.tensor([p]), decoder_input_ids=start).logits for p in prompts)
    assert (first - second).abs().max() > 1e-3


# PEFT asks transformers 5 a question that is going out of use; any other warning of its loading fails the test.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_the_adapter_is_loaded_by_peft_as_one_of_an_encoder_decoder(run: Path, t5: Path) -> None:
    from transformers import AutoModelForSeq2SeqLM

    from tunesmith.pipelines import bench
    from tunesmith.pipelines.rundir import RunDir

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its imports, not of what is tested
        peft = pytest.importorskip("peft")
    assert _read(run / "adapter" / "adapter_config.json")["task_type"] == "SEQ_2_SEQ_LM"
    base = AutoModelForSeq2SeqLM.from_pretrained(t5)
    asked = {"input_ids": torch.tensor([[5, 9, 13]]), "decoder_input_ids": torch.tensor([[0, 7, 8]])}
    with torch.no_grad():
        before = base(**asked).logits
        theirs = peft.PeftModel.from_pretrained(base, run / "adapter")
        ours = bench.open_run(RunDir(run)).model
        assert isinstance(theirs, peft.PeftModelForSeq2SeqLM)
        assert (before - ours(**asked).logits).abs().max() > 1e-2
        torch.testing.assert_close(theirs(**asked).logits, ours(**asked).logits, rtol=1e-5, atol=1e-5)


def test_export_is_loaded_by_plain_transformers(run: Path, tmp_path: Path, cli: Cli) -> None:
    from transformers import AutoModelForSeq2SeqLM

    from tunesmith.pipelines import bench
    from tunesmith.pipelines.rundir import RunDir

    done = cli("export", run, "--to", "merged", "--out", tmp_path / "merged", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["largest_difference"] < 1e-3
    asked = {"input_ids": torch.tensor([[5, 9, 13]]), "decoder_input_ids": torch.tensor([[0, 7, 8]])}
    with torch.no_grad():
        theirs = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "merged")(**asked).logits
        ours = bench.open_run(RunDir(run)).model(**asked).logits
    torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-4)


def test_init_writes_a_recipe_that_fits(t5: Path, tmp_path: Path, cli: Cli) -> None:
    data = tiny.write_rows(tmp_path / "tickets.jsonl", tiny.rows(0, 60))
    done = cli("init", data, "--out", tmp_path / "recipe.yaml", "--base", t5)
    assert done.code == 0, done.err
    assert "rehearsal" not in (tmp_path / "recipe.yaml").read_text("utf-8")


def test_full_fine_tuning_trains_and_answers(t5: Path, tmp_path: Path, cli: Cli) -> None:
    recipe = tiny.write_task(tmp_path, t5, adapter={"type": "full"})
    done = cli("train", recipe, "--out", tmp_path / "run", "--set", "training.max_steps=4")
    assert done.code == 0, done.err
    answered = cli("generate", tmp_path / "run", "--prompt", "Tom has a ball, no 3. What?", "--json")
    assert answered.code == 0, answered.err
    assert isinstance(json.loads(answered.out)["text"], str)


def test_rehearsal_is_refused_with_what_to_do_instead(t5: Path, tmp_path: Path, cli: Cli) -> None:
    recipe = tiny.write_task(tmp_path, t5, method={"type": "sft", "rehearsal": {"rows": 4}})
    done = cli("train", recipe, "--out", tmp_path / "run")
    assert done.code == 3
    assert "encoder-decoder" in done.err
    assert "data.train" in done.err


@pytest.mark.slow
def test_killed_and_resumed_equals_uninterrupted(run: Path, tmp_path: Path) -> None:
    processes.require_killed_and_resumed_equals(run, run.parent / "recipe.yaml", tmp_path, steps=17)
