"""Messages as callers give them: what is taken, in which form, and how a wrong one is named."""

from __future__ import annotations

import re
from enum import StrEnum
from types import MappingProxyType

import numpy as np
import pytest

from llamero.errors import TemplateError
from llamero.tokenizer.messages import checked_messages, checked_tools, one_call_each, plain

CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": [1, "x"]}'}}


def user(content):
    return {"role": "user", "content": content}


def text(words):
    return {"type": "text", "text": words}


def test_text_and_parts_in_the_form_the_template_reads():
    messages = [user("a"), user([text("b"), text("c")]), user([])]
    assert [m["content"] for m in checked_messages(messages)] == ["a", "b\nc", ""]
    parts = [m["content"] for m in checked_messages(messages, parts=True)]
    assert parts == [[text("a")], [text("b"), text("c")], []]


def test_other_keys_stay_and_the_callers_messages_are_left_alone():
    message = {"role": "user", "content": [text("a")], "name": "Ann"}
    assert checked_messages([MappingProxyType(message)]) == [{"role": "user", "content": "a", "name": "Ann"}]
    assert message["content"] == [text("a")]


def test_arguments_as_json_text_become_mappings():
    (message,) = checked_messages([{"role": "assistant", "content": None, "tool_calls": [CALL]}])
    assert message["tool_calls"][0]["function"] == {"name": "f", "arguments": {"a": [1, "x"]}}
    assert CALL["function"]["arguments"] == '{"a": [1, "x"]}'
    for given, taken in [("{broken", "{broken"), ("[1]", "[1]"), ("", {}), (None, {})]:
        call = {"name": "f", "arguments": given}
        (message,) = checked_messages([{"role": "assistant", "tool_calls": [call]}])
        assert message["tool_calls"] == [{"type": "function", "function": {"name": "f", "arguments": taken}}]


def test_no_tool_calls_is_the_same_as_none():
    for none in (None, []):
        assert checked_messages([{"role": "assistant", "content": "a", "tool_calls": none}]) == [
            {"role": "assistant", "content": "a"}
        ]
    assert checked_tools(None) is None
    assert checked_tools([]) is None


def test_a_tools_result_may_be_any_value():
    for result in ({"a": 1}, [1, {"b": None}], "text", []):
        assert checked_messages([{"role": "tool", "content": result}])[0]["content"] == result
    assert checked_messages([{"role": "tool", "content": [text("a"), text("b")]}])[0]["content"] == "a\nb"


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([], "there are no messages"),
        ("hello", "messages must be a list of mappings, not str"),
        ({"role": "user"}, "messages must be a list of mappings, not dict"),
        (["hello"], "message 0 must be a mapping"),
        ([user("a"), {"content": "b"}], "message 1: role None is unknown; choose from"),
        ([user("a"), {"role": "User", "content": "b"}], "message 1: role 'User' is unknown; did you mean 'user'?"),
        ([{"role": "<|eot_id|>", "content": "b"}], "message 0: role '<|eot_id|>' is unknown"),
        ([{"role": "user"}], "message 0 (user) has no content"),
        ([{"role": "assistant", "content": None}], "message 0 (assistant) has no content"),
        ([user(3)], "message 0 (user): content must be text or a list of parts, not int"),
        ([user({"a": 1})], "message 0 (user): content must be text or a list of parts, not dict"),
        ([user(["a"])], "message 0 (user), part 0: content of type 'str' is not supported; only text is"),
        ([user([text("a"), {"type": "image_url"}])], "message 0 (user), part 1: content of type 'image_url'"),
        ([user([{"type": "text"}])], "message 0 (user), part 0: a part of type 'text' needs its text"),
        ([user(b"a")], "message 0, content is a bytes; a template takes only JSON values"),
        ([{**user("a"), 3: 4}], "message 0: keys must be text, not int"),
        ([{"role": "assistant", "tool_calls": "f()"}], "message 0: tool_calls must be a list, not str"),
        ([{"role": "assistant", "tool_calls": [{}]}], "message 0, tool call 0: a call needs a function with a name"),
        (
            [{"role": "assistant", "tool_calls": [{"name": "f", "arguments": [1]}]}],
            "message 0, tool call 0: arguments must be a mapping or its JSON text, not list",
        ),
    ],
)
def test_a_wrong_message_is_named(messages, words):
    with pytest.raises(TemplateError, match=re.escape(words)):
        checked_messages(messages)


def test_wrong_tools_are_named():
    with pytest.raises(TemplateError, match="tool 1 must be a JSON schema"):
        checked_tools([{"name": "f"}, print])
    with pytest.raises(TemplateError, match="tool 0, f is a builtin_function_or_method"):
        checked_tools([{"f": print}])


def test_only_json_types_come_through():
    class Colour(StrEnum):
        RED = "red"

    copy = plain({"a": (Colour.RED, np.float64(1.5), True)}, "x")
    assert copy == {"a": ["red", 1.5, True]}
    assert [type(value) for value in copy["a"]] == [str, float, bool]
    deep: list = []
    for _ in range(100):
        deep = [deep]
    with pytest.raises(TemplateError, match="nested more than 48 levels"):
        plain(deep, "x")


def test_several_calls_in_a_message_one_after_the_other():
    def call(name, **more):
        return {"type": "function", "function": {"name": name, "arguments": {}}, **more}

    def result(text, **more):
        return {"role": "tool", "content": text, **more}

    asked, said = {"role": "user", "content": "?"}, {"role": "assistant", "content": "Done."}
    calls = [call("f", id="1"), call("g", id="2"), call("h")]
    both = {"role": "assistant", "content": "So:", "tool_calls": calls}
    results = [result("of g", tool_call_id="2"), result("of h"), result("of f", tool_call_id="1"), result("of none")]
    assert one_call_each([asked, both, *results, said]) == [
        asked,
        {**both, "tool_calls": calls[:1]},
        results[2],
        {**both, "content": "", "tool_calls": calls[1:2]},
        results[0],
        {**both, "content": "", "tool_calls": calls[2:]},
        results[1],
        results[3],
        said,
    ]
    single = [asked, {**both, "tool_calls": calls[:1]}, results[2], said]
    assert one_call_each(single) == single
