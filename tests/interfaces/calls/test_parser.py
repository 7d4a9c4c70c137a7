"""Calls are found in every syntax, however the answer is cut into pieces, and what is none stays text."""

from __future__ import annotations

import json
import re
from time import process_time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamero.interfaces.calls.events import CallArguments, CallBegun, CallEnded, CallEvent, Words
from llamero.interfaces.calls.parser import MARKS, CallParser

FUNCTIONS = {
    "get_weather": ("city", "unit"),
    "add": ("a", "b"),
    "now": (),
    "brave_search": ("query",),
    "code_interpreter": ("code",),
}
Made = tuple[str, list[tuple[str, str]]]


def read(pieces: list[str], cut: bool = False) -> list[CallEvent]:
    parser = CallParser(FUNCTIONS)
    events = [event for piece in pieces for event in parser.push(piece)]
    return events + parser.flush(cut)


def made(events: list[CallEvent]) -> Made:
    """The words, and the calls with their arguments."""
    text, calls, ended = "", [], 0
    for event in events:
        if isinstance(event, Words):
            text += event.text
        elif isinstance(event, CallBegun):
            assert event.call == len(calls)
            assert event.id.startswith("call_")
            calls.append((event.name, ""))
        elif isinstance(event, CallArguments):
            assert event.call == len(calls) - 1
            calls[-1] = (calls[-1][0], calls[-1][1] + event.text)
        else:
            assert isinstance(event, CallEnded)
            assert event.call == ended
            ended += 1
    assert len(calls) - ended in (0, 1)
    return text, calls


