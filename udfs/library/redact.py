"""`redact(text)`: personal and secret strings replaced by their kind, by patterns and, where a kind has one, by its checksum.

    redact('pay DE89370400440532013000, card 4111 1111 1111 1111')
        -> text   'pay [IBAN], card [CARD]'
           found  [{"kind": "iban", "start": 4, "end": 26}, {"kind": "card", "start": 33, "end": 52}]

A number that only looks like a card or an account keeps standing. What has no pattern is not found: names, addresses, phone
numbers without their country code. So this lowers the risk of a leak and does not exclude it.

Checksums: python-stdnum (Luhn; ISO 13616 for IBANs, ranges of the US social security number).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from stdnum import iban, luhn
from stdnum.us import ssn

from udfs.functions import udf


class Redacted(NamedTuple):
    """The text without what was found; `found` holds kind, start and end in the original, in its order."""

    text: str
    found: Any


class _Kind(NamedTuple):
    """A pattern, and what tells how much of a match is one (0: none of it)."""

    name: str
    pattern: re.Pattern[str]
    length: Callable[[str], int]


def _whole(test: Callable[[str], bool]) -> Callable[[str], int]:
    return lambda text: len(text) if test(text) else 0


def _iban_length(text: str) -> int:
    """Words behind an IBAN look like its end: the longest valid beginning counts."""
    for end in range(len(text), 14, -1):
        if text[end - 1] != " " and (end == len(text) or not text[end].isalnum()) and iban.is_valid(text[:end]):
            return end
    return 0


# Issuer's first digits and lengths, as the card networks publish them.
_ISSUERS = re.compile(
    r"4(\d{12}|\d{15}|\d{18})|5[1-5]\d{14}|2(22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}|3(0[0-5]|[689]\d)\d{11}"
    r"|6(011|5\d\d|4[4-9]\d)\d{12}|35(2[89]|[3-8]\d)\d{12}|62\d{14,17}|(5018|5020|5038|6304|6759|676[1-3])\d{8,15}"
)


def _is_card(text: str) -> bool:
    digits = re.sub(r"[ -]", "", text)
    return _ISSUERS.fullmatch(digits) is not None and luhn.is_valid(digits)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return text != "::"


def _is_phone(text: str) -> bool:
    return 8 <= sum(ch.isdigit() for ch in text) <= 15  # E.164


def _always(_text: str) -> bool:
    return True


# In this order; where two overlap, the first one counts. Repetitions are bounded or of one class: no pattern backtracks far.
_KINDS = (
    _Kind(
        "private_key",
        re.compile(r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[^-]{0,20000}-----END [A-Z ]{0,30}PRIVATE KEY-----"),
        _whole(_always),
    ),
    _Kind("token", re.compile(r"\beyJ[\w-]{8,4096}\.eyJ[\w-]{8,8192}\.[\w-]{8,4096}"), _whole(_always)),
    _Kind("access_key", re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36,255}\b"), _whole(_always)),
    _Kind("password", re.compile(r"(?<=://)[^\s:/@]{1,256}:[^\s/@]{1,256}(?=@)"), _whole(_always)),
    _Kind("email", re.compile(r"\b[\w.+%-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,8}\b"), _whole(_always)),
    _Kind("iban", re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}\b"), _iban_length),
    _Kind("card", re.compile(r"(?<![\d.-])\d(?:[ -]?\d){11,18}(?![\d-])"), _whole(_is_card)),
    _Kind("ssn", re.compile(r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])"), _whole(ssn.is_valid)),
    _Kind(
        "ip_address",
        re.compile(r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f:]{2,39})(?![\w:]|\.\d)"),
        _whole(_is_address),
    ),
    _Kind("phone", re.compile(r"(?<![\w+])\+\d[\d ()./-]{6,20}\d(?!\w)"), _whole(_is_phone)),
)


@udf
def redact(text: str) -> Redacted:
    """Replace what is found by its kind in capitals."""
    taken: list[tuple[int, int, str]] = []
    for kind in _KINDS:
        for match in kind.pattern.finditer(text):
            start, end = match.start(), match.start() + kind.length(match.group())
            if end > start and not any(start < other_end and other_start < end for other_start, other_end, _ in taken):
                taken.append((start, end, kind.name))
    taken.sort()
    parts, at = [], 0
    for start, end, name in taken:
        parts += [text[at:start], f"[{name.upper()}]"]
        at = end
    found = [{"kind": name, "start": start, "end": end} for start, end, name in taken]
    return Redacted("".join([*parts, text[at:]]), found)


EXAMPLES = {
    "redact@1": [
        (("nothing here: 4111 1111 1111 1112",), {"text": "nothing here: 4111 1111 1111 1112", "found": []}),
        (
            ("pay DE89370400440532013000, card 4111 1111 1111 1111",),
            {
                "text": "pay [IBAN], card [CARD]",
                "found": [{"kind": "iban", "start": 4, "end": 26}, {"kind": "card", "start": 33, "end": 52}],
            },
        ),
        (
            ("ask ann@example.org or +49 30 1234567",),
            {
                "text": "ask [EMAIL] or [PHONE]",
                "found": [{"kind": "email", "start": 4, "end": 19}, {"kind": "phone", "start": 23, "end": 37}],
            },
        ),
        ((None,), None),
    ]
}
