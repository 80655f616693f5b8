"""One start of the broker: from settings to a supervisor that runs, and an exit code.

Order: the lock of the data directory before anything is touched; the run directory, where former
processes are ended; the ports, which those may have held; the catalogue, which may refuse, and which a
refused start has not made; only then sockets and children.
"""

from __future__ import annotations

import base64
import errno
import os
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
from setproctitle import setproctitle

from partitions.ballast import BALLAST_NAME, Ballast
from partitions.files import OsFiles
from supervisor.access import AccessListDamaged
from supervisor.catalog import Catalog, CatalogDamaged, CatalogRules
from supervisor.datadirectory import DataDirectory, DataDirectoryLocked, DataDirectoryUnusable
from supervisor.exits import Exit
from supervisor.kafkasettings import is_encrypted
from supervisor.keydirectory import Keyring, KeysUnusable, open_keyring
from supervisor.limits import system_limit
from supervisor.logs import EventLog
from supervisor.privacy import NotPrivate
from supervisor.processes import ProcessStarter
from supervisor.restarts import RestartPolicy
from supervisor.rundirectory import RunDirectory, RunDirectoryUnusable, run_directory_path
from supervisor.settings import Settings, principals
from supervisor.version import VERSION

PRIVATE_UMASK = 0o077


class StartRefused(Exception):
    """The broker cannot start; the message says why and what to do."""

    def __init__(self, exit_code: Exit, message: str) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def new_id() -> str:
    """A random id in Kafka's form: 22 characters of URL-safe base64 that do not begin with a dash."""
    while True:
        text = base64.urlsafe_b64encode(secrets.token_bytes(16)).rstrip(b"=").decode()
        if not text.startswith("-"):
            return text


def run_broker(settings: Settings, ready_file: Path | None, log: EventLog, starter: ProcessStarter) -> Exit:
    """Runs until the broker has ended. Raises StartRefused where it cannot start."""
    with ExitStack() as stack, _refusals():
        os.umask(PRIVATE_UMASK)
        data = DataDirectory(settings.data)
        stack.callback(data.close)
        ballast = Ballast(OsFiles(), data.path / BALLAST_NAME, settings.ballast_bytes)
        run = RunDirectory(run_directory_path(data.path, os.geteuid(), os.environ.get("XDG_RUNTIME_DIR")))
        orphans = run.end_orphans()
        if orphans:
            log.write("warning", "processes of a former broker were ended", {"pids": orphans})
        stack.enter_context(_removed_where_refused(run))
        stack.enter_context(_refusals())
        _check_ports(settings)
        _check_tls(settings)
        keyring = open_keyring(data.path) if settings.curve_required else None
        catalog = _load_catalog(data, log)
        strays = data.set_strays_aside(catalog)
        if strays:
            log.write(
                "warning", "directories that the catalogue does not know were set aside", {"names": strays}
            )
        setproctitle("odradek: supervisor")
        return _supervise(settings, catalog, data, ballast, keyring, run, starter, ready_file, log, stack)


def _supervise(
    settings: Settings,
    catalog: Catalog,
    data: DataDirectory,
    ballast: Ballast,
    keyring: Keyring | None,
    run: RunDirectory,
    starter: ProcessStarter,
    ready_file: Path | None,
    log: EventLog,
    stack: ExitStack,
) -> Exit:
    # Imported once nothing can refuse the start any more: a second start on one directory says so sooner.
    from supervisor.ballastkeeper import (  # noqa: PLC0415
        BallastedStorage,
        BallastKeeper,
        records_free_bytes_min,
    )
    from supervisor.gatekeeper import Gatekeeper  # noqa: PLC0415
    from supervisor.loop import Announcement, Supervisor  # noqa: PLC0415
    from supervisor.overseer import Overseer, OverseerOptions  # noqa: PLC0415
    from supervisor.specs import SpecWriter  # noqa: PLC0415
    from supervisor.topics import Topics  # noqa: PLC0415
    from transport.control import ControlServer  # noqa: PLC0415

    announcement = Announcement(ready_file)
    try:
        announcement.check()
    except OSError as error:
        refusal = f"the ready file {ready_file} cannot be written: {error.strerror}"
        raise StartRefused(Exit.SETTINGS, refusal) from None
    stack.callback(announcement.withdraw)
    rules = _catalog_rules(settings, catalog, data, log)
    options = OverseerOptions(
        routers=settings.routers,
        gateways=settings.gateways,
        heartbeat_interval_s=settings.heartbeat_interval_s,
        heartbeat_timeout_s=settings.heartbeat_timeout_s,
        start_timeout_s=settings.start_timeout_s,
        stop_timeout_s=settings.stop_timeout_s,
        restart=RestartPolicy(
            delay_min_s=settings.restart_delay_min_s,
            delay_max_s=settings.restart_delay_max_s,
            crashes_max=settings.restarts_max,
            window_s=settings.restart_window_s,
            boot_failures_max=settings.boot_failures_max,
        ),
    )
    keeper = BallastKeeper(
        ballast,
        lambda: OsFiles().free_bytes(data.path),
        records_free_bytes_min(settings.disk_free_bytes_min, settings.ballast_bytes),
        log,
    )
    keeper.start()
    stack.callback(keeper.stop)
    storage = BallastedStorage(data, ballast)
    topics = Topics(catalog, rules, storage, new_id)
    gatekeeper = Gatekeeper(
        data.load_access(),
        storage,
        enforced=settings.access_enforced,
        super_users=principals(settings.super_users),
        clients=keyring.watch.clients if keyring is not None else None,
    )
    overseer = Overseer(options, topics, gatekeeper, os.getpid(), time.monotonic())
    server = f"odradek {VERSION}"
    pair = keyring.pair if keyring is not None else None
    specs = SpecWriter(settings, data.path, run, catalog.offsets_topic_id, server, pair)
    control = ControlServer(run.control)
    try:
        exit_code = Supervisor(
            overseer,
            specs,
            starter,
            control,
            run,
            data,
            announcement,
            keeper,
            log,
            watch=keyring.watch if keyring is not None else None,
        ).run()
    finally:
        control.close()
    if exit_code is Exit.OK:
        run.remove()
    return exit_code


