"""DescribeConfigs (32), versions 1 to 4: settings of topics, and of the broker, which are read-only here."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any

from actors.kafka.handling import Body, Context, Steps, answer
from actors.kafka.topic_configs import (
    ConfigSource,
    ConfigType,
    broker_name,
    describe_topic_configs,
    fixed_entry,
    kafka_text,
)
from actors.operations import CLUSTER_NAME, Operation, ResourceType
from odradek.protocol.errors import (
    ClusterAuthorizationFailed,
    InvalidRequest,
    OdradekError,
    TopicAuthorizationFailed,
)
from partitions.settings import TOPIC_SETTINGS

RESOURCES_MAX = 10_000


class ConfigResource(IntEnum):
    """Kafka's ConfigResource.Type: what has settings here."""

    TOPIC = 2
    BROKER = 4


def handle(request: Any, context: Context) -> Steps:
    """Every resource on its own."""
    if len(request.resources) > RESOURCES_MAX:
        raise InvalidRequest(f"DescribeConfigs names more than {RESOURCES_MAX} resources")
    return answer(
        {"throttle_time": 0, "results": [_described(each, request, context) for each in request.resources]}
    )


def _described(resource: Any, request: Any, context: Context) -> Body:
    try:
        entries = _entries(resource, context)
    except OdradekError as error:
        return _result(resource, error.code, error.message, [])
    wanted = resource.configuration_keys
    # No names: all of them, which old clients say with an empty list.
    if wanted:
        entries = [entry for entry in entries if entry["name"] in wanted]
    if not getattr(request, "include_synonyms", False):
        entries = [entry | {"synonyms": []} for entry in entries]
    if not getattr(request, "include_documentation", False):
        entries = [entry | {"documentation": None} for entry in entries]
    return _result(resource, 0, None, entries)


def _result(resource: Any, error_code: int, message: str | None, configs: list[Body]) -> Body:
    return {
        "error_code": error_code,
        "error_message": message,
        "resource_type": resource.resource_type,
        "resource_name": resource.resource_name,
        "configs": configs,
    }


def _entries(resource: Any, context: Context) -> list[Body]:
    name = str(resource.resource_name)
    match resource.resource_type:
        case ConfigResource.TOPIC:
            if not context.authorize(Operation.DESCRIBE_CONFIGS, ResourceType.TOPIC, name):
                raise TopicAuthorizationFailed(f"{context.principal} may not see the settings of {name!r}")
            return describe_topic_configs(context.routes.topic(name).config)
        case ConfigResource.BROKER:
            if not context.authorize(Operation.DESCRIBE_CONFIGS, ResourceType.CLUSTER, CLUSTER_NAME):
                raise ClusterAuthorizationFailed(f"{context.principal} may not see the broker's settings")
            return broker_entries(name, context)
    raise InvalidRequest(f"resources of type {resource.resource_type} have no settings here")


def broker_entries(name: str, context: Context) -> list[Body]:
    """The settings of the broker of that id; of those set for all brokers at run time ("") there are none."""
    if not name:
        return []
    if name not in {str(broker.node_id) for broker in context.brokers}:
        raise InvalidRequest(f"there is no broker {name!r}; there are {_ids(context)}")
    return sorted(_broker_settings(name, context.options.broker_config), key=lambda entry: entry["name"])


def _ids(context: Context) -> str:
    return ", ".join(str(broker.node_id) for broker in context.brokers) or "none"


def _broker_settings(name: str, config: Mapping[str, str]) -> list[Body]:
    entries: dict[str, Body] = {}
    for setting in TOPIC_SETTINGS.values():
        named = broker_name(setting.name)
        entries[named] = fixed_entry(named, kafka_text(setting.default), ConfigType.STRING, setting.doc)
    for named, value in {**config, "broker.id": name, "node.id": name}.items():
        doc = "See docs/configuration.md; it is set when the broker starts."
        entries[named] = fixed_entry(named, value, _type_of(value), doc) | {
            "config_source": ConfigSource.BROKER,
            "synonyms": [{"name": named, "value": value, "source": ConfigSource.BROKER}],
        }
    return list(entries.values())


def _type_of(value: str) -> ConfigType:
    if value in ("true", "false"):
        return ConfigType.BOOLEAN
    return ConfigType.LONG if value.lstrip("-").isdecimal() else ConfigType.STRING
