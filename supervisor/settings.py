"""Settings of the broker: each defined once, with its default, bounds, unit and sentence.

``docs/configuration.md`` is made from ``SETTINGS``; ``supervisor/configuration.py`` finds the values.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from supervisor.setting import GIB, MIB, Setting

DAY_S = 24 * 3600.0
PORT_MAX = 65_535

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
        PORT_MAX,
    ),
    Setting(
        "kafka_port",
        "int",
        9092,
        "The port of the Kafka gateway; 0 picks a free one. More gateways take the ports after it.",
        "",
        0,
        PORT_MAX,
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
        PORT_MAX,
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


def principals(listed: str) -> list[str]:
    """The principals of a list; semicolons, as in Kafka, because names of certificates have commas."""
    return [principal.strip() for principal in listed.split(";") if principal.strip()]


assert tuple(SETTINGS) == tuple(field.name for field in fields(Settings))
