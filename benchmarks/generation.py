"""Greedy answers of the bundled base in batches, beside `transformers.generate` with the same rows in the same batches.

    PYTHONPATH=src python benchmarks/generation.py [--out results.json] [--rows 64] [--batch 16] [--tokens 128]

Both get the same loaded model, tokens, stop tokens and padding; they take turns, round by round, and answers must be
the same where the two best logits are not within 1e-3. Figures are tokens a second, the median of the rounds. The
machine should have nothing else to do.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
import written

from tunesmith.core.messages import Message
from tunesmith.data.template import PLAIN_TEMPLATE
from tunesmith.data.tokenize import encode_prompt
from tunesmith.engine import memory, precision
from tunesmith.inference.generate import Sampling, generate
from tunesmith.inference.stops import stop_ids
from tunesmith.models import load
from tunesmith.models.find import find
from tunesmith.models.tokenizer import tokenizer as load_tokenizer

TEXTS = Path(load.__file__).parents[1] / "evaluation" / "general.jsonl"


def prompts(words: Any, count: int) -> list[list[int]]:
    """Conversations of one user turn, 4 to 60 words long."""
    texts = [json.loads(line)["text"].split() for line in TEXTS.read_text("utf-8").splitlines()]
    asked = [" ".join(texts[i % len(texts)][: 4 + (i * 7) % 57]) for i in range(count)]
    return [encode_prompt(words, [Message(role="user", content=text)]) for text in asked]


def ours(model: Any, rows: list[list[int]], tokens: int, pad_id: int, stops: set[int]) -> list[list[int]]:
    """One batch."""
    answers = generate(model, rows, Sampling(tokens), pad_id=pad_id, stop_ids=stops, batch_rows=len(rows))
    return [answer.token_ids for answer in answers]


def theirs(model: Any, rows: list[list[int]], tokens: int, pad_id: int, stops: set[int]) -> list[list[int]]:
    """One batch."""
    longest = max(map(len, rows))
    ids = torch.tensor([[pad_id] * (longest - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    out = model.generate(
        ids,
        attention_mask=mask,
        max_new_tokens=tokens,
        do_sample=False,
        pad_token_id=pad_id,
        eos_token_id=sorted(stops),
    )[:, longest:].tolist()
    ends = [next((i for i, token in enumerate(row) if token in stops), len(row)) for row in out]
    return [row[:end] for row, end in zip(out, ends, strict=True)]


def near_ties(model: Any, rows: list[list[int]], one: list[list[int]], other: list[list[int]]) -> tuple[int, int]:
    """(rows whose answers differ, those among them that differ where no two logits are close)."""
    differ = [i for i in range(len(rows)) if one[i] != other[i]]
    far = 0
    for i in differ:
        same = next(n for n in range(10_000) if one[i][: n + 1] != other[i][: n + 1])
        with torch.inference_mode():
            best = model(input_ids=torch.tensor([rows[i] + one[i][:same]])).logits[0, -1].float().topk(2).values
        far += float(best[0] - best[1]) > 1e-3
    return len(differ), far


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--base", default="bundled/tunesmith-8m")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    for name, default in (("rows", 64), ("batch", 16), ("tokens", 128), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    memory.keep_large_blocks()
    base = find(args.base)
    words = load_tokenizer(base, PLAIN_TEMPLATE)
    model: Any = load.model(base, precision.DTYPES[args.precision])
    stops, pad_id = stop_ids(model, words), int(words.pad_token_id)
    rows = sorted(prompts(words, args.rows), key=len)
    batches = [rows[at : at + args.batch] for at in range(0, len(rows), args.batch)]
    sides = {"tunesmith": ours, "transformers": theirs}
    rates: dict[str, list[float]] = {name: [] for name in sides}
    answers: dict[str, list[list[int]]] = {}
    for number in range(args.rounds + 1):
        for name, side in sides.items():
            begin = time.perf_counter()
            answers[name] = [row for batch in batches for row in side(model, batch, args.tokens, pad_id, stops)]
            seconds = time.perf_counter() - begin
            if number:  # the first is for warming up
                rates[name].append(sum(map(len, answers[name])) / seconds)
    differ, far = near_ties(model, rows, answers["tunesmith"], answers["transformers"])
    medians = {name: statistics.median(found) for name, found in rates.items()}
    found = {
        "settings": {key: value for key, value in vars(args).items() if key != "out"},
        "answer_tokens": sum(map(len, answers["tunesmith"])),
        "tokens_per_s": {name: round(rate, 1) for name, rate in medians.items()},
        "ratio": round(medians["tunesmith"] / medians["transformers"], 3),
        "ratio_by_round": [
            round(a / b, 3) for a, b in zip(rates["tunesmith"], rates["transformers"], strict=True)
        ],
        "answers_that_differ": differ,
        "of_them_without_a_near_tie": far,
    }  # fmt: skip
    written.write(found, args.out)


if __name__ == "__main__":
    main()
