"""Edit similarity."""

from __future__ import annotations


class EditSimilarity:
    """1 less the share of characters to insert, delete or replace (Levenshtein 1966), of the longer text's."""

    name = "edit_similarity"
    uses_reference = True

    def score(self, prediction: str, reference: str) -> float:
        """In [0, 1]; white space around the texts aside."""
        said, wanted = prediction.strip(), reference.strip()
        longest = max(len(said), len(wanted))
        return 1 - edits(said, wanted) / longest if longest else 1.0


def edits(a: str, b: str) -> int:
    """Levenshtein distance, a column of the table at a time in the bits of two numbers.

    Myers 1999 in the form of Hyyrö 2003: `up` and `down` mark where the column grows and falls by one.
    """
    if not a:
        return len(b)
    places: dict[str, int] = {}
    for i, character in enumerate(a):
        places[character] = places.get(character, 0) | 1 << i
    every, last = (1 << len(a)) - 1, 1 << (len(a) - 1)
    up, down, distance = every, 0, len(a)
    for character in b:
        equal = places.get(character, 0)
        across = (((equal & up) + up) ^ up) | equal
        grows, falls = down | (every & ~(across | up)), up & across
        distance += bool(grows & last) - bool(falls & last)
        grows, falls = (grows << 1) | 1, falls << 1
        up, down = (falls | ~(equal | down | grows)) & every, grows & (equal | down) & every
    return distance
