"""Mail that a message quotes, told from what its author wrote, in seven languages.

Quoted are: lines behind `>`; everything under "On ... wrote:" with an address or a time, under "-----Original
Message-----", under a block of From, Sent and Subject, and under the line above which replies are typed. Where the
quoted lines have their `>`, what stands below them stays: some answer under the quote. A forwarded message is no quote.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_LONGEST = 320
"""Letters of an attribution, which mail programs break into up to three lines."""

_BLOCK = 16
"""Lines of a block of headers, empty ones between them counted."""

_ATTRIBUTIONS = tuple(
    re.compile(pattern)
    for pattern in (
        r"On\b.+\b(?:wrote|writes)\s?:",
        r"(?:Am|Den)\b.+\bschrieb\b.*:",
        r"Am\b.+\bhat\b.+\bgeschrieben\s?:",
        r"Le\b.+\ba écrit\s?:",
        r"El\b.+\bescribió\s?:",
        r"Il\b.+\bha scritto\s?:",
        r"Op\b.+\bschreef\b.*:",
        r"Op\b.+\bgeschreven\s?:",
        r"(?:Em|A|No dia)\b.+\bescreveu\s?:",
        r"\d{4}-\d{2}-\d{2} \d{1,2}:\d{2}\b.*<[^<>\s]+@[^<>\s]+>\s?:",
    )
)
_NAME_FIRST = tuple(
    re.compile(pattern)
    for pattern in (
        r".{2,80}<[^<>\s]+@[^<>\s]+>\s+(?:wrote|schrieb|schreef|a écrit|escribió|ha scritto|escreveu)\s?:",
        r".{2,120}\b(?:schrieb am|schreef op|escribió el|a écrit le|escreveu em|ha scritto il)\b.+:",
    )
)
"""Attributions that may begin with any name; looked for in one line, or they would take the sentence above."""
_VERB = re.compile(r"wrote|writes|schr[ie]|écrit|escribi|scritto|schreef|escreveu|@")
"""What every attribution has; looked for first, because it is quick."""
_TOLD = re.compile(
    r"\b(?:I|we|you|he|she|they|someone|your?|my|our|the) (?:\w+ ){0,3}wrote\s?:"
    r"|\bschrieb (?:ich|wir|er|sie|man|mir|uns|Ihnen|ihm|ihr|Ihre?|mein|der|die)\b"
    r"|\b(?:il|elle|on|vous|nous|m'|l'|mon|ma|votre|notre|me|nos) ?(?:\w+ ){0,2}a écrit\s?:"
    r"|\b(?:me|nos|le|su|mi|usted) (?:\w+ )?escribió\s?:"
    r"|\b(?:mi|ci|vi|Le|suo|mio) (?:\w+ )?ha scritto\s?:"
    r"|\bschreef (?:ik|wij|we|hij|zij|ze|u|jullie|uw|mijn)\b"
    r"|\b(?:me|nos|lhe|seu|meu|você) (?:\w+ )?escreveu\s?:",
)
"""A person who tells that somebody wrote, in words of their own."""
_ADDRESS = re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]+")
_TIME = re.compile(r"\b\d{1,2}\s?[:hH]\s?\d{2}\b")

_ORIGINAL = re.compile(
    r"[-_*=]{2,}\s*(?:original message|original e?-?mail|ursprüngliche nachricht|originalnachricht|"
    r"original-nachricht|message d'origine|message d’origine|message original|mensaje original|"
    r"messaggio originale|oorspronkelijk bericht|origineel bericht|mensagem original)\s*[-_*=]{2,}",
    re.IGNORECASE,
)
_FORWARDED = re.compile(
    r"[-_*=]{2,}\s*(?:forwarded message|begin forwarded message|weitergeleitete nachricht|message transféré|"
    r"mensaje reenviado|messaggio inoltrato|doorgestuurd bericht|mensagem encaminhada)\s*[-_*=]{2,}"
    r"|begin forwarded message:|anfang der weitergeleiteten nachricht:|début du message réexpédié :|"
    r"inicio del mensaje reenviado:|inizio messaggio inoltrato:|begin doorgestuurd bericht:|"
    r"início da mensagem reencaminhada:",
    re.IGNORECASE,
)
_ABOVE = re.compile(
    r"(?:#+\s?-|-+|={3,})\s*(?:please )?(?:type|write|reply|antworten|bitte|veuillez|escriba|responda|rispondi|typ|"
    r"schrijf|escreva).{0,60}\b(?:above|über|oberhalb|dessus|encima|arriba|sopra|boven|acima)\b.{0,40}",
    re.IGNORECASE,
)
"""The line above which a reply is to be typed."""
_HEADERS = {
    "from": ("from", "von", "de", "da", "van"),
    "sent": ("sent", "date", "gesendet", "datum", "envoyé", "enviado", "enviado el", "enviado em", "fecha", "inviato",
             "data", "verzonden", "enviada", "enviada em"),
    "subject": ("subject", "betreff", "objet", "asunto", "oggetto", "onderwerp", "assunto"),
    "other": ("to", "an", "à", "a", "para", "aan", "cc", "kopie", "reply-to", "antwort an", "importance", "priorität",
              "bcc", "copie à", "cc:"),
}  # fmt: skip
_KIND = {name: kind for kind, names in _HEADERS.items() for name in names}
_HEADER = re.compile(r"[*_\s]{0,3}([A-Za-zÀ-ÿ -]{1,14}?)[*_]{0,2}\s?:[*_]{0,2}(?:\s+\S.*|\s*)")
_RULE = re.compile(r"[\s_=-]*")
_QUOTED = re.compile(r"\s{0,3}>")


def without_quotes(lines: Sequence[str]) -> tuple[list[str], bool]:
    """The lines that are the author's own, and whether any were not."""
    kept: list[str] = []
    at, found = 0, False
    while at < len(lines):
        if _FORWARDED.fullmatch(lines[at].lstrip("> ").strip()):
            return kept + _unquoted(lines[at:]), found
        begun, below_counts = _introduced(lines, at)
        if begun == at and _QUOTED.match(lines[at]):
            begun, below_counts = _quoted_run(lines, at), False
        if begun == at:
            kept.append(lines[at])
            at += 1
            continue
        found = True
        after = _next_filled(lines, begun)
        if below_counts and not (after < len(lines) and _QUOTED.match(lines[after])):
            return _trimmed(kept), True
        if below_counts:
            kept, begun = _trimmed(kept), _quoted_run(lines, after, sure=True)
        at = begun
    return kept, found


