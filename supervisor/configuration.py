"""The configuration of one start: which value each setting has, and that they agree.

A value comes from a flag, else from ``ODRADEK_<NAME>``, else from ``odradek.toml``, else it is the
default. Nothing below this package reads the environment or a file: it gets frozen dataclasses.
"""

from __future__ import annotations

import difflib
import ipaddress
import tomllib
from collections.abc import Mapping
from pathlib import Path

from supervisor.kafkasettings import kafka_contradictions
from supervisor.setting import ENVIRONMENT_PREFIX, Setting, Value
from supervisor.settings import PORT_MAX, SETTINGS, Settings, principals

CONFIG_FILE_NAME = "odradek.toml"
CONFIG_BYTES_MAX = 1 << 20
FOREIGN_VARIABLES = frozenset(
    {
        "ODRADEK_BOOTSTRAP",
        "ODRADEK_CURVE_FILE",
        "ODRADEK_CURVE_SERVER_KEY",
        "ODRADEK_CURVE_PUBLIC_KEY",
        "ODRADEK_CURVE_SECRET_KEY",
    }
)
"""Variables with our prefix that others read: the client's command."""
DEFAULT_SOURCE = "default"


class SettingsError(Exception):
    """One or more settings that cannot be used, a line for each: name, source, value, what is allowed."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def load_settings(
    flags: Mapping[str, object], environment: Mapping[str, str], config: Path | None = None
) -> Settings:
    """The settings of one start. ``flags`` holds only those that were given, by setting name.

    ``config`` is the file of ``--config``; without it ``./odradek.toml`` is read where there is one.
    Raises SettingsError with every problem found.
    """
    problems: list[str] = []
    file_name, file_values = _read_config(config, problems)
    values: dict[str, Value] = {}
    sources: dict[str, str] = {}
    for setting in SETTINGS.values():
        source, raw = _choose(setting, flags, environment, file_name, file_values)
        sources[setting.name] = source
        try:
            values[setting.name] = setting.default if source == DEFAULT_SOURCE else setting.parse(raw)
        except ValueError:
            problems.append(_problem(setting, source, raw))
            values[setting.name] = setting.default
    settings = Settings(**values)  # type: ignore[arg-type]  # the table and the dataclass name the same fields
    problems.extend(_contradictions(settings, sources))
    if problems:
        raise SettingsError(problems)
    return settings


def _choose(
    setting: Setting,
    flags: Mapping[str, object],
    environment: Mapping[str, str],
    file_name: str,
    file_values: Mapping[str, object],
) -> tuple[str, object]:
    if setting.name in flags:
        return f"flag {setting.flag}", flags[setting.name]
    if setting.variable in environment:
        return f"environment {setting.variable}", environment[setting.variable]
    if setting.name in file_values:
        return f"file {file_name}", file_values[setting.name]
    return DEFAULT_SOURCE, setting.default


def _problem(setting: Setting, source: str, raw: object) -> str:
    shown = str(raw) if isinstance(raw, Path) else repr(raw)
    return f"{setting.name} is {shown} (from {source}); it must be {setting.allowed()}"


def _read_config(config: Path | None, problems: list[str]) -> tuple[str, Mapping[str, object]]:
    path = config if config is not None else Path(CONFIG_FILE_NAME)
    try:
        with path.open("rb") as file:
            text = file.read(CONFIG_BYTES_MAX + 1)
    except FileNotFoundError:
        if config is not None:
            problems.append(f"there is no file {path} (from flag --config)")
        return str(path), {}
    except OSError as error:
        problems.append(f"the settings file {path} cannot be read: {error.strerror}")
        return str(path), {}
    if len(text) > CONFIG_BYTES_MAX:
        problems.append(f"the settings file {path} is larger than {CONFIG_BYTES_MAX} bytes")
        return str(path), {}
    try:
        values = tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        problems.append(f"the settings file {path} is not TOML: {error}")
        return str(path), {}
    problems.extend(_unknown(name, f"file {path}") for name in values if name not in SETTINGS)
    return str(path), values


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """A sentence for each variable that looks like a setting and is none.

    Not an error: the environment is not ours alone. Kubernetes, say, sets ODRADEK_SERVICE_HOST in every
    container beside a service of that name.
    """
    known = {setting.variable for setting in SETTINGS.values()} | FOREIGN_VARIABLES
    return [
        _unknown(name.removeprefix(ENVIRONMENT_PREFIX).lower(), f"environment {name}")
        for name in sorted(environment)
        if name.startswith(ENVIRONMENT_PREFIX) and name not in known
    ]


def _unknown(name: str, source: str) -> str:
    near = difflib.get_close_matches(name, SETTINGS, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known settings: {', '.join(SETTINGS)}"
    return f"there is no setting {name!r} (from {source}); {hint}"


def _contradictions(settings: Settings, sources: Mapping[str, str]) -> list[str]:
    """Values that are allowed alone and not together."""
    problems = []
    is_open = not ipaddress.ip_address(settings.host).is_loopback and not settings.curve_required
    if is_open and not settings.allow_insecure_host:
        problems.append(
            f"host is {settings.host!r} (from {sources['host']}), which other machines can reach: anybody "
            "there could read, write and delete everything. Demand keys with --security-curve required (see "
            "`odradek keys --help`), use 127.0.0.1, or say --allow-insecure-host if the network itself keeps "
            "strangers out"
        )
    problems += kafka_contradictions(settings, sources)
    for principal in principals(settings.super_users):
        if not principal.startswith("User:") or principal in ("User:", "User:*"):
            problems.append(
                f"super_users names {principal!r} (from {sources['super_users']}); a principal is User:<name>"
            )
    if settings.heartbeat_timeout_s < 2 * settings.heartbeat_interval_s:
        problems.append(
            f"heartbeat_timeout_s is {settings.heartbeat_timeout_s:g} (from "
            f"{sources['heartbeat_timeout_s']}); it must be at least twice heartbeat_interval_s, which is "
            f"{settings.heartbeat_interval_s:g} (from {sources['heartbeat_interval_s']})"
        )
    if settings.group_session_timeout_s < 2 * settings.group_heartbeat_interval_s:
        problems.append(
            f"group_session_timeout_s is {settings.group_session_timeout_s:g} (from "
            f"{sources['group_session_timeout_s']}); it must be at least twice group_heartbeat_interval_s, "
            f"which is {settings.group_heartbeat_interval_s:g} "
            f"(from {sources['group_heartbeat_interval_s']})"
        )
    if settings.restart_delay_max_s < settings.restart_delay_min_s:
        problems.append(
            f"restart_delay_max_s is {settings.restart_delay_max_s:g} (from "
            f"{sources['restart_delay_max_s']}); it must not be less than restart_delay_min_s, which is "
            f"{settings.restart_delay_min_s:g}"
        )
    if settings.port and settings.port + settings.routers - 1 > PORT_MAX:
        problems.append(
            f"port is {settings.port} (from {sources['port']}); {settings.routers} routers take the ports "
            f"after it, and {PORT_MAX} is the last"
        )
    if settings.kafka_port and settings.kafka_port + settings.gateways - 1 > PORT_MAX:
        problems.append(
            f"kafka_port is {settings.kafka_port} (from {sources['kafka_port']}); {settings.gateways} "
            f"gateways take the ports after it, and {PORT_MAX} is the last"
        )
    return problems
