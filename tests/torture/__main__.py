"""``python -m tests.torture --seconds S --seed N``: load, faults, verdict; ``--soak`` watches memory too."""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

from tests.torture.options import FAULTS, TortureOptions
from tests.torture.run import Result, torture
from tests.torture.soak import soak, soak_options


def main() -> int:
    """The exit code is 0 where the verdict is good."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the faults go on")
    parser.add_argument("--seed", type=int, help="repeats the dice of another run; else a new one is drawn")
    parser.add_argument(
        "--nemesis",
        default=",".join(FAULTS),
        help="kinds of faults, with commas; kind:role narrows one, such as kill:coordinator",
    )
    parser.add_argument("--partitions", type=int, default=3)
    parser.add_argument("--producers", type=int, default=2)
    parser.add_argument("--members", type=int, default=3, help="of the consumer group")
    parser.add_argument("--gateways", type=int, default=2, help="for Kafka's clients; 0 leaves those out")
    parser.add_argument("--kafka-producers", type=int, help="librdkafka's; default 2")
    parser.add_argument("--kafka-members", type=int, help="of a classic group; default 3")
    parser.add_argument("--pause-max", type=float, default=3.5, help="seconds of a pause, at most")
    parser.add_argument("--rate", type=float, default=300.0, help="records/s of each producer")
    parser.add_argument("--records-max", type=int, default=2_000_000)
    parser.add_argument("--faults-max", type=int, default=10_000)
    parser.add_argument("--keep", type=Path, help="keep the history here, whatever the verdict")
    parser.add_argument("--soak", action="store_true", help="with retention, fewer faults and samples")
    given = parser.parse_args()
    try:
        options = TortureOptions(
            seconds=given.seconds,
            seed=random.randrange(1_000_000) if given.seed is None else given.seed,
            nemesis=tuple(word for word in given.nemesis.split(",") if word),
            partitions=given.partitions,
            producers=given.producers,
            members=given.members,
            gateways=given.gateways,
            kafka_producers=_default(given.kafka_producers, 2 if given.gateways else 0),
            kafka_members=_default(given.kafka_members, 3 if given.gateways else 0),
            pause_s=(0.1, given.pause_max),
            rate=given.rate,
            records_max=given.records_max,
            faults_max=given.faults_max,
            keep=given.keep,
        )
    except ValueError as error:
        parser.error(str(error))
    print(f"torture: seed {options.seed}, {options.seconds:g} s, {', '.join(options.nemesis)}", flush=True)
    if given.soak:
        soaked = soak(soak_options(options))
        print(soaked.report())
        return 0 if soaked.is_good else 1
    result: Result = torture(options)
    print(result.report())
    return 0 if result.verdict.is_valid else 1


def _default(given: int | None, otherwise: int) -> int:
    return otherwise if given is None else given


if __name__ == "__main__":
    sys.exit(main())
