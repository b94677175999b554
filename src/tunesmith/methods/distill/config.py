"""Configuration of distillation: who teaches, on what, and how the distance from the teacher is measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from ...core.messages import Kind
from ...core.spec import ByName, Spec
from ...models.heads import Head

if TYPE_CHECKING:
    from ..base import Method


class EndpointSpec(Spec):
    """A teacher behind an OpenAI-compatible endpoint. Its key, where it wants one, comes from OPENAI_API_KEY."""

    url: str = Field(pattern=r"^https?://\S+$")
    """Where `/chat/completions` is, as `https://api.openai.com/v1`."""
    model: str = Field(min_length=1)
    """The model's name there."""
    timeout: float = Field(default=120.0, gt=0)
    """Seconds to wait for one answer."""
    retries: int = Field(default=5, ge=0)
    """Further attempts where the endpoint cannot be reached, is too busy or fails; each waits twice as long."""
    concurrency: int = Field(default=4, ge=1, le=256)
    """Questions asked at a time."""


class ForwardKlSpec(Spec):
    """KL(teacher || student): the student covers what the teacher may say (Hinton et al. 2015, arXiv 1503.02531)."""

    type: Literal["forward_kl"] = "forward_kl"
    temperature: float = Field(default=1.0, gt=0)
    """Divides the logits of both; above 1 it shows more of what the teacher finds unlikely."""


class ReverseKlSpec(Spec):
    """KL(student || teacher): the student keeps to what the teacher finds likely (Gu et al. 2023, arXiv 2306.08543)."""

    type: Literal["reverse_kl"] = "reverse_kl"
    temperature: float = Field(default=1.0, gt=0)
    """Divides the logits of both."""


class JsdSpec(Spec):
    """Generalised Jensen-Shannon divergence (Agarwal et al. 2024, arXiv 2306.13649, equation 1)."""

    type: Literal["jsd"] = "jsd"
    beta: float = Field(default=0.5, gt=0, lt=1)
    """Share of the teacher in the mixture that both are measured from."""
    temperature: float = Field(default=1.0, gt=0)
    """Divides the logits of both."""


DivergenceSpec = Annotated[
    ForwardKlSpec | ReverseKlSpec | JsdSpec, Field(discriminator="type"), ByName(default="forward_kl")
]


class AnswersSpec(Spec):
    """How the teacher answers, for `on: answers`."""

    max_tokens: int = Field(default=512, ge=1)
    """Tokens after which an answer is cut. A cut answer is not learned."""
    temperature: float = Field(default=0.0, ge=0)
    """0 for the likeliest answer; above it answers are sampled, by the recipe's seed."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Sample from the likeliest tokens that together have this probability."""


class PolicySpec(Spec):
    """What the student writes itself, for `on: policy`."""

    share: float = Field(default=0.5, ge=0, le=1)
    """Share of optimizer steps that learn on the student's own answers; the others learn on the data's. The paper's
    lambda."""
    max_tokens: int = Field(default=128, ge=1)
    """Tokens after which an answer of the student's is cut. It is learned all the same."""
    temperature: float = Field(default=1.0, gt=0)
    """Of the student's sampling."""


_PARTS = {
    "answers": {"answers"},
    "logits": {"divergence", "top_k", "label_weight"},
    "policy": {"divergence", "label_weight", "policy"},
}
"""The keys that each way of teaching looks at."""


class DistillSpec(Spec):
    """Distillation: a student learns what a teacher says, or how likely the teacher finds every token."""

    type: Literal["distill"] = "distill"
    teacher: str | EndpointSpec
    """A bundled base, a model folder, a hub id, the folder of a run (what it trained), or an endpoint (`url`, `model`),
    which can teach on answers alone. On logits and policy teacher and base must have the same vocabulary."""
    on: Literal["logits", "answers", "policy"] = "logits"
    """What is learned. `logits`: the teacher's probabilities of the next token along the data's answers, computed once
    before the first step. `answers`: the teacher's own answers to the data's prompts, as if they were the data's (Kim &
    Rush 2016, arXiv 1606.07947). `policy`: the teacher's probabilities along what the student writes while it learns
    (Agarwal et al. 2024, arXiv 2306.13649); the teacher stays in memory."""
    divergence: DivergenceSpec = ForwardKlSpec()
    """How far the student's probabilities are from the teacher's; `jsd` where nothing is said under `on: policy`."""
    top_k: int = Field(default=64, ge=1)
    """Of the teacher's probabilities at each token so many are kept, and what the others have together (`on:
    logits`)."""
    label_weight: float = Field(default=0.0, ge=0, le=1)
    """Share of the data's own answers in the loss, as cross entropy; the rest is the divergence."""
    answers: AnswersSpec = AnswersSpec()
    """How the teacher answers (`on: answers`)."""
    policy: PolicySpec = PolicySpec()
    """What the student writes (`on: policy`)."""

    kinds: ClassVar[tuple[Kind, ...]] = ("supervised",)
    """Of rows that it learns from."""
    measures: ClassVar[tuple[str, ...]] = ()
    """What base and tuned model are compared by besides answers and losses."""
    head: ClassVar[Head | None] = None
    """What the model gets in place of its vocabulary's head; None leaves it."""

    @model_validator(mode="before")
    @classmethod
    def _usual_divergence(cls, value: Any) -> Any:
        policy = isinstance(value, dict) and value.get("on") == "policy" and "divergence" not in value
        return value | {"divergence": {"type": "jsd"}} if policy else value

    @model_validator(mode="after")
    def _of_one_piece(self) -> DistillSpec:
        if isinstance(self.teacher, EndpointSpec) and self.on != "answers":
            raise ValueError(f"an endpoint tells no logits: a teacher there can teach on: answers, not on: {self.on}")
        for name in sorted(set().union(*_PARTS.values()) - _PARTS[self.on]):
            usual = type(self).model_fields[name].default
            if getattr(self, name) != usual:
                raise ValueError(f"{name} plays no part under on: {self.on}; leave it out")
        return self

    @property
    def figures(self) -> tuple[str, ...]:
        """What is counted beside the loss in training and validation; early stopping may watch each."""
        return () if self.on == "answers" else ("divergence", "agreement")

    def wording(self) -> str:
        """The method in a report's words."""
        on = {"logits": "logits", "answers": "answers", "policy": "view of the student's own answers"}[self.on]
        name = self.teacher if isinstance(self.teacher, str) else self.teacher.model
        return f"distillation on the {on} of {name}" if self.on != "policy" else f"distillation on {name}'s {on}"

    def build(self) -> Method:
        """The implementation."""
        from .answers import OnAnswers
        from .logits import OnLogits
        from .policy import OnPolicy

        kinds: dict[str, type[OnAnswers | OnLogits | OnPolicy]] = {
            "answers": OnAnswers, "logits": OnLogits, "policy": OnPolicy,
        }  # fmt: skip
        return kinds[self.on](self)
