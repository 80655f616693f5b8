"""A producer for the crowd, in a process of its own: the same records over few or over many partitions."""

from __future__ import annotations

import itertools
import sys
import time

from bench.records import values
from bench.worker import say
from odradek import Producer

CHUNK = 500
WARM_UP_S = 1.0
KEYS = [b"key-%d" % number for number in range(10_000)]
FLUSH_S_MAX = 60.0


def produce(bootstrap: str, topic: str, keys: str, seconds: float) -> None:
    """Chunks of CHUNK records for so many seconds; the clock stops when all are acknowledged."""
    chunk = list(itertools.islice(itertools.cycle(values()), CHUNK))
    spread = itertools.cycle(KEYS)
    with Producer(bootstrap) as producer:

        def send_for(duration_s: float) -> int:
            end_s, sent = time.perf_counter() + duration_s, 0
            while time.perf_counter() < end_s:
                chosen = list(itertools.islice(spread, CHUNK)) if keys == "uniform" else None
                producer.send_many(topic, chunk, keys=chosen)
                sent += CHUNK
            producer.flush(FLUSH_S_MAX)
            return sent

        send_for(WARM_UP_S)
        begun = time.perf_counter()
        sent = send_for(seconds)
        say(records=sent, seconds=time.perf_counter() - begun)


if __name__ == "__main__":
    produce(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4]))
