"""Which definition of its features a model needs, and which one is deployed: by fingerprint of the view's SQL.

A fingerprint is that of `statements`: layout and comments do not count. The same text gives the same one in a folder and in
the ledger of a stream database.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import psycopg

from pipelines import folder, ledger, statements
from pipelines.template import Rendered


def in_folders(names: Sequence[str] | None = None) -> dict[str, str]:
    """The feature views of built-in pipelines, by name; default: of all of them."""
    found: dict[str, str] = {}
    for pipeline in (folder.load(folder.BUILT_IN / name) for name in (folder.built_in_names() if names is None else names)):
        for path, text in pipeline.files:
            if "features" not in path.rpartition("/")[2]:
                continue
            for each in statements.split(Rendered(path, text, text)):
                if each.kind == "MATERIALIZED VIEW":
                    found[each.name] = each.fingerprint
    return found


def deployed(connection: psycopg.Connection) -> dict[str, str]:
    """The feature views that were applied to a stream database, by name."""
    ledger.prepare(connection)
    entries = ledger.read(connection).values()
    return {
        entry.name: entry.fingerprint for entry in entries if entry.kind == "MATERIALIZED VIEW" and entry.state == "applied"
    }


def differences(needed: Mapping[str, str], have: Mapping[str, str]) -> list[str]:
    """Views that are not as they were when the model was trained, in words; what is not deployed serves nobody, and is none."""
    return [
        f"`{view}` has another definition ({have[view]}, trained on {wanted})"
        for view, wanted in sorted(needed.items())
        if have.get(view, wanted) != wanted
    ]
