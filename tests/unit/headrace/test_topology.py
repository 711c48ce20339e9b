"""Which ports are taken: asked for, default, remembered."""

from __future__ import annotations

import socket
from pathlib import Path

from core.settings import Settings
from headrace.ports import free_port, parse_address
from headrace.topology import process_specs, resolve_ports

HOST = "127.0.0.1"
ALL = frozenset(Settings.model_fields)


def settings(data_dir: Path, **more: object) -> Settings:
    return Settings.model_validate({"data_dir": data_dir, **more})


def ports(given: Settings) -> dict[str, int]:
    return {spec.name: spec.port for spec in process_specs(given)}


def test_a_port_that_was_asked_for_is_kept_even_if_it_is_taken(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as taken:
        asked = settings(tmp_path, kafka=f"{HOST}:{taken.getsockname()[1]}")
        assert resolve_ports(asked, flexible=ALL - {"kafka"}).kafka == asked.kafka


def test_a_default_port_that_is_taken_is_replaced_and_one_that_is_free_is_not(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as taken:
        given = settings(
            tmp_path, kafka=f"{HOST}:{taken.getsockname()[1]}", database_url=f"postgresql://root@{HOST}:{free_port(HOST)}/dev"
        )
        resolved = resolve_ports(given, flexible=ALL)
        assert resolved.kafka != given.kafka
        assert resolved.database_url == given.database_url


def test_port_zero_takes_a_free_one_and_takes_it_again(tmp_path: Path) -> None:
    zero = settings(
        tmp_path,
        kafka=f"{HOST}:0",
        database_url=f"postgresql://root:secret@{HOST}:0/dev",
        udf_url=f"http://{HOST}:0",
        api_port=0,
    )
    first, second = resolve_ports(zero), resolve_ports(zero)
    assert first == second
    assert len(set(ports(first).values())) == 5
    assert all(ports(first).values())
    assert first.database_url == f"postgresql://root:secret@{HOST}:{ports(first)['engine']}/dev"
    assert parse_address(first.udf_url, setting="udf_url") == (HOST, ports(first)["udf"])


def test_what_was_asked_for_beats_what_is_remembered(tmp_path: Path) -> None:
    resolve_ports(settings(tmp_path, kafka=f"{HOST}:0"))
    asked = settings(tmp_path, kafka=f"{HOST}:{free_port(HOST)}")
    assert resolve_ports(asked).kafka == asked.kafka
