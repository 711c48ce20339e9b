"""Lets a sink into the platform's own lake without secrets in SQL.

A pipeline's SQL names warehouse and catalog; keys of an object store and tokens of a catalog do not belong there. So a sink into
the configured warehouse that says nothing of access is given the platform's own (RisingWave takes it from its environment by
`enable_config_load`). A sink that names another warehouse, or an endpoint or a key of its own, gets nothing of ours.
"""

from __future__ import annotations

from collections.abc import Mapping

from core.settings import EngineSettings

_ACCESS = ("s3.", "catalog.token", "catalog.credential")


def with_lake_access(options: Mapping[str, str], settings: EngineSettings) -> Mapping[str, str]:
    """The options of a sink, with the platform's access to its own lake added where it is meant."""
    lake = settings.lake_warehouse
    if lake is None or options.get("connector") != "iceberg" or any(name.startswith(_ACCESS) for name in options):
        return options
    if options.get("warehouse.path", "").rstrip("/") != lake.rstrip("/"):
        return options
    access = {name: secret.get_secret_value() for name, secret in settings.lake_access.items()}
    if options.get("catalog.uri") != settings.lake_catalog_uri:  # another catalog gets no token of ours
        access = {name: value for name, value in access.items() if not name.startswith("catalog.")}
    return {**options, **access}
