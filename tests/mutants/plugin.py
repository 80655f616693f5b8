"""A plugin of pytest: ``-p tests.mutants.plugin`` with ODRADEK_MUTANT=name runs the tests on a mutant."""

from __future__ import annotations

import os

from tests.mutants.mutations import MUTATIONS, VARIABLE


def pytest_configure() -> None:
    """Before anything is collected, so that nothing has kept what is replaced."""
    name = os.environ.get(VARIABLE)
    if name:
        MUTATIONS[name].apply()
