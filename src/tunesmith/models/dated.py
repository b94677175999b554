"""Chat templates that show the date: the date of a run stands in them, not the clock's.

Some templates ask for the time while they render (`strftime_now("%d %b %Y")` in Llama 3.2, Mistral Small 3, SmolLM3).
A row would then be other tokens on another day, and a prompt another than the one that was trained. What a template
itself holds ready (`date_string` of Llama 3.1, with its own default) is no clock, and is left alone.
"""

from __future__ import annotations

import re
from datetime import datetime

from ..core.errors import ContentError

_NOW = re.compile(r"""\bstrftime_now\(\s*(?:format\s*=\s*)?(?P<quote>['"])(?P<format>[^'"]*)(?P=quote)\s*\)""")
_ANY = re.compile(r"\bstrftime_now\s*\(")


def dated(template: str, date: str) -> str:
    """The template with the start of the day `date` (YYYY-MM-DD) wherever it asks for the time.

    ContentError where it asks in a form that cannot be told beforehand.
    """
    day = datetime.fromisoformat(date)
    fixed = _NOW.sub(lambda found: f"{found['quote']}{day.strftime(found['format'])}{found['quote']}", template)
    if _ANY.search(fixed):
        raise ContentError(
            "the chat template asks for the time of day in a form that cannot be held fast",
            why="rows would be other tokens tomorrow than today",
            mend="write the date into the base's chat template, or the format into its strftime_now(...)",
        )
    return fixed
