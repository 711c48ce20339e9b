"""Opens the catalog: the list of tables, and for each the one pointer to its current metadata.

Two kinds are known, under the names that RisingWave's `catalog.type` has for them:

    jdbc   `jdbc:sqlite:PATH`     a SQLite file in the layout of Iceberg's JDBC catalog (the embedded default)
    rest   `http(s)://HOST/...`   any Iceberg REST catalog
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping
from pathlib import Path

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NamespaceAlreadyExistsError
from sqlalchemy.exc import SQLAlchemyError

from core.errors import ConfigError, UnavailableError
from core.settings import Settings
from iceberg.sqlite_catalog import SqliteCatalog
from iceberg.warehouse import claim

NAMESPACES = ("lake", "registry")

_SQLITE_PREFIX = "jdbc:sqlite:"
_REMOTE_SCHEMES = frozenset({"s3", "s3a", "s3n", "gs", "gcs", "abfs", "abfss", "hdfs"})
_NO_PROPERTIES: Mapping[str, str] = {}


def open_catalog(
    catalog_type: str,
    uri: str,
    warehouse: str,
    name: str = "headrace",
    *,
    properties: Mapping[str, str] = _NO_PROPERTIES,
    claims: bool = True,
) -> Catalog:
    """Open a catalog, making its file, its folders and the namespaces `lake` and `registry` where they are missing.

    One catalog object may be shared by threads; several processes may open the same file at once.

    Args:
        catalog_type: `jdbc` or `rest`.
        uri: `jdbc:sqlite:PATH`, or the address of a REST catalog.
        warehouse: where tables and artifacts live: a folder, a `file:` URL or the URL of an object store.
        name: the catalog's name inside the file (several catalogs may share one), or at the REST server.
        properties: passed on to PyIceberg, e.g. `s3.endpoint`, `token`; secrets are not logged.
        claims: whether the warehouse must be this catalog's, and becomes it when it is nobody's (`iceberg.warehouse`).

    Raises:
        ConfigError: an argument is malformed.
        ConflictError: the warehouse belongs to another catalog.
        UnavailableError: the file or the server cannot be reached now.
    """
    location = warehouse_location(warehouse)
    if catalog_type == "jdbc":
        catalog: Catalog = _open_sqlite(uri, location, name, properties)
    elif catalog_type == "rest":
        catalog = _open_rest(uri, location, name, properties)
    else:
        raise ConfigError(
            f"catalog type `{catalog_type}` is not known", where="catalog.type", fix="Use `jdbc` (SQLite file) or `rest`."
        )
    for namespace in NAMESPACES:
        ensure_namespace(catalog, namespace)
    if claims:
        claim(catalog, location)
    return catalog


def open_lake(settings: Settings, *, claims: bool = True) -> Catalog:
    """Open the catalog that the settings name; see `open_catalog`."""
    return open_catalog(
        settings.catalog_type,
        settings.resolved_catalog_uri,
        settings.resolved_warehouse,
        properties=settings.catalog_properties,
        claims=claims,
    )


def ensure_namespace(catalog: Catalog, namespace: str) -> None:
    """Create a namespace unless it is there; somebody else creating it at the same time is no error."""
    try:
        if not catalog.namespace_exists(namespace):
            catalog.create_namespace(namespace)
    except NamespaceAlreadyExistsError:
        return
    except SQLAlchemyError as error:
        if not catalog.namespace_exists(namespace):
            raise UnavailableError(f"namespace `{namespace}` cannot be created: {error}") from error


def warehouse_location(warehouse: str) -> str:
    """Normalise a warehouse to what Iceberg stores: `file:///ABSOLUTE`, or the object store's URL without a final slash.

    Raises:
        ConfigError: it is empty, of an unknown scheme, or holds `?` or `#`, which readers would take for parts of a URL.
    """
    scheme, _, rest = warehouse.partition("://")
    if rest and scheme in _REMOTE_SCHEMES:
        return warehouse.rstrip("/")
    if rest and scheme != "file":
        raise ConfigError(
            f"warehouse `{warehouse}` has the unknown scheme `{scheme}`",
            where="warehouse",
            fix=f"Use a folder, or one of {', '.join(sorted(_REMOTE_SCHEMES))}.",
        )
    if warehouse.partition(":/")[0] in _REMOTE_SCHEMES:
        raise ConfigError(
            f"warehouse `{warehouse}` has lost a slash",
            where="warehouse",
            fix="Pass an object store's URL as text, not as a Path.",
        )
    folder = rest if rest else warehouse.removeprefix("file:")
    if not folder.strip():
        raise ConfigError("the warehouse is empty", where="warehouse", fix="Give a folder or an object store's URL.")
    if "?" in folder or "#" in folder:
        raise ConfigError(
            f"warehouse `{warehouse}` holds `?` or `#`", where="warehouse", fix="Choose a folder without these characters."
        )
    return "file://" + str(Path(folder).absolute())


def sqlite_path(uri: str) -> Path:
    """The file in `jdbc:sqlite:PATH`.

    Raises:
        ConfigError: it is another database, in memory, or has no path.
    """
    if not uri.startswith(_SQLITE_PREFIX):
        raise ConfigError(
            f"catalog URI `{_without_secrets(uri)}` is not supported for catalog type `jdbc`",
            where="catalog.uri",
            fix="Use `jdbc:sqlite:PATH`, or catalog type `rest` for a shared catalog.",
        )
    path = uri.removeprefix(_SQLITE_PREFIX).removeprefix("file:").partition("?")[0]
    if not path or path == ":memory:":
        raise ConfigError(
            f"catalog URI `{uri}` names no file", where="catalog.uri", fix="Use `jdbc:sqlite:PATH`; several processes share it."
        )
    return Path(path)


def _open_sqlite(uri: str, location: str, name: str, properties: Mapping[str, str]) -> SqliteCatalog:
    path = sqlite_path(uri)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return SqliteCatalog(name, path, location, properties)
    except (OSError, sqlite3.Error, SQLAlchemyError) as error:
        if isinstance(error, sqlite3.DatabaseError) and "not a database" in str(error):
            raise ConfigError(f"`{path}` is not a SQLite file", where="catalog.uri", fix="Point at another file.") from error
        raise UnavailableError(f"catalog `{path}` cannot be opened: {error}", where="catalog.uri") from error


def _open_rest(uri: str, location: str, name: str, properties: Mapping[str, str]) -> Catalog:
    from pyiceberg.catalog.rest import RestCatalog  # brings requests; only needed here

    if not uri.startswith(("http://", "https://")):
        raise ConfigError(
            f"catalog URI `{_without_secrets(uri)}` is no address", where="catalog.uri", fix="Use `http://HOST:PORT/PATH`."
        )
    try:
        return RestCatalog(name, **{"warehouse": location, **properties, "uri": uri})
    except OSError as error:  # requests' errors are OSError
        raise UnavailableError(
            f"REST catalog `{_without_secrets(uri)}` does not answer: {type(error).__name__}", where="catalog.uri"
        ) from error


def _without_secrets(uri: str) -> str:
    """The address without user, password and query."""
    return re.sub(r"//[^/]*@", "//", uri).partition("?")[0]
