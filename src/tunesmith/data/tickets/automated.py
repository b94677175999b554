"""Messages that no person wrote, told by how they begin: absence notes, receipts, notices of a merge."""

from __future__ import annotations

import re

_LOOKED_AT = 3
"""Lines at whose beginning a message says that it is automatic: a greeting may stand first."""

_TITLE = re.compile(
    r"\s*(?:automatic reply|auto(?:matic)?[- ]?reply|auto(?:matic)? response|out of (?:the )?office|"
    r"automatische antwort|abwesenheit(?:snotiz)?|réponse automatique|absence du bureau|respuesta automática|"
    r"fuera de la oficina|risposta automatica|fuori ufficio|automatisch antwoord|afwezig(?:heid)?|"
    r"resposta automática|undelivered mail|delivery status notification|mail delivery failed|undeliverable)\b",
    re.IGNORECASE,
)
_SELF = re.compile(
    r"[\s*_#-]*(?:this is an auto(?:mated|matic|matically generated|-generated)\b|"
    r"this (?:message|e-?mail|notification|response) (?:was|is|has been) (?:generated |sent )?automatic(?:ally)?\b|"
    r"dies ist eine automatisch(?:e| erstellte| generierte| erzeugte)\b|"
    r"diese (?:nachricht|e-?mail) wurde automatisch\b|"
    r"ceci est un(?:e)? (?:message|e-?mail|réponse) automatique\b|"
    r"ce (?:message|courriel|mail) (?:a été|est) (?:généré|envoyé) automatiquement\b|"
    r"(?:este|esta|esto) es (?:un|una) (?:mensaje|correo|respuesta) (?:generad[oa] )?automátic[ao](?:mente)?\b|"
    r"questo è un (?:messaggio|e-?mail)(?: generato)? automatic(?:o|amente)\b|"
    r"questa è una (?:risposta|e-?mail) automatica\b|"
    r"dit is een automatisch(?:e)? (?:gegenereerd |gegenereerde )?(?:bericht|e-?mail|antwoord)\b|"
    r"(?:esta|este) é uma? (?:mensagem|e-?mail|resposta) automátic[ao]\b|"
    r"request #?\d+ .{0,120}\bwas closed and merged into this request\b|"
    r"this request was closed and merged into request\b|"
    r"(?:ticket|request|case) #?\d+ (?:has been|was|is) merged\b|"
    r"(?:die )?anfrage #?\d+ .{0,120}\bwurde geschlossen und (?:mit|in) dieser? anfrage\b|"
    r"(?:thank you[^.]{0,60}\. ?)?your (?:request|ticket|case|message)(?: \(?#?\d+\)?)? has been (?:received|created) "
    r"and (?:is being reviewed|will be)\b|"
    r"ihre anfrage \(?#?\d+\)? (?:ist eingegangen|wurde erhalten|wurde empfangen)\b|"
    r"votre demande \(?#?\d+\)? a (?:bien )?été reçue\b|"
    r"hemos recibido su solicitud \(?#?\d+\)?|"
    r"la (?:sua|tua) richiesta \(?#?\d+\)? è stata ricevuta\b|"
    r"uw (?:verzoek|aanvraag) \(?#?\d+\)? is ontvangen\b|"
    r"(?:a sua|sua) solicitação \(?#?\d+\)? foi recebida\b)",
    re.IGNORECASE,
)
_SUBMITTED = re.compile(r"^(?:auto-submitted:\s*auto-|x-auto-?reply|x-autorespond)", re.IGNORECASE | re.MULTILINE)


def is_automated(text: str, title: str = "", headers: str = "") -> bool:
    """Whether a message says of itself that it is automatic, in its headers, its subject line or where it begins."""
    lines = [line for line in text.splitlines() if line.strip()][:_LOOKED_AT]
    return bool(
        _SUBMITTED.search(headers)
        or _TITLE.match(title)
        or any(_SELF.match(line) for line in lines)
        or (lines and _TITLE.fullmatch(lines[0].rstrip(" :.!")))
    )
