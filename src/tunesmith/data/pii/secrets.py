"""Keys and tokens of common providers, private keys, passwords in addresses and behind a name.

Shapes are those that the providers publish for secret scanners. The patterns begin with their literal prefix, so that
the engine can skip to it; that nothing stands before it is asked afterwards.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from .hits import CUE, START, Hit

_B = r"(?![A-Za-z0-9])"


@dataclass(frozen=True)
class Token:
    """A provider's token, told by its prefix and length. `mixed` asks for a digit and a letter behind the prefix."""

    kind: str
    pattern: re.Pattern[str]
    mixed: bool = False
    needs: int = START

    def find(self, text: str) -> Iterator[Hit]:
        """All tokens that nothing runs into."""
        for match in self.pattern.finditer(text):
            before = text[match.start() - 1 : match.start()]
            if before.isalnum() or before == "_":
                continue
            if not self.mixed or (any(c.isdigit() for c in match[0]) and entropy(match[0]) >= 3):
                yield Hit(self.kind, *match.span())


def _token(kind: str, pattern: str, *, mixed: bool = False) -> Token:
    return Token(kind, re.compile(pattern + _B), mixed)


TOKENS = (
    _token("aws_key", r"A(?:KIA|SIA|IDA|ROA|GPA|NPA)[A-Z0-9]{16}"),
    _token("github_token", r"gh[pousr]_[A-Za-z0-9]{36,251}"),
    _token("github_token", r"github_pat_[A-Za-z0-9_]{22,255}"),
    _token("gitlab_token", r"gl(?:pat|ptt|dt|rt|cbt)-[A-Za-z0-9_\-]{20,}"),
    _token("slack_token", r"xox[abeoprs]-[A-Za-z0-9\-]{10,}", mixed=True),
    _token("slack_token", r"hooks\.slack\.com/services/T[A-Z0-9]{6,}/B[A-Z0-9]{6,}/[A-Za-z0-9]{16,}"),
    _token("stripe_key", r"[rs]k_(?:live|test)_[A-Za-z0-9]{16,}"),
    _token("stripe_key", r"whsec_[A-Za-z0-9+/]{24,}={0,2}"),
    _token("anthropic_key", r"sk-ant-[A-Za-z0-9_\-]{20,}"),
    _token("openai_key", r"sk-(?!ant-)(?:(?:proj|svcacct|admin|None)-)?[A-Za-z0-9_\-]{20,}", mixed=True),
    _token("google_key", r"AIza[A-Za-z0-9_\-]{35}"),
    _token("google_key", r"GOCSPX-[A-Za-z0-9_\-]{28}"),
    _token("google_key", r"ya29\.[A-Za-z0-9_\-]{30,}"),
    _token("huggingface_token", r"hf_[A-Za-z0-9]{30,40}"),
    _token("npm_token", r"npm_[A-Za-z0-9]{36}"),
    _token("pypi_token", r"pypi-[A-Za-z0-9_\-]{50,}"),
    _token("sendgrid_key", r"SG\.[A-Za-z0-9_\-]{22}\.[A-Za-z0-9_\-]{43}"),
    _token("digitalocean_token", r"do[opr]_v1_[0-9a-f]{64}"),
    _token("jwt", r"eyJ[A-Za-z0-9_\-]{8,}\.eyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{8,}"),
    _token("azure_key", r"(?:AccountKey|SharedAccessKey)=[A-Za-z0-9+/]{40,88}={1,2}"),
)


STARTS = (
    "AKIA", "ASIA", "AIDA", "AROA", "AGPA", "ANPA", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-",
    "glptt-", "gldt-", "glrt-", "glcbt-", "xox", "hooks.slack", "k_live_", "k_test_", "whsec_", "sk-", "AIza",
    "GOCSPX-", "ya29.", "hf_", "npm_", "pypi-", "SG.", "_v1_", "eyJ", "AccountKey=", "SharedAccessKey=",
)  # fmt: skip
"""What tokens begin with: a text without any of them is not searched for tokens."""


def entropy(text: str) -> float:
    """Shannon's, bits a character: 0 for `aaaa`, 4 for sixteen different characters."""
    counts = Counter(text).values()
    return -sum(n / len(text) * math.log2(n / len(text)) for n in counts)


