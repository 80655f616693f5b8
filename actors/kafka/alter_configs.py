"""AlterConfigs (33), versions 0 to 2, and IncrementalAlterConfigs (44), versions 0 and 1.

AlterConfigs replaces: what it does not name goes back to the default. IncrementalAlterConfigs changes what
it names. Settings of the broker are set at its start; a request that leaves them as they are is taken,
because tools read all settings, change one, and write all of them back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from typing import Any

from actors.kafka.describe_configs import RESOURCES_MAX, ConfigResource, broker_entries
from actors.kafka.handling import Ask, Body, Context, Outcome, Steps
from actors.kafka.topic_configs import FIXED, kafka_text, named_once, settings_of
from actors.messages import SUPERVISOR
from actors.operations import CLUSTER_NAME, Operation, ResourceType
from odradek.protocol.errors import (
    ClusterAuthorizationFailed,
    InvalidConfig,
    InvalidRequest,
    OdradekError,
    TopicAuthorizationFailed,
)
from odradek.protocol.messages import AlterConfigs
from partitions.settings import TOPIC_SETTINGS

Changes = dict[str, str | None]
"""New values by name; None goes back to the default."""


class ConfigOperation(IntEnum):
    """Kafka's AlterConfigOp.OpType."""

    SET = 0
    DELETE = 1
    APPEND = 2
    SUBTRACT = 3


def handle(request: Any, context: Context) -> Steps:
    """AlterConfigs: every resource on its own, all of its settings or none."""
    return _alter(request, context, _replacing)


def handle_incremental(request: Any, context: Context) -> Steps:
    """IncrementalAlterConfigs: every resource on its own, all of its changes or none."""
    return _alter(request, context, _changing)


def _alter(request: Any, context: Context, read: Callable[[Any, Mapping[str, object]], Changes]) -> Steps:
    resources: Sequence[Any] = request.resources
    if len(resources) > RESOURCES_MAX:
        raise InvalidRequest(f"the request names more than {RESOURCES_MAX} resources")
    asks: dict[int, Ask] = {}
    outcomes = [Outcome() for _ in resources]
    places = [(resource.resource_type, resource.resource_name) for resource in resources]
    count = Counter(places)
    for number, resource in enumerate(resources):
        try:
            if count[places[number]] > 1:
                raise InvalidRequest(f"{resource.resource_name!r} is there twice")
            native = _checked(resource, context, read)
        except OdradekError as error:
            outcomes[number] = Outcome(error=error)
            continue
        if native is not None and not request.validate_only:
            asks[number] = Ask(SUPERVISOR, native)
    if asks:
        answered = yield tuple(asks.values())
        for number, outcome in zip(asks, answered, strict=True):
            outcomes[number] = outcome
    return {"throttle_time": 0, "responses": list(map(_answer, resources, outcomes))}


def _checked(
    resource: Any, context: Context, read: Callable[[Any, Mapping[str, object]], Changes]
) -> AlterConfigs | None:
    """What the supervisor is to be asked; None where nothing changes. Raises OdradekError."""
    name = str(resource.resource_name)
    match resource.resource_type:
        case ConfigResource.TOPIC:
            if not context.authorize(Operation.ALTER_CONFIGS, ResourceType.TOPIC, name):
                raise TopicAuthorizationFailed(f"{context.principal} may not alter the settings of {name!r}")
            now = context.routes.topic(name).config
            changes = settings_of(checked := read(resource, now))
            defaults = {
                key: None for key, value in checked.items() if value is None and key in TOPIC_SETTINGS
            }
            return AlterConfigs(topic=name, config={**defaults, **changes})
        case ConfigResource.BROKER:
            if not context.authorize(Operation.ALTER_CONFIGS, ResourceType.CLUSTER, CLUSTER_NAME):
                raise ClusterAuthorizationFailed(f"{context.principal} may not alter the broker's settings")
            _refuse_changes(resource, name, context)
            return None
    raise InvalidRequest(f"resources of type {resource.resource_type} have no settings here")


def _refuse_changes(resource: Any, name: str, context: Context) -> None:
    now = {entry["name"]: entry["value"] for entry in broker_entries(name, context)}
    for config in resource.configs:
        operation = getattr(config, "config_operation", ConfigOperation.SET)
        if operation != ConfigOperation.SET or now.get(config.name) != config.value:
            raise InvalidConfig(
                f"the broker's setting {config.name!r} cannot be changed while it runs: start it with "
                "another value (see docs/configuration.md)"
            )


def _replacing(resource: Any, now: Mapping[str, object]) -> Changes:
    named = named_once((config.name, config.value) for config in resource.configs)
    return {name: None for name in now if name not in named} | named


def _changing(resource: Any, now: Mapping[str, object]) -> Changes:
    changes: Changes = {}
    for name, config in _each_once(resource.configs).items():
        match config.config_operation:
            case ConfigOperation.SET:
                if config.value is None:
                    raise InvalidConfig(f"a value is needed to set {name}; DELETE goes back to the default")
                changes[name] = config.value
            case ConfigOperation.DELETE:
                changes[name] = None
            case ConfigOperation.APPEND | ConfigOperation.SUBTRACT:
                changes[name] = _listed(name, config, now)
            case _:
                raise InvalidRequest(f"there is no operation {config.config_operation} on settings")
    return changes


def _each_once(configs: Sequence[Any]) -> dict[str, Any]:
    named_once((config.name, config.value) for config in configs)
    return {config.name: config for config in configs}


def _listed(name: str, config: Any, now: Mapping[str, object]) -> str:
    """A list with more or fewer words in it."""
    setting = TOPIC_SETTINGS.get(name)
    if setting is None or setting.kind != "list":
        is_known = setting is not None or name in FIXED
        raise InvalidConfig(f"{name} is {'not a list' if is_known else 'no topic setting'}; SET its value")
    words = [word for word in kafka_text(now.get(name, "")).split(",") if word]
    given = [word.strip() for word in (config.value or "").split(",") if word.strip()]
    if config.config_operation == ConfigOperation.APPEND:
        return ",".join(dict.fromkeys([*words, *given]))
    return ",".join(word for word in words if word not in given)


def _answer(resource: Any, outcome: Outcome) -> Body:
    return {
        "error_code": outcome.error_code,
        "error_message": outcome.error_message,
        "resource_type": resource.resource_type,
        "resource_name": resource.resource_name,
    }
