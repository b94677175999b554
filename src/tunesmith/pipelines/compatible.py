"""Parts of a recipe that cannot be had together, told before anything is read or loaded."""

from __future__ import annotations

from ..core.errors import ContentError
from ..data.curriculum import BASE_LOSS
from ..evaluation.metrics import find
from ..methods.classify.config import ClassifySpec
from ..methods.pretrain.config import PretrainSpec
from ..methods.reward.config import RewardSpec
from ..methods.sft.config import SftSpec
from ..models.refs import Base
from .recipe import RunSpec


def require(spec: RunSpec, base: Base) -> None:
    """ContentError where method, adapter, base and devices do not go together."""
    _stored_quantised(spec, base)
    _adapter_and_devices(spec)
    _adapter_and_base(spec, base)
    _rehearsal(spec, base)
    _head(spec)
    _probes(spec)
    _untrained(spec, base)
    _canaries(spec)
    if spec.data.curriculum and getattr(spec.method, "packing", False):
        raise ContentError(
            "data.curriculum orders rows, and method.packing packs them in another order", where="data.curriculum",
            mend="take one of them out",
        )  # fmt: skip
    if isinstance(spec.method, PretrainSpec) and base.encoder_decoder:
        raise ContentError(
            f"pre-training needs a base that writes text by itself: '{spec.base}' is an encoder-decoder",
            mend="use a decoder, or method: {type: sft} on questions and answers",
        )
    stopping = spec.training.early_stopping
    if stopping and stopping.metric not in ("loss", *spec.method.figures):
        entries = () if spec.evaluation.metrics == "auto" else spec.evaluation.metrics
        find(stopping.metric, entries, where="training.early_stopping.metric")


def _stored_quantised(spec: RunSpec, base: Base) -> None:
    """ContentError for a base whose files hold quantised weights that the adapter cannot work on."""
    stored = base.config().get("quantization_config")
    if not stored:
        return
    method = str(stored.get("quant_method") if isinstance(stored, dict) else stored)
    if spec.adapter.trains_base:
        raise ContentError(
            f"base '{spec.base}' holds quantised weights, which cannot be trained", where=f"{base.folder}/config.json",
            why=f"its quantization_config says {method}, and adapter: {{type: {spec.adapter.type}}} trains them",
            mend="take the base as it was before, or use adapter: {type: lora, quantize: nf4} on that",
        )  # fmt: skip
    if "bitsandbytes" in method:
        raise ContentError(
            f"base '{spec.base}' is stored as bitsandbytes packed it", where=f"{base.folder}/config.json",
            why="Tunesmith packs a base itself when it is loaded, so that it can be unpacked and merged again",
            mend="take the base as it was before, with adapter: {type: lora, quantize: nf4} or int8",
        )  # fmt: skip


def _adapter_and_devices(spec: RunSpec) -> None:
    adapter, devices = spec.adapter, spec.training.devices
    if devices.activation_checkpointing is True and adapter.cannot_checkpoint:
        raise ContentError(
            f"adapter: {{type: {adapter.type}}} does not go with activation checkpointing",
            where="training.devices.activation_checkpointing", why=adapter.cannot_checkpoint,
            mend="leave it out, or use another adapter",
        )  # fmt: skip
    if devices.strategy == "fsdp" and adapter.cannot_shard:
        raise ContentError(
            f"adapter: {{type: {adapter.type}}} does not go with FSDP", where="training.devices.strategy",
            why=adapter.cannot_shard, mend="set training.devices.strategy: ddp, or use another adapter",
        )  # fmt: skip


def _adapter_and_base(spec: RunSpec, base: Base) -> None:
    if spec.adapter.virtual_tokens() and base.encoder_decoder:
        raise ContentError(
            f"adapter: {{type: {spec.adapter.type}}} needs a decoder by itself: '{spec.base}' is an encoder-decoder",
            mend="use adapter: {type: lora} or {type: ia3}",
        )


