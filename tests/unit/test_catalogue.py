"""What `tunesmith methods` lists is what a recipe takes, and its figures are those of the models."""

from __future__ import annotations

from tunesmith.adapters.config import ADAPTERS
from tunesmith.methods.config import METHODS
from tunesmith.methods.preference.losses import PAIR_LOSSES
from tunesmith.pipelines.catalogue import catalogue


def test_every_way_is_listed_once_with_its_rows_and_papers() -> None:
    ways = catalogue().ways
    names = {section: [w.name for w in ways if w.section == section] for section in ("method", "loss", "adapter")}
    assert names["method"] == list(METHODS)
    assert sorted(names["loss"]) == sorted([*PAIR_LOSSES, "kto"])
    assert {name.partition(" ")[0] for name in names["adapter"]} == set(ADAPTERS)
    assert all(way.rows for way in ways if way.section != "adapter")
    assert all(way.papers for way in ways if way.section == "loss")
    assert {w.name: w.rows for w in ways}["kto"] == ("preference", "labelled")
    assert all(way.what and "arXiv" not in way.what for way in ways)


def test_memory_is_a_share_of_full_fine_tunings() -> None:
    found = {way.name: way for way in catalogue().ways if way.section == "adapter"}
    assert found["full"].memory == 1
    assert found["full"].trained == 7_999_744
    assert found["lora (qlora)"].memory < found["lora"].memory < found["layers"].memory < 1
    assert found["lora (dora)"].trained == found["lora"].trained + 8 * (256 + 128 + 128 + 256 + 704 + 704 + 256)
