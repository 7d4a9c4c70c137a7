"""Chat formats: our engine on others' templates, ours beside theirs, and the formats that come without a template.

The conversations, tools and variables are in conversations.json; the peer is transformers' own renderer.
"""

from __future__ import annotations

import json
import time
from datetime import datetime
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from llamero.errors import SettingError, TemplateError
from llamero.tokenizer.chat import BUILTIN, ChatTemplate

CASES = json.loads(Path(__file__).with_name("conversations.json").read_text(encoding="utf-8"))
CONVERSATIONS, VARIABLES = CASES["conversations"], CASES["variables"]
SHELF = Path(__file__).parents[3] / "shared" / "data" / "tokenizers" / "chat_templates"
SHELVED = {
    "llama-3.1": "meta-llama-Llama-3.1-8B-Instruct.jinja",
    "llama-3.2": "meta-llama-Llama-3.2-3B-Instruct.jinja",
    "llama-3.3": "meta-llama-Llama-3.3-70B-Instruct.jinja",
}
BOS, EOS = "<|begin_of_text|>", "<|eot_id|>"


def shelved(name: str) -> str:
    """Meta's template of a format, from the data shelf."""
    path = SHELF / SHELVED[name]
    if not path.exists():
        pytest.skip(f"the data shelf has no {path.name}")
    return path.read_text(encoding="utf-8")


def theirs(source: str, messages: list[dict[str, Any]], **variables: Any) -> str | None:
    """What transformers renders; None where the template fails."""
    from transformers.utils.chat_template_utils import render_jinja_template

    variables = {"add_generation_prompt": True, **variables}
    try:
        rendered, _ = render_jinja_template([messages], chat_template=source, bos_token=BOS, eos_token=EOS, **variables)
    except Exception:
        return None
    return str(rendered[0])


def ours(template: ChatTemplate, messages: list[dict[str, Any]], **variables: Any) -> str | None:
    try:
        return template.render(messages, **variables)
    except TemplateError:
        return None


@pytest.mark.parametrize("name", SHELVED)
def test_meta_templates_render_as_in_transformers(name):
    """Our sandbox and our built-in format both, byte for byte, on every conversation with every set of variables."""
    source = shelved(name)
    engine, builtin = ChatTemplate(source, bos=BOS, eos=EOS), ChatTemplate.builtin(name)
    rendered = 0
    for (chat, messages), (setting, variables) in product(CONVERSATIONS.items(), VARIABLES.items()):
        expected = theirs(source, messages, **variables)
        assert ours(engine, messages, **variables) == expected, (chat, setting)
        assert ours(builtin, messages, **variables) == expected, (chat, setting)
        rendered += expected is not None
    assert rendered > 0.8 * len(CONVERSATIONS) * len(VARIABLES)


def test_llama_3_2_dates_its_system_turn_today():
    today = datetime.now().strftime("%d %b %Y")
    assert f"Today Date: {today}\n" in ChatTemplate.builtin("llama-3.2").render([{"role": "user", "content": "x"}])


def test_the_words_of_a_template_that_refuses_reach_the_caller():
    with pytest.raises(TemplateError, match="'custom' refuses these messages: no hello"):
        ChatTemplate("{{ raise_exception('no hello') }}").render([{"role": "user", "content": "hello"}])


def test_llama_3():
    """Meta's model card of Llama 3: header, text, end of turn."""
    messages = [
        {"role": "system", "content": " Be brief.\n"},
        {"role": "user", "content": "\tHi "},
        {"role": "assistant", "content": "Hello\n"},
    ]
    expected = (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nHello<|eot_id|>"
    )
    template = ChatTemplate.builtin("llama-3")
    assert template.render(messages, add_generation_prompt=False) == expected
    assert template.render(messages) == expected + "<|start_header_id|>assistant<|end_header_id|>\n\n"


def test_llama_2():
    """llama/generation.py: each exchange between BOS and EOS, the system text inside the first question."""
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": " Hi "},
        {"role": "assistant", "content": " Hello.\n"},
        {"role": "user", "content": "Who are you? "},
    ]
    template = ChatTemplate.builtin("llama-2")
    assert template.render(messages) == (
        "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\n Hi [/INST] Hello. </s><s>[INST] Who are you? [/INST]"
    )
    assert template.render(messages[1:3]) == "<s>[INST] Hi [/INST] Hello. </s>"


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([("user", "a"), ("user", "b")], "message 1 is of role user"),
        ([("assistant", "a")], "message 0 is of role assistant"),
        ([("user", "a"), ("system", "b")], "message 1 is of role system"),
        ([("system", "a")], "a system message alone"),
        ([("user", "a [/INST] b")], r"message 0 holds the tag \[/INST\]"),
        ([("system", "<</SYS>>"), ("user", "b")], "message 0 holds the tag <</SYS>>"),
    ],
)
def test_llama_2_refuses_what_meta_refuses(messages, words):
    with pytest.raises(TemplateError, match=words):
        ChatTemplate.builtin("llama-2").render([{"role": role, "content": text} for role, text in messages])


