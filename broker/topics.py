"""The topics and their partitions as folders: `topics/<name>/topic.json` and `topics/<name>/<partition>/`.

A topic appears by one rename of a finished folder and disappears by one rename into `deleted/`, so that a crash leaves
either all of it or nothing.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast, get_args

from kio.schema.errors import ErrorCode

from broker.log.flusher import Flusher
from broker.log.partition import LogConfig, PartitionLog, TimestampType
from broker.refusal import Refusal
from core.errors import CorruptDataError
from core.settings import BrokerSettings

logger = logging.getLogger(__name__)

_NAME = re.compile(r"[a-zA-Z0-9._-]{1,249}")
MAX_PARTITIONS = 10_000


@dataclass(slots=True)
class Topic:
    """A topic and its open partitions, partition 0 first."""

    name: str
    topic_id: uuid.UUID
    config: Mapping[str, str]
    partitions: list[PartitionLog] = field(default_factory=list)


class Topics:
    """All topics of a data folder. Used from the event loop only."""

    def __init__(self, folder: Path, settings: BrokerSettings, flusher: Flusher, now_ms: Callable[[], int]) -> None:
        self._folder = folder / "topics"
        self._deleted = folder / "deleted"
        self._settings = settings
        self._flusher = flusher
        self._now_ms = now_ms
        self._topics: dict[str, Topic] = {}
        self._by_id: dict[uuid.UUID, Topic] = {}

    def open(self) -> None:
        """Recover every topic of the folder.

        Raises:
            CorruptDataError: a topic's description cannot be read.
        """
        shutil.rmtree(self._deleted, ignore_errors=True)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._deleted.mkdir()
        for path in sorted(self._folder.iterdir()):
            if path.name.startswith(".new-"):
                shutil.rmtree(path)
            else:
                self._open_topic(path)

    def close(self) -> None:
        for topic in self._topics.values():
            for log in topic.partitions:
                log.close()

    def __iter__(self) -> Iterator[Topic]:
        return iter(sorted(self._topics.values(), key=lambda topic: topic.name))

    def get(self, name: str) -> Topic | None:
        return self._topics.get(name)

    def get_by_id(self, topic_id: uuid.UUID | None) -> Topic | None:
        return None if topic_id is None else self._by_id.get(topic_id)

    def partition(self, name: str, number: int) -> PartitionLog | None:
        topic = self._topics.get(name)
        return topic.partitions[number] if topic is not None and 0 <= number < len(topic.partitions) else None

    def must_get_partition(self, name: str, number: int) -> PartitionLog:
        """Return the partition.

        Raises:
            Refusal: unknown_topic_or_partition.
        """
        log = self.partition(name, number)
        if log is None:
            raise Refusal(ErrorCode.unknown_topic_or_partition, f"partition `{number}` of topic `{name}` does not exist")
        return log

    def check_new(self, name: str, partitions: int, config: Mapping[str, str]) -> None:
        """Say whether a topic could be created.

        Raises:
            Refusal: invalid_topic_exception, topic_already_exists, invalid_partitions or invalid_config.
        """
        if not _NAME.fullmatch(name) or name in (".", ".."):
            raise Refusal(
                ErrorCode.invalid_topic_exception,
                f"`{name}` is no topic name",
                fix="Use 1 to 249 of the characters a-z, A-Z, 0-9, `.`, `_` and `-`.",
            )
        if name in self._topics:
            raise Refusal(ErrorCode.topic_already_exists, f"topic `{name}` exists already")
        _check_partitions(partitions)
        self._log_config(config)

    def create(self, name: str, partitions: int, config: Mapping[str, str]) -> Topic:
        """Create a topic durably.

        Raises:
            Refusal: as `check_new`.
        """
        self.check_new(name, partitions, config)
        draft = self._folder / f".new-{uuid.uuid4().hex}"
        topic = Topic(name, uuid.uuid4(), dict(config))
        for number in range(partitions):
            (draft / str(number)).mkdir(parents=True)
        self._describe(draft, topic, partitions)
        os.rename(draft, self._folder / name)
        self._flusher.sync_folder(self._folder)
        self._open_partitions(topic, partitions)
        logger.info("topic created", extra={"topic": name, "partitions": partitions})
        return topic

    def create_automatically(self, name: str) -> Topic:
        """Create a topic that a client merely asked for, with the broker's defaults."""
        config = {"message.timestamp.type": self._settings.auto_create_timestamp_type}
        return self.create(name, self._settings.default_partitions, config)

    def grow(self, name: str, partitions: int) -> None:
        """Add partitions up to this number.

        Raises:
            Refusal: unknown_topic_or_partition or invalid_partitions.
        """
        topic = self._topics.get(name)
        if topic is None:
            raise Refusal(ErrorCode.unknown_topic_or_partition, f"topic `{name}` does not exist")
        present = len(topic.partitions)
        if partitions <= present:
            raise Refusal(
                ErrorCode.invalid_partitions,
                f"topic `{name}` has `{present}` partitions already, not fewer than `{partitions}`",
            )
        _check_partitions(partitions)
        folder = self._folder / name
        for number in range(present, partitions):
            (folder / str(number)).mkdir(exist_ok=True)
        self._describe(folder, topic, partitions)
        self._open_partitions(topic, partitions)

    def alter(self, name: str, config: Mapping[str, str]) -> None:
        """Give a topic another configuration, durably.

        Raises:
            Refusal: unknown_topic_or_partition or invalid_config.
        """
        topic = self._topics.get(name)
        if topic is None:
            raise Refusal(ErrorCode.unknown_topic_or_partition, f"topic `{name}` does not exist")
        log_config = self._log_config(config)
        topic.config = dict(config)
        self._describe(self._folder / name, topic, len(topic.partitions))
        for log in topic.partitions:
            log.config = log_config

    def retain(self) -> None:
        """Delete what the topics' retention no longer asks for."""
        for topic in self._topics.values():
            for log in topic.partitions:
                log.retain()

    def effective_config(self, topic: Topic) -> dict[str, str]:
        """Every configuration this broker knows with its value for the topic."""
        defaults = {
            "cleanup.policy": "delete",
            "compression.type": "producer",
            "max.message.bytes": str(self._settings.max_message_bytes),
            "message.timestamp.type": "CreateTime",
            "min.insync.replicas": "1",
            "retention.bytes": "-1",
            "retention.ms": "-1",
            "segment.bytes": str(self._settings.segment_bytes),
        }
        return {**defaults, **topic.config}

    async def delete(self, name: str) -> None:
        """Delete a topic with its data; its name is free at once.

        Raises:
            Refusal: unknown_topic_or_partition.
        """
        topic = self._topics.pop(name, None)
        if topic is None:
            raise Refusal(ErrorCode.unknown_topic_or_partition, f"topic `{name}` does not exist")
        del self._by_id[topic.topic_id]
        grave = self._deleted / uuid.uuid4().hex
        os.rename(self._folder / name, grave)
        self._flusher.sync_folder(self._folder)
        for log in topic.partitions:
            self._flusher.forget(log)
        await self._flusher.drain()
        for log in topic.partitions:
            log.retire()
        shutil.rmtree(grave, ignore_errors=True)
        logger.info("topic deleted", extra={"topic": name})

    def _open_topic(self, path: Path) -> None:
        description = path / "topic.json"
        try:
            content = json.loads(description.read_text())
            topic = Topic(path.name, uuid.UUID(content["id"]), content["config"])
            partitions = int(content["partitions"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CorruptDataError(
                f"the topic's description cannot be read: {error!r}",
                where=str(description),
                fix="Restore it, or move the topic's folder away to start without it.",
            ) from error
        self._open_partitions(topic, partitions)

    def _open_partitions(self, topic: Topic, partitions: int) -> None:
        config = self._log_config(topic.config)
        for number in range(len(topic.partitions), partitions):
            folder = self._folder / topic.name / str(number)
            folder.mkdir(exist_ok=True)
            topic.partitions.append(PartitionLog(folder, config, self._flusher, self._now_ms))
            self._flusher.sync_folder(folder)
        self._topics[topic.name] = topic
        self._by_id[topic.topic_id] = topic

    def _describe(self, folder: Path, topic: Topic, partitions: int) -> None:
        content = {"id": str(topic.topic_id), "partitions": partitions, "config": dict(topic.config)}
        draft = folder / "topic.json.new"
        with draft.open("w") as file:
            json.dump(content, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.rename(draft, folder / "topic.json")
        self._flusher.sync_folder(folder)

    def _log_config(self, config: Mapping[str, str]) -> LogConfig:
        check_config(config)
        retention_ms, retention_bytes = (_number(config, name, -1) for name in ("retention.ms", "retention.bytes"))
        return LogConfig(
            retention_ms=None if retention_ms < 0 else retention_ms,
            retention_bytes=None if retention_bytes < 0 else retention_bytes,
            segment_bytes=_number(config, "segment.bytes", self._settings.segment_bytes),
            max_message_bytes=_number(config, "max.message.bytes", self._settings.max_message_bytes),
            timestamp_type=cast("TimestampType", config.get("message.timestamp.type", "CreateTime")),  # checked above
        )


def check_config(config: Mapping[str, str]) -> None:
    """Refuse what this broker would not honour.

    Raises:
        Refusal: invalid_config.
    """
    for name, value in config.items():
        honoured = HONOURED.get(name)
        if honoured is None:
            raise Refusal(
                ErrorCode.invalid_config,
                f"the embedded broker knows no topic configuration `{name}`",
                fix=f"Known: {', '.join(sorted(HONOURED))}.",
            )
        if not honoured(value):
            raise Refusal(ErrorCode.invalid_config, f"`{name}` cannot be `{value}` on the embedded broker")


# Names of Kafka's topic configurations and the values this broker keeps its word for.
HONOURED: Mapping[str, Callable[[str], bool]] = {
    "cleanup.policy": lambda value: value == "delete",
    "compression.type": lambda value: value == "producer",
    "max.message.bytes": str.isdecimal,
    "message.timestamp.type": lambda value: value in get_args(TimestampType),
    "min.insync.replicas": lambda value: value == "1",
    "retention.bytes": lambda value: value == "-1" or value.isdecimal(),
    "retention.ms": lambda value: value == "-1" or value.isdecimal(),
    "segment.bytes": lambda value: value.isdecimal() and int(value) >= 1024,
}


def _number(config: Mapping[str, str], name: str, default: int) -> int:
    return int(config[name]) if name in config else default


def _check_partitions(partitions: int) -> None:
    if not 1 <= partitions <= MAX_PARTITIONS:
        raise Refusal(ErrorCode.invalid_partitions, f"a topic has 1 to {MAX_PARTITIONS} partitions, not `{partitions}`")
