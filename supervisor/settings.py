"""Settings of the broker: each defined once, with its default, bounds, unit and sentence.

A value comes from a flag, else from ``ODRADEK_<NAME>``, else from ``odradek.toml``, else it is the
default. ``docs/configuration.md`` is made from ``SETTINGS``. Nothing below this package reads the
environment or a file: it gets frozen dataclasses.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from supervisor.kafkasettings import kafka_contradictions

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
CONFIG_FILE_NAME = "odradek.toml"
CONFIG_BYTES_MAX = 1 << 20
ENVIRONMENT_PREFIX = "ODRADEK_"
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
DAY_S = 24 * 3600.0

Value = int | float | bool | str | Path
Kind = Literal["int", "seconds", "bytes", "bool", "path", "host", "choice", "text"]
_TRUTH = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}
_BYTE_UNITS = {"": 1, "kib": KIB, "mib": MIB, "gib": GIB}
_BYTES = re.compile(r"(\d+)\s*(|kib|mib|gib)", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting. Bounds are inclusive; ``unit`` is a word for people."""

    name: str
    kind: Kind
    default: Value
    doc: str
    unit: str = ""
    minimum: float = 0
    maximum: float = 0
    choices: tuple[str, ...] = ()

    @property
    def flag(self) -> str:
        """Its name on the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return ENVIRONMENT_PREFIX + self.name.upper()

    def allowed(self) -> str:
        """What a value may be, as the end of a sentence."""
        match self.kind:
            case "int" | "bytes":
                of_what = f" of {self.unit}" if self.unit else ""
                return f"a whole number{of_what} from {self.minimum:.0f} to {self.maximum:.0f}"
            case "seconds":
                return f"a number of seconds from {self.minimum:g} to {self.maximum:g}"
            case "bool":
                return "true or false"
            case "choice":
                return "one of " + ", ".join(self.choices)
            case "host":
                return "an IP address, such as 127.0.0.1"
            case "path":
                return "a path"
            case "text":
                return f"{self.unit}, or nothing"

    def parse(self, raw: object) -> Value:
        """``raw`` in the setting's own type; strings come from flags and variables. Raises ValueError."""
        match self.kind:
            case "int":
                return self._bounded(_whole_number(raw))
            case "bytes":
                return self._bounded(_byte_count(raw))
            case "seconds":
                return self._bounded(_number(raw))
            case "bool":
                return _truth(raw)
            case "choice":
                if raw in self.choices:
                    return str(raw)
                raise ValueError(raw)
            case "host":
                return str(ipaddress.ip_address(_text(raw)))
            case "path":
                return Path(_text(raw)).expanduser()
            case "text":
                return "" if raw == "" else _text(raw)

    def _bounded(self, number: float) -> float:
        if not self.minimum <= number <= self.maximum:
            raise ValueError(number)
        return number


def _text(raw: object) -> str:
    if not isinstance(raw, str) or not raw or "\0" in raw:
        raise ValueError(raw)
    return raw


def _whole_number(raw: object) -> int:
    if isinstance(raw, bool) or not isinstance(raw, int | str):
        raise ValueError(raw)
    return int(raw)


def _number(raw: object) -> float:
    if isinstance(raw, bool) or not isinstance(raw, int | float | str):
        raise ValueError(raw)
    return float(raw)


def _byte_count(raw: object) -> int:
    if not isinstance(raw, str):
        return _whole_number(raw)
    match = _BYTES.fullmatch(raw.strip())
    if match is None:
        raise ValueError(raw)
    return int(match[1]) * _BYTE_UNITS[match[2].lower()]


def _truth(raw: object) -> bool:
    if isinstance(raw, bool):
        return raw
    if not isinstance(raw, str) or raw.strip().lower() not in _TRUTH:
        raise ValueError(raw)
    return _TRUTH[raw.strip().lower()]


