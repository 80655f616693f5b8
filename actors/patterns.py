"""Topic patterns: regular expressions that cannot hang the coordinator.

A pattern becomes a deterministic automaton once, when a member brings it, so that matching a topic's
name takes one table look-up a character, whatever the pattern. Building it has a budget of steps; a
pattern that would need more is refused. There is no backtracking anywhere.

The syntax is a subset of RE2's. A pattern must match the whole name, as KIP-848 says::

    c            that character           (a|b|)      one of these, in any depth up to 32
    .            any character            x* x+ x?    none or more, one or more, none or one
    [a-z_] [^.]  one of, none of these    ^ $         the start and the end of the name
    \\.           that character itself    \\d \\w       a digit; a letter, a digit or _

Counted repetition, look-around, references and flags are not in it.
"""

from __future__ import annotations

import string
from functools import lru_cache
from typing import NamedTuple

from odradek.protocol.errors import InvalidRegularExpression

PATTERN_CHARACTERS_MAX = 256
NESTING_MAX = 32
BUILD_STEPS_MAX = 100_000
"""About a hundredth of a second; sensible patterns need a few thousand."""
COMPILED_KEPT_MAX = 1024

NAME_CHARACTERS = string.ascii_letters + string.digits + "._-"
"""All that a topic's name can have."""

_ANY = frozenset(NAME_CHARACTERS)
_CLASSES = {
    "d": frozenset(string.digits),
    "D": _ANY - frozenset(string.digits),
    "w": frozenset(string.ascii_letters + string.digits + "_"),
    "W": frozenset(".-"),
}
_REPEATS = ("*", "+", "?")
_META = frozenset("\\.[]()|*+?^${}")


class TopicPattern:
    """A compiled pattern; ``compile_pattern`` makes it."""

    __slots__ = ("_accepting", "_steps", "text")

    def __init__(self, text: str, steps: list[dict[str, int]], accepting: frozenset[int]) -> None:
        self.text = text
        self._steps = steps
        self._accepting = accepting

    def matches(self, name: str) -> bool:
        """Whether the pattern matches the whole of a topic's name."""
        state = 0
        for character in name:
            after = self._steps[state].get(character)
            if after is None:
                return False
            state = after
        return state in self._accepting


@lru_cache(maxsize=COMPILED_KEPT_MAX)
def compile_pattern(text: str) -> TopicPattern:
    """The pattern, ready to match. Raises InvalidRegularExpression, which says where and why."""
    if len(text) > PATTERN_CHARACTERS_MAX:
        raise InvalidRegularExpression(
            f"a topic pattern has at most {PATTERN_CHARACTERS_MAX} characters, this one has {len(text)}"
        )
    return _determinize(text, _Parser(text).parse())


# -- from text to an automaton: Glushkov's construction ----------------------------------------------


class _Part(NamedTuple):
    """A piece of the pattern: whether it matches nothing, and its first and last positions."""

    empty: bool
    first: frozenset[int]
    last: frozenset[int]


_NOTHING = _Part(True, frozenset(), frozenset())


class _Automaton(NamedTuple):
    """Position 0 is the start; each other one is a character of the pattern, or an anchor."""

    characters: list[frozenset[str]]
    follow: list[set[int]]
    start_anchors: set[int]
    end_anchors: set[int]
    last: frozenset[int]


