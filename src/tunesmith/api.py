"""The public Python surface. What is listed in `__all__` is kept stable; a test pins it.

    from pathlib import Path
    from tunesmith import api

    recipe = api.read_recipe(Path("recipe.yaml"), ["training.epochs=2"])
    run, verdict = api.run(recipe, Path("runs/first"), resume=False)
    model = api.open_model(run.path)
    print(model.say("My parcel 48213 has not arrived."))

Importing this module loads torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .core.errors import TunesmithError
from .core.events import Event, Sink, silent
from .core.messages import Message
from .evaluation.gate import Verdict
from .inference.generate import Sampling
from .models.cut import first_layers
from .pipelines import journey
from .pipelines.judges import Classifier, RewardModel
from .pipelines.prepare import Prepared, prepare
from .pipelines.read_recipe import read_recipe
from .pipelines.recipe import RunSpec
from .pipelines.rundir import RunDir
from .pipelines.use import Speaker, conversation

__all__ = [
    "Event",
    "Message",
    "Model",
    "Prepared",
    "RunDir",
    "RunSpec",
    "Sampling",
    "Sink",
    "TunesmithError",
    "Verdict",
    "classify",
    "evaluate",
    "first_layers",
    "open_model",
    "prepare",
    "read_recipe",
    "run",
    "score_answers",
    "train",
]


class Model:
    """The trained model of a run, and its base."""

    def __init__(self, path: Path):
        self._speaker = Speaker(path)

    def say(
        self, prompt: str, *, system: str | None = None, base: bool = False, sampling: Sampling | None = None
    ) -> str:
        """The answer to one user message; greedy, at most 256 tokens, unless `sampling` says otherwise."""
        messages = conversation(self._speaker, prompt, system)
        pieces = self._speaker.answer(messages, "base" if base else "tuned", sampling or Sampling(max_tokens=256))
        return "".join(piece.text for piece in pieces)


def open_model(path: Path) -> Model:
    """Load the model of the run at `path`. MissingError where there is none or its training is not finished."""
    return Model(path)


def run(recipe: RunSpec, out: Path, *, resume: bool = False, sink: Sink = silent) -> tuple[RunDir, Verdict]:
    """Check, score the base, train, score the tuned model, judge, report; see `tunesmith run`."""
    return journey.run(recipe, out, resume=resume, sink=sink)


def train(recipe: RunSpec, out: Path, *, resume: bool = False, sink: Sink = silent) -> RunDir:
    """Check and train only; see `tunesmith train`."""
    return journey.train_only(recipe, out, resume=resume, sink=sink)


def evaluate(path: Path, *, sink: Sink = silent) -> tuple[RunDir, Verdict]:
    """Score a trained run again; see `tunesmith evaluate`."""
    _, verdict = journey.evaluate_run(path, sink=sink)
    return RunDir.open(path), verdict


def score_answers(path: Path, pairs: Sequence[tuple[str, str]], *, system: str | None = None) -> list[float]:
    """The reward of each (prompt, answer) by the reward model of the run at `path`, higher for better ones.

    Rewards of answers to one prompt may be compared: the first is preferred with probability s(first - second), s the
    logistic function. `system` is a system message; the training data's own otherwise. ContentError where the run's
    method is another.
    """
    return RewardModel(path).scores(pairs, system)


def classify(path: Path, prompts: Sequence[str], *, system: str | None = None) -> list[dict[str, float]]:
    """For each prompt the probability of each label by the classifier of the run at `path`, the likeliest first."""
    model = Classifier(path)
    return [model.probabilities(prompt, system) for prompt in prompts]
