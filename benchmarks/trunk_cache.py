"""What it brings to compute frozen lower layers once: tokens a second of the first epoch and of those behind it.

    python benchmarks/trunk_cache.py MODEL ROWS.jsonl [--rows 64] [--rounds 1] [--share top_third] [--out FILE.json]

MODEL and ROWS as for `sft_vs_trl.py`; LoRA r=16 on every linear layer of the top third and of the top sixth of the
layers, bf16, eight rows a step, three epochs, each training a process of its own: with what the lower layers make of
the rows kept, and, to be held against it, with nothing kept. Seconds and tokens of an epoch are those of its steps in
`metrics.jsonl`; making the states (`trunk_seconds` in `run.json`) counts as part of the first epoch, and the ratio
without it is told beside. Epochs behind the first count together.

The ceiling is by operations, counted as in `sft_vs_trl.py`: forward through all layers and backward through the adapted
ones, over the same without the forward pass of the lower layers. The lowest adapted layer sends no gradient below.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import beside
import written
from beside import RANK

_RECIPE = """\
name: trunk
seed: 7
base: {model}
data: {{train: {rows}, validation: 0.0}}
method: {{type: sft}}
adapter: {{type: lora, r: 16, alpha: 32, last: {last}}}
training:
  epochs: 3
  batch_size: 8
  learning_rate: 2.0e-4
  schedule: constant
  warmup: 0
  max_length: 1024
  precision: bf16
  early_stopping: null
  checkpoint_every: 1000000
  devices: {{trunk_cache: {kept}}}
"""
SHARES = {"top_third": 3, "top_sixth": 6}
WAYS = {"kept": "{}", "nothing_kept": "null"}


def trained(recipe: Path, out: Path, rows: int) -> dict[str, Any]:
    """One training as a user would start it: tokens, seconds and tokens a second of the first epoch and of the rest."""
    beside.child(sys.executable, "-m", "tunesmith", "train", recipe, "--out", out)
    facts = json.loads((out / "run.json").read_text("utf-8"))
    steps = [json.loads(line) for line in (out / "metrics.jsonl").read_text("utf-8").splitlines()]
    first = -(-rows // 8)
    (tokens, seconds), (later_tokens, later_seconds) = (
        [sum(step[name] for step in part) for name in ("tokens", "seconds")] for part in (steps[:first], steps[first:])
    )
    making = facts["trunk_seconds"]
    return {
        "tokens_of_an_epoch": tokens,
        "seconds": {"making": making, "first_epoch": round(seconds, 2), "later_epochs": round(later_seconds, 2)},
        "tokens_per_s": {
            "first_epoch": round(tokens / (seconds + making), 1),
            "first_epoch_without_making": round(tokens / seconds, 1),
            "later_epochs": round(later_tokens / later_seconds, 1),
        },
        "peak_mb": facts["peak_memory_mb"], "last_loss": steps[-1]["loss"],
    }  # fmt: skip


def ceiling(recipe: Path, last: int) -> None:
    """In a process of its own: print operations of an epoch that passes all layers over those of one that does not."""
    from tunesmith.models.size import Size

    prepared, train, _ = beside.planned(recipe)
    size, lengths = Size.of(prepared.base), [row.length for row in train]
    tokens, labelled = sum(lengths), sum(row.labelled for row in train)
    of_layer = size.body / size.layers
    attention = 2 * size.hidden * sum(length**2 for length in lengths)  # of a layer: two products, half of each
    added = RANK * sum(out + into for _, out, into in size.linear) / size.layers
    lowest = f".{size.layers - last}."
    unasked = sum(out * into for name, out, into in size.linear if lowest in name and name.split(".")[-2][0] in "qkv")
    below = (size.layers - last) * (2 * tokens * of_layer + attention)
    forward = last * (2 * tokens * (of_layer + added) + attention) + 2 * labelled * size.head
    backward = forward + last * (attention + 2 * tokens * added) - 2 * tokens * unasked
    print(json.dumps({"ratio": round((below + forward + backward) / (forward + backward), 3)}))


def figures(rounds: list[dict[str, dict[str, Any]]], most: float) -> dict[str, Any]:
    """Medians over the rounds, and their ratios to the first epoch and to a training that keeps nothing."""

    def median(way: str, of: str, name: str) -> float:
        return statistics.median(one[way][of][name] for one in rounds)

    later = median("kept", "tokens_per_s", "later_epochs")
    plain = median("nothing_kept", "tokens_per_s", "later_epochs")
    whole = {way: sum(median(way, "seconds", name) for name in rounds[0][way]["seconds"]) for way in WAYS}
    return {
        "later_over_first_epoch": round(later / median("kept", "tokens_per_s", "first_epoch"), 3),
        "later_over_first_epoch_without_making": round(
            later / median("kept", "tokens_per_s", "first_epoch_without_making"), 3
        ),
        "later_over_later_with_nothing_kept": round(later / plain, 3),
        "three_epochs_over_three_with_nothing_kept": round(whole["nothing_kept"] / whole["kept"], 3),
        "ceiling_by_operations": most,
    }  # fmt: skip


def measured(args: Any, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(what the rounds come to, the rounds), by the share of the layers that is adapted."""
    given = folder / "rows.jsonl"
    given.write_text("".join(f"{line}\n" for line in args.rows_file.read_text("utf-8").splitlines()[: args.rows]))
    layers = json.loads((args.model / "config.json").read_text("utf-8"))["num_hidden_layers"]
    summary: dict[str, Any] = {}
    every: dict[str, Any] = {}
    for share in [args.share] if args.share else SHARES:
        last, recipes = layers // SHARES[share], {}
        for way, kept in WAYS.items():
            recipes[way] = folder / f"{share}-{way}.yaml"
            text = _RECIPE.format(model=args.model.resolve(), rows=given, last=last, kept=kept)
            recipes[way].write_text(text, "utf-8")
        most = beside.child(sys.executable, __file__, "--ceiling", recipes["kept"], str(last))["ratio"]
        every[share] = [
            {way: trained(recipe, folder / f"{share}-{way}-{number}", args.rows) for way, recipe in recipes.items()}
            for number in range(args.rounds)
        ]
        summary[share] = {"layers": [last, layers]} | figures(every[share], most)
    return summary, every


def main() -> None:
    """Measure, write, and print one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("rows_file", type=Path)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--share", choices=list(SHARES), help="one of the two settings alone")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        summary, rounds = measured(args, Path(name))
    if args.out:
        written.write({"summary": summary, "rounds": rounds}, args.out)
    print(json.dumps(summary))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--ceiling"]:
        ceiling(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        main()
