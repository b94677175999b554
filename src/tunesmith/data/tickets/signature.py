"""Signatures at the end of a message: behind `-- `, behind a closing phrase, a device's line, the author's own name.

Only what looks like a signature goes: names, addresses, numbers, disclaimers. A sentence below the closing keeps the
whole block; a postscript, and a line that names an order or an invoice, stay.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_LONGEST = 15
"""Lines of a signature, those of a disclaimer not counted."""

_REACH = 100
"""Lines from the end within which a signature begins, its disclaimer counted."""

_STRONG = (
    r"(?:with )?(?:best|kind(?:est)?|warm(?:est)?) (?:regards|wishes)|(?:kind )?regards|all the best|"
    r"(?:yours )?(?:sincerely|faithfully|truly)(?: yours)?|yours|cheers|respectfully|"
    r"mit (?:freundlichen|freundlichem|besten|herzlichen|lieben|vielen) grü(?:ß|ss)e?n?|"
    r"(?:viele|beste|liebe|freundliche|herzliche|schöne) grü(?:ß|ss)e|"
    r"grü(?:ß|ss)e|gruß|gruss|mfg|lg|vg|hochachtungsvoll|"
    r"(?:bien )?cordialement|(?:bien )?à vous|sincères salutations|salutations(?: distinguées)?|meilleures salutations|"
    r"bonne (?:journée|soirée)|"
    r"(?:un )?(?:cordial )?saludos?(?: cordial(?:es)?)?|cordialmente|atentamente|atte|un abrazo|"
    r"(?:cordiali|distinti) saluti|(?:un )?cordiale? saluto|saluti|"
    r"(?:met )?(?:vriendelijke|hartelijke) groet(?:en)?|groet(?:en|jes)?|mvg|hoogachtend|"
    r"atenciosamente|(?:com os )?(?:melhores|meus) cumprimentos|cumprimentos|cordiais saudações|"
    r"(?:um )?abraços?|att"
)
_THANKS = (
    r"(?:many |with |best )?thanks(?: again| a lot| so much| in advance)?|"
    r"thank you(?: very much| so much| in advance)?|"
    r"(?:vielen |besten |herzlichen )?dank(?: im voraus)?|danke(?: schön| im voraus)?|merci(?: beaucoup| d'avance)?|"
    r"(?:muchas )?gracias(?: de antemano)?|grazie(?: mille)?|(?:hartelijk )?(?:be)?dankt?|alvast bedankt|"
    r"(?:muito )?obrigad[oa]"
)
_NAME = r"[^\W\d_a-zß-öø-ÿ][\w.'’-]*(?: (?:[^\W\d_a-zß-öø-ÿ][\w.'’-]*|von|van|de|der|da|di|la|le|zu|&)){0,4}"
_CLOSING = re.compile(rf"(?i:{_STRONG})(?i: aus \w+| from \w+)?[\s,.!–-]*(?P<name>{_NAME})?")
_THANKING = re.compile(rf"(?i:{_THANKS})[\s,.!–-]*")
_PERSON = re.compile(rf"{_NAME}[,.]?")
_MARK = re.compile(r"--\s?|—\s?")
_CONTACT = re.compile(
    r"@|https?://|www\.|\b(?:tel|telefon|téléphone|teléfono|telefono|telefone|phone|mobile?|handy|fax|cell)\b|\+\d|"
    r"\bhrb\b|amtsgericht|geschäftsführer|\bgmbh\b|\bust-?id|\bvat\b|\bsiret\b|\bkvk\b|\bp\.? ?iva\b|"
    r"registered (?:in|office)|\s\|\s",
    re.IGNORECASE,
)
_DISCLAIMER = re.compile(
    r"confidential|intended (?:recipient|solely|only)|vertraulich|confidentiel|confidencial|riservat|vertrouwelijk|"
    r"disclaimer|consider the environment|think before (?:you )?print|e-mail ausdrucken|haftungsausschluss",
    re.IGNORECASE,
)
_REFERENCE = re.compile(
    r"\b(?:order|ticket|case|invoice|customer|account|reference|ref|tracking|serial|policy|contract|booking|"
    r"bestell\w*|auftrag\w*|rechnung\w*|kunden\w*|vertrag\w*|sendung\w*|serien\w*|commande|facture|client|contrat|pedido|"
    r"factura|cliente|contrato|ordine|fattura|contratto|bestelling|factuur|klant\w*|order\w*nummer|encomenda|fatura)\b"
    r".{0,24}\d",
    re.IGNORECASE,
)
_POSTSCRIPT = re.compile(r"p\.? ?p?\.? ?s\.?\s?:?\s", re.IGNORECASE)
_DEVICES = (
    r"iphone|ipad|android|samsung|galaxy|huawei|xiaomi|pixel|blackberry|windows|outlook|yahoo|mail|gmx|web\.de|proton|"
    r"mobile|phone|smartphone|handy|tablet|móvil|portable|mobiel|telefoon|telemóvel|celular|telefono|ios|mac"
)
_DEVICE = re.compile(
    rf"(?:(?:sent|envoyé|enviado|inviato|verzonden|verstuurd|enviada|gesendet) "
    rf"(?:from|with|using|via|de|depuis|desde|con|da|dal|vanaf|vanuit|met|do|a partir do|mit|von|über) .{{0,30}}"
    rf"\b(?:{_DEVICES})\b.{{0,40}}"
    rf"|von (?:meinem|unserem) .{{0,30}}\b(?:{_DEVICES})\b.{{0,20}} gesendet"
    rf"|diese nachricht wurde von .{{0,30}}\b(?:{_DEVICES})\b.{{0,20}} gesendet"
    rf"|(?:get|télécharger|obtener|scarica|download|obter) outlook (?:for|pour|para|per|voor) (?:ios|android|mac)"
    rf"(?: ?<?https?://\S+)?"
    rf"|(?:outlook für|holen sie sich outlook für) (?:ios|android)(?: beziehen)?(?: ?<?https?://\S+)?)[.!]?",
    re.IGNORECASE,
)


def without_signature(lines: Sequence[str], author: str = "") -> tuple[list[str], bool]:
    """The lines without what signs them, and whether anything was taken. `author` is the name of who wrote."""
    kept, before = _trimmed(lines), len(_trimmed(lines))
    kept = _without_device(kept)
    for at in range(max(0, len(kept) - _REACH), len(kept)):
        cut = _signed(kept, at)
        if cut is not None:
            kept = _without_device(_trimmed(cut))
            break
    kept = _without_name(kept, author)
    return kept, len(kept) != before


def _signed(lines: Sequence[str], at: int) -> list[str] | None:
    """The lines without the signature that begins here; None where none begins."""
    line, below = lines[at].strip(), lines[at + 1 :]
    if not line or len(line) > 80:
        return None
    if _MARK.fullmatch(lines[at].lstrip()) and any(below_line.strip() for below_line in below):
        return _cut(lines[:at], below)
    if _CLOSING.fullmatch(line):
        return _cut(lines[:at], below)
    if _THANKING.fullmatch(line):
        first = next((text.strip() for text in below if text.strip()), "")
        if _PERSON.fullmatch(first) and not first.endswith("."):
            return _cut(lines[: at + 1], below)
    return None


def _cut(above: Sequence[str], below: Sequence[str]) -> list[str] | None:
    """What is above, and of what is below only postscripts and references; None where below is no signature."""
    kept, count = list(above), 0
    for at, raw in enumerate(below):
        line = raw.strip()
        if not line:
            continue
        if _POSTSCRIPT.match(line):
            return [*kept, "", *below[at:]]
        if _DISCLAIMER.search(line):
            return kept
        count += 1
        if count > _LONGEST or not (_short(line) or _CONTACT.search(line)):
            return None
        if _REFERENCE.search(line):
            kept.append(raw)
    return kept


def _short(line: str) -> bool:
    """Whether a line says a name, a post, a street: few words and no sentence."""
    words = line.split()
    return len(line) <= 60 and len(words) <= 6 and line[-1] not in "?!:" and (line[-1] != "." or len(words) <= 3)


def _without_device(lines: Sequence[str]) -> list[str]:
    kept = _trimmed(lines)
    while kept and _DEVICE.fullmatch(kept[-1].strip(" *_>")):
        kept = _trimmed(kept[:-1])
    return kept


def _without_name(lines: list[str], author: str) -> list[str]:
    """The lines without a last one that is nothing but the author's name."""
    names = {author.casefold(), author.split(maxsplit=1)[0].casefold()} if author.strip() else set()
    last = lines[-1].strip(" ,.-–—").casefold() if lines else ""
    return _trimmed(lines[:-1]) if last in names and len(lines) > 1 else lines


def _trimmed(lines: Sequence[str]) -> list[str]:
    kept = list(lines)
    while kept and not kept[-1].strip():
        kept.pop()
    return kept
