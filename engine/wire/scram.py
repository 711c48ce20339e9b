"""The server's half of SCRAM-SHA-256, without channel binding.

    client                                          server
      n,,n=,r=<nonce>                       ->
                                            <-        r=<nonce><more>,s=<salt>,i=<iterations>
      c=biws,r=<nonce><more>,p=<proof>      ->
                                            <-        v=<signature>

Ours, because the maintained library for it (scramp) refuses the empty name that libpq sends, PostgreSQL taking the name from
the start-up packet. Source: RFC 5802, RFC 7677; RFC 4013 for the preparation of passwords.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import stringprep
import unicodedata
from dataclasses import dataclass

MECHANISM = "SCRAM-SHA-256"
_PROHIBITED = (
    stringprep.in_table_c12, stringprep.in_table_c21_c22, stringprep.in_table_c3, stringprep.in_table_c4, stringprep.in_table_c5,
    stringprep.in_table_c6, stringprep.in_table_c7, stringprep.in_table_c8, stringprep.in_table_c9, stringprep.in_table_a1,
)  # fmt: skip


class ScramFailure(Exception):
    """The exchange is malformed, or the proof is not that of the password."""


@dataclass(frozen=True, repr=False)
class ScramSecret:
    """What the server keeps of a password: enough to check it, not enough to log in with it."""

    salt: bytes
    iterations: int
    stored_key: bytes
    server_key: bytes

    @classmethod
    def from_password(cls, password: str, *, iterations: int = 4096, salt: bytes | None = None) -> ScramSecret:
        """A new secret, with a random salt unless one is given."""
        salt = secrets.token_bytes(16) if salt is None else salt
        salted = hashlib.pbkdf2_hmac("sha256", _prepared(password).encode(), salt, iterations)
        client_key = _hmac(salted, b"Client Key")
        return cls(salt, iterations, hashlib.sha256(client_key).digest(), _hmac(salted, b"Server Key"))

    @classmethod
    def parse(cls, text: str) -> ScramSecret:
        """PostgreSQL's own form, `SCRAM-SHA-256$4096:salt$storedkey:serverkey`, as in `pg_authid.rolpassword`.

        Raises:
            ValueError: the text has another form.
        """
        mechanism, parameters, keys = text.split("$")
        iterations, salt = parameters.split(":")
        stored_key, server_key = keys.split(":")
        if mechanism != MECHANISM:
            raise ValueError("the secret is of another mechanism than SCRAM-SHA-256")
        return cls(_from_base64(salt), int(iterations), _from_base64(stored_key), _from_base64(server_key))

    def __str__(self) -> str:
        salt, stored, server = (base64.b64encode(part).decode() for part in (self.salt, self.stored_key, self.server_key))
        return f"{MECHANISM}${self.iterations}:{salt}${stored}:{server}"

    def __repr__(self) -> str:
        return "ScramSecret(...)"

    def matches(self, password: str) -> bool:
        """Whether this is the password; takes some milliseconds on purpose."""
        given = ScramSecret.from_password(password, iterations=self.iterations, salt=self.salt)
        return secrets.compare_digest(given.stored_key, self.stored_key)


class ScramServer:
    """One exchange: `first` answers the client's first message, `final` its second.

    Args:
        secret: that of the user who wants to connect.
        nonce: the server's half; random unless a test gives it.
    """

    def __init__(self, secret: ScramSecret, nonce: str | None = None) -> None:
        self._secret = secret
        self._server_nonce = nonce or base64.b64encode(secrets.token_bytes(18)).decode()
        self._bare = ""
        self._answer = ""
        self._nonce = ""
        self._header = ""

    def first(self, message: bytes) -> bytes:
        """Raises `ScramFailure` when the message is malformed or asks for channel binding."""
        binding, _, rest = _text(message).partition(",")
        name, _, self._bare = rest.partition(",")
        if binding not in ("n", "y") or (name and not name.startswith("a=")):
            raise ScramFailure("channel binding is not offered here")
        self._header = f"{binding},{name},"
        attributes = self._bare.split(",")
        if len(attributes) < 2 or not attributes[0].startswith("n=") or not attributes[1].startswith("r="):
            raise ScramFailure("the first message has no name or no nonce")
        self._nonce = attributes[1][2:] + self._server_nonce
        self._answer = f"r={self._nonce},s={base64.b64encode(self._secret.salt).decode()},i={self._secret.iterations}"
        return self._answer.encode()

    def final(self, message: bytes) -> bytes:
        """The server's signature; raises `ScramFailure` when the client does not know the password."""
        without_proof, _, proof_text = _text(message).rpartition(",p=")
        attributes = without_proof.split(",")
        if len(attributes) < 2 or attributes[0] != f"c={base64.b64encode(self._header.encode()).decode()}":
            raise ScramFailure("the channel binding of the final message is another than that of the first")
        if not secrets.compare_digest(attributes[1].encode(), f"r={self._nonce}".encode()):
            raise ScramFailure("the nonce of the final message is wrong")
        try:
            proof = _from_base64(proof_text)
        except (ValueError, binascii.Error) as error:
            raise ScramFailure("the proof is not base64") from error
        signed = f"{self._bare},{self._answer},{without_proof}".encode()
        signature = _hmac(self._secret.stored_key, signed)
        if len(proof) != len(signature):
            raise ScramFailure("the proof has a wrong length")
        client_key = bytes(left ^ right for left, right in zip(proof, signature, strict=True))
        if not secrets.compare_digest(hashlib.sha256(client_key).digest(), self._secret.stored_key):
            raise ScramFailure("the proof is not that of the password")
        return b"v=" + base64.b64encode(_hmac(self._secret.server_key, signed))


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")


def _from_base64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _text(message: bytes) -> str:
    try:
        return message.decode()
    except UnicodeDecodeError as error:
        raise ScramFailure("a message is not UTF-8") from error


def _prepared(password: str) -> str:
    """SASLprep; a password that it forbids is taken as it is, as PostgreSQL does."""
    if password.isascii():
        return password
    mapped = "".join(" " if stringprep.in_table_c12(one) else one for one in password if not stringprep.in_table_b1(one))
    normal = unicodedata.normalize("NFKC", mapped)
    if not normal or any(forbidden(one) for one in normal for forbidden in _PROHIBITED):
        return password
    if any(map(stringprep.in_table_d1, normal)):
        ends_right_to_left = stringprep.in_table_d1(normal[0]) and stringprep.in_table_d1(normal[-1])
        if any(map(stringprep.in_table_d2, normal)) or not ends_right_to_left:
            return password
    return normal
