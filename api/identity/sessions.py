"""Sessions of people in a browser: a signed cookie that scripts cannot read, and a token against forged requests beside it.

    link (once) ---> GET /login?link=... ---> cookie `headrace_session` (HttpOnly, SameSite=Strict)
    page        ---> GET /session        ---> {"tenant", "role", "csrf"}
    page        ---> POST ... with the cookie and the header X-CSRF-Token

The cookie holds who it is and is signed, so no process keeps sessions; one that was ended early is in `ended_sessions`.
The CSRF token is a MAC of the session's id: another site that makes the browser send the cookie cannot know it.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path

import jwt

from api.http.problems import ForbiddenError, UnauthenticatedError
from api.identity.identity import Identity, parse_role, parse_tenant
from core.errors import InvalidInputError
from core.settings import SessionSettings

COOKIE = "headrace_session"
CSRF_HEADER = "x-csrf-token"
_AUDIENCE = "headrace-session"
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_KEY_FILE = "session.key"
_SECRET_BYTES = 32


class Sessions:
    """Makes and reads the cookies of sessions.

    Args:
        settings: how long a session lasts, whether its cookie needs https, and what signs it.
        data_dir: where a secret is kept when the settings have none; touched when the first session is begun or read.
    """

    def __init__(self, settings: SessionSettings, data_dir: Path) -> None:
        self.length = timedelta(hours=settings.hours)
        self.secure = settings.secure
        self._settings = settings
        self._data_dir = data_dir

    @cached_property
    def _secret(self) -> bytes:
        return session_secret(self._settings, self._data_dir)

    def begin(self, identity: Identity, now: datetime) -> str:
        """The cookie of a new session."""
        claims = {
            "aud": _AUDIENCE,
            "sid": secrets.token_hex(16),
            "tenant": identity.tenant,
            "role": identity.role,
            "iat": now,
            "exp": now + self.length,
        }
        return jwt.encode(claims, self._secret, algorithm="HS256")

    def read(self, cookie: str, now: datetime) -> Identity:
        """Who has the session; the identity's `subject` is its id.

        Raises:
            UnauthenticatedError: it is over, or was never ours.
        """
        try:
            # The time is compared below, with the clock that we were given.
            claims = jwt.decode(
                cookie,
                self._secret,
                algorithms=["HS256"],
                audience=_AUDIENCE,
                options={"require": ["exp", "aud", "sid"], "verify_exp": False, "verify_iat": False},
            )
            ends = datetime.fromtimestamp(claims["exp"], now.tzinfo)
            subject = str(claims["sid"])
            identity = Identity(parse_tenant(claims["tenant"]), parse_role(claims["role"]), "session", subject, expires_at=ends)
        except (jwt.PyJWTError, InvalidInputError, KeyError) as problem:
            raise UnauthenticatedError("the session is not valid", fix="Log in again.") from problem
        if now >= ends:
            raise UnauthenticatedError("the session is over", fix="Log in again.")
        return identity

    def csrf_token(self, session_id: str) -> str:
        """What a page sends back with everything that changes something."""
        return hmac.new(self._secret, b"csrf:" + session_id.encode(), hashlib.sha256).hexdigest()

    def must_not_be_forged(self, method: str, session_id: str, given: str | None) -> None:
        """Raises ForbiddenError when a request that may change something lacks the session's CSRF token."""
        if method in _SAFE_METHODS:
            return
        if given is None or not hmac.compare_digest(self.csrf_token(session_id), given):
            raise ForbiddenError(
                "the request lacks the session's CSRF token", fix=f"Send what `GET /session` gives as `{CSRF_HEADER}`."
            )


def session_secret(settings: SessionSettings, data_dir: Path) -> bytes:
    """The secret of the settings, or that of a file in the data folder, which is made, for its owner only, where there is none."""
    if settings.secret is not None:
        return hashlib.sha256(settings.secret.get_secret_value().encode()).digest()
    file = data_dir / _KEY_FILE
    data_dir.mkdir(parents=True, exist_ok=True)
    draft = data_dir / f".{_KEY_FILE}.{os.getpid()}"
    draft.touch(mode=0o600)
    try:
        draft.write_bytes(secrets.token_bytes(_SECRET_BYTES))
        with contextlib.suppress(FileExistsError):
            os.link(draft, file)  # whole or not at all, and whoever comes first
    finally:
        draft.unlink()
    return file.read_bytes()
