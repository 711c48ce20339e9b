"""Do the manifest lists and manifests of all kept snapshots exist and read, and do they count what they hold?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from pyiceberg.manifest import DataFile, ManifestEntry, ManifestEntryStatus, ManifestFile
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from iceberg.checks.findings import Finding
from iceberg.storage import Storage, canonical

_FIX = "Restore it from a replica of the warehouse; or set the table back to a snapshot that does not need it."

type_content = dict[str, DataFile]


def check_manifests(table: Table, name: str, listed: Mapping[str, int], storage: Storage, found: list[Finding]) -> type_content:
    """Check every manifest once and return the data and delete files that are live in any kept snapshot, by location."""
    content: type_content = {}
    live: dict[str, list[DataFile]] = {}
    broken: set[str] = set()
    for snapshot in table.metadata.snapshots:
        total: list[DataFile] = []
        whole = True
        for manifest in _manifests(table, name, snapshot, found):
            place = canonical(manifest.manifest_path)
            if place not in live and place not in broken:
                entries = _entries(table, name, manifest, listed, storage, found)
                if entries is None:
                    broken.add(place)
                else:
                    live[place] = [entry.data_file for entry in entries if entry.status != ManifestEntryStatus.DELETED]
                    content |= {canonical(file.file_path): file for file in live[place]}
            whole = whole and place not in broken
            total += live.get(place, [])
        if whole and snapshot.snapshot_id == table.metadata.current_snapshot_id:
            found.extend(_totals(name, snapshot, total))
    return content


def _manifests(table: Table, name: str, snapshot: Snapshot, found: list[Finding]) -> list[ManifestFile]:
    where = canonical(snapshot.manifest_list)
    try:
        return snapshot.manifests(table.io)
    except FileNotFoundError:
        found.append(
            Finding(name, "manifest-list-missing", where, f"snapshot {snapshot.snapshot_id} needs it; it does not exist", _FIX)
        )
    except Exception as error:  # noqa: BLE001  # the Avro reader raises whatever broken bytes lead it to
        found.append(Finding(name, "manifest-list-unreadable", where, f"it is damaged: {_told(error)}", _FIX))
    return []


def _entries(
    table: Table, name: str, manifest: ManifestFile, listed: Mapping[str, int], storage: Storage, found: list[Finding]
) -> list[ManifestEntry] | None:
    place = canonical(manifest.manifest_path)

    def wrong(problem: str, what: str) -> None:
        found.append(Finding(name, problem, place, what, _FIX))

    size = listed[place] if place in listed else storage.size_bytes(place)
    if size is None:
        wrong("manifest-missing", "the manifest does not exist")
        return None
    if size != manifest.manifest_length:
        wrong("manifest-size", f"the manifest has {size} bytes, its list says {manifest.manifest_length}")
        return None
    try:
        entries = manifest.fetch_manifest_entry(table.io, discard_deleted=False)
    except Exception as error:  # noqa: BLE001  # the Avro reader raises whatever broken bytes lead it to
        wrong("manifest-unreadable", f"the manifest is damaged: {_told(error)}")
        return None
    counted = Counter(entry.status for entry in entries)
    stated = {
        ManifestEntryStatus.ADDED: manifest.added_files_count,
        ManifestEntryStatus.EXISTING: manifest.existing_files_count,
        ManifestEntryStatus.DELETED: manifest.deleted_files_count,
    }
    for status, count in stated.items():
        if count is not None and count != counted[status]:
            wrong("manifest-counts", f"the manifest holds {counted[status]} {status.name} entries, its list says {count}")
    if manifest.partition_spec_id not in table.metadata.specs():
        wrong("manifest-spec", f"its partition spec `{manifest.partition_spec_id}` is not in the table")
    return entries


def _totals(name: str, snapshot: Snapshot, files: list[DataFile]) -> list[Finding]:
    """What the current snapshot's summary says, beside what its manifests hold."""
    summary = snapshot.summary.additional_properties if snapshot.summary else {}
    data = [file for file in files if file.content.name == "DATA"]
    held = {"total-data-files": len(data), "total-records": sum(file.record_count for file in data)}
    return [
        Finding(
            name,
            "snapshot-totals",
            f"snapshot {snapshot.snapshot_id}",
            f"its summary says {key} = {summary[key]}, its manifests hold {count}",
            "Readers are not affected; whoever wrote the snapshot counted wrong. Please report it.",
        )
        for key, count in held.items()
        if key in summary and int(summary[key]) != count
    ]


def _told(error: Exception) -> str:
    return f"{type(error).__name__} {str(error).splitlines()[0] if str(error) else ''}".strip()
