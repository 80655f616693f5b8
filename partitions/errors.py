"""What can go wrong inside a log, as errors that travel: all are storage errors to a client.

They carry Kafka's code KAFKA_STORAGE_ERROR on the wire; their classes tell the broker's own code
which of them happened.
"""

from __future__ import annotations

from odradek.protocol.errors import KafkaStorageError


class LogLocked(KafkaStorageError):
    """Another process has this log open."""


class LogForeign(KafkaStorageError):
    """The directory belongs to another topic."""


class LogDamaged(KafkaStorageError):
    """The files contradict each other in a way that no rule of recovery may decide."""


class LogFailed(KafkaStorageError):
    """The disk failed under this log; it takes no more writes until it is opened anew."""


class StorageFull(KafkaStorageError):
    """The disk took no more bytes; nothing of the group was kept and the log goes on."""
