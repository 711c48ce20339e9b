"""Loads tables, with errors that say what is wrong with one."""

from __future__ import annotations

from pydantic import ValidationError as MalformedMetadata
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.exceptions import ValidationError as InvalidMetadata
from pyiceberg.table import Table

from core.errors import CorruptDataError, NotFoundError


def must_load(catalog: Catalog, identifier: str) -> Table:
    """Load a table.

    Raises:
        NotFoundError: it does not exist.
        CorruptDataError: the catalog knows it, but its metadata file is missing or unreadable.
    """
    try:
        return catalog.load_table(identifier)
    except NoSuchTableError as error:
        raise NotFoundError(
            f"table `{identifier}` does not exist",
            where="catalog",
            fix="Create it with `ensure_tables` or `create_table_for_arrow`.",
        ) from error
    except (FileNotFoundError, InvalidMetadata, MalformedMetadata, UnicodeDecodeError) as error:
        lines = str(error).splitlines()
        raise CorruptDataError(
            f"metadata of table `{identifier}` is missing or unreadable: {lines[0] if lines else type(error).__name__}",
            where="warehouse",
            fix=f"`headrace tables check {identifier}` says what is wrong and how to go back.",
        ) from error


def table_names(catalog: Catalog) -> list[str]:
    """All tables of all namespaces, sorted, e.g. `lake.predictions`."""
    return sorted(".".join(name) for namespace in catalog.list_namespaces() for name in catalog.list_tables(namespace))
