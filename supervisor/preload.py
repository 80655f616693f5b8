"""What the fork server imports once, so that each process it forks shares those pages.

Nothing here makes a ZeroMQ context: sockets inherited over a fork hang.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import signal

import crc32c
import msgspec
import setproctitle

import actors.partition
import partitions.log
import supervisor.child
import supervisor.entry
import supervisor.processes
import transport.host
from actors.messages import ChildBeat
from odradek.protocol.codec import Encoding, encode, public_decoder
from odradek.protocol.errors import OdradekError
from supervisor.codec_alone import load_codec_alone
from supervisor.holes import fill_holes
from transport.control import child_decoder
from transport.links import inner_decoder

load_codec_alone()
for module in ("odradek.protocol.records", "actors.router", "actors.coordinator"):
    importlib.import_module(module)

PRELOADED = (
    crc32c,
    msgspec,
    setproctitle,
    actors.partition,
    partitions.log,
    supervisor.child,
    supervisor.entry,
    supervisor.processes,
    transport.host,
)

# The supervisor stops its children in order; what a terminal or a process manager sends to the whole
# group must not overtake it. Children inherit this.
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)

# msgspec studies a message class when it is first decoded or encoded, and keeps what it learned on the
# class: done here, it is done once.
public_decoder()
inner_decoder()
child_decoder()
for encoding in Encoding:
    encode(ChildBeat(name="", incarnation=0), encoding)

# Where it is not possible, each process learns by itself, and needs more memory.
with contextlib.suppress(OSError, OdradekError):
    importlib.import_module("supervisor.rehearsal").rehearse()

# The first call copies the environment, to have its place for the title.
setproctitle.getproctitle()

gc.collect()
FILLED = fill_holes()
"""Kept, or the holes were there again."""
# The collector writes into the objects it looks at; frozen ones it leaves alone, and their pages shared.
gc.freeze()
