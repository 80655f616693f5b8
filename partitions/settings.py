"""Settings of a topic: the one table of names, defaults and bounds, and what a log makes of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import crc32c

from odradek.protocol.batch import COMPRESSIONS
from odradek.protocol.errors import InvalidConfig, InvalidTimestamp

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
DAY_MS = 24 * 3600 * 1000
INT32_MAX = 2**31 - 1
INT64_MAX = 2**63 - 1

SettingValue = int | bool | str | float
NO_TIMESTAMP = -1
"""What a record bears that has no time of its own."""
CREATE_TIME, LOG_APPEND_TIME = "CreateTime", "LogAppendTime"
KEEP_CODEC, UNCOMPRESSED = "producer", "uncompressed"
DELETE, COMPACT = "delete", "compact"
TRUTH = {"true": True, "false": False}
_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]+")
"""Python would take 1_000 and the digits of every script; whoever reads the setting elsewhere would not."""


@dataclass(frozen=True, slots=True)
class TopicSetting:
    """One setting: its bounds are inclusive, ``unit`` is a word for people."""

    name: str
    kind: Literal["int", "bool", "choice", "list", "float"]
    default: SettingValue
    unit: str
    doc: str
    minimum: int = 0
    maximum: int = INT64_MAX
    choices: tuple[str, ...] = ()

    def allowed(self) -> str:
        """What a value may be, as the end of a sentence."""
        if self.kind == "bool":
            return "true or false"
        if self.kind == "choice":
            return f"one of {', '.join(self.choices)}"
        if self.kind == "list":
            return f"one or more of {', '.join(self.choices)}, with commas between"
        if self.kind == "float":
            return f"a number from {self.minimum} to {self.maximum}"
        if self.maximum == INT64_MAX:
            return f"a whole number of {self.unit}, {self.minimum} or more"
        return f"a whole number of {self.unit} from {self.minimum} to {self.maximum}"

    def check(self, value: object) -> SettingValue:
        """``value`` in its own type; it may come as a string. Raises InvalidConfig."""
        parsed: SettingValue | None
        match self.kind:
            case "bool":
                parsed = self._parse_bool(value)
            case "int":
                parsed = self._parse_int(value)
            case "choice":
                parsed = value if isinstance(value, str) and value in self.choices else None
            case "list":
                parsed = self._parse_list(value)
            case "float":
                parsed = self._parse_float(value)
        if parsed is None:
            raise InvalidConfig(f"{self.name} is {value!r}; it must be {self.allowed()}")
        return parsed

    def _parse_bool(self, value: object) -> bool | None:
        if isinstance(value, bool):
            return value
        return TRUTH.get(value.strip().lower()) if isinstance(value, str) else None

    def _parse_int(self, value: object) -> int | None:
        if isinstance(value, bool) or not isinstance(value, int | str):
            return None
        if isinstance(value, str) and not _WHOLE_NUMBER.fullmatch(value.strip()):
            return None
        try:
            number = int(value)
        except ValueError:
            return None
        return number if self.minimum <= number <= self.maximum else None

    def _parse_float(self, value: object) -> float | None:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            return None
        try:
            number = float(value)
        except (ValueError, OverflowError):
            return None
        return number if self.minimum <= number <= self.maximum else None

    def _parse_list(self, value: object) -> str | None:
        """The chosen words in the order of ``choices``, each once."""
        if not isinstance(value, str):
            return None
        chosen = {word.strip() for word in value.split(",")}
        if not chosen <= {*self.choices}:
            return None
        return ",".join(word for word in self.choices if word in chosen)


TOPIC_SETTINGS: dict[str, TopicSetting] = {
    setting.name: setting
    for setting in (
        TopicSetting(
            "segment.bytes",
            "int",
            GIB,
            "bytes",
            "The log is kept in segment files of at most this size; a full one is closed, a new one begun.",
            KIB,
            INT32_MAX,
        ),
        TopicSetting(
            "segment.ms",
            "int",
            7 * DAY_MS,
            "milliseconds",
            "A segment whose first batch came longer ago than this is closed by the next append.",
            1,
        ),
        TopicSetting(
            "segment.jitter.ms",
            "int",
            0,
            "milliseconds",
            "Each segment is closed up to this much before segment.ms, each by another part of it, so that "
            "the partitions of a topic do not all begin a new one at the same time.",
            0,
        ),
        TopicSetting(
            "cleanup.policy",
            "list",
            DELETE,
            "",
            "What becomes of old records. delete: retention.ms and retention.bytes take them. compact: the "
            "latest record of each key stays, earlier ones of the key are removed from closed segments, and "
            "records without a key are refused. Both together: retention takes what compaction has left.",
            choices=(COMPACT, DELETE),
        ),
        TopicSetting(
            "delete.retention.ms",
            "int",
            DAY_MS,
            "milliseconds",
            "In a compacted topic a record with a null value deletes its key. It stays for at least this "
            "long after the compaction that removed the key's earlier records, so that readers learn of it.",
            0,
        ),
        TopicSetting(
            "min.cleanable.dirty.ratio",
            "float",
            0.5,
            "",
            "A partition is compacted once more than this part of its closed segments, by bytes, has not "
            "been yet. Less keeps fewer old records and costs more work.",
            0,
            1,
        ),
        TopicSetting(
            "min.compaction.lag.ms",
            "int",
            0,
            "milliseconds",
            "A record is not compacted away before it is this old, counted from its timestamp.",
            0,
        ),
        TopicSetting(
            "max.compaction.lag.ms",
            "int",
            INT64_MAX,
            "milliseconds",
            "A partition with records that have waited longer than this is compacted whatever the dirty "
            "ratio is; the segment that is being written is closed for it.",
            1,
        ),
        TopicSetting(
            "retention.ms",
            "int",
            7 * DAY_MS,
            "milliseconds",
            "Records are kept for at least this long, counted from their timestamps; then the segments whose "
            "records are all older are deleted. -1 keeps them for ever.",
            -1,
        ),
        TopicSetting(
            "retention.bytes",
            "int",
            -1,
            "bytes",
            "The oldest segments of a partition are deleted while the rest has this size or more; -1 sets no "
            "limit.",
            -1,
        ),
        TopicSetting(
            "file.delete.delay.ms",
            "int",
            60_000,
            "milliseconds",
            "The files of deleted segments are renamed at once and give their space back after this time.",
            0,
            DAY_MS,
        ),
        TopicSetting(
            "message.timestamp.type",
            "choice",
            CREATE_TIME,
            "",
            "Whose time records bear: CreateTime is what the producer says, LogAppendTime is when the broker "
            "took the batch, the same for all its records.",
            choices=(CREATE_TIME, LOG_APPEND_TIME),
        ),
        TopicSetting(
            "message.timestamp.before.max.ms",
            "int",
            INT64_MAX,
            "milliseconds",
            "With CreateTime, a record whose timestamp is further than this before the broker's clock is "
            "refused. A bound, here or after it, costs the partition processor time for each record.",
            0,
        ),
        TopicSetting(
            "message.timestamp.after.max.ms",
            "int",
            INT64_MAX,
            "milliseconds",
            "With CreateTime, a record whose timestamp is further than this after the broker's clock is "
            "refused: retention would keep its segment until that time has come.",
            0,
        ),
        TopicSetting(
            "compression.type",
            "choice",
            KEEP_CODEC,
            "",
            "producer keeps every batch as it came. Any other makes the partition compress what came in "
            "another way anew (uncompressed: open it), which costs it processor time for each record.",
            choices=(KEEP_CODEC, UNCOMPRESSED, *COMPRESSIONS[1:]),
        ),
        TopicSetting(
            "flush.messages",
            "int",
            1,
            "messages",
            "Durability for speed. At 1 every record is synced to the disk before its acknowledgement. At "
            "more, a record is acknowledged once it is written, and synced when so many wait or flush.ms "
            "has passed: acknowledged records then survive the end of every process, but the last ones are "
            "lost if the machine loses power. Consumers see synced records only, in either case.",
            1,
        ),
        TopicSetting(
            "flush.ms",
            "int",
            1_000,
            "milliseconds",
            "With flush.messages above 1, the longest time that a record waits for its sync; at 1 it "
            "means nothing.",
            0,
            DAY_MS,
        ),
        TopicSetting(
            "index.interval.bytes",
            "int",
            4096,
            "bytes",
            "About one index entry is kept for this many bytes of log; a smaller value finds offsets faster "
            "and makes larger index files.",
            0,
            INT32_MAX,
        ),
        TopicSetting(
            "max.message.bytes",
            "int",
            MIB + 12,
            "bytes",
            "The largest record batch that the topic takes, as it is sent (after compression).",
            64,
            16 * MIB - 64 * KIB,
        ),
        TopicSetting(
            "preallocate",
            "bool",
            True,
            "",
            "Reserve disk space some MiB ahead of a segment that is being written; it halves the time of a "
            "sync. A closed segment takes no more than its records need.",
        ),
    )
}


def check_config(config: Mapping[str, object]) -> dict[str, SettingValue]:
    """The checked values of ``config``, each in its own type; None leaves its setting at the default.

    Raises InvalidConfig that names the setting, the value and what is allowed.
    """
    checked: dict[str, SettingValue] = {}
    for name, value in config.items():
        setting = TOPIC_SETTINGS.get(name)
        if setting is None:
            known = ", ".join(sorted(TOPIC_SETTINGS))
            raise InvalidConfig(f"there is no topic setting {name!r}; known settings: {known}")
        if value is not None:
            checked[name] = setting.check(value)
    return checked


def check_together(config: Mapping[str, SettingValue]) -> None:
    """What single values cannot tell of a topic's checked configuration. Raises InvalidConfig."""
    least, most = (_chosen(config, name) for name in ("min.compaction.lag.ms", "max.compaction.lag.ms"))
    if least > most:
        raise InvalidConfig(
            f"min.compaction.lag.ms is {least} and max.compaction.lag.ms {most}: a record would have to be "
            "compacted before it may be; set the first no higher than the second"
        )


