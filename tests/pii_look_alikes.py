"""What is no personal data though it looks so, by sorts: see pii_cases.py for the sentences around."""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Iterator
from pathlib import Path

from pii_cases import Case, case, sentences, some_digits

LIKE_CARRIERS = ("It says {}.", "We got {} in the end.", "{}", "There is {} on the label.", "See {} for that.")


def look_alikes(shared: Path, seed: int = 12, each: int = 110) -> Iterator[Case]:
    """What is no personal data though it looks so: `each` of every sort, set into the same sentences."""
    rng = random.Random(seed)
    base = sentences(shared)
    for sort, (carriers, make) in like_makers(rng).items():
        for _ in range(each):
            made = case(rng, rng.choice(base), rng.choice(carriers or LIKE_CARRIERS), make(), sort)
            yield Case(made.text, sort)


def like_makers(rng: random.Random) -> dict[str, tuple[tuple[str, ...], Callable[[], str]]]:
    """Sort of look-alike: (carriers, or none for those that name nothing; maker)."""

    def d(count: int) -> str:
        return rng.choice("123456789") + some_digits(rng, count - 1)

    def n(low: int, high: int) -> int:
        return rng.randint(low, high)

    def day(form: str) -> str:
        return form.format(y=n(1950, 2030), m=n(1, 12), d=n(1, 28), h=n(0, 23), i=n(0, 59), s=n(0, 59))

    def hexes(count: int) -> str:
        return "".join(rng.choice("0123456789abcdef") for _ in range(count))

    def letters(count: int) -> str:
        return "".join(rng.choice(string.ascii_uppercase) for _ in range(count))

    def pick(*makers: Callable[[], str]) -> Callable[[], str]:
        return lambda: rng.choice(makers)()  # noqa: PLW0108  (drawn anew at each call)

    def broken_card() -> str:
        value = rng.choice(("4", "51", "37")) + some_digits(rng, 14)
        total = sum(sum(divmod(int(c) * (2 - i % 2), 10)) for i, c in enumerate(reversed(value)))
        return value + str((10 - total % 10 + n(1, 9)) % 10)

    orders = (
        "Order number {}.",
        "My order {} has not come.",
        "Bestellnummer: {}",
        "Commande {}",
        "Pedido nº {}",
        "Order ID: {}",
        "Ordine n. {}",
    )
    return {
        "order numbers": (orders, pick(lambda: d(8), lambda: d(10), lambda: d(12), lambda: d(16))),
        "order numbers in groups": (orders, pick(lambda: f"{d(3)}-{d(7)}-{d(7)}", lambda: f"{d(4)}-{d(4)}-{d(4)}")),
        "order codes": ((), pick(lambda: f"ORD-{n(2019, 2026)}-{d(6)}", lambda: f"#{d(9)}", lambda: f"PO{d(8)}")),
        "invoices": (
            ("Invoice {}.", "Rechnung Nr. {}", "Factura {}", "Invoice no. {}"),
            pick(lambda: d(9), lambda: f"{n(2019, 2026)}-{d(5)}", lambda: f"0{d(3)}-{d(6)}"),
        ),
        "tracking": (
            ("Tracking number {}", "My parcel {} is lost.", "Tracking: {}"),
            pick(lambda: d(12), lambda: d(20), lambda: f"1Z{letters(3)}{d(11)}", lambda: f"RR{d(9)}GB"),
        ),
        "dates": (
            (),
            pick(
                lambda: day("{d:02}-{m:02}-{y}"),
                lambda: day("{y}-{m:02}-{d:02}"),
                lambda: day("{d:02}.{m:02}.{y}"),
                lambda: day("{m:02}/{d:02}/{y}"),
                lambda: day("{y}{m:02}{d:02}"),
                lambda: day("{d:02} {m:02} {y}"),
            ),
        ),
        "times": (
            (),
            pick(
                lambda: day("{y}-{m:02}-{d:02} {h:02}:{i:02}:{s:02}"),
                lambda: day("{h:02}:{i:02}:{s:02}"),
                lambda: day("{d:02}/{m:02}/{y} {h:02}:{i:02}"),
                lambda: day("{h:02}{i:02}-{i:02}{s:02}"),
                lambda: day("{y}-{m:02}-{d:02}T{h:02}:{i:02}:{s:02}Z"),
            ),
        ),
        "unix times": (("Timestamp {}", "It says {}."), lambda: str(n(1_400_000_000, 1_900_000_000))),
        "years": (
            (),
            pick(lambda: f"{n(1900, 1999)}-{n(2000, 2026)}", lambda: f"{n(1, 31)} {n(1990, 2009)}-{n(2010, 2026)}"),
        ),
        "versions": (
            ("Version {}", "v{}", "We run release {}.", "Chrome {} crashes.", "Upgrade to {} first."),
            pick(
                lambda: f"{n(0, 20)}.{n(0, 40)}.{n(0, 99)}",
                lambda: f"{n(1, 9)}.{n(0, 20)}.{n(0, 9)}.{n(0, 30)}",
                lambda: f"{n(80, 130)}.0.{n(1000, 6999)}.{n(10, 250)}",
                lambda: f"{n(10, 99)}.{n(32, 200)}.{n(0, 99)}.{n(0, 99)}",
            ),
        ),
        "sections": ((), lambda: f"{n(1, 12)}.{n(1, 12)}.{n(1, 12)}.{n(1, 12)}"),
        "amounts": (
            (),
            pick(
                lambda: f"${n(1, 999)},{n(100, 999)},{n(100, 999)}.{n(10, 99)}",
                lambda: f"{n(1, 999)}.{n(100, 999)}.{n(100, 999)},00 €",
                lambda: f"{n(1, 999)} {n(100, 999)} {n(100, 999)} zł",
                lambda: f"£{d(7)}",
                lambda: f"{d(9)} EUR",
                lambda: f"{n(1, 999)},{n(100, 999)},{n(100, 999)}",
            ),
        ),
        "arithmetic": (
            (),
            pick(
                lambda: f"{n(10, 9999)} - {n(100, 9999)} - {n(100, 999)}",
                lambda: f"{d(4)}/{d(3)}={d(2)}",
                lambda: f"{d(5)}+{d(5)}={d(5)}",
                lambda: f"{d(4)}-{d(4)}={d(3)}",
                lambda: f"{d(3)}*{d(4)}*{d(3)}",
            ),
        ),
        "product codes": (
            ("Product code {}", "Item {}", "SKU {}", "Part no. {}", "Model {}"),
            pick(
                lambda: f"{d(3)}-{d(2)}-{d(4)}",
                lambda: f"{d(8)}{letters(1)}",
                lambda: f"{d(4)}-{d(4)}",
                lambda: f"{letters(2)}{d(6)}{letters(1)}",
                lambda: f"{d(3)}-{d(3)}-{d(4)}",
                lambda: f"0{d(3)}-{d(4)}",
            ),
        ),
        "product codes alone": (
            (),
            pick(
                lambda: f"{letters(2)}-{d(4)}-{letters(2)}",
                lambda: f"{letters(3)}{d(5)}",
                lambda: f"{letters(1)}{d(3)}/{d(4)}",
                lambda: f"{d(2)}{letters(2)}{d(4)}",
                lambda: f"{letters(6)}{d(2)}{letters(1)}{d(2)}{letters(1)}{d(3)}{letters(1)}",
            ),
        ),
        "books": (
            ("ISBN {}", "ISBN: {}", "The book is {}."),
            pick(
                lambda: f"978-{n(0, 9)}-{n(10, 99)}-{d(6)}-{n(0, 9)}",
                lambda: f"978{d(10)}",
                lambda: f"{n(0, 9)}-{d(3)}-{d(5)}-{n(0, 9)}",
            ),
        ),
        "barcodes": (
            ("EAN {}", "Barcode: {}", "It says {}."),
            pick(lambda: f"4{d(12)}", lambda: f"50{d(11)}", lambda: d(13)),
        ),
        "coordinates": (
            (),
            pick(
                lambda: f"{n(-89, 89)}.{d(4)}, {n(-179, 179)}.{d(4)}",
                lambda: f"{n(1, 89)}.{d(6)} {n(1, 179)}.{d(6)}",
                lambda: f"{n(1, 89)}°{n(0, 59)}'{n(0, 59)}\"N {n(1, 89)}°{n(0, 59)}'{n(0, 59)}\"E",
            ),
        ),
        "hashes": (
            (),
            pick(
                lambda: hexes(40),
                lambda: hexes(64),
                lambda: hexes(32),
                lambda: hexes(7),
                lambda: f"{hexes(8)}-{hexes(4)}-4{hexes(3)}-a{hexes(3)}-{hexes(12)}",
            ),
        ),
        "hardware": (
            (),
            pick(
                lambda: ":".join(hexes(2) for _ in range(6)),
                lambda: f"{n(1, 9)}:{n(1, 9)}:{n(1, 9)}",
                lambda: "std::vector::at",
                lambda: "crate::fade::bad",
                lambda: f"{n(1, 20)}:{n(1, 20)}-{n(21, 40)}",
            ),
        ),
        "not addresses": (
            (),
            pick(
                lambda: f"{n(256, 999)}.{n(0, 255)}.{n(0, 255)}.{n(0, 255)}",
                lambda: "127.0.0.1",
                lambda: "255.255.255.0",
                lambda: f"{n(1, 9)}.{n(1, 9)}.{n(1, 9)}",
            ),
        ),
        "not mail": (
            (),
            pick(
                lambda: "@" + letters(6).lower(),
                lambda: f"logo@{n(2, 3)}x.png",
                lambda: "git@github.com:org/repo.git",
                lambda: f"react@{n(15, 19)}.{n(0, 9)}.0",
                lambda: f"{n(2, 9)} apples @ ${n(1, 9)}.{n(10, 99)}",
                lambda: "user@localhost",
            ),
        ),
        "broken cards": (("My card number is {}.", "Visa {}", "{}"), broken_card),
        "broken ibans": (
            ("IBAN: {}", "{}"),
            pick(lambda: f"DE{n(10, 98)}{'5' * 10}{d(8)}", lambda: f"GB99{letters(4)}{d(14)}", lambda: f"XX{d(18)}"),
        ),
        "bare numbers": (
            (),
            pick(
                lambda: d(7),
                lambda: d(8),
                lambda: d(9),
                lambda: d(10),
                lambda: d(11),
                lambda: d(12),
                lambda: d(14),
                lambda: d(15),
                lambda: d(16),
            ),
        ),
        "zips": ((), pick(lambda: f"{d(5)}-{d(4)}", lambda: f"SW1A {n(1, 9)}AA", lambda: f"{d(5)} Berlin")),
        "no secrets": (
            (),
            pick(
                lambda: "password: ********",
                lambda: "api_key=YOUR_API_KEY",
                lambda: "My password is wrong",
                lambda: "token: <your token>",
                lambda: "password=${DB_PASSWORD}",
                lambda: "the secret is patience",
                lambda: "sk-learn-something-long-and-wordy",
                lambda: "passwords are hard",
                lambda: "postgres://user:password@localhost/db",
                lambda: f"https://example.com/a/{hexes(20)}",
                lambda: "key: value",
                lambda: "token is: expired",
            ),
        ),
        "statistics": (
            (),
            pick(
                lambda: f"p={n(0, 1)}.{d(6)}",
                lambda: f"{n(1, 99)}.{d(5)}%",
                lambda: f"{d(3)}x{d(4)}x{d(3)}",
                lambda: f"{d(3)}/{d(3)}/{d(3)}",
                lambda: f"1e-{n(1, 9)}",
            ),
        ),
        "shipments": (
            ("Booking reference {}", "Ticket {}", "Case number {}", "Reference: {}", "Serial number {}"),
            pick(
                lambda: d(10),
                lambda: f"{d(3)}-{d(3)}-{d(4)}",
                lambda: d(9),
                lambda: f"{d(4)} {d(4)} {d(4)}",
                lambda: d(11),
            ),
        ),
    }