LIMA = ("get_weather", {"city": "Lima"})
CALLS: dict[str, tuple[str, str, list[tuple[str, Any]]]] = {
    # JSON
    "json": ('{"name": "get_weather", "parameters": {"city": "Lima"}}', "", [LIMA]),
    "json after blanks": ('\n\n {"name": "get_weather", "parameters": {"city": "Lima"}}\n', "", [LIMA]),
    "json with arguments": ('{"name": "get_weather", "arguments": {"city": "Lima"}}', "", [LIMA]),
    "json with its type": ('{"type": "function", "name": "get_weather", "parameters": {"city": "Lima"}}', "", [LIMA]),
    "json in OpenAI's shape": (
        '{"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Lima"}}, "id": "x"}',
        "",
        [LIMA],
    ),
    "json that says function": ('{"function": "get_weather", "parameters": {"city": "Lima"}}', "", [LIMA]),
    "json with the name last": ('{"parameters": {"city": "Lima"}, "name": "get_weather"}', "", [LIMA]),
    "json without arguments": ('{"name": "now"}', "", [("now", {})]),
    "json with null": ('{"name": "now", "parameters": null}', "", [("now", {})]),
    "json in a text": ('{"name": "get_weather", "parameters": "{\\"city\\": \\"Lima\\"}"}', "", [LIMA]),
    "json of strange texts": (
        '{"name": "add", "parameters": {"a": "}{\\"\\\\", "b": [{"é": "日本"}, -1.5e3, null]}}',
        "",
        [("add", {"a": '}{"\\', "b": [{"é": "日本"}, -1500.0, None]})],
    ),
    "json with raw line breaks": ('{"name": "add", "parameters": {"a": "x\ny"}}', "", [("add", {"a": "x\ny"})]),
    "json, several, semicolons": (
        '{"name": "now", "parameters": {}}; {"name": "get_weather", "parameters": {"city": "Lima"}}',
        "",
        [("now", {}), LIMA],
    ),
    "json, several lines": ('{"name": "now"}\n{"name": "now"}\n\n{"name": "now"}', "", [("now", {})] * 3),
    "json, side by side": ('{"name": "now"}{"name": "now"}', "", [("now", {})] * 2),
    "json in a list": ('[{"name": "now"}, {"name": "now", "parameters": {}}]', "", [("now", {})] * 2),
    "json after a mark": ('<|python_tag|>{"name": "get_weather", "parameters": {"city": "Lima"}}', "", [LIMA]),
    "json after words": ('I look.\n\n{"name": "get_weather", "parameters": {"city": "Lima"}}', "I look.", [LIMA]),
    "json before words": ('{"name": "now", "parameters": {}}\nThat was it.', "\nThat was it.", [("now", {})]),
    # Python
    "python": ('[get_weather(city="Lima")]', "", [LIMA]),
    "python, several": (
        "[get_weather(city='Lima'), now(), add(a=1, b=-2)]",
        "",
        [LIMA, ("now", {}), ("add", {"a": 1, "b": -2})],
    ),
    "python over lines": ('[\n  get_weather(\n    city = "Lima",\n  ),\n  now()\n]', "", [LIMA, ("now", {})]),
    "python by position": ('[get_weather("Lima", "C")]', "", [("get_weather", {"city": "Lima", "unit": "C"})]),
    "python of all values": (
        "[add(a=[1, 2.5, -.5, 1e3, 0x10, 1_000, True, False, None, (), {'k': {1: 'v'}}], b='''x\"y''')]",
        "",
        [("add", {"a": [1, 2.5, -0.5, 1000.0, 16, 1000, True, False, None, [], {"k": {"1": "v"}}], "b": 'x"y'})],
    ),
    "python with JSON's words": ("[add(a=true, b=null)]", "", [("add", {"a": True, "b": None})]),
    "python with a set": ("[add(a={1, 'x y'})]", "", [("add", {"a": {"1": None, "x y": None}})]),
    "python with names": (
        "[get_weather(city=Lima, unit=temp.C)]",
        "",
        [("get_weather", {"city": "Lima", "unit": "temp.C"})],
    ),
    "python with escapes": (
        r"""[add(a='it\'s\n\t\\ \x41\u00e9\U0001F999', b=r"\d+")]""",
        "",
        [("add", {"a": "it's\n\t\\ A\u00e9\U0001f999", "b": "\\d+"})],
    ),
    "python with quotes within": (
        '[brave_search(query="say "hi" now")]',
        "",
        [("brave_search", {"query": 'say "hi" now'})],
    ),
    "python between marks": ('<|python_start|>[get_weather(city="Lima")]<|python_end|>', "", [LIMA]),
    "python after words": ('Of course.\n[get_weather(city="Lima")]', "Of course.", [LIMA]),
    "python, bare, after a mark": ('<|python_tag|>get_weather(city="Lima")', "", [LIMA]),
    # the others
    "tag": ('<function=get_weather>{"city": "Lima"}</function>', "", [LIMA]),
    "tag in a line": (
        'So: <function=get_weather>{"city": "Lima"}</function> and more',
        "So: and more".replace(": ", ": "),
        [LIMA],
    ),
    "tag left open": ('<function=get_weather>{"city": "Lima"}', "", [LIMA]),
    "tag without arguments": ("<function=now></function>", "", [("now", {})]),
    "tags, several": (
        '<function=now>{}</function>\n<function=get_weather>{"city": "Lima"}</function>',
        "",
        [("now", {}), LIMA],
    ),
    "built-in": (
        '<|python_tag|>brave_search.call(query="llamas of Peru")',
        "",
        [("brave_search", {"query": "llamas of Peru"})],
    ),
    "code": (
        '<|python_tag|>import math\nprint("x", [1])',
        "",
        [("code_interpreter", {"code": 'import math\nprint("x", [1])'})],
    ),
    "code that looks like a list": (
        "<|python_tag|>[x for x in y]",
        "",
        [("code_interpreter", {"code": "[x for x in y]"})],
    ),
    "code up to a mark": ("<|python_start|>print(1)<|python_end|>", "", [("code_interpreter", {"code": "print(1)"})]),
}
WORDS = [
    "",
    "Hello, world.",
    " \n spaces stay \n",
    '{"name": "unknown", "parameters": {"city": "Lima"}}',
    '{"temperature": 21, "unit": "C"}',
    '{"name": 3}',
    '{"name": "now", "extra": 1}',
    '{"name": "now"',
    "{",
    "{}",
    "[]",
    "[1, 2, 3]",
    "[link](http://x.y) and {braces} in prose",
    "[unknown(a=1)]",
    "[now",
    "Use get_weather(city='Lima') for that.",
    "get_weather(city='Lima')",
    'Say {"name": "now"} in the middle of a line',
    "<function=unknown>{}</function>",
    "<function",
    "<function=now",
    "a < b <| c <|python",
    "if (x) {\n  y = [1];\n}\n",
    "{{{{[[[[{\n{\n[",
    '{"name": "' + "x" * 500,
    "; , ]",
]


