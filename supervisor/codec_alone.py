"""aiokafka's compiled record codec without the rest of aiokafka.

Importing any part of a package runs the whole package's ``__init__``, and aiokafka's brings its Kafka
client, asyncio and ssl: 0.2 s and 15 MB for three extension modules that take 0.03 s. The fork server
has room for those only. So the two packages around them get empty stand-ins, in this process and its
forks, where nobody wants the client. It must not be done in a process that runs a user's code.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

PACKAGE = "aiokafka"
CODEC = "aiokafka.record._crecords.default_records"
FACADE = "aiokafka.record.default_records"
"""What ``odradek.protocol.records`` imports; in aiokafka it chooses between compiled codec and Python."""
CODEC_CLASSES = ("DefaultRecordBatch", "DefaultRecordBatchBuilder")


def load_codec_alone() -> bool:
    """Whether the codec was loaded alone; where it was not, nothing changed and an import brings all."""
    spec = importlib.util.find_spec(PACKAGE)
    if PACKAGE in sys.modules or spec is None or not spec.submodule_search_locations:
        return False
    root = Path(spec.submodule_search_locations[0])
    before = set(sys.modules)
    stand_in(PACKAGE, root)
    stand_in(f"{PACKAGE}.record", root / "record")
    try:
        codec = importlib.import_module(CODEC)
        facade = ModuleType(FACADE)
        for name in CODEC_CLASSES:
            setattr(facade, name, getattr(codec, name))
    except (ImportError, AttributeError):
        # A release that keeps its codec elsewhere: take it as it comes.
        for name in [name for name in set(sys.modules) - before if name.split(".")[0] == PACKAGE]:
            del sys.modules[name]
        return False
    sys.modules[FACADE] = facade
    return True


def stand_in(name: str, directory: Path) -> None:
    """An empty package in the place of the real one; its modules can be imported all the same."""
    package = ModuleType(name)
    package.__path__ = [str(directory)]
    sys.modules[name] = package
