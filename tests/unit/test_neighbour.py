"""The copy baseline at its edges."""

import numpy as np

from tunesmith.core.messages import Example, Message
from tunesmith.evaluation import neighbour


def example(prompt, answer):
    return Example(messages=(Message(role="user", content=prompt), Message(role="assistant", content=answer)))


def test_the_nearest_prompt_gives_its_answer():
    train = [example("how is the weather today", "weather"), example("cancel my order", "cancel")]
    assert neighbour.copied_answers(train, [example("please cancel order 5", ""), example("weather?", "")]) == [
        "cancel", "weather"
    ]  # fmt: skip


def test_many_rows_are_compared_piece_by_piece_to_the_same_end(monkeypatch):
    rng = np.random.default_rng(0)
    words = [f"w{i}" for i in range(60)]
    train = [example(" ".join(rng.choice(words, 6)), str(i)) for i in range(80)]
    whole = neighbour.copied_answers(train, train)
    monkeypatch.setattr(neighbour, "_CHUNK", 7)
    assert neighbour.copied_answers(train, train) == whole == [str(i) for i in range(80)]


def test_prompts_without_a_word_do_not_break_it():
    assert neighbour.copied_answers([example("?", "a"), example("!", "b")], [example("...", "")]) == ["a"]
    assert neighbour.copied_answers([example("word", "a")], [example("...", "")]) == ["a"]


def test_an_answer_that_a_near_training_row_gives_is_recalled():
    things = ("drum", "vase", "net")
    train = [example(f"Where is the {thing} kept?", f"hall {number}") for number, thing in enumerate(things)]
    asked = [example(f"In which hall is the {thing} kept now?", "hall 9") for thing in ("drum", "vase")]
    found = neighbour.recalled(train, [*asked, example("Thank you!", "")], ["hall 0", "hall 7", "hall 0"], among=1)
    assert found.tolist() == [True, False, False], "learned; made up; nothing asks like it"
