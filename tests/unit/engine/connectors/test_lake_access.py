"""A sink into the platform's own lake gets its access; nothing of ours goes anywhere else."""

from __future__ import annotations

import pytest

from core.settings import Settings
from engine.connectors.lake_access import with_lake_access

SETTINGS = Settings.model_validate(
    {
        "warehouse": "s3://lake/w",
        "catalog_type": "rest",
        "catalog_uri": "http://127.0.0.1:8181",
        "catalog_token": "t0ken",
        "s3": {"endpoint": "http://127.0.0.1:9000", "access_key": "key", "secret_key": "hidden"},
    }
).engine_with_lake
OURS = {"connector": "iceberg", "warehouse.path": "s3://lake/w", "catalog.type": "rest", "catalog.uri": "http://127.0.0.1:8181"}


def test_a_sink_into_the_lake_gets_keys_endpoint_and_token() -> None:
    added = dict(with_lake_access(OURS, SETTINGS).items() - OURS.items())
    assert added == {
        "s3.endpoint": "http://127.0.0.1:9000",
        "s3.region": "us-east-1",
        "s3.access.key": "key",
        "s3.secret.key": "hidden",
        "s3.path.style.access": "true",
        "catalog.token": "t0ken",
    }


@pytest.mark.parametrize(
    "other",
    [
        {"warehouse.path": "s3://lake/w2"},
        {"warehouse.path": "s3://lake"},
        {"connector": "kafka"},
        {"s3.endpoint": "http://127.0.0.2:9000"},
        {"catalog.token": "theirs"},
    ],
)
def test_a_sink_elsewhere_or_with_access_of_its_own_gets_nothing(other: dict[str, str]) -> None:
    options = {**OURS, **other}
    assert with_lake_access(options, SETTINGS) == options


def test_another_catalog_gets_no_token() -> None:
    options = {**OURS, "catalog.uri": "http://127.0.0.1:9999"}
    assert "catalog.token" not in with_lake_access(options, SETTINGS)


def test_secrets_are_masked_wherever_settings_are_shown() -> None:
    assert "hidden" not in str(SETTINGS.lake_access)
    assert "t0ken" not in repr(SETTINGS)