@pytest.mark.parametrize("name", ["llama-2", "llama-3", "plain"])
def test_formats_without_tools_say_so(name):
    with pytest.raises(TemplateError, match="tools"):
        ChatTemplate.builtin(name).render([{"role": "user", "content": "x"}], tools=[{"name": "f"}])


def test_plain_goes_on_where_the_question_stopped():
    messages = [("system", "A tale."), ("user", "Once upon"), ("assistant", " a time."), ("user", "Then")]
    rendered = ChatTemplate.builtin("plain").render([{"role": role, "content": text} for role, text in messages])
    assert rendered == "A tale.\nOnce upon a time.\nThen"


def test_an_unknown_format_names_the_nearest():
    with pytest.raises(SettingError, match=r"did you mean 'llama-3.1'"):
        ChatTemplate.builtin("llama3.1")


def test_detect():
    sources = {name: ChatTemplate.builtin(name).source for name in BUILTIN}
    for name in ("llama-2", "llama-3", "llama-3.1"):
        assert ChatTemplate.detect(sources[name], []) == name
    assert ChatTemplate.detect("{{ messages }}", ["<|start_header_id|>"]) == "custom"
    headers = ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    assert ChatTemplate.detect(None, headers) == "llama-3"
    assert ChatTemplate.detect(None, [*headers, "<|eom_id|>"]) == "llama-3.1"
    assert ChatTemplate.detect(None, ["<s>", "</s>"]) == "plain"
    assert ChatTemplate.detect(None, ["<s>", "</s>"], model="Llama-2-7b-Chat") == "llama-2"
    for name in SHELVED:
        assert ChatTemplate.detect(shelved(name), []) == ("llama-3.2" if name == "llama-3.2" else "llama-3.1")


def test_templates_that_take_only_parts_are_given_parts():
    each = "{% for m in messages %}{% for p in m['content'] %}{{ p.text }}{% endfor %}{% endfor %}"
    either = "{% if messages[0].content is string %}{{ messages[0].content }}{% else %}" + each + "{% endif %}"
    listed = [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]
    assert ChatTemplate(each).render([{"role": "user", "content": "a"}]) == "a"
    assert ChatTemplate(each).render(listed) == "ab"
    assert ChatTemplate(either).render(listed) == "a\nb"
    assert ChatTemplate("{{ messages[0].content }}").render(listed) == "a\nb"


def test_one_template_renders_from_many_threads():
    from concurrent.futures import ThreadPoolExecutor

    template = ChatTemplate.builtin("llama-3.1")
    chats = [[{"role": "user", "content": f"question {index}"}] for index in range(200)]
    expected = [template.render(chat) for chat in chats]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(template.render, chats)) == expected


def test_long_conversations_are_within_the_limits():
    """A thousand turns of a thousand characters, and one text of four million."""
    messages = [{"role": ("user", "assistant")[index % 2], "content": "x<y> " * 200} for index in range(1000)]
    for name in ("llama-2", "llama-3.1"):
        began = time.perf_counter()
        assert len(ChatTemplate.builtin(name).render(messages)) > 998_000
        assert time.perf_counter() - began < 3
    assert len(ChatTemplate.builtin("llama-3.1").render([{"role": "user", "content": "x " * 2_000_000}])) > 3_999_999


def test_a_variable_cannot_replace_the_templates_own():
    with pytest.raises(TemplateError, match="bos_token cannot be given"):
        ChatTemplate("x").render([{"role": "user", "content": "x"}], bos_token="<s>")


@pytest.mark.parametrize("name", SHELVED)
def test_several_calls_go_back_one_by_one_where_a_template_takes_one(name):
    def call(city, number):
        arguments = json.dumps({"city": city}, ensure_ascii=False)
        return {"id": number, "type": "function", "function": {"name": "get_weather", "arguments": arguments}}

    messages = [
        {"role": "user", "content": "Where is it warmer?"},
        {"role": "assistant", "content": None, "tool_calls": [call("Lima", "1"), call("日本", "2")]},
        {"role": "tool", "content": "20 degrees", "tool_call_id": "1"},
        {"role": "tool", "content": "25 degrees", "tool_call_id": "2"},
    ]
    for source in (shelved(name), ChatTemplate.builtin(name).source):
        text = ChatTemplate(source, bos=BOS, eos=EOS).render(messages, date_string="26 Jul 2024")
        parts = [
            '{"name": "get_weather", "parameters": {"city": "Lima"}}<|eot_id|>',
            "20 degrees",
            "日本",
            "25 degrees",
        ]
        places = [text.index(part) for part in parts]
        assert places == sorted(places)
        assert text.count("<|start_header_id|>ipython") == 2