def _untrained(spec: RunSpec, base: Base) -> None:
    """ContentError for a base with random weights that are not all to be trained on text."""
    if not base.untrained:
        return
    if not isinstance(spec.method, PretrainSpec):
        raise ContentError(
            f"base '{spec.base}' is untrained: it knows no word yet", where="method",
            mend="pre-train it first: method: {type: pretrain}, adapter: {type: full}; then take that run's model/",
        )  # fmt: skip
    if spec.adapter.type != "full":
        raise ContentError(
            f"base '{spec.base}' is untrained, and adapter: {{type: {spec.adapter.type}}} would leave it so",
            where="adapter", mend="use adapter: {type: full}",
        )  # fmt: skip


def _rehearsal(spec: RunSpec, base: Base) -> None:
    if not getattr(spec.method, "rehearsal", None):
        return
    if not spec.adapter.keeps_base:
        raise ContentError(
            "method.rehearsal needs an adapter: in full fine-tuning no base is left to compare with",
            mend="use adapter: {type: lora}, or leave method.rehearsal out and mix in general rows (data.train)",
        )
    if base.encoder_decoder:
        raise ContentError(
            f"method.rehearsal needs a base that writes text by itself: '{spec.base}' is an encoder-decoder",
            mend="leave method.rehearsal out and mix in general rows (data.train)",
        )


def _head(spec: RunSpec) -> None:
    """What a model without a vocabulary head cannot do."""
    if not isinstance(spec.method, RewardSpec | ClassifySpec):
        return
    if spec.adapter.virtual_tokens():
        raise ContentError(
            f"adapter: {{type: {spec.adapter.type}}} does not go with method '{spec.method.type}'",
            why="PEFT's folders of virtual tokens have no place for a new head",
            mend="use adapter: {type: lora} or {type: ia3}",
        )
    if spec.data.curriculum and spec.data.curriculum.by == BASE_LOSS:
        raise ContentError(
            f"data.curriculum.by: {BASE_LOSS} asks the base for the loss of each answer, which method "
            f"'{spec.method.type}' does not compute",
            where="data.curriculum.by", mend="order the rows by something else",
        )  # fmt: skip


def _probes(spec: RunSpec) -> None:
    """ContentError where the gate has a condition on what is not asked: it would hold for every model."""
    gate, evaluation = spec.gate, spec.evaluation
    writes = not isinstance(spec.method, RewardSpec | ClassifySpec)
    conditions = (
        ("max_skills_lost", evaluation.skills and writes, "evaluation.skills: true"),
        ("max_memorised", bool(evaluation.memorisation) and writes and "supervised" in spec.method.kinds,
         "evaluation.memorisation, and rows with one right answer"),
        ("max_exposure", bool(spec.data.canaries), "data.canaries"),
        ("max_refusals_lost", evaluation.safety and writes, "evaluation.safety: true"),
        ("max_refusals_gained", evaluation.safety and writes, "evaluation.safety: true"),
    )  # fmt: skip
    if evaluation.influence and not (writes and "supervised" in spec.method.kinds):
        raise ContentError(
            "evaluation.influence asks which rows bear on a wrong answer",
            why=f"method '{spec.method.type}' learns no rows with one right answer that it writes",
            where="evaluation.influence", mend="set it to 0",
        )  # fmt: skip
    for key, measured, needs in conditions:
        if getattr(gate, key) is not None and not measured:
            raise ContentError(
                f"gate.{key} is a condition on what this recipe does not measure", where=f"gate.{key}",
                mend=f"it needs {needs}{'' if writes else ', and a model that writes answers'}; or take it out",
            )  # fmt: skip


def _canaries(spec: RunSpec) -> None:
    """ContentError where planted rows have no place."""
    if not spec.data.canaries:
        return
    if not isinstance(spec.method, SftSpec):
        raise ContentError(
            f"data.canaries are questions with an answer, which method '{spec.method.type}' does not learn as such",
            where="data.canaries", mend="take them out, or use method: {type: sft}",
        )  # fmt: skip
    if spec.data.curriculum:
        raise ContentError(
            "data.canaries have no place in a curriculum's order", where="data.canaries", mend="take one of them out"
        )
