"""Warms model versions on a UDF server as they are looked at, before a route names them: no row then waits for a model."""

from __future__ import annotations

from contextlib import suppress

import pyarrow.flight as flight

from core.errors import InvalidInputError
from udfs.client import UdfClient
from udfs.sessions import ArtifactSource


class WarmingSource:
    """A source of artifacts that lets a server load each version too.

    Args:
        source: where the bytes come from.
        udf_url: of the server. One that does not answer loads the version later, and is no reason to wait.
    """

    def __init__(self, source: ArtifactSource, udf_url: str) -> None:
        self._source, self._udf_url = source, udf_url

    def load_artifact(self, name: str, version: int) -> bytes:
        """As the source; raises InvalidInputError too where the server refuses the version."""
        artifact = self._source.load_artifact(name, version)
        with suppress(flight.FlightError), UdfClient(self._udf_url) as client:
            answer = client.load_model(name, version)
            if not answer["ready"]:
                raise InvalidInputError(
                    f"the UDF server refuses `{name}@{version}`: {answer['message'].rstrip('.')}", where=self._udf_url
                )
        return artifact
