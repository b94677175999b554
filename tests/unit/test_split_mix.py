"""Held-out rows, overlaps, weights."""

import pytest

from tunesmith.core.messages import Example, Message
from tunesmith.data.keys import Keys, overlapping
from tunesmith.data.mix import repetitions
from tunesmith.data.split import hold_out


def example(prompt, answer="yes", system=None, calls=None):
    turns = [Message(role="system", content=system)] if system else []
    turns.append(Message(role="user", content=prompt))
    if calls:
        turns.append(Message(role="assistant", tool_calls=({"name": calls},)))
        turns.append(Message(role="tool", content="done"))
    return Example(messages=(*turns, Message(role="assistant", content=answer)))


def pairs(mine, held):
    left, right = overlapping(Keys.of(mine), Keys.of(held))
    return list(zip(left.tolist(), right.tolist(), strict=True))


def test_a_share_is_held_out_and_nothing_is_lost():
    rows = [example(f"question {i}") for i in range(40)]
    kept, held = hold_out(rows, 0.25, seed=3)
    assert len(held) == 10
    assert sorted(kept + held) == list(range(40))
    assert held == sorted(held)


def test_the_seed_decides_who_is_held_out():
    rows = [example(f"question {i}") for i in range(40)]
    assert hold_out(rows, 0.25, seed=3) == hold_out(rows, 0.25, seed=3)
    assert hold_out(rows, 0.25, seed=3) != hold_out(rows, 0.25, seed=4)


def test_a_prompt_with_most_of_the_rows_does_not_empty_the_training_set():
    rows = [example("the same") for _ in range(80)] + [example(f"question {i}") for i in range(20)]
    for seed in range(10):
        kept, held = hold_out(rows, 0.1, seed)
        assert len(held) == 10
        assert set(range(80)) <= set(kept)


def test_where_no_group_fits_the_smallest_drawn_is_held_out():
    rows = [example(f"question {i // 5}") for i in range(20)]
    for seed in range(5):
        _, held = hold_out(rows, 0.1, seed)
        assert len(held) == 5


@pytest.mark.parametrize("share", [0.0, 0.01, 0.99])
def test_extreme_shares(share):
    kept, held = hold_out([example(f"question {i}") for i in range(10)], share, seed=0)
    assert len(held) == (0 if share == 0 else 1 if share == 0.01 else 9)
    assert kept


def test_a_single_prompt_cannot_be_split():
    assert hold_out([example("x"), example("X ")], 0.5, seed=0) == ([0, 1], [])
    assert hold_out([], 0.5, seed=0) == ([], [])


def test_overlap_is_found_up_to_case_and_white_space():
    train = [example("What is  this?"), example("other"), example("WHAT is this?\n")]
    held = [example("unrelated"), example("what is this?", answer="no")]
    assert pairs(train, held) == [(0, 1), (2, 1)]


def test_another_system_message_or_tool_call_is_another_prompt():
    assert pairs([example("x", system="a")], [example("x", system="b")]) == []
    assert pairs([example("x", calls="f")], [example("x", calls="g")]) == []
    assert pairs([example("x", calls="f")], [example("x", calls="f")]) == [(0, 0)]


def test_separators_in_a_text_do_not_make_two_prompts_equal():
    one = Example(messages=(Message(role="user", content="a\x1euser\x1fb"), Message(role="assistant", content="c")))
    two = Example(
        messages=(
            Message(role="user", content="a"), Message(role="user", content="b"), Message(role="assistant", content="c")
        )
    )  # fmt: skip
    assert one.prompt_key() != two.prompt_key()


def test_whole_weights_repeat_every_row():
    assert repetitions(4, 1.0, seed=0) == [1, 1, 1, 1]
    assert repetitions(4, 3.0, seed=0) == [3, 3, 3, 3]


def test_a_part_of_a_weight_goes_to_a_seeded_sample():
    counts = repetitions(100, 0.2, seed=1)
    assert (sum(counts), set(counts)) == (20, {0, 1})
    assert counts == repetitions(100, 0.2, seed=1)
    assert counts != repetitions(100, 0.2, seed=2)
    assert repetitions(0, 2.0, seed=0) == []
