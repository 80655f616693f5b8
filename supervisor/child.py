"""A child process: from a ChildSpec to an actor that serves.

Order: name in ``ps``; lifeline; limits; control link (from here on the supervisor hears of it); the
log is recovered; sockets are bound; the loop runs. What goes wrong on the way is said on the control
link and ends the process with a code of its own.
"""

from __future__ import annotations

import errno
import os
import resource
import sys
import threading
import time
import traceback
import uuid
from pathlib import Path
from typing import NamedTuple

import multiprocess
from setproctitle import setproctitle

from actors.actor import Actor
from actors.messages import ChildReady
from actors.partition import PartitionActor
from odradek.protocol.errors import OdradekError, UnknownServerError
from partitions.ballast import Ballast, BallastedFiles
from partitions.errors import StorageFull
from partitions.files import Files, OsFiles
from partitions.log import Log
from partitions.settings import LogSettings
from supervisor.children import Role
from supervisor.childspec import ChildSpec
from supervisor.exits import Exit
from supervisor.logs import EventLog
from supervisor.rundirectory import INNER_PREFIX
from transport.host import ActorFailedError, Host, HostOptions, Listener

PRIVATE_UMASK = 0o077
SOFT_MEMORY_SHARE = 0.9
"""A router ends in order at this part of its memory limit; at the whole of it allocations fail."""


def process_title(name: str) -> str:
    """What ``ps`` shows: ``odradek: partition events-0``."""
    return "odradek: " + name.replace(":", " ", 1)


def run_child(spec: ChildSpec) -> None:
    """The whole life of a child process; ends it with an exit code of ``Exit``."""
    os.umask(PRIVATE_UMASK)
    setproctitle(process_title(spec.name))
    _watch_lifeline()
    if spec.memory_bytes_max:
        resource.setrlimit(resource.RLIMIT_DATA, (spec.memory_bytes_max, spec.memory_bytes_max))
    log = EventLog(spec.name, spec.log_level, json=spec.log_json)
    host = Host(_host_options(spec), log)
    try:
        code = _serve(spec, host, log)
    finally:
        host.close()
    sys.exit(code)


def _serve(spec: ChildSpec, host: Host, log: EventLog) -> Exit:
    try:
        actor, ready, kept = _BUILDERS[spec.role](spec, host)
        endpoints = host.bind()
        ready.listeners = host.bind_guest()
        if not spec.is_first:
            _unlink_predecessors(spec)
    except OdradekError as error:
        host.fail(error)
        return Exit.CHILD_FAILED
    except Exception as error:
        return _cannot_start(error, host, log)
    ready.inner = endpoints.get("inner")
    ready.endpoints = [endpoint for name, endpoint in endpoints.items() if name != "inner"]
    ready.endpoints += ready.listeners.values()
    try:
        host.run(actor, ready)
        if kept is not None:
            # The file ends where its batches end, and the checkpoint says so: the next start reads nothing.
            kept.close()
    except ActorFailedError as failed:
        host.fail(failed.error)
        return Exit.CHILD_FAILED
    except OdradekError as error:
        host.fail(error)
        return Exit.CHILD_FAILED
    except Exception as error:
        log.write("error", "crashed", {"error": repr(error), "trace": traceback.format_exc()})
        host.fail(UnknownServerError(f"{spec.name} crashed: {type(error).__name__}: {error}"))
        return Exit.CRASHED
    return Exit.OK


def _cannot_start(error: Exception, host: Host, log: EventLog) -> Exit:
    in_use = getattr(error, "errno", None) == errno.EADDRINUSE
    if not in_use:
        log.write("error", "cannot start", {"error": repr(error), "trace": traceback.format_exc()})
    host.fail(UnknownServerError(f"{type(error).__name__}: {error}"))
    return Exit.PORT_IN_USE if in_use else Exit.CHILD_FAILED


def _host_options(spec: ChildSpec) -> HostOptions:
    return HostOptions(
        name=spec.name,
        incarnation=spec.incarnation,
        control=spec.control,
        listeners=tuple(Listener(name, endpoint) for name, endpoint in spec.listeners),
        beat_interval_s=spec.beat_interval_s,
        memory_bytes_max=int(spec.memory_bytes_max * SOFT_MEMORY_SHARE),
        keys=spec.keys,
        access=spec.access,
    )


