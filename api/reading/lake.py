"""The lakehouse's catalog, opened when it is first needed: a REST catalog that is away must not keep the API from starting."""

from __future__ import annotations

import threading

from pyiceberg.catalog import Catalog

from core.settings import Settings
from iceberg.catalog import open_lake
from iceberg.registry import Registry


class Lake:
    """Opens the catalog once; threads may share it. Every method blocks."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._catalog: Catalog | None = None

    def catalog(self) -> Catalog:
        """The catalog.

        Raises:
            UnavailableError: it cannot be reached now.
        """
        with self._lock:
            if self._catalog is None:
                self._catalog = open_lake(self._settings)
            return self._catalog

    def registry(self) -> Registry:
        """The registry of models in that catalog."""
        return Registry(self.catalog(), self._settings.resolved_warehouse)

    def check(self) -> None:
        """Ask the catalog something.

        Raises:
            HeadraceError, OSError: it does not answer.
        """
        self.catalog().list_namespaces()
