"""The recipe: one schema behind YAML, `--set`, the JSON Schema for editors and the reference page."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from ..adapters.config import AdapterSpec, LoraSpec
from ..core import fingerprints
from ..core.spec import Spec
from ..data.config import DataSpec
from ..engine.config import TrainingSpec
from ..evaluation.config import EvaluationSpec, GateSpec
from ..methods.config import MethodSpec
from ..methods.sft.config import SftSpec
from ..models.refs import DEFAULT

_NEWER_METHOD = {"label_smoothing": 0.0, "learn": "all", "packing": False, "token_accuracy": False}
"""Keys of `method` that older runs did not have, with the values that change nothing."""


class RunSpec(Spec):
    """Everything that determines a run."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")] = "run"
    """A short name for the run; letters, digits, `.`, `_` and `-`."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seed of everything that is drawn at random."""
    base: str = DEFAULT
    """The base model: a bundled name, a local folder, or a hub id (owner/name)."""
    data: DataSpec
    """What is trained on, validated on and tested on."""
    method: MethodSpec = SftSpec()
    """How it is learned."""
    adapter: AdapterSpec = LoraSpec()
    """What of the model is trained."""
    training: TrainingSpec = TrainingSpec()
    """How long, how fast and in what portions."""
    evaluation: EvaluationSpec = EvaluationSpec()
    """How base and tuned model are compared."""
    gate: GateSpec = GateSpec()
    """What the tuned model must reach to pass."""

    def as_json(self) -> dict[str, Any]:
        """Plain values, for YAML and JSON."""
        return self.model_dump(mode="json")

    def training_fingerprint(self) -> str:
        """Hash of the parts that determine the trained weights; data, base and teacher have their own.

        Guards and devices do not count: a run that a guard stopped may go on under a milder one, and on other machines.
        """
        parts = self.model_dump(mode="json", include={"seed", "method", "adapter", "training"})
        parts["method"].pop("teacher", None)
        for name in ("guards", "devices"):
            del parts["training"][name]
        for name, old in _NEWER_METHOD.items():
            if parts["method"].get(name) == old:
                del parts["method"][name]
        for name in ("lora_plus", "quantize", *(("last",) if isinstance(self.adapter, LoraSpec) else ())):
            if parts["adapter"].get(name, "") is None:  # not there in older runs
                del parts["adapter"][name]
        parts["data"] = self.data.model_dump(mode="json", include={"on_long", "on_overlap"})
        if self.data.curriculum:  # not there in older runs
            parts["data"]["curriculum"] = self.data.curriculum.model_dump(mode="json")
        return fingerprints.of_object(parts)


def json_schema() -> dict[str, Any]:
    """The recipe's JSON Schema (draft 2020-12), for editors."""
    return RunSpec.model_json_schema() | {"$schema": "https://json-schema.org/draft/2020-12/schema"}
