"""The sandbox gives honest templates what transformers' renderer gives them, and says where others fail.

What dishonest ones try is in tests/attacks/test_templates.py.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import pytest

from llamero.errors import TemplateError
from llamero.tokenizer.sandbox import Compiled

SNIPPETS = Path(__file__).with_name("snippets.txt").read_text(encoding="utf-8").split("\n=====\n")[:-1]
MESSAGES = [
    {"role": "system", "content": "Hello <b>"},
    {"role": "user", "content": 'naïve "q"\n  bell'},
    {"role": "assistant", "content": "the end"},
]
OTHERS = {"tools": None, "documents": None, "add_generation_prompt": True, "bos_token": "<s>", "eos_token": "</s>"}


def test_there_are_snippets():
    assert len(SNIPPETS) > 30


@pytest.mark.parametrize("snippet", SNIPPETS, ids=range(len(SNIPPETS)))
def test_honest_templates_mean_what_they_mean_to_transformers(snippet):
    from transformers.utils.chat_template_utils import render_jinja_template

    expected, _ = render_jinja_template([MESSAGES], chat_template=snippet, **OTHERS)
    assert Compiled(snippet, name="x").render({"messages": MESSAGES, **OTHERS}) == expected[0]


def test_the_failing_line_is_named():
    late = Compiled("a\n{% if true %}\n{{ messages[0].missing.deeper }}\n{% endif %}", name="mine")
    with pytest.raises(TemplateError, match="mine, line 3: 'dict object' has no attribute 'missing'"):
        late.render({"messages": MESSAGES})
    with pytest.raises(TemplateError, match=r"mine, line 2: Unexpected end of template.*endfor"):
        Compiled("a\n{% for x in y %}", name="mine")
    with pytest.raises(TemplateError, match="mine, line 2: No filter named 'shell'"):
        Compiled("a\n{{ x | shell }}", name="mine")
    with pytest.raises(TemplateError, match="mine, line 2: ZeroDivisionError"):
        Compiled("a\n{{ 1 / 0 }}", name="mine").render({})


def test_the_time_is_the_one_given():
    clock = Compiled("{{ strftime_now('%d %b %Y %H:%M') }}", name="x")
    assert clock.render({}, now=datetime(2026, 11, 23, 7, 5)) == "23 Nov 2026 07:05"


def test_it_tells_what_a_template_loops_over_and_tests():
    compiled = Compiled(
        "{% for p in m.content %}{% for q in m['parts'] if q is string %}{% endfor %}{% endfor %}", name="x"
    )
    assert compiled.loops_over == {"content", "parts"}
    assert compiled.tests == {"string"}


def test_limits_grow_with_the_input():
    """What would be too much for an empty conversation is in order for one that is as long."""
    copy = Compiled("{% for m in messages %}{{ (m.content ~ '')|trim }}{% endfor %}", name="x")
    messages = [{"role": "user", "content": "x" * 3000}] * 5000
    assert len(copy.render({"messages": messages})) == 15_000_000


def test_one_template_serves_many_threads():
    compiled = Compiled(
        "{% set n = namespace(t='') %}{% for i in range(k) %}{% set n.t = n.t ~ i %}{% endfor %}{{ n.t }}", name="x"
    )
    expected = ["".join(map(str, range(k))) for k in range(100)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda k: compiled.render({"k": k}), range(100))) == expected


def test_compiling_and_rendering_are_quick():
    source = (
        "{% for m in messages %}{% if m.role == 'user' %}<{{ m.content|trim ~ m['role'] }}>{% endif %}{% endfor %}" * 20
    )
    times = []
    for _ in range(5):
        began = time.thread_time()
        Compiled(source, name="x").render({"messages": MESSAGES})
        times.append(time.thread_time() - began)
    assert min(times) < 0.06  # 20 ms on an idle core
