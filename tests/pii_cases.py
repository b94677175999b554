"""Values, look-alikes and sentences for the measurement of the personal-data detectors.

Values come from Faker in eleven locales where it makes valid ones, otherwise from the rule, written here anew and not
taken from the package. Whatever is a bare number in its locale is announced by a word, as people do; the rest is set
into the sentence in half of the cases without any.
"""

from __future__ import annotations

import json
import random
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from faker import Faker

LOCALES = ("en_US", "en_GB", "de_DE", "fr_FR", "es_ES", "it_IT", "nl_NL", "pt_BR", "pl_PL", "sv_SE", "en_IN")
POSITIVES = 330
"""Of each kind."""

PHONE_CARRIERS = {
    "en": ("You can call me on {}.", "My phone number is {}.", "Tel: {}", "{} is my mobile.", "Text me at {} please."),
    "de": ("Meine Telefonnummer ist {}.", "Tel.: {}", "Sie erreichen mich telefonisch unter {}.", "Handy: {}"),
    "fr": ("Mon numéro de téléphone est le {}.", "Tél. : {}", "Appelez-moi au {}."),
    "es": ("Mi teléfono es {}.", "Llámame al {}.", "Móvil: {}"),
    "it": ("Il mio numero di telefono è {}.", "Chiamami al {}.", "Cellulare: {}"),
    "nl": ("Mijn telefoonnummer is {}.", "Bel me op {}.", "Mobiel: {}"),
    "pt": ("Meu telefone é {}.", "Ligue para {}.", "Celular: {}"),
    "pl": ("Mój numer telefonu to {}.", "Tel. {}", "Proszę dzwonić: {}"),
    "sv": ("Mitt telefonnummer är {}.", "Ring mig på {}.", "Mobil: {}"),
}
PLAIN = ("It is {}.", "{}", "Here you go: {}", "I wrote {} on the form.", "({})", "{}, as I said.")
ANNOUNCED = {
    "us_ssn": ("My SSN is {}.", "Social security number: {}"),
    "uk_nhs": ("My NHS number is {}.", "NHS no: {}", "Patient {} was seen today."),
    "uk_nino": ("My national insurance number is {}.", "NINO: {}"),
    "de_tax_id": ("Meine Steuer-ID ist {}.", "Steuerliche Identifikationsnummer: {}"),
    "fr_nir": ("Mon numéro de sécurité sociale est {}.", "NIR : {}"),
    "es_dni": ("Mi DNI es {}.", "NIE: {}"),
    "it_codice_fiscale": ("Il mio codice fiscale è {}.", "CF: {}"),
    "nl_bsn": ("Mijn BSN is {}.", "Burgerservicenummer: {}"),
    "pl_pesel": ("Mój PESEL to {}.", "PESEL: {}"),
    "se_personnummer": ("Mitt personnummer är {}.", "Personnr: {}"),
    "br_cpf": ("Meu CPF é {}.", "CPF: {}"),
    "br_cnpj": ("O CNPJ da empresa é {}.", "CNPJ: {}"),
    "in_aadhaar": ("My Aadhaar number is {}.", "Aadhaar: {}"),
    "card": ("My card number is {}.", "Visa {}", "Please charge my credit card {}."),
    "iban": ("My IBAN is {}.", "IBAN: {}"),
    "email": ("Write to {} please.", "E-mail: {}", "<{}>"),
    "ip_address": ("My IP address is {}.", "The server at {} does not answer."),
}


@dataclass(frozen=True)
class Case:
    """A text, and the value in it that is to be found; a look-alike has none and says what it is like."""

    text: str
    kind: str
    start: int = 0
    end: int = 0


def sentences(shared: Path) -> list[str]:
    """User turns of three public sets: bank queries, arithmetic, conversations."""
    found = []
    for name in ("banking77/train", "gsm8k/train", "hh-helpful/pairs"):
        lines = (shared / "data" / f"{name}.jsonl").read_text("utf-8").splitlines()[:2200]
        for row in map(json.loads, lines):
            turns = row.get("messages") or row["prompt"]
            found += [turn["content"] for turn in turns if turn["role"] == "user"]
    return found


def setting(rng: random.Random, sentence: str, phrase: str) -> tuple[str, int]:
    """The sentence with the phrase before, behind or between its parts, and where the phrase begins."""
    places = [0, len(sentence), *(i + 2 for i in range(len(sentence) - 2) if sentence[i : i + 2] in (". ", "? "))]
    place = rng.choice(places)
    before, after = sentence[:place].rstrip(), sentence[place:].lstrip()
    head = before + " " if before else ""
    return f"{head}{phrase} {after}".rstrip(), len(head)


def case(rng: random.Random, sentence: str, carrier: str, value: str, kind: str) -> Case:
    """One value in one sentence."""
    text, begin = setting(rng, sentence, carrier.format(value))
    start = begin + carrier.index("{}")
    return Case(text, kind, start, start + len(value))


