"""Raw encryption: AES in CBC or ECB mode.

Source: RisingWave documentation, "Cryptographic functions"; PostgreSQL documentation, "pgcrypto", F.28.4.
"""

from __future__ import annotations

import re

from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC, ECB

from engine.functions.native import ValueFault, native
from engine.functions.registry import FunctionTable

_TYPE = re.compile(r"aes(?:-(cbc|ecb))?(?:/pad:(pkcs|none))?", re.IGNORECASE)
_BLOCK_BITS = 128


def _cipher(key: bytes, type_: str) -> tuple[Cipher[CBC | ECB], bool]:
    """The cipher, and whether data is padded."""
    found = _TYPE.fullmatch(type_)
    if found is None:
        raise ValueFault("22023", f'invalid cipher: "{type_}"', "For example 'aes-cbc/pad:pkcs'.")
    if len(key) not in (16, 24, 32):
        raise ValueFault("22023", f"invalid key length: {len(key)} bytes", "A key has 16, 24 or 32 bytes.")
    mode: CBC | ECB = ECB() if (found[1] or "").lower() == "ecb" else CBC(bytes(16))  # noqa: S305  # as asked for
    return Cipher(AES(key), mode), (found[2] or "pkcs").lower() == "pkcs"


@native("hr_encrypt", "BLOB", "BLOB", "VARCHAR", returns="BLOB")
def _encrypt(data: bytes, key: bytes, type_: str) -> bytes:
    cipher, padded = _cipher(key, type_)
    if padded:
        padder = padding.PKCS7(_BLOCK_BITS).padder()
        data = padder.update(data) + padder.finalize()
    encryptor = cipher.encryptor()
    try:
        return encryptor.update(data) + encryptor.finalize()
    except ValueError as error:
        raise ValueFault("22023", f"encrypt: {error}") from error


@native("hr_decrypt", "BLOB", "BLOB", "VARCHAR", returns="BLOB")
def _decrypt(data: bytes, key: bytes, type_: str) -> bytes:
    cipher, padded = _cipher(key, type_)
    decryptor = cipher.decryptor()
    try:
        plain = decryptor.update(data) + decryptor.finalize()
        if not padded:
            return plain
        remover = padding.PKCS7(_BLOCK_BITS).unpadder()
        return remover.update(plain) + remover.finalize()
    except ValueError as error:
        raise ValueFault("22023", f"decrypt: {error}") from error


def declare(t: FunctionTable) -> None:
    t.add("encrypt", "bytea, bytea, varchar -> bytea", "hr_encrypt({0}, {1}, {2})")
    t.add("decrypt", "bytea, bytea, varchar -> bytea", "hr_decrypt({0}, {1}, {2})")
