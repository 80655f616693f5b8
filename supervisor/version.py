"""The broker's version; a test holds it against pyproject.toml.

Asking importlib.metadata for it would take 3 MiB that the supervisor then holds for ever.
"""

VERSION = "0.1.0"
