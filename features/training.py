"""Training sets: labels with the features that were true at their time, and a manifest from which the same set can be made again.

The manifest names everything that decides about a row: the labels' hash, the snapshot of each table, the version and fingerprint
of each declaration, which version of a row counts, and the SQL. `reproduce` runs it again and compares.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet
from pyiceberg.catalog import Catalog
from pyiceberg.expressions import BooleanExpression

from core.errors import ConflictError, InvalidInputError
from features import labels, lake, point_in_time
from features.content import content_sha256
from features.declaration import FeatureView, fingerprint, from_json, to_json
from features.lake import Pin, quote
from features.point_in_time import History, Known, type_known
from features.references import Chosen, by_view, choose
from iceberg.predicates import at_least, at_most

_FORMAT = 1


@dataclass(frozen=True)
class Manifest:
    """What a training set was made of.

    Attributes:
        labels: path or table of the labels; `labels_sha256` of a file, `labels_snapshot` of a table.
        features: `view:feature`, in order.
        known: `corrected`, `then` or a moment; see `features.point_in_time`.
        declarations: by view, as they were, so that the set can be made again when they have changed.
        versions: by view, the registered version; 0 for one that is not registered.
        tables: by view, identifier and snapshot id of its history.
        content_sha256: of all rows in order.
    """

    labels: str
    labels_sha256: str | None
    labels_snapshot: int | None
    time: str
    features: tuple[str, ...]
    known: str
    declarations: Mapping[str, str]
    fingerprints: Mapping[str, str]
    versions: Mapping[str, int]
    tables: Mapping[str, tuple[str, int | None]]
    sql: str
    rows: int
    content_sha256: str
    intervals: bool = False
    made_at: str = ""
    format: int = _FORMAT
    unmatched: Mapping[str, int] = field(default_factory=dict)

    def dumps(self) -> str:
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"

    @staticmethod
    def read(file: Path) -> Manifest:
        """Read what `dumps` wrote.

        Raises:
            InvalidInputError: it is no manifest.
        """
        try:
            found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))  # Any: checked by the constructor
            if found.get("format") != _FORMAT:
                raise InvalidInputError(f"manifest format `{found.get('format')}` is not known", where=str(file))
            tables = {name: (each[0], each[1]) for name, each in found.pop("tables").items()}
            return Manifest(**{**found, "features": tuple(found["features"]), "tables": tables})
        except (OSError, ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
            raise InvalidInputError(f"this is no manifest of a training set: {error}", where=str(file)) from error


@dataclass(frozen=True)
class TrainingSet:
    rows: pa.Table
    manifest: Manifest


def build(
    catalog: Catalog,
    source: str | pa.Table,
    references: Sequence[str],
    views: Mapping[str, FeatureView],
    *,
    time: str,
    known: type_known = Known.CORRECTED,
    intervals: bool = False,
    at: datetime | None = None,
    made_at: datetime | None = None,
    versions: Mapping[str, int] | None = None,
    seal: bool = True,
) -> TrainingSet:
    """Join features to labels.

    Args:
        source: see `labels.load`.
        references: see `references.choose`.
        at: pins the tables as they were at a moment; by default as they are.
        made_at: noted in the manifest.
        seal: hash the rows for the manifest; without it the set cannot be compared later.

    Raises:
        InvalidInputError, NotFoundError: see there.
    """
    chosen = choose(references, views)
    pins = {name: lake.pin(catalog, views[name].history_table, at=at) for name in by_view(chosen)}
    return _build(catalog, source, chosen, pins, time, known, intervals, made_at, versions or {}, None, seal)


def reproduce(catalog: Catalog, manifest: Manifest) -> TrainingSet:
    """Make the same set again, from the same snapshots by the same declarations.

    Raises:
        ConflictError: the labels or the rows are not what they were.
        NotFoundError: a snapshot has expired.
    """
    views = {name: from_json(text) for name, text in manifest.declarations.items()}
    chosen = choose(manifest.features, views)
    pins = {name: Pin(*table) for name, table in manifest.tables.items()}
    known = read_known(manifest.known)
    labels_pin = Pin(manifest.labels, manifest.labels_snapshot) if manifest.labels.startswith("lake.") else None
    made = _build(
        catalog, manifest.labels, chosen, pins, manifest.time, known, manifest.intervals, None, manifest.versions, labels_pin
    )
    for what, now, then in (
        ("labels", made.manifest.labels_sha256, manifest.labels_sha256),
        ("rows", made.manifest.content_sha256, manifest.content_sha256),
    ):
        if now != then:
            raise ConflictError(
                f"the {what} are not what they were: hash `{now}`, in the manifest `{then}`",
                where=manifest.labels,
                fix="Restore the file, or make a new training set.",
            )
    return replace(made, manifest=replace(made.manifest, made_at=manifest.made_at))


def write(rows: pa.Table, file: Path) -> None:
    """Write to `.parquet` or `.csv`.

    Raises:
        InvalidInputError: it is another kind of file.
    """
    if file.suffix == ".parquet":
        pyarrow.parquet.write_table(rows, file)
    elif file.suffix == ".csv":
        with lake.connect() as connection:
            connection.register("rows", rows)
            connection.execute(f"COPY rows TO '{str(file).replace(chr(39), chr(39) * 2)}' (HEADER)")
    else:
        raise InvalidInputError(f"`{file.suffix}` is no kind of training set", where=str(file), fix="Use .parquet or .csv.")


def read_known(text: str) -> type_known:
    """`corrected`, `then`, or a moment with time zone.

    Raises:
        InvalidInputError: it is none of them.
    """
    if text in (Known.CORRECTED.value, Known.THEN.value):
        return Known(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidInputError(
            f"`{text}` is neither `corrected`, `then` nor a time", where="--known", fix="Write 2026-01-31T08:00:00Z."
        ) from error
    if moment.tzinfo is None:
        raise InvalidInputError(f"`{text}` has no time zone", where="--known", fix="Add `Z` or an offset.")
    return moment


# -- below: called by the above


def _build(
    catalog: Catalog,
    source: str | pa.Table,
    chosen: Sequence[Chosen],
    pins: Mapping[str, Pin],
    time: str,
    known: type_known,
    intervals: bool,
    made_at: datetime | None,
    versions: Mapping[str, int],
    labels_pin: Pin | None,
    seal: bool = True,
) -> TrainingSet:
    with lake.connect() as connection:
        grouped = by_view(chosen)
        keys = list(dict.fromkeys(key for asked in grouped.values() for key in asked[0].view.entity))
        told = labels.load(connection, source, time, keys, catalog=catalog, pinned=labels_pin)
        given = [name for name, *_ in connection.execute(f"DESCRIBE {labels.SPINE}").fetchall()]
        clash = next((each.column for each in chosen if each.column in given), None)
        if clash is not None:
            raise InvalidInputError(f"the labels have a column `{clash}` already", where=told.source, fix="Rename it.")
        # Arrow, because DuckDB wants pytz for an instant as a Python value.
        span = connection.sql(
            f"SELECT min({quote(time)}) AS low, max({quote(time)}) AS high FROM {labels.SPINE}"
        ).to_arrow_table()
        low, high = span["low"][0].as_py(), span["high"][0].as_py()
        histories = [
            _history(connection, catalog, pins[name], asked, known, (low, high), f"history_{name}")
            for name, asked in grouped.items()
        ]
        sql = point_in_time.join_sql(labels.SPINE, time, chosen, histories, known, intervals=intervals)
        rows = point_in_time.run(connection, sql)
        manifest = Manifest(
            labels=told.source,
            labels_sha256=told.sha256,
            labels_snapshot=told.pin.snapshot_id if told.pin else None,
            time=time,
            features=tuple(f"{each.view.name}:{each.feature.name}" for each in chosen),
            known=known.value if isinstance(known, Known) else known.isoformat(),
            declarations={name: to_json(asked[0].view) for name, asked in grouped.items()},
            fingerprints={name: fingerprint(asked[0].view) for name, asked in grouped.items()},
            versions={name: versions.get(name, 0) for name in grouped},
            tables={name: (pins[name].identifier, pins[name].snapshot_id) for name in grouped},
            sql=sql,
            rows=rows.num_rows,
            content_sha256=content_sha256(rows) if seal else "",
            intervals=intervals,
            made_at=made_at.isoformat() if made_at else "",
            unmatched=_unmatched(connection, rows, grouped) if seal else {},
        )
        return TrainingSet(rows, manifest)


def _history(
    connection: duckdb.DuckDBPyConnection,
    catalog: Catalog,
    pinned: Pin,
    asked: Sequence[Chosen],
    known: type_known,
    times: tuple[datetime | None, datetime | None],
    relation: str,
) -> History:
    view = asked[0].view
    kind = point_in_time.kind_of(view, lake.columns(catalog, pinned))
    wanted = point_in_time.columns_needed(view, asked, kind, known)
    low, high = times
    where: list[BooleanExpression] = []
    if low is not None and high is not None:
        where = [at_least(view.timestamp, max(low, _EARLIEST + view.ttl) - view.ttl), at_most(view.timestamp, high)]
    lake.register(connection, relation, catalog, pinned, wanted, *where)
    return History(view, quote(relation), kind)


_EARLIEST = datetime.fromisoformat("1900-01-01T00:00:00+00:00")


def _unmatched(
    connection: duckdb.DuckDBPyConnection, rows: pa.Table, grouped: Mapping[str, Sequence[Chosen]]
) -> dict[str, int]:
    """By view how many labels found nothing: no row before them, or none within the ttl."""
    connection.register("rows_made", rows)
    counts = [
        f"count(*) FILTER (WHERE {' AND '.join(f'{quote(each.column)} IS NULL' for each in asked)})"
        for asked in grouped.values()
    ]
    (found,) = connection.execute(f"SELECT {', '.join(counts)} FROM rows_made").fetchall()
    return dict(zip(grouped, map(int, found), strict=True))
