"""The peer of `sft_vs_trl.py` and `dpo_vs_trl.py`: TRL as its documentation uses it. Prints one JSON line. Needs no
Tunesmith.

    python trl_peer.py MODEL ROWS.jsonl [--dpo] [--dtype fp32|bf16] [--full] [--adapter FOLDER] [--save FOLDER]

ROWS has `messages`, and is read in its order, eight rows an optimizer step; with `--dpo` it has `prompt`, `chosen` and
`rejected`, four pairs a step. `--adapter` is a LoRA in PEFT's layout that
training begins from; without it PEFT makes one. `--save` is where the trained one goes. Seconds are those between the
ends of steps, tokens the real ones, without padding.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

_NUMBERS = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Clock(TrainerCallback):
    """When training began and when each step ended."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def on_train_begin(self, *_: object, **__: object) -> None:
        """The first step begins."""
        self.at = [time.perf_counter()]

    def on_step_end(self, *_: object, **__: object) -> None:
        """An optimizer step is done."""
        self.at.append(time.perf_counter())


def arguments() -> argparse.Namespace:
    """What was typed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--dtype", choices=_NUMBERS, default="fp32")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--dpo", action="store_true")
    parser.add_argument("--adapter", type=Path)
    parser.add_argument("--save", type=Path)
    return parser.parse_args()


def adapted(model: torch.nn.Module, args: argparse.Namespace) -> torch.nn.Module:
    """The model as it is trained."""
    if args.full:
        return model
    if args.adapter:
        return PeftModel.from_pretrained(model, args.adapter, is_trainable=True)
    config = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    return get_peft_model(model, config)


def settings(args: argparse.Namespace, out: str) -> dict[str, Any]:
    """The trainer's, all else as it comes."""
    return {
        "output_dir": out, "num_train_epochs": 1, "logging_steps": 1, "save_strategy": "no", "report_to": "none",
        "learning_rate": 2e-4, "lr_scheduler_type": "constant", "max_length": 1024, "seed": 0,
        "use_cpu": not torch.cuda.is_available(), "bf16": args.dtype == "bf16", "gradient_checkpointing": False,
        "train_sampling_strategy": "sequential",
    }  # fmt: skip


def trainer(args: argparse.Namespace, out: str, rows: list[dict[str, Any]], clock: Clock) -> Any:
    """TRL's for the method."""
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    model = adapted(AutoModelForCausalLM.from_pretrained(args.model, dtype=_NUMBERS[args.dtype]), args)
    given = {
        "model": model, "train_dataset": Dataset.from_list(rows), "processing_class": tokenizer, "callbacks": [clock]
    }  # fmt: skip
    told = settings(args, out)
    if args.dpo:
        return DPOTrainer(args=DPOConfig(per_device_train_batch_size=4, **told), **given)
    return SFTTrainer(args=SFTConfig(per_device_train_batch_size=8, assistant_only_loss=True, **told), **given)


def length(row: dict[str, Any]) -> int:
    """Tokens of a row; of a pair, those of both answers with the prompt before each."""
    if "prompt_ids" not in row:
        return len(row["input_ids"])
    return 2 * len(row["prompt_ids"]) + len(row["chosen_ids"]) + len(row["rejected_ids"])


def main() -> None:
    """Train and print."""
    args = arguments()
    rows = [json.loads(line) for line in args.rows.read_text("utf-8").splitlines()]
    clock = Clock()
    with tempfile.TemporaryDirectory() as out:
        made = trainer(args, out, rows, clock)
        tokens = sum(map(length, made.train_dataset))
        made.train()
    if args.save:
        made.model.save_pretrained(args.save)
    seconds = clock.at[-1] - clock.at[0]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 * (1024 if sys.platform == "darwin" else 1))
    found = {
        "dtype": args.dtype, "steps": len(clock.at) - 1, "tokens": tokens, "seconds": round(seconds, 2),
        "tokens_per_s": round(tokens / seconds, 1), "peak_mb": round(peak),
        "losses": [entry["loss"] for entry in made.state.log_history if "loss" in entry],
        "versions": {name: version(name) for name in ("torch", "transformers", "trl", "peft", "datasets")},
    }  # fmt: skip
    print(json.dumps(found))


if __name__ == "__main__":
    main()
