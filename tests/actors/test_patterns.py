"""Topic patterns: what they match, what is refused and why, and that none is slow."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.patterns import BUILD_STEPS_MAX, NAME_CHARACTERS, PATTERN_CHARACTERS_MAX, compile_pattern
from actors.topics import Topic, TopicTable
from odradek.protocol.errors import InvalidRegularExpression

NAMES = st.text("ab-.0", min_size=1, max_size=6)


def patterns() -> st.SearchStrategy[str]:
    """Everything that the syntax has, in any depth."""
    atoms = st.sampled_from(
        ["a", "b", "0", ".", r"\.", "-", "[ab]", "[^a]", "[a-b0]", r"[\d-]", r"\d", r"\w", "^", "$", ""]
    )
    return st.recursive(
        atoms,
        lambda inner: st.one_of(
            st.lists(inner, min_size=2, max_size=4).map("".join),
            st.lists(inner, min_size=1, max_size=3).map(lambda parts: f"({'|'.join(parts)})"),
            st.tuples(inner, st.sampled_from("*+?")).map(lambda pair: f"({pair[0]}){pair[1]}"),
        ),
        max_leaves=12,
    )


@settings(max_examples=300)
@given(pattern=patterns(), names=st.lists(NAMES, min_size=1, max_size=8))
def test_it_says_what_python_says(pattern: str, names: list[str]) -> None:
    compiled, reference = compile_pattern(pattern), re.compile(pattern, re.ASCII)
    for name in names:
        assert compiled.matches(name) == (reference.fullmatch(name) is not None), name


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("orders-.*", ["orders-", "orders-eu"], ["orders", "my-orders-eu"]),
        ("^orders$", ["orders"], ["orders1"]),
        ("a|b.", ["a", "bx"], ["b", "ab"]),
        (r"[^.]+\.(eu|us)", ["x.eu", "abc.us"], ["x.y.eu", ".eu", "xaeu"]),
        ("v[0-9]+", ["v1", "v10"], ["v", "va"]),
        ("[]a]", ["a"], ["b"]),
        ("", [], ["a"]),
        ("a^b|c$d", [], ["ab", "cd"]),
        ("café.*", [], ["caf"]),
    ],
)
def test_the_whole_name_counts(pattern: str, matching: list[str], others: list[str]) -> None:
    compiled = compile_pattern(pattern)
    assert [name for name in matching + others if compiled.matches(name)] == matching


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("a" * (PATTERN_CHARACTERS_MAX + 1), "at most 256 characters, this one has 257"),
        ("(a", "character 1: this '(' is not closed"),
        ("ab)", "character 3: there is no '(' for this ')'"),
        ("*a", "character 1: '*' has nothing before it"),
        ("a(+)", "character 3: '+' has nothing before it"),
        ("a*?", "character 3: one of * + ? follows another"),
        ("a{2}", "character 2: counted repetition"),
        ("a}", "character 2: '}' stands alone"),
        ("[a", "character 1: this '[' is not closed"),
        ("[]", "character 1: this '[' is not closed"),
        ("[b-a]", "the range b-a is the wrong way round"),
        (r"[\d-z]", "a range goes from one character to one other"),
        ("(?i)a", "character 1: groups have no options"),
        ("\\", r"'\\' is not supported"),
        (r"\1", r"'\\1' is not supported"),
        ("(" * 40 + "a" + ")" * 40, "nested deeper than 32"),
        ("(.*a)" * 50, "needs too large a table"),
    ],
)
def test_a_refused_pattern_says_where_and_why(pattern: str, says: str) -> None:
    with pytest.raises(InvalidRegularExpression, match=re.escape(says).replace(r"\\\\", r"\\")):
        compile_pattern(pattern)


@pytest.mark.parametrize("hostile", ["(a+)+b", "(a|a)*b", "(a*)*b", "((((a*)*)*)*)*b", "." * 256, ".*" * 128])
def test_what_makes_backtracking_explode_is_a_small_table_here(hostile: str) -> None:
    """Counted in table entries: matching looks up one for each character."""
    compiled = compile_pattern(hostile)
    assert sum(map(len, compiled._steps)) <= BUILD_STEPS_MAX
    assert not compiled.matches("a" * 248 + "-/")


@settings(max_examples=200)
@given(st.text(r"ab.[]()|*+?^$\-d{}", max_size=40))
def test_any_text_is_a_pattern_or_an_error(text: str) -> None:
    try:
        compile_pattern(text).matches(NAME_CHARACTERS)
    except InvalidRegularExpression as error:
        assert error.message.startswith("topic pattern")


def table(*names: str, before: TopicTable | None = None, internal: str = "__consumer_offsets") -> TopicTable:
    topics = {name: Topic(f"id-{name}", 1) for name in names} | {internal: Topic("id", 1, internal=True)}
    return TopicTable(topics, before)


def test_a_table_follows_the_topics_and_hides_the_brokers_own() -> None:
    first = table("a1", "b1")
    assert first.matching("a.*") == {"a1"}
    assert first.matching(".*") == {"a1", "b1"}
    second = table("a2", "b1", before=first)
    assert second.matching("a.*") == {"a2"}
    assert second.matching(".*") == {"a2", "b1"}
    assert second.matching("b.") == {"b1"}
