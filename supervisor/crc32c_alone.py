"""The compiled checksum without the rest of its package.

``crc32c``'s ``__init__`` asks importlib.metadata for its own version, which loads the email package: 3 MiB
for a number that nobody here reads, in the supervisor and, shared or touched, in each of its children. So
the package gets a stand-in with the one function. Importing this module does it, if nobody imported
``crc32c`` before.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

from supervisor.codec_alone import stand_in

PACKAGE = "crc32c"
EXTENSION = "crc32c._crc32c"
FUNCTION = "crc32c"


def load_crc32c_alone() -> bool:
    """Whether the checksum was loaded alone; where it was not, nothing changed and an import brings all."""
    if PACKAGE in sys.modules:
        return False
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return False
    stand_in(PACKAGE, Path(spec.submodule_search_locations[0]))
    try:
        function = getattr(importlib.import_module(EXTENSION), FUNCTION)
    except (ImportError, AttributeError):
        # A release that keeps it elsewhere: take it as it comes.
        sys.modules.pop(EXTENSION, None)
        del sys.modules[PACKAGE]
        return False
    setattr(sys.modules[PACKAGE], FUNCTION, function)
    return True


load_crc32c_alone()
