"""Whole answers out of the pieces that were streamed."""

from __future__ import annotations

from ..inference.ask import Choice, Finish, Piece


class Gathered:
    """The pieces of one ask."""

    def __init__(self, answers: int):
        self._pieces: list[list[Piece]] = [[] for _ in range(answers)]

    def add(self, piece: Piece) -> None:
        """The next one, of any answer."""
        self._pieces[piece.index].append(piece)

    def choices(self) -> list[Choice]:
        """All answers; one that did not come to its end counts as cut."""
        return [_whole(pieces) for pieces in self._pieces]


def _whole(pieces: list[Piece]) -> Choice:
    finish: Finish = next((piece.finish_reason for piece in reversed(pieces) if piece.finish_reason), "length")
    return Choice(
        "".join(piece.text for piece in pieces), finish,
        tuple(token for piece in pieces for token in piece.token_ids),
        tuple(one for piece in pieces for one in piece.logprobs),
        tuple(call for piece in pieces for call in piece.tool_calls),
        tuple(one for piece in pieces for one in piece.prompt),
    )  # fmt: skip
