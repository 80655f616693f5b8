"""For all tests: none of them depends on how fast the machine is."""

import os
import signal

import pytest
from hypothesis import settings

settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

FOR_TESTS = (
    "ODRADEK_FAULTS",
    "ODRADEK_POWER_CUTS",
    "ODRADEK_POWER_CUT_SEED",
    "ODRADEK_SEED",
    "ODRADEK_SEEDS",
)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell's background job: the programs that tests interrupt would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _brokers_do_not_see_what_is_meant_for_tests() -> None:
    """A broker says of each that it is no setting, and tests look at all that it says.

    The modules have read them when they were imported.
    """
    for name in FOR_TESTS:
        os.environ.pop(name, None)
