"""Models and asks for tests of the answering service."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch

from tunesmith.adapters.config import LoraSpec
from tunesmith.core.messages import Message
from tunesmith.inference.ask import Ask, Served
from tunesmith.inference.sampling import Sampling
from tunesmith.models.refs import BUNDLED, Base

IDS_BL = torch.tensor([[1, 5, 9, 13, 17, 21], [1, 90, 80, 70, 60, 2]])
BUNDLED_BASE = Base("bundled/tunesmith-8m", BUNDLED / "tunesmith-8m")


def served(folder: Path, adapter: Path | None = None, spec: Any = None, name: str = "m") -> Served:
    """A base's folder, alone or with an adapter."""
    return Served(name, Base(str(folder), folder), adapter, spec)


def adapter(folder: Path, base: Path, spec: Any = None, seed: int = 0) -> tuple[Path, Any]:
    """An adapter that changes much, saved; and the model that it was saved from."""
    from tunesmith.models import load

    made, model = (spec or LoraSpec(r=4, alpha=8)).build(), load.model(Base("base", base), torch.float32)
    torch.manual_seed(seed)
    made.attach(model)
    with torch.no_grad():
        for parameter in made.parameters().values():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    folder.mkdir(parents=True)
    made.save(folder, "base")
    return folder, model.eval()


def ask(model: Served, content: str = "Tom has a ball. What?", *, max_tokens: int = 12, **more: Any) -> Ask:
    """One user message; keys of `Sampling` go there."""
    how = {key: more.pop(key) for key in list(more) if key in Sampling.__dataclass_fields__}
    return Ask(model, Sampling(max_tokens, **how), [Message(role="user", content=content)], **more)


@cache
def bundled() -> Any:
    """The bundled base in float32, and its tokenizer. Do not change them."""
    from tunesmith.data.template import PLAIN_TEMPLATE
    from tunesmith.models import load
    from tunesmith.models.tokenizer import tokenizer

    return load.model(BUNDLED_BASE, torch.float32), tokenizer(BUNDLED_BASE, PLAIN_TEMPLATE)