def _unquoted(lines: Sequence[str]) -> list[str]:
    """A forwarded message without the `>` that HTML gave it, where its first line has one."""
    marked = _QUOTED.match(lines[0])
    return [_QUOTED.sub("", line, count=1).removeprefix(" ") for line in lines] if marked else list(lines)


def _introduced(lines: Sequence[str], at: int) -> tuple[int, bool]:
    """(line behind what introduces a quote here, True), or (at, False)."""
    line = lines[at].strip()
    if not line:
        return at, False
    if _ORIGINAL.fullmatch(line) or _ABOVE.fullmatch(line):
        return max(_header_block(lines, _next_filled(lines, at + 1)), at + 1), True
    block = _header_block(lines, at)
    if block > at:
        return block, True
    behind = _attribution(lines, at)
    return behind, behind > at


def _attribution(lines: Sequence[str], at: int) -> int:
    """The line behind "On ... wrote:" over one to three lines; `at` where there is none.

    Without an address or a time in it, or in somebody's own words, it introduces a quote only where `>` follows.
    """
    if not any(line.rstrip().endswith(":") for line in lines[at : at + 3]):
        return at
    joined = ""
    for end in range(at + 1, min(at + 4, len(lines) + 1)):
        line = lines[end - 1].strip()
        joined = f"{joined} {line}".strip()
        if not line or len(joined) > _LONGEST:
            return at
        if not line.endswith(":") or not _VERB.search(joined):
            continue
        forms = (*_ATTRIBUTIONS, *_NAME_FIRST) if end == at + 1 else _ATTRIBUTIONS
        if any(form.fullmatch(joined) for form in forms):
            sure = bool(_ADDRESS.search(joined) or _TIME.search(joined)) and not _TOLD.search(joined)
            after = _next_filled(lines, end)
            return end if sure or (after < len(lines) and _QUOTED.match(lines[after])) else at
    return at


def _header_block(lines: Sequence[str], at: int) -> int:
    """The line behind From, Sent, To, Subject; `at` where there is no such block. It must begin with From."""
    kinds: list[str] = []
    end = here = at
    wrapped = 0
    while here < min(len(lines), at + _BLOCK) and here - end < 2:
        header = _HEADER.fullmatch(lines[here])
        kind = _KIND.get(header[1].strip(" *_").lower()) if header else None
        if not kinds and kind != "from":
            return at
        if kind:
            kinds.append(kind)
            end, wrapped = here + 1, 0
        elif lines[here].strip() and "subject" not in kinds and wrapped < 2 and here == end:
            end, wrapped = here + 1, wrapped + 1  # a long list of addresses goes on in the next line
        here += 1
    return end if {"from", "sent", "subject"} <= set(kinds) else at


def _quoted_run(lines: Sequence[str], at: int, *, sure: bool = False) -> int:
    """The line behind the lines with `>` from here. One alone that begins with a number is no quote: "> 5 pieces"."""
    end = at
    while end < len(lines) and _QUOTED.match(lines[end]):
        end += 1
        after = _next_filled(lines, end)
        if after < len(lines) and _QUOTED.match(lines[after]):
            end = after
    alone = end == at + 1 and re.match(r"\s*>[\s=]*[\d$€£]", lines[at])
    return at if alone and not sure else end


def _next_filled(lines: Sequence[str], at: int) -> int:
    while at < len(lines) and not lines[at].strip():
        at += 1
    return at


def _trimmed(lines: list[str]) -> list[str]:
    """The same list without empty lines and rules at its end, which belong to the quote below."""
    while lines and _RULE.fullmatch(lines[-1]) and not re.fullmatch(r"--\s?", lines[-1]):
        lines.pop()
    return lines
