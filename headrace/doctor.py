"""Looks at a machine as the platform would find it: versions, ports, the data folder."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from core.errors import HeadraceError
from core.settings import Settings
from headrace.ports import accepts_connections
from headrace.run_file import running_ports
from headrace.topology import process_specs

PACKAGES = (
    "arrow-udf",
    "confluent-kafka",
    "duckdb",
    "fastapi",
    "kio",
    "onnxruntime",
    "psycopg",
    "pyarrow",
    "pyiceberg",
    "strawberry-graphql",
)

FREE_BYTES = 2 * 1024**3  # a demo writes about 0.1 GB; below this DuckDB's spilling has no room

REMOTE_SECONDS = 5  # a store that takes longer for five bytes is of no use


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `fix` is empty when it is as it should be."""

    check: str
    ok: bool
    detail: str
    fix: str = ""


def diagnose(settings: Settings) -> list[Finding]:
    """Run every check; nothing is changed but a probe file that is removed again."""
    return [_python(), *map(_package, PACKAGES), *_ports(settings), *_data_dir(settings.data_dir), *_lake(settings)]


def _python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    fine = sys.version_info >= (3, 11)
    return Finding("python", fine, found, "" if fine else "Install Python 3.11 or later.")


def _package(name: str) -> Finding:
    try:
        return Finding(f"package {name}", True, version(name))
    except PackageNotFoundError:
        return Finding(f"package {name}", False, "missing", "`make setup` installs what the lock names.")


def _ports(settings: Settings) -> Iterator[Finding]:
    ours = running_ports(settings.data_dir).values()
    for spec in process_specs(settings):
        place = f"{spec.host}:{spec.port}"
        if spec.port == 0:
            yield Finding(f"port {spec.name}", True, f"{spec.host}, any free one")
        elif not accepts_connections(spec.host, spec.port):
            yield Finding(f"port {spec.name}", True, f"{place} is free")
        elif spec.port in ours:
            yield Finding(f"port {spec.name}", True, f"{place} is in use by the headrace that runs on this data folder")
        else:
            yield Finding(f"port {spec.name}", False, f"{place} is in use", "Stop what listens there, or choose another port.")


def _data_dir(data_dir: Path) -> Iterator[Finding]:
    place = data_dir.absolute()
    existing = next(folder for folder in (place, *place.parents) if folder.is_dir())
    free = shutil.disk_usage(existing).free
    yield Finding(
        "disk",
        free >= FREE_BYTES,
        f"{free / 1024**3:.1f} GiB free at {existing}",
        "" if free >= FREE_BYTES else "Free at least 2 GiB.",
    )
    probe = existing / f".headrace-probe-{os.getpid()}"
    try:
        started = time.perf_counter()
        with probe.open("wb") as file:
            file.write(b"0" * 4096)
            file.flush()
            os.fsync(file.fileno())
        yield Finding("data folder", True, f"{place}: write and fsync in {(time.perf_counter() - started) * 1000:.1f} ms")
    except OSError as error:
        yield Finding(
            "data folder", False, f"{place}: {error.strerror}", "Choose a folder that you may write to with --data-dir."
        )
    finally:
        probe.unlink(missing_ok=True)


def _lake(settings: Settings) -> Iterator[Finding]:
    """A warehouse in an object store and a catalog behind HTTP must answer; a folder and a file have been looked at already."""
    from iceberg.catalog import open_lake, warehouse_location  # a second to import, and a laptop needs neither
    from iceberg.storage import Storage

    patience = {"s3.connect-timeout": str(REMOTE_SECONDS), "s3.request-timeout": str(REMOTE_SECONDS)}
    place = settings.resolved_warehouse
    if "://" in place and not place.startswith("file:"):
        storage = Storage({**settings.catalog_properties, **patience})
        probe = f"{warehouse_location(place)}/headrace-probe-{os.getpid()}"
        try:
            started = time.perf_counter()
            storage.write(probe, b"probe")
            storage.read(probe)
            storage.remove([probe])
            yield Finding("warehouse", True, f"{place}: write, read, remove in {(time.perf_counter() - started) * 1000:.0f} ms")
        except OSError as error:
            detail = f"{place} at {settings.s3.endpoint or 'Amazon'}: {str(error).splitlines()[0]}"
            yield Finding("warehouse", False, detail, "See docs/how-to/keep-the-lake-in-s3.md: endpoint, keys, region, bucket.")
    if settings.catalog_type == "rest":
        try:
            names = open_lake(settings, claims=False).list_namespaces()
            yield Finding("catalog", True, f"{settings.resolved_catalog_uri}: {len(names)} namespaces")
        except (HeadraceError, OSError) as error:
            detail = error.what if isinstance(error, HeadraceError) else str(error)
            yield Finding("catalog", False, detail, "Start the REST catalog, or set `catalog_uri` and `catalog_token`.")
