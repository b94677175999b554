"""What every embedder must do, and what its vectors are, against a pass of the model that pads nothing."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

import documents
import tiny
from tunesmith.core.errors import ConflictError, ContentError, MissingError, UsageError
from tunesmith.pipelines.index import ask, build, delete, quality
from tunesmith.retrieval import embedding
from tunesmith.retrieval.embedding import PACKAGE, FolderEncoder, MiniLm
from tunesmith.retrieval.folder import load
from tunesmith.retrieval.vectors import Embedder, nearest

TEXTS = ["the cat sat", "a dog ran home and slept", "cat", "", "the the the ball " * 30, "Ünïcode ☃"]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "dog", "sat", "ran", "home", "a", "ball", "and"]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random BERT in a folder, in the layout of transformers alone."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40}
    BertModel(BertConfig(vocab_size=len(WORDS), max_position_embeddings=32, **sizes)).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def encoder(bert: Path) -> Embedder:
    return FolderEncoder(base=str(bert)).build()


@pytest.fixture(scope="module", params=["bert", "llama", "minilm"])
def embedder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    if request.param == "bert":
        return request.getfixturevalue("encoder")  # type: ignore[no-any-return]
    if request.param == "llama":
        return FolderEncoder(base=str(tiny.base_folder(tmp_path_factory.mktemp("llama") / "base"))).build()
    if not find_spec(PACKAGE):
        pytest.skip(f"needs the extra 'embeddings' ({PACKAGE}), which is not installed here")
    return MiniLm().build()


def test_the_contract_of_every_embedder(embedder: Embedder) -> None:
    vectors = embedder.embed(TEXTS)
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(TEXTS), embedder.size)
    lengths = np.linalg.norm(vectors, axis=1)
    assert ((np.abs(lengths - 1) < 1e-5) | (lengths == 0)).all()
    np.testing.assert_allclose(embedder.embed(TEXTS[::-1]), vectors[::-1], atol=2e-6)
    alone = np.concatenate([embedder.embed([text]) for text in TEXTS])
    np.testing.assert_allclose(alone, vectors, atol=2e-6)
    assert embedder.embed([]).shape == (0, embedder.size)
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-3, "two texts are told apart"
    assert nearest(vectors, vectors[1], 2)[0] == 1


def test_minilm_finds_what_shares_no_word(tmp_path: Path) -> None:
    if not find_spec(PACKAGE):
        pytest.skip(f"needs the extra 'embeddings' ({PACKAGE}), which is not installed here")
    texts = {"cars": "Automobiles need new tyres.", "soup": "Boil carrots and leeks.", "law": "Sign the contract."}
    asked = {"vehicle maintenance": "cars.md", "cooking vegetables": "soup.md", "legal agreement": "law.md"}
    build(documents.written(tmp_path / "docs", **texts), tmp_path / "index", embedder="minilm")
    for question, source in asked.items():
        assert ask(tmp_path / "index", question, 1)[0][0].chunk.source == source
        assert ask(tmp_path / "index", question, 1, embedder="none")[0] == []


def _hidden(folder: Path, text: str, longest: int) -> torch.Tensor:
    from transformers import AutoModel, AutoTokenizer

    inputs = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")
    model = AutoModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        return model(input_ids=inputs["input_ids"][:, :longest]).last_hidden_state[0]  # type: ignore[no-any-return]


def test_a_vector_is_the_mean_of_the_last_states(bert: Path, encoder: Embedder) -> None:
    for text in TEXTS[:3]:
        mean = _hidden(bert, text, 32).mean(0).numpy()
        np.testing.assert_allclose(encoder.embed([text, TEXTS[4]])[0], mean / np.linalg.norm(mean), atol=1e-6)


def test_the_folder_says_which_state_and_how_many_tokens(bert: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bert, tmp_path / "bert"))
    (folder / "1_Pooling").mkdir()
    modes = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(modes))
    (folder / "modules.json").write_text(json.dumps([{"type": f"x.{kind}"} for kind in ("Transformer", "Pooling")]))
    first = _hidden(bert, TEXTS[1], 32)[0].numpy()
    np.testing.assert_allclose(
        FolderEncoder(base=str(folder)).build().embed([TEXTS[1]])[0], first / np.linalg.norm(first), atol=1e-6
    )
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 4}))
    short = FolderEncoder(base=str(folder)).build()
    np.testing.assert_allclose(short.embed(["the cat sat home"]), short.embed(["the cat ran a ball"]), atol=1e-6)
    (folder / "modules.json").write_text(json.dumps([{"type": "x.Dense"}]))
    with pytest.raises(ContentError, match="Dense"):
        FolderEncoder(base=str(folder)).build()
    (folder / "modules.json").unlink()
    modes["pooling_mode_mean_tokens"] = True
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(modes))
    with pytest.raises(ContentError, match="neither by mean"):
        FolderEncoder(base=str(folder)).build()


def test_without_the_package_the_mend_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "PACKAGE", "no_such_package")
    with pytest.raises(MissingError, match="embeddings"):
        MiniLm().build()


def test_an_index_with_vectors(bert: Path, tmp_path: Path) -> None:
    docs = documents.written(tmp_path / "docs", cat="the cat sat", dog="a dog ran home", ball="the ball")
    out, asked = tmp_path / "index", f"encoder:{bert}"
    assert build(docs, out, embedder=asked).changes.embedded == 3
    [hit, *_], _ = ask(out, "dog", 3)
    assert (hit.chunk.source, hit.by_words) == ("dog.md", 1)
    hits, _ = ask(out, "unicorn", 3)
    assert sorted(h.chunk.source for h in hits) == ["ball.md", "cat.md", "dog.md"], "by vectors alone"
    assert [(h.by_words, h.by_vectors) for h in hits] == [(None, 1), (None, 2), (None, 3)]
    assert hits[0].score == pytest.approx(1 / 61)
    assert ask(out, "unicorn", 3, embedder="none")[0] == []
    before = load(out)
    (docs / "cat.md").write_text("the cat ran")
    assert build(docs, out).changes.embedded == 1, "the others keep theirs"
    after = load(out)
    assert before.embedded is not None
    assert after.embedded is not None
    np.testing.assert_array_equal(after.embedded.vectors_ND[0], before.embedded.vectors_ND[0])
    assert np.abs(after.embedded.vectors_ND[1] - before.embedded.vectors_ND[1]).max() > 1e-3
    left = delete(out, "ball.md")
    assert left.embedded is not None
    np.testing.assert_array_equal(left.embedded.vectors_ND, after.embedded.vectors_ND[1:])
    (tmp_path / "q.jsonl").write_text('{"question": "dog", "document": "dog"}\n')
    assert quality(out, tmp_path / "q.jsonl", 1).recall.value == 1
    build(docs, out, embedder="none")
    assert load(out).embedded is None
    assert not list(out.rglob("vectors.npy"))
    with pytest.raises(UsageError, match="has no vectors"):
        ask(out, "dog", 1, embedder=asked)


def test_vectors_of_other_weights_are_not_compared(bert: Path, tmp_path: Path) -> None:
    from transformers import AutoModel

    folder = Path(shutil.copytree(bert, tmp_path / "bert"))
    docs = documents.written(tmp_path / "docs", cat="the cat sat", dog="a dog ran home")
    build(docs, tmp_path / "index", embedder=f"encoder:{folder}")
    model = AutoModel.from_pretrained(folder)
    with torch.no_grad():
        next(model.parameters()).mul_(2)
    model.save_pretrained(folder)
    with pytest.raises(ConflictError, match="its weights are others"):
        ask(tmp_path / "index", "dog", 1)
    assert build(docs, tmp_path / "index").changes.embedded == 2
    assert ask(tmp_path / "index", "dog", 1)[0]