def positives(shared: Path, seed: int = 11, *, announce: bool = True) -> Iterator[Case]:
    """At least `POSITIVES` cases of every kind; without `announce`, no word anywhere says what the value is."""
    rng = random.Random(seed)
    base = sentences(shared)
    fakers = {locale: Faker(locale) for locale in LOCALES}
    for number, faker in enumerate(fakers.values()):
        faker.seed_instance(seed + number)
    for kind, make in makers(rng, fakers).items():
        for number in range(POSITIVES):
            value, carriers, needs_word = make(number)
            told = announce and (needs_word or number % 2 == 0)
            yield case(rng, rng.choice(base), rng.choice(carriers if told else PLAIN), value, kind)


Made = tuple[str, tuple[str, ...], bool]
"""(value, carriers with a word, whether it is a bare number that needs one)."""


def makers(rng: random.Random, fakers: dict[str, Faker]) -> dict[str, Callable[[int], Made]]:
    """A maker of values for each kind, by the number of the case."""

    def locale(number: int) -> str:
        return LOCALES[number % len(LOCALES)]

    def phone(number: int) -> Made:
        value = fakers[locale(number)].phone_number()
        groups = value.split()
        bare = value.isdigit() or (len(groups) == 3 and all(len(g) == 3 and g.isdigit() for g in groups))
        return value, PHONE_CARRIERS[locale(number)[:2]], bare or value.startswith("00")

    def told(kind: str, value: Callable[[int], str], bare: Callable[[str], bool] = lambda _: False):
        def make(number: int) -> Made:
            made = value(number)
            return made, ANNOUNCED[kind], bare(made)

        return make

    def card(number: int) -> str:
        value = fakers[locale(number)].credit_card_number()
        return " ".join(value[i : i + 4] for i in range(0, 16, 4)) if len(value) == 16 and number % 3 == 0 else value

    def iban(number: int) -> str:
        # Faker's en_IN has British numbers of 21 characters; they have 22.
        value = fakers["en_GB" if locale(number) == "en_IN" else locale(number)].iban()
        return " ".join(value[i : i + 4] for i in range(0, len(value), 4)) if number % 2 else value

    def address(number: int) -> str:
        faker = fakers[locale(number)]
        return faker.ipv6() if number % 3 == 0 else faker.ipv4_public()

    digits = str.isdigit
    made = {
        "email": told("email", lambda n: getattr(fakers[locale(n)], ("email", "free_email", "company_email")[n % 3])()),
        "phone": phone,
        "iban": told("iban", iban),
        "card": told("card", card, lambda v: len(v) < 14),
        "ip_address": told("ip_address", address),
        "us_ssn": told("us_ssn", lambda n: fakers["en_US"].ssn().replace("-", "-" if n % 4 else ""), digits),
        "uk_nhs": told("uk_nhs", lambda n: nhs(rng, spaced=n % 2 == 0), lambda _: True),
        "uk_nino": told("uk_nino", lambda n: nino(rng, spaced=n % 2 == 0), lambda v: " " not in v),
        "de_tax_id": told("de_tax_id", lambda n: tax_id(rng, spaced=n % 3 == 0)),
        "fr_nir": told("fr_nir", lambda n: spaced_nir(fakers["fr_FR"].ssn(), n % 3 == 0)),
        "es_dni": told("es_dni", lambda n: fakers["es_ES"].nie() if n % 3 == 0 else fakers["es_ES"].nif()),
        "it_codice_fiscale": told("it_codice_fiscale", lambda _: fakers["it_IT"].ssn()),
        "nl_bsn": told("nl_bsn", lambda _: fakers["nl_NL"].ssn(), digits),
        "pl_pesel": told("pl_pesel", lambda _: fakers["pl_PL"].pesel(), digits),
        "se_personnummer": told("se_personnummer", lambda _: fakers["sv_SE"].ssn()),
        "br_cpf": told("br_cpf", lambda n: fakers["pt_BR"].cpf() if n % 3 else fakers["pt_BR"].ssn(), digits),
        "br_cnpj": told("br_cnpj", lambda _: fakers["pt_BR"].cnpj()),
        "in_aadhaar": told("in_aadhaar", lambda n: aadhaar(rng, spaced=n % 3 > 0), digits),
    }
    return made | secret_makers(rng)


def some_digits(rng: random.Random, count: int) -> str:
    return "".join(rng.choice(string.digits) for _ in range(count))


def nhs(rng: random.Random, *, spaced: bool) -> str:
    """Weights 10 to 2, check 11 minus the rest; 10 is not given out."""
    while True:
        nine = some_digits(rng, 9)
        check = (11 - sum(int(d) * (10 - i) for i, d in enumerate(nine)) % 11) % 11
        if check != 10:
            ten = f"{nine}{check}"
            return f"{ten[:3]} {ten[3:6]} {ten[6:]}" if spaced else ten


def nino(rng: random.Random, *, spaced: bool) -> str:
    """Two letters of those in use, six digits, A to D."""
    prefix = rng.choice(("AB", "CE", "JG", "PX", "WL", "SR", "YZ", "HK", "EA", "RT"))
    six, last = some_digits(rng, 6), rng.choice("ABCD")
    return f"{prefix} {six[:2]} {six[2:4]} {six[4:]} {last}" if spaced else prefix + six + last


