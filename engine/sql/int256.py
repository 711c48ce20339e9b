"""`rw_int256`: signed integers of 256 bits, as bytes that sort like the numbers.

Source: RisingWave documentation, "rw_int256".
"""

from __future__ import annotations

from engine.sql.errors import SqlError

_OFFSET = 1 << 255
_MODULUS = 1 << 256


def encode(value: int) -> bytes:
    """Raises SqlError: 22003, the value has more than 256 bits."""
    if not -_OFFSET <= value < _OFFSET:
        raise SqlError("value out of range for type rw_int256", sqlstate="22003")
    return (value + _OFFSET).to_bytes(32, "big")


def decode(data: bytes) -> int:
    return int.from_bytes(data, "big") - _OFFSET


def parse(text: str) -> int:
    """A decimal number, or `0x` and up to 64 digits, which are the bits of the two's complement.

    Raises:
        SqlError: 22P02, the text is no number.
    """
    word = text.strip()
    try:
        if word[:2].lower() != "0x":
            return int(word)
        value = int(word, 16)
    except ValueError as error:
        raise SqlError(f'invalid input syntax for type rw_int256: "{text}"', sqlstate="22P02") from error
    return value - _MODULUS if _OFFSET <= value < _MODULUS else value