@pytest.mark.parametrize(("answer", "text", "calls"), CALLS.values(), ids=CALLS)
def test_calls(answer: str, text: str, calls: list[tuple[str, Any]]) -> None:
    words, found = made(read([answer]))
    assert [(name, json.loads(arguments)) for name, arguments in found] == calls
    assert words == text
    assert made(read(list(answer))) == (words, found)


@pytest.mark.parametrize("answer", WORDS, ids=[words[:20] for words in WORDS])
def test_what_only_looks_like_a_call_is_text(answer: str) -> None:
    assert made(read([answer])) == (answer, [])
    assert made(read(list(answer))) == (answer, [])


ALL = [*(answer for answer, _, _ in CALLS.values()), *WORDS]


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_however_it_is_cut_into_pieces(data: st.DataObject) -> None:
    answer = "\n".join(data.draw(st.lists(st.sampled_from(ALL), max_size=3)))
    places = sorted(data.draw(st.sets(st.integers(0, len(answer)), max_size=8)))
    pieces = [answer[a:b] for a, b in zip([0, *places], [*places, len(answer)], strict=True)]
    assert made(read(pieces)) == made(read([answer]))


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="{}[]()<>|\"\\'=,:; \nanow1é") | st.text())
def test_nothing_breaks_it_and_no_word_is_lost(answer: str) -> None:
    text, calls = made(read(list(answer)))
    assert calls or text == re.sub("|".join(map(re.escape, MARKS)), "", answer)
    assert made(read([answer])) == (text, calls)


@pytest.mark.parametrize("answer", [answer for answer, _, _ in CALLS.values()], ids=CALLS)
def test_an_answer_that_is_cut_keeps_what_came(answer: str) -> None:
    whole, found = made(read([answer]))
    for end in range(len(answer)):
        text, calls = made(read([answer[:end]], cut=True))
        if calls:
            name, arguments = calls[-1]
            assert name == found[len(calls) - 1][0]
            assert calls[:-1] == found[: len(calls) - 1]
            assert found[len(calls) - 1][1].startswith(re.sub(r"(<\|?\w*\|?|'+)$", "", arguments).rstrip())
        else:
            assert (whole + answer).startswith(text.strip()) or text.strip() in answer


@pytest.mark.parametrize("line", ['{"parameters": [\n', '{"parameters": "{\n', "<function=", "[\n"])
def test_beginnings_without_end_take_no_time(line: str) -> None:
    answer = line * (40_000 // len(line)) + "Done."
    started = process_time()
    text, calls = made(read([answer]))
    assert (text, calls) == (answer, [])
    assert process_time() - started < 5  # a minute, when each is read to the end


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@given(VALUES)
def test_python_s_values_become_json_s(value: Any) -> None:
    for answer in (f"[add(a={value!r}, b={value!r})]", f"[add({value!r}, {value!r})]"):
        text, [(name, arguments)] = made(read([answer]))
        assert (text, name, json.loads(arguments)) == ("", "add", {"a": value, "b": value})


def test_arguments_come_as_they_are_written() -> None:
    parser = CallParser(FUNCTIONS)
    parser.push('{"name": "get_weather", "parameters": {"ci')
    pieces = [parser.push(piece) for piece in ('ty": "L', "im", 'a"', "}", "}")]
    assert [[type(event).__name__ for event in events] for events in pieces] == [["CallArguments"]] * 4 + [
        ["CallEnded"]
    ]
    parser = CallParser(FUNCTIONS)
    assert [type(event).__name__ for event in parser.push('[get_weather(city="Li')] == ["CallBegun", "CallArguments"]
    assert parser.push("ma") == [CallArguments(0, 0, "ma")]


def test_each_call_has_an_id_of_its_own() -> None:
    begun = [event for event in read(["[now(), now(), now()]"]) if isinstance(event, CallBegun)]
    assert len({event.id for event in begun}) == 3


def test_without_functions_all_is_text() -> None:
    parser = CallParser({})
    answer = '{"name": "now"} [now()] <function=now>{}</function>'
    events = parser.push(answer) + parser.flush()
    assert "".join(event.text for event in events if isinstance(event, Words)) == answer
