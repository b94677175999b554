"""No bit of a checkpoint can flip unseen."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.engine.checkpoint import MANIFEST, Checkpoint, Checkpoints

FILES = (MANIFEST, "state.json", "trainable.safetensors", "optimizer.safetensors", "rng.safetensors")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    kept = Checkpoints(tmp_path_factory.mktemp("checkpoints"))
    weights = {"a.weight": torch.arange(12.0).reshape(3, 4)}
    kept.save(Checkpoint(5, weights, {"a.weight.exp_avg": torch.zeros(3, 4)}, {"cpu": torch.arange(9)}, {"x": [1.5]}))
    return kept


def flipped(content, bit):
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=60, deadline=None)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_flipped_bit_is_detected(store, name, share):
    path = store.path(5) / name
    content = path.read_bytes()
    try:
        path.write_bytes(flipped(content, int(share * len(content) * 8)))
        with pytest.raises(ValueError):  # noqa: PT011 - any of the reasons
            store.load(5)
    finally:
        path.write_bytes(content)
    assert store.load(5).step == 5


@pytest.mark.parametrize("name", [MANIFEST, "state.json"])
def test_every_single_bit_of_the_small_files(store, name):
    path = store.path(5) / name
    content = path.read_bytes()
    unseen = []
    try:
        for bit in range(8 * len(content)):
            path.write_bytes(flipped(content, bit))
            try:
                store.load(5)
            except ValueError:
                continue
            unseen.append(bit)
    finally:
        path.write_bytes(content)
    assert unseen == []


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=30, deadline=None)
@given(
    content=st.binary(max_size=200) | st.text().map(str.encode) | st.sampled_from([b"{}", b"[]", b"null", b"5", b'""'])
)
def test_any_other_content_is_detected(store, name, content):
    path = store.path(5) / name
    before = path.read_bytes()
    try:
        path.write_bytes(content)
        with pytest.raises(ValueError):  # noqa: PT011 - any of the reasons
            store.load(5)
    finally:
        path.write_bytes(before)