def tax_id(rng: random.Random, *, spaced: bool) -> str:
    """Ten digits of which one occurs twice and one never, and the check digit that makes the chain end in 1."""
    ten = list(rng.sample(string.digits, 10))
    twice = rng.randrange(1, 10)
    ten[rng.choice([i for i in range(1, 10) if i != twice])] = ten[twice]
    if ten[0] == "0":
        return tax_id(rng, spaced=spaced)
    state = 10
    for digit in ten:
        total = (int(digit) + state) % 10
        state = (2 * (total if total else 10)) % 11
    value = "".join(ten) + str((11 - state) % 10)
    return f"{value[:2]} {value[2:5]} {value[5:8]} {value[8:]}" if spaced else value


def spaced_nir(value: str, spaced: bool) -> str:
    """1 85 05 78 006 084 36."""
    cuts = (0, 1, 3, 5, 7, 10, 13, 15)
    return " ".join(value[a:b] for a, b in pairwise(cuts)) if spaced else value


_VERHOEFF = (
    "0123456789", "1234067895", "2340178956", "3401289567", "4012395678",
    "5987604321", "6598710432", "7659821043", "8765932104", "9876543210",
)  # fmt: skip
_TURNS = (
    "0123456789",
    "1576283094",
    "5803796142",
    "8916043527",
    "9453126870",
    "4286573901",
    "2793806415",
    "7046913258",
)


def aadhaar(rng: random.Random, *, spaced: bool) -> str:
    """Eleven digits and Verhoeff's check digit, by the published tables. (Faker's have Luhn's, which is not theirs.)"""
    eleven = rng.choice("23456789") + some_digits(rng, 10)
    for check in string.digits:
        state = 0
        for place, digit in enumerate(reversed(eleven + check)):
            state = int(_VERHOEFF[state][int(_TURNS[place % 8][int(digit)])])
        if state == 0:
            value = eleven + check
            return f"{value[:4]} {value[4:8]} {value[8:]}" if spaced else value
    raise AssertionError("one of ten check digits fits")


def secret_makers(rng: random.Random) -> dict[str, Callable[[int], Made]]:
    """Tokens in the providers' shapes."""
    alnum = string.ascii_letters + string.digits

    def some(count: int, alphabet: str = alnum) -> str:
        return "".join(rng.choice(alphabet) for _ in range(count))

    def token(*carriers: str, value: Callable[[int], str]) -> Callable[[int], Made]:
        return lambda number: (value(number), carriers or ("key={}", "export TOKEN={}", "My key is {}"), False)

    upper = string.ascii_uppercase + string.digits
    url = alnum + "-_"

    def word(_: int) -> str:
        return some(5, string.ascii_letters) + some(3, string.digits) + some(2, "!$%&*+")

    made = {
        "aws_key": token(value=lambda _: "AKIA" + some(16, upper)),
        "github_token": token(value=lambda n: "github_pat_" + some(60) if n % 3 == 0 else "ghp_" + some(36)),
        "gitlab_token": token(value=lambda _: "glpat-" + some(20)),
        "slack_token": token(value=lambda _: f"xoxb-{some_digits(rng, 12)}-{some_digits(rng, 12)}-{some(24)}"),
        "stripe_key": token(value=lambda n: ("sk_live_", "rk_test_", "sk_test_")[n % 3] + some(24)),
        "openai_key": token(value=lambda n: ("sk-proj-", "sk-")[n % 2] + some(48)),
        "anthropic_key": token(value=lambda _: "sk-ant-api03-" + some(90, url) + "AA"),
        "google_key": token(value=lambda _: "AIza" + some(34, url) + "x"),
        "huggingface_token": token(value=lambda _: "hf_" + some(34)),
        "npm_token": token(value=lambda _: "npm_" + some(36)),
        "pypi_token": token(value=lambda _: "pypi-AgEIcHlwaS5vcmc" + some(120, url) + "x"),
        "jwt": token(value=lambda _: f"eyJ{some(33, url)}x.eyJ{some(60, url)}x.{some(42, url)}x"),
        "azure_key": token(value=lambda _: "AccountKey=" + some(86, alnum + "+/") + "=="),
        "sendgrid_key": token(value=lambda _: f"SG.{some(22, url)}.{some(42, url)}x"),
        "digitalocean_token": token(value=lambda n: f"do{'opr'[n % 3]}_v1_{some(64, string.hexdigits[:16])}"),
    }
    return made | {
        "private_key": lambda _: (
            f"-----BEGIN RSA PRIVATE KEY-----\n{some(64)}\n{some(64)}\n{some(20)}=\n-----END RSA PRIVATE KEY-----",
            ("{}",), True,
        ),
        "url_password": lambda n: (word(n).replace("%", "x"), ("postgres://app:{}@db.internal:5432/main",), True),
        "password": lambda n: (
            (some(31) + "7", ("api_key: {}", "client_secret={}", '"access_token": "{}"'), True)
            if n % 2 else (word(n), ("password={}", "My password is {}", "pwd: {}"), True)
        ),
    }  # fmt: skip
