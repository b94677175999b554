"""`tunesmith generate`: one answer from a run's model."""

from __future__ import annotations

import sys
from typing import Annotated, Literal

import typer

from .console import print_json
from .options import Json, RunArgument


def command(
    run: RunArgument,
    prompt: Annotated[
        str, typer.Option("--prompt", help="The user's message; - reads it from stdin.", show_default=False)
    ],
    system: Annotated[
        str | None, typer.Option("--system", help="A system message; the training data's own otherwise.")
    ] = None,
    max_tokens: Annotated[int, typer.Option("--max-tokens", min=1)] = 256,
    temperature: Annotated[float, typer.Option("--temperature", min=0.0, help="0 is greedy.")] = 0.0,
    seed: Annotated[int, typer.Option("--seed")] = 0,
    base: Annotated[bool, typer.Option("--base", help="Let the base answer instead of the tuned model.")] = False,
    precision: Annotated[
        Literal["auto", "bf16", "fp32"] | None,
        typer.Option("--precision", help="Number type; the one that the run was trained in unless given."),
    ] = None,
    json: Json = False,
) -> None:
    """Answer one prompt, greedily unless told otherwise. A classifier's answer is its label."""
    from ..inference.generate import Sampling
    from ..pipelines import judges
    from ..pipelines.use import Speaker, conversation

    text = sys.stdin.read() if prompt == "-" else prompt
    if judges.is_classifier(run):
        _say(judges.Classifier(run).probabilities(text, system, base=base), json=json)
        return
    speaker = Speaker(run, precision)
    sampling = Sampling(max_tokens=max_tokens, temperature=temperature, seed=seed)
    pieces = list(speaker.answer(conversation(speaker, text, system), "base" if base else "tuned", sampling))
    answer = "".join(piece.text for piece in pieces)
    if json:
        print_json(
            {
                "text": answer,
                "finish_reason": pieces[-1].finish_reason,
                "completion_tokens": pieces[-1].tokens,
            }
        )
    else:
        sys.stdout.write(answer + "\n")


def _say(probabilities: dict[str, float], *, json: bool) -> None:
    """A classifier's label; as JSON with the probability of each."""
    label = next(iter(probabilities))
    if json:
        print_json({"text": label, "probabilities": probabilities})
    else:
        sys.stdout.write(label + "\n")
