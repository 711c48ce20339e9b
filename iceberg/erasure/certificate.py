"""The document that an erasure leaves: what was erased, what was searched, what was found then. Sealed by its hash.

    sha256      of the canonical JSON of everything else in it
    previous    sha256 of the certificate before it in the same folder: one that is taken away or exchanged breaks the chain

It holds the subject's name and derived ids, because a later search needs them; keep it where the register of requests is kept.
It does not hold the pseudonym: nobody can lead kept rows back to the name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.errors import CorruptDataError, NotFoundError
from iceberg.erasure.journal import CERTIFICATE

FORMAT = "headrace.erasure/1"


def seal(document: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Add the place in the chain and the hash.

    Args:
        document: without `previous` and `sha256`.
        folder: of all erasures; its newest certificate is the one before.
    """
    sealed = {**document, "previous": _newest(folder)}
    return {**sealed, "sha256": content_hash(sealed)}


def content_hash(document: Mapping[str, Any]) -> str:
    """SHA-256 over the canonical JSON of all but `sha256`."""
    rest = {key: value for key, value in document.items() if key != "sha256"}
    canonical = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def load(path: Path) -> dict[str, Any]:
    """Read a certificate; whether it is as it was sealed, `check` tells.

    Raises:
        NotFoundError: there is no such file.
        CorruptDataError: it is no certificate.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NotFoundError(f"certificate `{path}` does not exist") from error
    except ValueError as error:
        raise CorruptDataError(f"`{path}` is no JSON: {error}") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise CorruptDataError(f"`{path}` is no certificate of an erasure", fix="Give the `certificate.json` of one.")
    return document


def check(document: Mapping[str, Any], folder: Path) -> list[str]:
    """What is wrong with a certificate itself; nothing when it is as it was sealed and its predecessor is at hand."""
    wrong = []
    if document.get("sha256") != content_hash(document):
        wrong.append("its content is not what was sealed: sha256 differs")
    previous = document.get("previous")
    if previous is not None and previous not in {each["sha256"] for each in _all(folder)}:
        wrong.append(f"the certificate before it (sha256 {previous}) is missing from {folder}")
    return wrong


def _newest(folder: Path) -> str | None:
    """The end of the chain: the one that no other one follows."""
    documents = _all(folder)
    followed = {document.get("previous") for document in documents}
    ends = [document for document in documents if document["sha256"] not in followed]
    newest = max(ends, key=lambda document: str(document["finished_at"]), default=None)
    return None if newest is None else str(newest["sha256"])


def _all(folder: Path) -> list[dict[str, Any]]:
    return [load(path) for path in sorted(folder.glob(f"*/{CERTIFICATE}"))]