def _catalog_rules(settings: Settings, catalog: Catalog, data: DataDirectory, log: EventLog) -> CatalogRules:
    """The limits of new topics: those of the settings, or of the system where it has less room."""
    rules = CatalogRules(
        default_partitions=settings.default_partitions,
        partitions_max=settings.partitions_max,
        ignores_case=data.ignores_case,
    )
    limit = system_limit()
    if limit.partitions >= settings.partitions_max:
        return rules
    fields = {"partitions": limit.partitions, "reason": limit.reason, "needed": catalog.partition_count}
    level = "warning" if limit.partitions < catalog.partition_count else "info"
    log.write(level, "the system has room for fewer partitions than partitions_max", fields)
    return msgspec.structs.replace(
        rules,
        partitions_max=limit.partitions,
        partitions_max_reason=f"this system ({limit.reason})",
    )


def _check_tls(settings: Settings) -> None:
    """Says at once that the certificate of the Kafka listener cannot be used."""
    if not settings.gateways or not is_encrypted(settings):
        return
    from supervisor.kafkaspec import tls_files  # noqa: PLC0415  # needs the libraries of TLS
    from transport.kafka.tls import TlsUnusable, server_context  # noqa: PLC0415

    files = tls_files(settings)
    assert files is not None
    try:
        server_context(files)
    except TlsUnusable as error:
        raise StartRefused(Exit.SETTINGS, str(error)) from None


def _load_catalog(data: DataDirectory, log: EventLog) -> Catalog:
    catalog = data.load()
    if catalog is not None:
        return catalog
    fresh = Catalog(cluster_id=new_id(), offsets_topic_id=new_id())
    try:
        data.save(fresh)
    except OSError as error:
        raise StartRefused(
            Exit.DATA, f"the catalogue of topics cannot be written to {data.path}: {error.strerror}"
        ) from None
    log.write("info", "new data directory", {"path": str(data.path), "cluster_id": fresh.cluster_id})
    return fresh


def _check_ports(settings: Settings) -> None:
    """Says at once that a port is taken; a process that meets it later says so too."""
    wanted = [
        ("--port", settings.port, settings.routers),
        ("--kafka-port", settings.kafka_port, settings.gateways),
    ]
    for flag, first, count in wanted:
        for port in range(first, first + count) if first else ():
            family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((settings.host, port))
                except OSError as error:
                    raise _port_refusal(settings.host, port, flag, error) from None


def _port_refusal(host: str, port: int, flag: str, error: OSError) -> StartRefused:
    if error.errno == errno.EADDRINUSE:
        none_at_all = ", or --gateways 0 for no Kafka listener" if flag == "--kafka-port" else ""
        return StartRefused(
            Exit.PORT_IN_USE,
            f"another program listens on {host} port {port}: stop it, or choose another port with {flag} "
            f"(0 picks a free one){none_at_all}",
        )
    if error.errno == errno.EACCES:
        return StartRefused(
            Exit.SETTINGS, f"this user may not listen on port {port}: choose one above 1023 with {flag}"
        )
    return StartRefused(Exit.SETTINGS, f"{host} port {port} cannot be listened on: {error.strerror}")


@contextmanager
def _removed_where_refused(run: RunDirectory) -> Iterator[None]:
    """A start that is refused has no processes, so it leaves no directory for their sockets either."""
    try:
        yield
    except StartRefused:
        run.remove()
        raise


@contextmanager
def _refusals() -> Iterator[None]:
    """What keeps the broker from starting, each with its exit code."""
    try:
        yield
    except DataDirectoryLocked as error:
        raise StartRefused(Exit.LOCKED, str(error)) from None
    except NotPrivate as error:
        raise StartRefused(Exit.NOT_PRIVATE, str(error)) from None
    except KeysUnusable as error:
        raise StartRefused(Exit.SETTINGS, str(error)) from None
    except (DataDirectoryUnusable, CatalogDamaged, AccessListDamaged, RunDirectoryUnusable) as error:
        raise StartRefused(Exit.DATA, str(error)) from None
