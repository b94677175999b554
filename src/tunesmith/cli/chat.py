"""`tunesmith chat`: talk to a run's model in the terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.columns import Columns
from rich.markup import escape
from rich.panel import Panel
from rich.text import Text

from ..core.errors import TunesmithError
from .console import out, say, show_error
from .options import RunArgument

if TYPE_CHECKING:
    from ..core.messages import Message
    from ..inference.generate import Sampling
    from ..pipelines.use import Speaker, Which

Mode = Literal["base", "tuned", "both"]
_MODES: dict[str, Mode] = {"/base": "base", "/tuned": "tuned", "/both": "both"}
_HELP = "/tuned and /base choose who answers, /both shows both side by side, /new starts again, /quit ends"


def command(
    run: RunArgument,
    system: Annotated[
        str | None, typer.Option("--system", help="A system message; the training data's own otherwise.")
    ] = None,
    max_tokens: Annotated[int, typer.Option("--max-tokens", min=1)] = 256,
    temperature: Annotated[float, typer.Option("--temperature", min=0.0, help="0 is greedy.")] = 0.0,
) -> None:
    """Chat with a run's model. /base, /tuned and /both switch on one loaded base."""
    from ..core.messages import Message
    from ..inference.generate import Sampling
    from ..pipelines.use import Speaker, opening

    speaker = Speaker(run)
    sampling = Sampling(max_tokens=max_tokens, temperature=temperature)
    start = opening(speaker, system)
    messages, mode = list(start), _MODES["/tuned"]
    say(f"{escape(str(run))}: {_HELP}")
    while (line := _read(mode)) is not None:
        if line in ("/quit", "/exit"):
            return
        if line in _MODES:
            mode = _MODES[line]
        elif line == "/new":
            messages = list(start)
        elif line.startswith("/"):
            say(_HELP)
        elif line:
            asked = [*messages, Message(role="user", content=line)]
            try:
                answer = _both(speaker, asked, sampling) if mode == "both" else _stream(speaker, asked, mode, sampling)
            except TunesmithError as error:  # too long a conversation, for instance: /new helps
                show_error(error)
                continue
            messages = [*asked, Message(role="assistant", content=answer)]


def _read(mode: str) -> str | None:
    """The next line; None at the end of input. No prompt is shown without a terminal."""
    try:
        return input(f"{mode}> " if sys.stdin.isatty() else "").strip()
    except EOFError:
        return None


def _stream(speaker: Speaker, messages: list[Message], which: Which, sampling: Sampling) -> str:
    """Print an answer as it comes."""
    parts = []
    for piece in speaker.answer(messages, which, sampling):
        parts.append(piece.text)
        sys.stdout.write(piece.text)
        sys.stdout.flush()
    sys.stdout.write("\n")
    return "".join(parts)


def _both(speaker: Speaker, messages: list[Message], sampling: Sampling) -> str:
    """Both answers side by side; the conversation goes on with the tuned one."""
    voices: tuple[Which, ...] = ("base", "tuned")
    answers = {v: "".join(piece.text for piece in speaker.answer(messages, v, sampling)) for v in voices}
    panels = [
        Panel(Text(text), title=escape(name), width=max(30, out.width // 2 - 2)) for name, text in answers.items()
    ]
    out.print(Columns(panels))
    return answers["tuned"]