def _chosen(config: Mapping[str, SettingValue], name: str) -> int:
    return int(config.get(name, TOPIC_SETTINGS[name].default))


@dataclass(frozen=True, slots=True)
class LogSettings:
    """What a log is told: the topic's settings, then limits of this implementation."""

    segment_bytes: int = GIB
    segment_ms: int = 7 * DAY_MS
    segment_jitter_ms: int = 0
    index_interval_bytes: int = 4096
    max_message_bytes: int = MIB + 12
    preallocate: bool = True
    retention_ms: int = 7 * DAY_MS
    retention_bytes: int = -1
    file_delete_delay_ms: int = 60_000
    log_append_time: bool = False
    """Whether the broker stamps records with its own time."""
    timestamp_before_max_ms: int = INT64_MAX
    timestamp_after_max_ms: int = INT64_MAX
    codec: str | None = None
    """The name of the codec that every batch is kept in; None keeps each in its producer's."""
    flush_messages: int = 1
    flush_ms: int = 1_000
    deletes: bool = True
    """Whether retention takes old segments."""
    compacts: bool = False
    """Whether only the latest record of each key is kept."""
    delete_retention_ms: int = DAY_MS
    min_cleanable_dirty_ratio: float = 0.5
    min_compaction_lag_ms: int = 0
    max_compaction_lag_ms: int = INT64_MAX
    checkpoint_bytes: int = 64 * MIB
    """After a crash, about this much of the log is read again at most."""
    open_files_max: int = 16
    """Descriptors of closed segments and indexes kept open for readers."""
    compaction_map_bytes_max: int = 64 * MIB
    """Memory, about, for the keys of one pass of compaction; where they are more, it takes several passes."""
    compaction_bytes_per_s_max: int = 64 * MIB
    """Compaction reads and writes no faster than this, together."""
    producer_ids_max: int = 10_000
    producer_expiry_ms: int = 7 * DAY_MS

    @classmethod
    def from_config(cls, config: Mapping[str, object]) -> LogSettings:
        """From a topic's configuration, by Kafka's names. Raises InvalidConfig."""
        values = {name: setting.default for name, setting in TOPIC_SETTINGS.items()} | check_config(config)
        return cls(
            segment_bytes=int(values["segment.bytes"]),
            segment_ms=int(values["segment.ms"]),
            segment_jitter_ms=int(values["segment.jitter.ms"]),
            index_interval_bytes=int(values["index.interval.bytes"]),
            max_message_bytes=int(values["max.message.bytes"]),
            preallocate=bool(values["preallocate"]),
            retention_ms=int(values["retention.ms"]),
            retention_bytes=int(values["retention.bytes"]),
            file_delete_delay_ms=int(values["file.delete.delay.ms"]),
            log_append_time=values["message.timestamp.type"] == LOG_APPEND_TIME,
            timestamp_before_max_ms=int(values["message.timestamp.before.max.ms"]),
            timestamp_after_max_ms=int(values["message.timestamp.after.max.ms"]),
            codec=_codec(str(values["compression.type"])),
            flush_messages=int(values["flush.messages"]),
            flush_ms=int(values["flush.ms"]),
            deletes=DELETE in str(values["cleanup.policy"]).split(","),
            compacts=COMPACT in str(values["cleanup.policy"]).split(","),
            delete_retention_ms=int(values["delete.retention.ms"]),
            min_cleanable_dirty_ratio=float(values["min.cleanable.dirty.ratio"]),
            min_compaction_lag_ms=int(values["min.compaction.lag.ms"]),
            max_compaction_lag_ms=int(values["max.compaction.lag.ms"]),
        )

    @property
    def bounds_timestamps(self) -> bool:
        """Whether a record's timestamp can be refused."""
        return not self.log_append_time and (
            self.timestamp_before_max_ms != INT64_MAX or self.timestamp_after_max_ms != INT64_MAX
        )

    def check_timestamp(self, timestamp: int, wall_ms: int) -> None:
        """That a record's ``timestamp`` is near enough to the time of day. Raises InvalidTimestamp."""
        if timestamp == NO_TIMESTAMP:
            return
        early_ms, late_ms = wall_ms - timestamp, timestamp - wall_ms
        if early_ms > self.timestamp_before_max_ms:
            raise InvalidTimestamp(
                f"timestamp {timestamp} is {early_ms} ms before the broker's clock; the topic's "
                f"message.timestamp.before.max.ms is {self.timestamp_before_max_ms}"
            )
        if late_ms > self.timestamp_after_max_ms:
            raise InvalidTimestamp(
                f"timestamp {timestamp} is {late_ms} ms after the broker's clock; the topic's "
                f"message.timestamp.after.max.ms is {self.timestamp_after_max_ms}"
            )

    def segment_age_ms_max(self, path: Path) -> int:
        """How old the segment in the file ``path`` may get: by its jitter, the same at every start."""
        jitter_ms = min(self.segment_jitter_ms, self.segment_ms)
        if jitter_ms == 0:
            return self.segment_ms
        part = crc32c.crc32c(f"{path.parent.name}/{path.name}".encode()) / 2**32
        return self.segment_ms - int(part * jitter_ms)


def _codec(compression_type: str) -> str | None:
    if compression_type == KEEP_CODEC:
        return None
    return COMPRESSIONS[0] if compression_type == UNCOMPRESSED else compression_type
