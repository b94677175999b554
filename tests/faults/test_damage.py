"""Every file of a checkpoint, damaged in every way: found out, told, set aside, and the one before it taken."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import faulty
import pytest
from faulty import Ground

from tunesmith.engine.checkpoint import MANIFEST, Checkpoints

FILES = (MANIFEST, "state.json", "trainable.safetensors", "optimizer.safetensors", "rng.safetensors")
OLDER, NEWEST = 4, 6
Damage = Callable[[Path], object]


def _bytes(content: bytes) -> Damage:
    return lambda path: path.write_bytes(content)


def _flips(content: bytes, count: int, chance: random.Random) -> Iterator[Damage]:
    for _ in range(count):
        changed = bytearray(content)
        changed[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        yield _bytes(bytes(changed))


def _truncations(content: bytes, count: int, chance: random.Random) -> Iterator[Damage]:
    anywhere = (chance.randrange(len(content)) for _ in range(count))
    for length in {0, 1, 8, len(content) // 2, len(content) - 1, *anywhere}:
        yield _bytes(content[:length])


def _zeroed_tails(content: bytes) -> Iterator[Damage]:
    for length in (1, 16, 512, 4096, len(content) // 2, len(content)):
        zeroed = content[: -min(length, len(content))] + bytes(min(length, len(content)))
        if zeroed != content:  # a file that ends in zeros is not damaged by more of them
            yield _bytes(zeroed)


def _strays(name: str) -> Iterator[Damage]:
    yield lambda path: shutil.copy(path, path.with_name(f"{name}.1"))
    yield lambda path: path.with_name(f".{name}.swp").write_bytes(b"")
    yield lambda path: path.with_name(f"{name}.d").mkdir()


def _damages(store: Path, name: str, count: int) -> Iterator[tuple[str, Damage]]:
    """(kind, what does it to the file of the newest checkpoint) for one file."""
    content = (store / f"step-{NEWEST}" / name).read_bytes()
    older = (store / f"step-{OLDER}" / name).read_bytes()
    assert older != content
    chance = random.Random(name)
    yield from (("bit flip", damage) for damage in _flips(content, count, chance))
    yield from (("truncation", damage) for damage in _truncations(content, count // 4, chance))
    yield from (("zeroed tail", damage) for damage in _zeroed_tails(content))
    yield "missing", Path.unlink
    yield "swapped with an older one", _bytes(older)
    yield from (("stray file", damage) for damage in _strays(name))


def _fate(store: Path, damage: Damage, name: str, folder: Path) -> str:
    """detected, or what went wrong instead."""
    shutil.copytree(store, folder)
    damage(folder / f"step-{NEWEST}" / name)
    kept = Checkpoints(folder)
    found, complaints = kept.newest_valid()
    aside = list(folder.glob(f"damaged-{NEWEST}-*"))
    shutil.rmtree(folder)
    if found and found.step == NEWEST:
        return "silent"
    right = found is not None and found.step == OLDER and len(aside) == 1 and len(complaints) == 1
    return "detected" if right and f"step-{NEWEST} is damaged" in complaints[0] else "lost"


def _table(store: Path, count: int, folder: Path) -> dict[str, dict[str, int]]:
    """{file, kind: how many cases, and what became of them}."""
    table: dict[str, dict[str, int]] = {}
    for name in FILES:
        fates: dict[str, Counter[str]] = {}
        for kind, damage in _damages(store, name, count):
            fates.setdefault(kind, Counter())[_fate(store, damage, name, folder / "case")] += 1
        for kind, ends in fates.items():
            row = {"points": ends.total(), "detected": ends["detected"], "silent": ends["silent"], "lost": ends["lost"]}
            table[f"{name}: {kind}"] = row
    return table


def _all_detected(table: dict[str, dict[str, int]]) -> None:
    assert len(table) == len(FILES) * 6
    assert {key: row for key, row in table.items() if row["detected"] != row["points"]} == {}


def test_damage_is_detected(ground: Ground, tmp_path: Path) -> None:
    _all_detected(_table(ground.trained / "checkpoints", 12, tmp_path))


@pytest.mark.slow
def test_damage_at_many_places_is_detected(ground: Ground, tmp_path: Path) -> None:
    table = _table(ground.trained / "checkpoints", 200, tmp_path)
    faulty.record("damaged checkpoints", table)
    _all_detected(table)


@pytest.mark.parametrize("number", [NEWEST, NEWEST + 2])
def test_an_older_checkpoint_under_a_newer_name_is_detected(number: int, ground: Ground, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    shutil.copytree(ground.trained / "checkpoints", folder)
    shutil.rmtree(folder / f"step-{NEWEST}")
    shutil.copytree(folder / f"step-{OLDER}", folder / f"step-{number}")
    found, complaints = Checkpoints(folder).newest_valid()
    assert found
    assert found.step == OLDER
    assert f"step-{number} is damaged and was set aside: its manifest is that of step {OLDER}" in complaints[0]


def _resumed(ground: Ground, name: str, damage: Damage, run: Path) -> list[str]:
    """What is wrong with a run that was continued from a store with a damaged newest checkpoint."""
    shutil.copytree(ground.trained, run)
    shutil.rmtree(run / "adapter")
    damage(run / "checkpoints" / f"step-{NEWEST}" / name)
    ended = ground.server.run("train", ground.recipe, "--out", run, "--resume")
    wrong = faulty.differences(run, ground.trained) if ended.code == 0 else [ended.said]
    wrong += ["not told"] * (f"checkpoint step-{NEWEST} is damaged and was set aside" not in ended.said)
    wrong += ["not the one before"] * (f"resumed after step {OLDER} of" not in ended.said)
    shutil.rmtree(run)
    return wrong


def _one_of_each(ground: Ground) -> list[tuple[str, str, Damage]]:
    """One (file, kind, damage) for each file and kind."""
    store = ground.trained / "checkpoints"
    return [(name, kind, damage) for name in FILES for kind, damage in dict(_damages(store, name, 4)).items()]


def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(ground: Ground, tmp_path: Path) -> None:
    for name, kind, damage in _one_of_each(ground)[::11]:
        assert _resumed(ground, name, damage, tmp_path / "run") == [], (name, kind)


@pytest.mark.slow
def test_a_run_goes_on_whatever_is_damaged(ground: Ground, tmp_path: Path) -> None:
    cases = _one_of_each(ground)
    wrong = {f"{name}: {kind}": _resumed(ground, name, damage, tmp_path / "run") for name, kind, damage in cases}
    equal = sum(not problems for problems in wrong.values())
    faulty.record("damaged checkpoints", {"resumed runs, one of each": {"points": len(wrong), "equal": equal}})
    assert {key: problems for key, problems in wrong.items() if problems} == {}
    assert len(wrong) == 30
