"""Errors and notices as fields of ErrorResponse and NoticeResponse.

Source of the field codes: PostgreSQL documentation, section 55.8.
"""

from __future__ import annotations

import logging

from core.errors import HeadraceError
from engine.sql.errors import SqlError

logger = logging.getLogger(__name__)

PROTOCOL_VIOLATION = "08P01"


def error_fields(error: Exception, *, severity: str = "ERROR") -> dict[str, str]:
    """What a client may see of an error; what nobody foresaw is logged here and told as `internal error` only.

    Args:
        error: what was raised.
        severity: ERROR, or FATAL when the connection ends.
    """
    if isinstance(error, SqlError):
        fields = _fields(severity, error.sqlstate, _sentence(error))
        if error.fix:
            fields["H"] = error.fix
        if error.position is not None:
            fields["P"] = str(error.position)
        return fields
    if isinstance(error, HeadraceError):
        fields = _fields(severity, "58000", _sentence(error))
        if error.fix:
            fields["H"] = error.fix
        return fields
    logger.error("statement failed unexpectedly", exc_info=error, extra={"error": type(error).__name__})
    return _fields(severity, "XX000", "internal error") | {"H": "The server's log has the details."}


def fatal_fields(sqlstate: str, text: str) -> dict[str, str]:
    return _fields("FATAL", sqlstate, text)


def notice_fields(text: str) -> dict[str, str]:
    return _fields("NOTICE", "00000", text)


def _fields(severity: str, sqlstate: str, text: str) -> dict[str, str]:
    return {"S": severity, "V": severity, "C": sqlstate, "M": text}


def _sentence(error: HeadraceError) -> str:
    return f"{error.what} (at {error.where})" if error.where else error.what