_BEGIN = re.compile(r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----")
_BODY = re.compile(
    r"(?:(?!-----)[^\[\]]){0,20000}?-----END (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----"
    r"|(?:\\n|\\r|[A-Za-z0-9+/=\s]){0,20000}"
)


class PrivateKey:
    """A PEM or PGP block from its first to its last line; without a last line, as far as it is base64."""

    kind = "private_key"
    needs = CUE

    def find(self, text: str) -> Iterator[Hit]:
        """All blocks."""
        position = 0
        while begin := _BEGIN.search(text, position):
            body = _BODY.match(text, begin.end())
            end = body.end() if body else begin.end()
            end -= len(text[:end]) - len(text[:end].rstrip())
            yield Hit(self.kind, begin.start(), end)
            position = end


_URL = re.compile(r"://[^\s/:@\[\]\"'<>]{0,64}:(?P<value>[^\s/@\[\]\"'<>]{3,128})@(?=[A-Za-z0-9\[])")
# Values that stand for one: $VAR, ${VAR}, {{var}}, %s, ****, xxxx, your_key, changeme.
_STAND_IN = re.compile(
    r"[$%{*].*|\.+|[*x.\-_]{3,}|(?:your|my|the|example|sample|dummy|test|fake|some|placeholder|insert|enter|change)"
    r"[a-z_\-]*|pass(?:word|wd)?|secret|token|none|null|true|false|redacted",
    re.IGNORECASE,
)


class UrlPassword:
    """The password of `scheme://user:password@host`; the rest of the address stays."""

    kind = "url_password"
    needs = CUE

    def find(self, text: str) -> Iterator[Hit]:
        """The passwords alone."""
        for match in _URL.finditer(text):
            if not _STAND_IN.fullmatch(match["value"]):
                yield Hit(self.kind, *match.span("value"))


_VALUE = r"[\"'`]?(?P<value>[^\s\"'`<>\[\](),;{}]{6,256})"
_NAMED = re.compile(
    r"(?<![A-Za-z])(?:[A-Za-z0-9]{1,20}[_\-.]){0,4}(?P<name>password|passwort|passwd|passphrase|passcode|pwd"
    r"|secret(?:[_\-. ]?(?:access[_\-. ]?)?key)?|api[_\-. ]?(?:key|secret|token)|access[_\-. ]?(?:key|token)"
    r"|auth[_\-. ]?(?:key|token)|client[_\-. ]?secret|encryption[_\-. ]?key|private[_\-. ]?key|token)"
    rf"(?P<joint>[\"'`]?\s{{0,4}}(?::|=>?|:=)\s{{0,4}}|\s{{1,2}}is:?\s{{1,2}}){_VALUE}"
    r"|(?<![A-Za-z])bearer\s{1,2}(?P<bearer>[A-Za-z0-9_\-.~+/=]{16,})",
    re.IGNORECASE,
)
_JOINED = re.compile(
    r"(?:passwor[dt]|passwd|passphrase|passcode|pwd|secret|key|token)(?:[\"'`]?\s{0,4}[:=]|\s{1,2}is)|bearer\s"
)
"""In small letters: the end of such a name and what follows it, without which there is no match of `_NAMED`."""


class NamedSecret:
    """`password=`, `api_key:`, "my password is", `Bearer`: a value that looks made up, not like a word."""

    kind = "password"
    needs = CUE

    def find(self, text: str) -> Iterator[Hit]:
        """The values alone; a full stop that ends the sentence is none of it."""
        if not _JOINED.search(text.lower()):
            return
        for match in _NAMED.finditer(text):
            group = "bearer" if match["bearer"] else "value"
            value = match[group].rstrip(".?:")
            name = (match["name"] or "").lower()
            if self._made_up(value, strict=not name.startswith("pass") and name != "pwd"):
                yield Hit(self.kind, match.start(group), match.start(group) + len(value))

    @staticmethod
    def _made_up(value: str, *, strict: bool) -> bool:
        """Keys are long and even; passwords mix two classes of characters, one of them digits or marks."""
        if len(value) < 6 or _STAND_IN.fullmatch(value) or "://" in value or not any(c.isalpha() for c in value):
            return False
        if strict:
            return len(value) >= 12 and entropy(value) >= 3 and any(c.isdigit() for c in value)
        marks = any(not c.isalnum() and c not in "-'._" for c in value)
        return entropy(value) >= 2 and (marks or any(c.isdigit() for c in value))


CUES = ("passw", "passp", "passc", "pwd", "secret", "token", "key", "bearer", "://")
"""A text that holds none of them, in any case, has no private key, no password in an address or behind a name."""

SECRETS = (PrivateKey(), *TOKENS, UrlPassword(), NamedSecret())