def _unlink_predecessors(spec: ChildSpec) -> None:
    """Remove the inner sockets of former starts of this child, which were reaped before it began."""
    for name, endpoint in spec.listeners:
        if name == "inner":
            own = Path(endpoint.removeprefix("ipc://"))
            prefix = own.name[: own.name.index(INNER_PREFIX) + len(INNER_PREFIX)]
            for found in os.listdir(own.parent):  # noqa: PTH208  # names only: there may be thousands
                if found.startswith(prefix) and found != own.name:
                    (own.parent / found).unlink(missing_ok=True)


def _watch_lifeline() -> None:
    """End with the supervisor, however it ends: its end of a pipe closes, whatever the loop is doing."""
    parent = multiprocess.parent_process()
    assert parent is not None

    def wait() -> None:
        os.read(parent.sentinel, 1)
        os._exit(Exit.ORPHANED)

    threading.Thread(target=wait, name="lifeline", daemon=True).start()


# -- one builder for each role -----------------------------------------------------------------------


class Built(NamedTuple):
    """An actor, what it will say when it serves, and the log that must be closed behind it."""

    actor: Actor
    ready: ChildReady
    log: Log | None = None


def _ballast(spec: ChildSpec) -> Ballast:
    return Ballast(OsFiles(), Path(spec.ballast_directory), spec.ballast_bytes)


def _open_log(spec: ChildSpec, files: Files) -> Log:
    return Log.open(
        Path(spec.directory),
        LogSettings.from_config(spec.config),
        files=files,
        wall_ms=time.time_ns() // 1_000_000,
        topic_id=spec.topic_id,
    )


def _open_partition_log(spec: ChildSpec) -> Log:
    """To be read, a log must be opened, which writes a little: that the ballast is for, not records."""
    ballast = _ballast(spec)
    files = BallastedFiles(OsFiles(), ballast, for_segments=False)
    for _ in range(ballast.pieces_max):
        try:
            return _open_log(spec, files)
        except StorageFull:
            if not ballast.give_back():
                break
    return _open_log(spec, files)


def _ready(spec: ChildSpec, log: Log | None = None) -> ChildReady:
    ready = ChildReady(name=spec.name, incarnation=spec.incarnation)
    if log is not None:
        report = log.recovery
        ready.leader_epoch = log.leader_epoch
        ready.notes = {
            "bytes_scanned": report.bytes_scanned,
            "bytes_truncated": report.bytes_truncated,
            "end_offset": log.end_offset,
        }
        if report.quarantined:
            ready.notes["quarantined"] = [list(offsets) for offsets in report.quarantined]
        if report.notes:
            ready.notes["recovery"] = list(report.notes)
    return ready


def _build_partition(spec: ChildSpec, _host: Host) -> Built:
    log = _open_partition_log(spec)
    actor = PartitionActor(
        spec.topic, spec.partition, log, spec.retention_check_interval_s, spec.disk_free_bytes_min
    )
    return Built(actor, _ready(spec, log), log)


def _build_coordinator(spec: ChildSpec, host: Host) -> Built:
    from actors.coordinator import CoordinatorActor, CoordinatorOptions  # noqa: PLC0415  # not for partitions

    log = _open_log(spec, BallastedFiles(OsFiles(), _ballast(spec), for_segments=True))
    options = CoordinatorOptions(
        new_id=lambda: str(uuid.uuid4()),
        session_timeout_ms=int(spec.group_session_timeout_s * 1000),
        heartbeat_interval_ms=int(spec.group_heartbeat_interval_s * 1000),
        offsets_retention_minutes=spec.offsets_retention_minutes,
        classic_initial_delay_s=spec.group_initial_rebalance_delay_s,
    )
    return Built(CoordinatorActor(log, options, host.beat), _ready(spec, log), log)


def _build_router(spec: ChildSpec, _host: Host) -> Built:
    from actors.router import RouterActor, RouterOptions  # noqa: PLC0415  # not for partitions

    options = RouterOptions(
        index=spec.index,
        server=spec.server,
        auto_create_topics=spec.auto_create_topics,
        default_partitions=spec.default_partitions,
        is_access_enforced=spec.is_access_enforced,
        access=spec.access,
    )
    return Built(RouterActor(options), _ready(spec))


def _build_gateway(spec: ChildSpec, host: Host) -> Built:
    from supervisor.gateway import build_gateway  # noqa: PLC0415  # not for partitions

    actor, server = build_gateway(spec)
    host.invite(server)
    return Built(actor, _ready(spec))


_BUILDERS = {
    Role.PARTITION: _build_partition,
    Role.COORDINATOR: _build_coordinator,
    Role.ROUTER: _build_router,
    Role.GATEWAY: _build_gateway,
}
