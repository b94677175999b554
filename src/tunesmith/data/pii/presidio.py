"""Presidio's analyzer over a spaCy model that is installed; nothing is ever downloaded. Needs the extra `pii`."""

from __future__ import annotations

from pathlib import Path

import spacy
from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
from presidio_analyzer.nlp_engine import SpacyNlpEngine
from presidio_analyzer.predefined_recognizers import SpacyRecognizer

from ...core.errors import MissingError
from .names import KINDS, Names


class _Loaded(SpacyNlpEngine):  # type: ignore[misc]
    """An engine over a model that is loaded already: its own `load` would download one that is absent."""

    def __init__(self, model: spacy.Language):
        super().__init__(models=[{"lang_code": model.lang, "model_name": model.lang}])
        self.nlp = {model.lang: model}


def names(model: str) -> Names:
    """Names and places by the spaCy model called so, or in that folder; MissingError where there is none."""
    if not (spacy.util.is_package(model) or Path(model).is_dir()):
        raise MissingError(
            f"the spaCy model '{model}' is not installed", where="data.names",
            mend=f"python -m spacy download {model}, or name the folder of a model",
        )  # fmt: skip
    loaded = spacy.load(model)
    registry = RecognizerRegistry(
        recognizers=[SpacyRecognizer(supported_language=loaded.lang, supported_entities=list(KINDS))],
        supported_languages=[loaded.lang],
    )
    engine = AnalyzerEngine(registry=registry, nlp_engine=_Loaded(loaded), supported_languages=[loaded.lang])
    return Names(engine, loaded.lang)