_PORT_MAX = 65_535
_ALL = (
    Setting(
        "data",
        "path",
        Path("odradek-data"),
        "The directory that holds everything; one broker at a time may run on it.",
    ),
    Setting(
        "host",
        "host",
        "127.0.0.1",
        "The address that every listener binds. One that other machines reach is taken only with "
        "security_curve = required, unless allow_insecure_host says otherwise.",
    ),
    Setting(
        "allow_insecure_host",
        "bool",
        False,
        "Let host be an address that other machines reach, without keys and without encryption: anybody "
        "there can then read, write and delete.",
    ),
    Setting(
        "security_curve",
        "choice",
        "off",
        "With required, native clients come in by CURVE only: encrypted, with a key that `odradek keys allow`"
        " let in, and only to what its roles allow.",
        choices=("off", "required"),
    ),
    Setting(
        "port",
        "int",
        5559,
        "The router's port; 0 picks a free one. More routers take the ports after it.",
        "",
        0,
        _PORT_MAX,
    ),
    Setting(
        "kafka_port",
        "int",
        9092,
        "The port of the Kafka gateway; 0 picks a free one. More gateways take the ports after it.",
        "",
        0,
        _PORT_MAX,
    ),
    Setting(
        "kafka_advertised_host",
        "text",
        "",
        "The name or address under which Kafka clients reach this machine and which they are told; "
        "nothing: the address that the gateway listens on.",
        "a host name or an IP address",
    ),
    Setting(
        "kafka_security",
        "choice",
        "plaintext",
        "What the Kafka listener demands, in Kafka's words: with ssl clients come by TLS, with "
        "sasl_plaintext they log in as a user of `odradek users`, with sasl_ssl both.",
        choices=("plaintext", "ssl", "sasl_plaintext", "sasl_ssl"),
    ),
    Setting(
        "kafka_sasl_mechanisms",
        "text",
        "SCRAM-SHA-256,SCRAM-SHA-512,PLAIN",
        "How Kafka clients may log in. PLAIN shows the password to whoever reads the connection.",
        "SCRAM-SHA-256, SCRAM-SHA-512, PLAIN, with commas between",
    ),
    Setting(
        "kafka_tls_certificate",
        "text",
        "",
        "The certificate that the Kafka listener shows, a PEM file, those that sign it behind it.",
        "the path of a file",
    ),
    Setting(
        "kafka_tls_key",
        "text",
        "",
        "The key of kafka_tls_certificate: a PEM file, not encrypted, that only the broker's user can read.",
        "the path of a file",
    ),
    Setting(
        "kafka_tls_client_certificates",
        "text",
        "",
        "Certificates of those who sign the certificates of Kafka clients, a PEM file. With it every client "
        "must show one; without SASL its subject is the principal, such as User:CN=till,O=odradek.",
        "the path of a file",
    ),
    Setting(
        "http_port",
        "int",
        8081,
        "Reserved for the HTTP listener, which this version does not have.",
        "",
        0,
        _PORT_MAX,
    ),
    Setting("routers", "int", 1, "How many router processes take requests.", "processes", 1, 16),
    Setting(
        "gateways",
        "int",
        1,
        "How many gateway processes take the requests of Kafka clients, which see each as a broker; with 0 "
        "nobody listens on kafka_port.",
        "processes",
        0,
        16,
    ),
    Setting(
        "default_partitions",
        "int",
        1,
        "Partitions of a topic that is created without a number.",
        "partitions",
        1,
        1_000,
    ),
    Setting(
        "partitions_max",
        "int",
        2_000,
        "Partitions of all topics together; each is a process of about 6 MB.",
        "partitions",
        1,
        20_000,
    ),
    Setting(
        "auto_create_topics", "bool", True, "Create a topic when a client first writes to it or asks for it."
    ),
    Setting(
        "authorization",
        "choice",
        "off",
        "acls: a client may do only what the rules of `odradek acl` allow to its principal, which is "
        "User:ANONYMOUS for those who do not say who they are. off: everybody may do everything.",
        choices=("off", "acls"),
    ),
    Setting(
        "super_users",
        "text",
        "",
        "Principals that may do everything without a rule.",
        "User:<name>, several separated by semicolons",
    ),
    Setting(
        "group_session_timeout_s",
        "seconds",
        45.0,
        "A group member that is silent for so long loses its partitions to the others.",
        "seconds",
        0.1,
        DAY_S,
    ),
    Setting(
        "group_heartbeat_interval_s",
        "seconds",
        1.0,
        "How often group members are told to send a heartbeat; how soon they hear of a change.",
        "seconds",
        0.01,
        DAY_S,
    ),
    Setting(
        "group_initial_rebalance_delay_s",
        "seconds",
        0.5,
        "How long the first rebalance of an empty classic group (Kafka's JoinGroup) waits for more members, "
        "counted from the one that came last. Kafka's group.initial.rebalance.delay.ms, which is 3 s there.",
        "seconds",
        0.0,
        300.0,
    ),
    Setting(
        "offsets_retention_minutes",
        "int",
        7 * 24 * 60,
        "How long a group without members keeps its committed offsets (Kafka's offsets.retention.minutes).",
        "minutes",
        1,
        2**31 - 1,
    ),
    Setting(
        "heartbeat_interval_s",
        "seconds",
        1.0,
        "How often each process tells the supervisor that its loop turns.",
        "seconds",
        0.05,
        60,
    ),
    Setting(
        "heartbeat_timeout_s",
        "seconds",
        15.0,
        "A process silent for so long is killed and started again; at least two heartbeat intervals.",
        "seconds",
        0.2,
        3_600,
    ),
    Setting(
        "start_timeout_s",
        "seconds",
        120.0,
        "A process that has neither begun to serve nor shown a sign of life for so long is killed.",
        "seconds",
        1,
        DAY_S,
    ),
    Setting(
        "stop_timeout_s",
        "seconds",
        8.0,
        "How long an orderly stop may take; half is for gateways and routers, three eighths for partitions, "
        "the rest for the coordinator. What has not ended by then is killed.",
        "seconds",
        0.4,
        3_600,
    ),
    Setting(
        "restart_delay_min_s",
        "seconds",
        0.05,
        "The first restart after a crash is immediate, the second waits so long, each next twice as long.",
        "seconds",
        0.001,
        60,
    ),
    Setting(
        "restart_delay_max_s",
        "seconds",
        10.0,
        "The longest wait before a restart.",
        "seconds",
        0.001,
        3_600,
    ),
    Setting(
        "restarts_max",
        "int",
        10,
        "A partition that crashed more often than this within restart_window_s is given up; a router or the "
        "coordinator then waits restart_delay_max_s before each restart.",
        "crashes",
        0,
        1_000,
    ),
    Setting(
        "restart_window_s",
        "seconds",
        60.0,
        "Crashes that are longer ago than this are forgotten.",
        "seconds",
        0.1,
        DAY_S,
    ),
    Setting(
        "boot_failures_max",
        "int",
        5,
        "A process that ended before it served, more often than this in a row, is given up. Where that is a "
        "router or the coordinator, the broker ends; but neither is given up once it has served.",
        "failures",
        0,
        1_000,
    ),
    Setting(
        "router_memory_bytes_max",
        "bytes",
        GIB,
        "What a router may allocate. One that has nine tenths of it ends and is started again: what was "
        "under way there is to be asked again, and nothing that was acknowledged is lost.",
        "bytes",
        128 * MIB,
        1 << 40,
    ),
    Setting(
        "gateway_memory_bytes_max",
        "bytes",
        GIB,
        "What a Kafka gateway may allocate. One that has nine tenths of it ends and is started again; its "
        "clients connect anew, and nothing that was acknowledged is lost.",
        "bytes",
        256 * MIB,
        1 << 40,
    ),
    Setting(
        "kafka_connections_max",
        "int",
        10_000,
        "How many Kafka clients one gateway serves at a time; others are refused until some have gone.",
        "connections",
        1,
        1_000_000,
    ),
    Setting(
        "retention_check_interval_s",
        "seconds",
        300.0,
        "How often each partition looks for segments that its topic's retention lets go.",
        "seconds",
        0.05,
        DAY_S,
    ),
    Setting(
        "disk_free_bytes_min",
        "bytes",
        64 << 20,
        "With less than this left on the data directory's file system, records are refused with a retriable "
        "error; reading, committed offsets and the catalogue of topics go on. It is never less than "
        "ballast_bytes; with 0 and no ballast there is no limit.",
        "bytes",
        0,
        1 << 50,
    ),
    Setting(
        "ballast_bytes",
        "bytes",
        16 * MIB,
        "Space set aside in the data directory, in whole MiB, and given back piece by piece when the disk is "
        "full all the same, so that offsets can be committed and the catalogue of topics be written until "
        "there is space again. 0 sets none aside.",
        "bytes",
        0,
        GIB,
    ),
    Setting(
        "log_level",
        "choice",
        "info",
        "The least important event that is logged.",
        choices=("debug", "info", "warning", "error"),
    ),
    Setting("log_json", "bool", False, "Log one JSON object a line, also on a terminal."),
)
SETTINGS: dict[str, Setting] = {setting.name: setting for setting in _ALL}
"""Every setting of the broker by its name."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the broker runs with. Times in seconds; ports 0 mean a free one."""

    data: Path
    host: str
    allow_insecure_host: bool
    security_curve: str
    port: int
    kafka_port: int
    kafka_advertised_host: str
    kafka_security: str
    kafka_sasl_mechanisms: str
    kafka_tls_certificate: str
    kafka_tls_key: str
    kafka_tls_client_certificates: str
    http_port: int
    routers: int
    gateways: int
    default_partitions: int
    partitions_max: int
    auto_create_topics: bool
    authorization: str
    super_users: str
    group_session_timeout_s: float
    group_heartbeat_interval_s: float
    group_initial_rebalance_delay_s: float
    offsets_retention_minutes: int
    heartbeat_interval_s: float
    heartbeat_timeout_s: float
    start_timeout_s: float
    stop_timeout_s: float
    restart_delay_min_s: float
    restart_delay_max_s: float
    restarts_max: int
    restart_window_s: float
    boot_failures_max: int
    router_memory_bytes_max: int
    gateway_memory_bytes_max: int
    kafka_connections_max: int
    retention_check_interval_s: float
    disk_free_bytes_min: int
    ballast_bytes: int
    log_level: str
    log_json: bool

    @property
    def access_enforced(self) -> bool:
        """Whether clients may do only what rules and roles allow."""
        return self.curve_required or self.authorization == "acls"

    @property
    def curve_required(self) -> bool:
        """Whether native clients must show a key."""
        return self.security_curve == "required"


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
    for setting in _ALL:
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
    known = {setting.variable for setting in _ALL} | FOREIGN_VARIABLES
    return [
        _unknown(name.removeprefix(ENVIRONMENT_PREFIX).lower(), f"environment {name}")
        for name in sorted(environment)
        if name.startswith(ENVIRONMENT_PREFIX) and name not in known
    ]


def _unknown(name: str, source: str) -> str:
    near = difflib.get_close_matches(name, SETTINGS, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known settings: {', '.join(SETTINGS)}"
    return f"there is no setting {name!r} (from {source}); {hint}"


def principals(listed: str) -> list[str]:
    """The principals of a list; semicolons, as in Kafka, because names of certificates have commas."""
    return [principal.strip() for principal in listed.split(";") if principal.strip()]


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
    if settings.port and settings.port + settings.routers - 1 > _PORT_MAX:
        problems.append(
            f"port is {settings.port} (from {sources['port']}); {settings.routers} routers take the ports "
            f"after it, and {_PORT_MAX} is the last"
        )
    if settings.kafka_port and settings.kafka_port + settings.gateways - 1 > _PORT_MAX:
        problems.append(
            f"kafka_port is {settings.kafka_port} (from {sources['kafka_port']}); {settings.gateways} "
            f"gateways take the ports after it, and {_PORT_MAX} is the last"
        )
    return problems


assert tuple(SETTINGS) == tuple(field.name for field in fields(Settings))
