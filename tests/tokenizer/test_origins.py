"""Where the stretches of a rendered chat come from, in every built-in format, in official ones, and in wilful ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from llamero.tokenizer.chat import BUILTIN, ChatTemplate
from llamero.tokenizer.origins import origins

SPECIAL = [
    "<|begin_of_text|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|python_tag|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
]
SPECIAL += ["<s>", "</s>"]
CHAT: list[dict[str, Any]] = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "  Hi <|eot_id|> there\n"},
    {"role": "assistant", "content": "Hello!"},
    {"role": "user", "content": "Be kind."},  # the same words as the system's
]
TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": 'Tells the "weather"',
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string", "description": "where"}, "days": {"type": "integer"}},
                "required": ["city"],
            },
        },
    }
]
CALLING: list[dict[str, Any]] = [
    {"role": "user", "content": "Weather?"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": "1",
                "type": "function",
                "function": {"name": "weather", "arguments": '{"city": "Paris", "days": 3}'},
            }
        ],
    },
    {"role": "tool", "tool_call_id": "1", "content": "sunny"},
]


def headers(body: str) -> str:
    """A template that writes `body` of each message `m` between Llama 3's marks."""
    return (
        "{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n" + body + "<|eot_id|>{% endfor %}"
        "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
    )


def told(template: ChatTemplate, messages: Sequence[dict[str, Any]], **given: Any) -> list[tuple[str, int | None, str]]:
    """(origin, message, text) of every stretch that is not the template's; checks that the spans cover the text."""
    text, spans = origins(template, SPECIAL, messages, **given)
    assert text == template.render(messages, **given)
    assert "".join(text[span.start : span.end] for span in spans) == text
    assert all(span.start < span.end for span in spans)
    return [(s.origin, s.message, text[s.start : s.end]) for s in spans if s.origin != "template"]


@pytest.mark.parametrize("name", BUILTIN)
def test_built_in_formats(name: str) -> None:
    first = "  Hi <|eot_id|> there\n" if name == "plain" else "Hi <|eot_id|> there"
    if name == "llama-2":  # the system's text is in the first user's turn
        first = "  Hi <|eot_id|> there"
    found = told(ChatTemplate.builtin(name), CHAT)
    assert [(origin, message) for origin, message, _ in found] == [
        ("system", 0),
        ("user", 1),
        ("assistant", 2),
        ("user", 3),
    ]
    assert [text.strip() for _, _, text in found] == ["Be kind.", first.strip(), "Hello!", "Be kind."]


@pytest.mark.parametrize("name", ["meta-llama-Llama-3.1-8B-Instruct", "meta-llama-Llama-3.2-3B-Instruct"])
def test_official_formats(shelved: Callable[[str], Path], name: str) -> None:
    source = shelved(f"tokenizers/chat_templates/{name}.jinja").read_text()
    template = ChatTemplate(source, bos="<|begin_of_text|>", eos="<|eot_id|>")
    found = told(template, CHAT)
    assert [text for _, _, text in found] == ["Be kind.", "Hi <|eot_id|> there", "Hello!", "Be kind."]
    found = told(template, CALLING, tools=TOOLS, date_string="1 Apr 2026")
    assert [(origin, message) for origin, message, _ in found if origin != "assistant"] == [
        ("variable", None),
        ("tools", None),
        ("user", 0),
        ("tool", 2),
    ]


def test_tools_and_calls() -> None:
    found = told(ChatTemplate.builtin("llama-3.1"), CALLING, tools=TOOLS, date_string="1 Apr 2026")
    assert [found[0], found[2]] == [("variable", None, "1 Apr 2026"), ("user", 0, "Weather?")]
    origin, message, text = found[1]
    assert (origin, message) == ("tools", None)
    assert text.startswith("weather")
    assert '"properties": {' in text  # punctuation and the words of schemas between its parts are the schema's
    assert text.endswith("city")
    assert found[3:] == [
        ("assistant", 1, "weather"),
        ("assistant", 1, 'city": "Paris", "days": 3'),
        ("tool", 2, "sunny"),
    ]


def test_a_template_that_keeps_the_end_of_an_answer() -> None:
    """As those of DeepSeek's distilled Llamas do: thoughts are left out."""
    body = "{{ m.content.split('</think>')[-1] | trim }}"
    messages = [{"role": "user", "content": "Add."}, {"role": "assistant", "content": "<think>1+1</think>\n\nIt is 2."}]
    assert told(ChatTemplate(headers(body)), messages) == [("user", 0, "Add."), ("assistant", 1, "It is 2.")]


def test_a_template_that_keeps_the_beginning() -> None:
    messages = [{"role": "user", "content": "Question? [comment]"}]
    assert told(ChatTemplate(headers("{{ m.content.split(' [')[0] }}")), messages) == [("user", 0, "Question?")]


def test_a_template_that_takes_parts() -> None:
    body = "{% for part in m.content %}{{ part.text }}{% endfor %}"
    assert told(ChatTemplate(headers(body)), CHAT[:1]) == [("system", 0, "Be kind.")]


def test_a_template_that_looks_at_one_text_spoils_no_other() -> None:
    body = "{% if m.content | length == 5 %}{{ m.content }} (five){% else %}{{ m.content }}{% endif %}"
    messages = [{"role": "user", "content": "12345"}, {"role": "assistant", "content": "All right."}]
    found = told(ChatTemplate(headers(body)), messages)
    assert ("assistant", 1, "All right.") in found
    assert not [each for each in found if each[0] == "user"]  # five characters might be anybody's
    assert {"unknown", "assistant"} == {origin for origin, _, _ in found}


def test_a_long_text_that_cannot_be_marked_is_found() -> None:
    body = "{% if m.content | length == 21 %}{{ m.content }}{% else %}{{ 'changed' }}{% endif %}"
    messages = [{"role": "user", "content": "exactly so many signs"}]
    assert told(ChatTemplate(headers(body)), messages) == [("user", 0, "exactly so many signs")]


def test_what_a_template_makes_up_from_a_text_is_nobodys_for_sure() -> None:
    found = told(ChatTemplate(headers("{{ m.content | length }}")), [{"role": "user", "content": "Hello, you!"}])
    assert {origin for origin, _, _ in found} == {"unknown"}


def test_marks_of_strangers_do_no_harm() -> None:
    private = "".join(chr(code) for code in (0xF0000, 0xF0001, 0xF0002, 0x10FFFD))
    messages = [{"role": "user", "content": f"{private}x"}, {"role": "assistant", "content": private}]
    template = ChatTemplate.builtin("llama-3")
    assert told(template, messages) == [("user", 0, f"{private}x"), ("assistant", 1, private)]


def test_a_text_that_is_not_shown_is_nowhere() -> None:
    body = "{% if m.role == 'user' %}{{ m.content }}{% endif %}"
    messages = [{"role": "user", "content": "Shown."}, {"role": "assistant", "content": "Not shown."}]
    assert told(ChatTemplate(headers(body)), messages) == [("user", 0, "Shown.")]


def test_several_calls_that_a_template_takes_one_by_one() -> None:
    function = {"name": "weather", "arguments": {"city": "Rome"}}
    calls = [{"id": str(number), "type": "function", "function": function} for number in (1, 2)]
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "1", "content": "sunny"},
        {"role": "tool", "tool_call_id": "2", "content": "cold"},
    ]
    found = told(ChatTemplate.builtin("llama-3.1"), messages)
    assert [(origin, message) for origin, message, _ in found] == [
        ("user", 0),
        *[("assistant", 1)] * 2,
        ("tool", 2),
        *[("assistant", 1)] * 2,
        ("tool", 3),
    ]
