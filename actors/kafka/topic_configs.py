"""A topic's settings as Kafka's clients see them: those that can be changed, and those that cannot be.

Kafka has settings that mean nothing here, because a partition has one replica and old segments stay where
they are. Tools set some of them on every topic: they are taken at the one value that is true here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum

from actors.kafka.handling import Body
from odradek.protocol.errors import InvalidConfig, InvalidRequest
from partitions.settings import TOPIC_SETTINGS, SettingValue, TopicSetting, check_config


class ConfigType(IntEnum):
    """Kafka's ConfigDef.Type."""

    BOOLEAN = 1
    STRING = 2
    INT = 3
    LONG = 5
    DOUBLE = 6
    LIST = 7


class ConfigSource(IntEnum):
    """Where a value comes from, in Kafka's numbers."""

    TOPIC = 1
    BROKER = 4
    DEFAULT = 5


INT32_MAX = 2**31 - 1
FIXED: dict[str, tuple[str, ConfigType, str]] = {
    "min.insync.replicas": ("1", ConfigType.INT, "Every partition has one replica, which is in sync."),
    "unclean.leader.election.enable": ("false", ConfigType.BOOLEAN, "Nothing is lost to make a leader."),
    "remote.storage.enable": ("false", ConfigType.BOOLEAN, "Segments stay where they are."),
    "leader.replication.throttled.replicas": ("", ConfigType.LIST, "There is nothing to replicate."),
    "follower.replication.throttled.replicas": ("", ConfigType.LIST, "There is nothing to replicate."),
}
"""Settings of Kafka's with one value here: that value, its type and why."""
_TYPES = {
    "bool": ConfigType.BOOLEAN,
    "choice": ConfigType.STRING,
    "list": ConfigType.LIST,
    "float": ConfigType.DOUBLE,
}


def kafka_text(value: object) -> str:
    """A value as Kafka writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def settings_of(configs: Mapping[str, str | None]) -> dict[str, SettingValue]:
    """The topic settings that a client asks for; None leaves one at its default. Raises InvalidConfig."""
    for name in configs.keys() & FIXED.keys():
        value, _, why = FIXED[name]
        if configs[name] not in (None, value):
            raise InvalidConfig(f"{name} is {configs[name]!r}; it can only be {value!r} here: {why}")
    return check_config({name: value for name, value in configs.items() if name not in FIXED})


def named_once(pairs: Iterable[tuple[str, str | None]]) -> dict[str, str | None]:
    """Settings by name. Raises InvalidRequest where one is there twice."""
    found: dict[str, str | None] = {}
    for name, value in pairs:
        if name in found:
            raise InvalidRequest(f"the setting {name!r} is there twice")
        found[name] = value
    return found


def describe_topic_configs(config: Mapping[str, object]) -> list[Body]:
    """Every setting of a topic, as DescribeConfigs tells them."""
    own = [_described(setting, config[name]) for name, setting in TOPIC_SETTINGS.items() if name in config]
    return sorted([*own, *map(_fixed, FIXED)], key=lambda entry: entry["name"])


def _described(setting: TopicSetting, value: object) -> Body:
    is_default = value == setting.default
    text, default = kafka_text(value), kafka_text(setting.default)
    from_default = {"name": broker_name(setting.name), "value": default, "source": ConfigSource.DEFAULT}
    from_topic = {"name": setting.name, "value": text, "source": ConfigSource.TOPIC}
    return {
        "name": setting.name,
        "value": text,
        "read_only": False,
        "config_source": ConfigSource.DEFAULT if is_default else ConfigSource.TOPIC,
        "is_sensitive": False,
        "synonyms": [from_default] if is_default else [from_topic, from_default],
        "config_type": _type_of(setting),
        "documentation": setting.doc,
    }


def _fixed(name: str) -> Body:
    value, kind, why = FIXED[name]
    return fixed_entry(name, value, kind, why)


def fixed_entry(name: str, value: str, kind: ConfigType, doc: str) -> Body:
    """A setting that no client can change."""
    return {
        "name": name,
        "value": value,
        "read_only": True,
        "config_source": ConfigSource.DEFAULT,
        "is_sensitive": False,
        "synonyms": [{"name": name, "value": value, "source": ConfigSource.DEFAULT}],
        "config_type": kind,
        "documentation": doc,
    }


def _type_of(setting: TopicSetting) -> ConfigType:
    if setting.kind == "int":
        return ConfigType.INT if setting.maximum <= INT32_MAX else ConfigType.LONG
    return _TYPES[setting.kind]


def broker_name(topic_setting: str) -> str:
    """What Kafka calls the broker's default for a topic setting."""
    return _BROKER_NAMES.get(topic_setting, f"log.{topic_setting}")


_BROKER_NAMES = {
    "cleanup.policy": "log.cleanup.policy",
    "compression.type": "compression.type",
    "delete.retention.ms": "log.cleaner.delete.retention.ms",
    "file.delete.delay.ms": "log.segment.delete.delay.ms",
    "flush.messages": "log.flush.interval.messages",
    "flush.ms": "log.flush.interval.ms",
    "max.compaction.lag.ms": "log.cleaner.max.compaction.lag.ms",
    "max.message.bytes": "message.max.bytes",
    "min.cleanable.dirty.ratio": "log.cleaner.min.cleanable.ratio",
    "min.compaction.lag.ms": "log.cleaner.min.compaction.lag.ms",
    "segment.jitter.ms": "log.roll.jitter.ms",
    "segment.ms": "log.roll.ms",
}
