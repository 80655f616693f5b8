"""A setting: its name in each place where it can be given, and how a value is read."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
ENVIRONMENT_PREFIX = "ODRADEK_"

Value = int | float | bool | str | Path
Kind = Literal["int", "seconds", "bytes", "bool", "path", "host", "choice", "text"]
_TRUTH = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}
_BYTE_UNITS = {"": 1, "kib": KIB, "mib": MIB, "gib": GIB}
_BYTES = re.compile(r"(\d+)\s*(|kib|mib|gib)", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting. Bounds are inclusive; ``unit`` is a word for people."""

    name: str
    kind: Kind
    default: Value
    doc: str
    unit: str = ""
    minimum: float = 0
    maximum: float = 0
    choices: tuple[str, ...] = ()

    @property
    def flag(self) -> str:
        """Its name on the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return ENVIRONMENT_PREFIX + self.name.upper()

    def allowed(self) -> str:
        """What a value may be, as the end of a sentence."""
        match self.kind:
            case "int" | "bytes":
                of_what = f" of {self.unit}" if self.unit else ""
                return f"a whole number{of_what} from {self.minimum:.0f} to {self.maximum:.0f}"
            case "seconds":
                return f"a number of seconds from {self.minimum:g} to {self.maximum:g}"
            case "bool":
                return "true or false"
            case "choice":
                return "one of " + ", ".join(self.choices)
            case "host":
                return "an IP address, such as 127.0.0.1"
            case "path":
                return "a path"
            case "text":
                return f"{self.unit}, or nothing"

    def parse(self, raw: object) -> Value:
        """``raw`` in the setting's own type; strings come from flags and variables. Raises ValueError."""
        match self.kind:
            case "int":
                return self._bounded(_whole_number(raw))
            case "bytes":
                return self._bounded(_byte_count(raw))
            case "seconds":
                return self._bounded(_number(raw))
            case "bool":
                return _truth(raw)
            case "choice":
                if raw in self.choices:
                    return str(raw)
                raise ValueError(raw)
            case "host":
                return str(ipaddress.ip_address(_text(raw)))
            case "path":
                return Path(_text(raw)).expanduser()
            case "text":
                return "" if raw == "" else _text(raw)

    def _bounded(self, number: float) -> float:
        if not self.minimum <= number <= self.maximum:
            raise ValueError(number)
        return number


def _text(raw: object) -> str:
    if not isinstance(raw, str) or not raw or "\0" in raw:
        raise ValueError(raw)
    return raw


def _whole_number(raw: object) -> int:
    if isinstance(raw, bool) or not isinstance(raw, int | str):
        raise ValueError(raw)
    return int(raw)


def _number(raw: object) -> float:
    if isinstance(raw, bool) or not isinstance(raw, int | float | str):
        raise ValueError(raw)
    return float(raw)


def _byte_count(raw: object) -> int:
    if not isinstance(raw, str):
        return _whole_number(raw)
    match = _BYTES.fullmatch(raw.strip())
    if match is None:
        raise ValueError(raw)
    return int(match[1]) * _BYTE_UNITS[match[2].lower()]


def _truth(raw: object) -> bool:
    if isinstance(raw, bool):
        return raw
    if not isinstance(raw, str) or raw.strip().lower() not in _TRUTH:
        raise ValueError(raw)
    return _TRUTH[raw.strip().lower()]
