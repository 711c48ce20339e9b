"""JSON web tokens: HS256 with a secret of the settings, or RS256 and ES256 with the keys that an issuer publishes (JWKS).

What the token says of its algorithm decides nothing: the configured way does, so neither `none` nor a public key that is
taken for a secret can pass. `exp`, the audience and the tenant claim are required. A key id that is not known is looked up at
the issuer again, at most every `REFETCH_SECONDS`, which is how keys rotate without a restart.

Source: RFC 7519, RFC 8725 (best current practices).
"""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime
from typing import Any

import jwt
from jwt import PyJWKClient, PyJWKClientConnectionError, PyJWKClientError

from api.http.problems import UnauthenticatedError
from api.identity.identity import ROLES, Identity, Role, parse_role, parse_tenant
from core.clock import Clock
from core.errors import InvalidInputError, UnavailableError
from core.settings import TokenSettings

REFETCH_SECONDS = 10.0
_FETCH_SECONDS = 5
_LONGEST = 8192  # characters; a header of a web server takes no more either


class TokenVerifier:
    """Tells whose token it is.

    Args:
        settings: how tokens are signed; with neither secret nor JWKS none is accepted.
        clock: says when an unknown key id may be looked up again.
    """

    def __init__(self, settings: TokenSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._secret = None if settings.secret is None else settings.secret.get_secret_value()
        self._client = (
            None
            if settings.jwks_url is None
            else PyJWKClient(settings.jwks_url, cache_keys=False, lifespan=settings.jwks_seconds, timeout=_FETCH_SECONDS)
        )
        self._lock = threading.Lock()
        self._keys: dict[str, Any] = {}  # Any: keys of `cryptography`, by their id
        self._fetched_at: float | None = None

    @property
    def is_configured(self) -> bool:
        return self._secret is not None or self._client is not None

    async def verify(self, token: str) -> Identity:
        """The identity that a token states.

        Raises:
            UnauthenticatedError: it is not valid; says why, without repeating it.
            UnavailableError: the issuer's keys cannot be fetched now.
        """
        if not self.is_configured or len(token) > _LONGEST:
            raise _refused("tokens are not accepted here" if not self.is_configured else "the token is too long")
        try:
            header = jwt.get_unverified_header(token)
            key, algorithms = await self._key_for(header)
            claims = jwt.decode(
                token,
                key,
                algorithms=algorithms,
                audience=self._settings.audience,
                issuer=self._settings.issuer,
                leeway=self._settings.leeway_seconds,
                options={"require": ["exp", "aud", self._settings.tenant_claim]},
            )
        except jwt.PyJWTError as problem:
            raise _refused(_reason(problem)) from problem
        return self._identity(claims)

    async def _key_for(self, header: dict[str, Any]) -> tuple[Any, list[str]]:  # Any: as above
        if self._secret is not None and header.get("alg") == "HS256":
            return self._secret, ["HS256"]
        if self._client is None:
            raise jwt.InvalidAlgorithmError
        key_id = str(header.get("kid", ""))
        found = self._keys.get(key_id)
        if found is None or self._is_old():
            await asyncio.to_thread(self._fetch)
            found = self._keys.get(key_id)
        if found is None:
            raise jwt.InvalidKeyError
        return found, ["RS256", "ES256"]

    def _is_old(self) -> bool:
        return self._fetched_at is None or self._clock.monotonic_seconds() - self._fetched_at > self._settings.jwks_seconds

    def _fetch(self) -> None:
        """Ask the issuer, unless that was done a moment ago; keys that it no longer publishes are gone afterwards."""
        assert self._client is not None
        with self._lock:
            now = self._clock.monotonic_seconds()
            if self._fetched_at is not None and now - self._fetched_at < REFETCH_SECONDS:
                return
            try:
                published = self._client.get_jwk_set(refresh=True)
            except PyJWKClientConnectionError as problem:
                if self._keys and not self._is_old():
                    return
                raise UnavailableError("the issuer's keys cannot be fetched", where="tokens.jwks_url") from problem
            except (PyJWKClientError, jwt.PyJWTError) as problem:
                raise UnavailableError(f"the issuer's keys cannot be read: {problem}", where="tokens.jwks_url") from problem
            self._keys = {str(each.key_id or ""): each.key for each in published.keys if each.key_type in ("RSA", "EC")}
            self._fetched_at = now

    def _identity(self, claims: dict[str, Any]) -> Identity:
        try:
            tenant = parse_tenant(claims[self._settings.tenant_claim])
        except InvalidInputError as problem:
            raise _refused(f"claim `{self._settings.tenant_claim}` is no name of a tenant") from problem
        subject = str(claims.get("sub", ""))[:256]
        ends = datetime.fromtimestamp(claims["exp"], UTC)
        return Identity(tenant, self._role(claims), "token", subject, expires_at=ends)

    def _role(self, claims: dict[str, Any]) -> Role:
        """The highest role that the token states; roles that we do not know are somebody else's."""
        stated = claims.get(self._settings.roles_claim, [])
        known: list[Role] = []
        for text in [stated] if isinstance(stated, str) else stated if isinstance(stated, list) else []:
            try:
                known.append(parse_role(text))
            except InvalidInputError:
                continue
        if not known:
            raise _refused(f"claim `{self._settings.roles_claim}` names no role of ours")
        return max(known, key=ROLES.index)


def _refused(reason: str) -> UnauthenticatedError:
    return UnauthenticatedError(f"the token is not accepted: {reason}", fix="Send a valid token, or an API key.")


def _reason(problem: jwt.PyJWTError) -> str:
    """What is wrong, in words that repeat nothing of the token."""
    reasons: tuple[tuple[type[jwt.PyJWTError], str], ...] = (
        (jwt.ExpiredSignatureError, "it has expired"),
        (jwt.ImmatureSignatureError, "it is not valid yet"),
        (jwt.InvalidAudienceError, "it is for another audience"),
        (jwt.InvalidIssuerError, "it is from another issuer"),
        (jwt.MissingRequiredClaimError, "a required claim is missing"),
        (jwt.InvalidAlgorithmError, "its algorithm is not allowed"),
        (jwt.InvalidKeyError, "its key is not known"),
        (jwt.InvalidSignatureError, "its signature is wrong"),
    )
    return next((text for kind, text in reasons if isinstance(problem, kind)), "it is malformed")