class _Parser:
    """Recursive descent; positions and what follows them are collected on the way."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0
        self._characters: list[frozenset[str]] = [frozenset()]
        self._follow: list[set[int]] = [set()]
        self._start_anchors: set[int] = set()
        self._end_anchors: set[int] = set()

    def parse(self) -> _Automaton:
        whole = self._alternatives()
        if self._at < len(self._text):
            raise self._error("there is no '(' for this ')'")
        self._follow[0] = set(whole.first)
        return _Automaton(self._characters, self._follow, self._start_anchors, self._end_anchors, whole.last)

    def _error(self, why: str, at: int | None = None) -> InvalidRegularExpression:
        place = (self._at if at is None else at) + 1
        return InvalidRegularExpression(f"topic pattern {self._text!r}, character {place}: {why}")

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _alternatives(self) -> _Part:
        parts = [self._sequence()]
        while self._peek() == "|":
            self._at += 1
            parts.append(self._sequence())
        return _Part(
            any(part.empty for part in parts),
            frozenset().union(*(part.first for part in parts)),
            frozenset().union(*(part.last for part in parts)),
        )

    def _sequence(self) -> _Part:
        whole = _NOTHING
        while self._peek() not in ("", "|", ")"):
            part = self._repeated()
            for position in whole.last:
                self._follow[position] |= part.first
            whole = _Part(
                whole.empty and part.empty,
                whole.first | part.first if whole.empty else whole.first,
                whole.last | part.last if part.empty else part.last,
            )
        return whole

    def _repeated(self) -> _Part:
        part = self._atom()
        sign = self._peek()
        if sign in _REPEATS:
            self._at += 1
            if sign != "?":
                for position in part.last:
                    self._follow[position] |= part.first
            part = part._replace(empty=part.empty or sign != "+")
            if self._peek() in _REPEATS:
                raise self._error("one of * + ? follows another; there are no lazy ones here")
        if self._peek() == "{":
            raise self._error("counted repetition is not supported; write the part as often as needed")
        return part

    def _atom(self) -> _Part:
        begun, character = self._at, self._peek()
        self._at += 1
        match character:
            case "(":
                return self._group(begun)
            case "[":
                return self._position(self._class(begun))
            case "\\":
                return self._position(self._escaped())
            case ".":
                return self._position(_ANY)
            case "^":
                return self._anchor(self._start_anchors)
            case "$":
                return self._anchor(self._end_anchors)
            case "*" | "+" | "?":
                raise self._error(f"{character!r} has nothing before it to repeat", begun)
            case "]" | "{" | "}":
                raise self._error(f"{character!r} stands alone; write '\\{character}'", begun)
        return self._position(frozenset(character))

    def _group(self, begun: int) -> _Part:
        if self._peek() == "?":
            raise self._error("groups have no options: '(?' is not supported", begun)
        self._depth += 1
        if self._depth > NESTING_MAX:
            raise self._error(f"groups are nested deeper than {NESTING_MAX}", begun)
        part = self._alternatives()
        self._depth -= 1
        if self._peek() != ")":
            raise self._error("this '(' is not closed", begun)
        self._at += 1
        return part

    def _position(self, characters: frozenset[str]) -> _Part:
        number = len(self._characters)
        self._characters.append(characters)
        self._follow.append(set())
        return _Part(False, frozenset((number,)), frozenset((number,)))

    def _anchor(self, anchors: set[int]) -> _Part:
        part = self._position(frozenset())
        anchors.update(part.first)
        return part

    def _escaped(self) -> frozenset[str]:
        character = self._peek()
        if character in _CLASSES:
            self._at += 1
            return _CLASSES[character]
        if character in _META or character == "-":
            self._at += 1
            return frozenset(character)
        raise self._error(f"'\\{character}' is not supported", self._at - 1)

    def _class(self, begun: int) -> frozenset[str]:
        negated = self._peek() == "^"
        self._at += negated
        found: set[str] = set()
        first = True
        while first or self._peek() != "]":
            if not self._peek():
                raise self._error("this '[' is not closed", begun)
            first = False
            found |= self._range()
        self._at += 1
        return _ANY - found if negated else frozenset(found)

    def _range(self) -> frozenset[str]:
        low = self._class_character()
        if self._peek() != "-" or self._text[self._at + 1 : self._at + 2] in ("]", ""):
            return low
        self._at += 1
        high = self._class_character()
        if len(low) != 1 or len(high) != 1:
            raise self._error("a range goes from one character to one other")
        (first,), (last,) = low, high
        if first > last:
            raise self._error(f"the range {first}-{last} is the wrong way round")
        return frozenset(character for character in NAME_CHARACTERS if first <= character <= last) | low

    def _class_character(self) -> frozenset[str]:
        character = self._peek()
        self._at += 1
        if character == "\\":
            return self._escaped()
        return frozenset(character)


# -- from there to a table: the subset construction --------------------------------------------------


def _determinize(text: str, automaton: _Automaton) -> TopicPattern:
    start = _through(automaton, frozenset((0,)), automaton.start_anchors)
    numbers = {start: 0}
    steps: list[dict[str, int]] = []
    waiting = [start]
    spent = 0
    for positions in waiting:  # grows on the way
        moves, cost = _moves(automaton, positions)
        spent += cost
        if spent > BUILD_STEPS_MAX:
            raise InvalidRegularExpression(
                f"topic pattern {text!r} needs too large a table; make it simpler, or name the topics"
            )
        row: dict[str, int] = {}
        for character, reached in moves.items():
            after = frozenset(reached)
            if after not in numbers:
                numbers[after] = len(numbers)
                waiting.append(after)
            row[character] = numbers[after]
        steps.append(row)
    accepting = frozenset(number for positions, number in numbers.items() if _accepts(automaton, positions))
    return TopicPattern(text, steps, accepting)


def _moves(automaton: _Automaton, positions: frozenset[int]) -> tuple[dict[str, set[int]], int]:
    """Character -> the positions that it leads to, and how many steps it took to find out."""
    moves: dict[str, set[int]] = {}
    spent = len(positions)
    for after in set().union(*(automaton.follow[position] for position in positions)):
        characters = automaton.characters[after]
        spent += 1 + len(characters)
        for character in characters:
            moves.setdefault(character, set()).add(after)
    return moves, spent


def _through(automaton: _Automaton, positions: frozenset[int], anchors: set[int]) -> frozenset[int]:
    """The positions, and the anchors that hold here and can be passed from them."""
    found, waiting = set(positions), list(positions)
    while waiting:
        passed = (automaton.follow[waiting.pop()] & anchors) - found
        found |= passed
        waiting += passed
    return frozenset(found)


def _accepts(automaton: _Automaton, positions: frozenset[int]) -> bool:
    """Whether a name may end here. No name is empty, so the start alone never counts."""
    at_end = _through(automaton, positions, automaton.end_anchors)
    return not at_end.isdisjoint(automaton.last)
