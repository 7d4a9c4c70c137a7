"""Chat templates from strangers: escapes from the sandbox, endless loops, giant values.

Each must end as a TemplateError within a second and without taking much memory.
"""

import time
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from llamero.errors import TemplateError
from llamero.tokenizer.chat import ChatTemplate

HELLO = [{"role": "user", "content": "hello"}]

ESCAPES = {
    "class": "{{ ''.__class__ }}",
    "class by subscript": "{{ ''['__class__'] }}",
    "subclasses": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "subclass loop": "{% for c in ().__class__.__base__.__subclasses__() %}{{ c }}{% endfor %}",
    "globals of a function": "{{ range.__globals__ }}",
    "globals of raise_exception": "{{ raise_exception.__globals__['__builtins__'] }}",
    "globals of a macro": "{% macro m() %}{% endmacro %}{{ m.__init__.__globals__ }}",
    "macro's function": "{% macro m() %}{% endmacro %}{{ m._func.__globals__ }}",
    "globals of cycler": "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "globals of lipsum": "{{ lipsum.__globals__['os'].popen('id').read() }}",
    "joiner": "{{ joiner.__init__.__globals__ }}",
    "namespace": "{{ namespace.__init__.__globals__ }}",
    "namespace instance": "{% set n = namespace() %}{{ n.__class__.__init__ }}{{ n._Namespace__attrs.x }}",
    "namespace dunder": "{% set n = namespace() %}{% set n.__html__ = 1 %}",
    "namespace constructor": "{{ namespace(_x=1) }}",
    "template reference": "{{ self._TemplateReference__context }}",
    "template reference by subscript": "{{ self['_TemplateReference__context'] }}",
    "self class": "{{ self.__class__ }}",
    "block's context": "{% block b %}{% endblock %}{{ self.b._context.environment }}",
    "loop's environment": "{% for i in [1] %}{{ loop._undefined }}{{ loop.__init__.__globals__ }}{% endfor %}",
    "undefined": "{{ nothing.__class__.__init__ }}",
    "undefined's init": "{{ nothing.__init__.__globals__.os }}",
    "message class": "{{ messages.__class__ }}",
    "attr filter": "{{ ''|attr('__class__') }}",
    "attr filter format": "{{ ('{0.__class__}'|attr('format'))(1) }}",
    "map attribute": "{{ ['']|map(attribute='__class__')|list }}",
    "map attr filter": "{{ ['']|map('attr', '__class__')|list }}",
    "selectattr": "{{ ['']|selectattr('__class__')|map('string')|join|length // 0 }}",
    "groupby": "{{ ['']|groupby('__class__') }}",
    "sort attribute": "{{ ['', 'a']|sort(attribute='__class__') }}",
    "sum attribute": "{{ ['']|sum(attribute='__class__') }}",
    "join attribute": "{{ ['']|join(attribute='__class__') }}",
    "format field": "{{ '{0.__class__.__init__.__globals__}'.format(raise_exception) }}",
    "format item": "{{ '{0[__class__]}'.format('') }}",
    "format map": "{{ '{a.__class__}'.format_map({'a': 1}) }}",
    "format by variable": "{% set f = '{0.__class__}'.format %}{{ f(1) }}",
    "format by map": "{{ ['{0.__class__}']|map('format', 1)|first|int + nothing }}",
    "markup format": "{{ ('{0.__class__}'|safe).format(1) }}",
    "markup unescape": "{{ ('x'|safe).unescape() }}",
    "list append": "{{ messages.append(1) }}",
    "list append by subscript": "{{ messages['append'](1) }}",
    "dict update": "{{ messages[0].update({'role': 'system'}) }}",
    "dict pop": "{{ messages[0].pop('role') }}",
    "dict setdefault": "{{ messages[0].setdefault('x', 1) }}",
    "dict fromkeys": "{{ {}.fromkeys('ab') }}",
    "class of dict": "{{ dict.mro() }}",
    "generator frame": "{{ (messages|map('string')).gi_frame.f_globals }}",
    "function code": "{{ strftime_now.__code__ }}",
    "encode": "{{ 'a'.encode('utf-16').hex() }}",
    "translate": "{{ 'a'.translate({97: 'b' * 10}) }}",
    "to_bytes": "{{ (1).to_bytes(1000000000, 'big') }}",
    "caller": "{% macro m() %}{{ caller.__init__ }}{% endmacro %}{% call m() %}{% endcall %}",
    "include": "{% include '/etc/passwd' %}",
    "import": "{% import 'os' as os %}",
    "from import": "{% from 'os' import system %}",
    "extends": "{% extends '/etc/passwd' %}",
    "pprint": "{{ messages|pprint }}",
    "debug": "{% debug %}",
    "do": "{% do messages %}",
    "inner filter": "{{ 1|!turn }}",
    "budget": "{{ !budget }}",
    "calling text": "{{ 'a'() }}",
    "calling a message": "{{ messages[0]() }}",
    "calling undefined": "{{ system('id') }}",
    "open": "{{ open('/etc/passwd') }}",
    "import builtin": "{{ __import__('os') }}",
    "context": "{{ context.environment.loader }}",
    "environment": "{{ environment.filters }}",
}

DOUBLE = "{% set n = namespace(x=START) %}{% for i in range(60) %}{% set n.x = STEP %}{% endfor %}"


def doubling(start: str, step: str, use: str) -> str:
    return DOUBLE.replace("START", start).replace("STEP", step) + use


ENDLESS = {
    "two loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "three loops over text": "{% for a in 'x' * 9999 %}{% for b in 'x' * 9999 %}{{ b }}{% endfor %}{% endfor %}",
    "filtered loop": "{% for i in range(9999) %}{% for j in range(99999) if false %}{% endfor %}{% endfor %}",
    "recursion": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "branching recursion": "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(90) }}",
    "recursive loop": "{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    "branching loop": "{% for i in [1, 2] recursive %}{{ loop([1, 2]) if loop.depth < 90 }}{% endfor %}",
    "recursive block": "{% block b %}{{ self.b() }}{% endblock %}",
    "recursive caller": "{% macro m() %}{% call m() %}{{ caller() }}{% endcall %}{% endmacro %}{{ m() }}",
    "one long range": "{% for i in range(10000000000) %}{% endfor %}",
    "huge range": "{% for i in range(2 ** 62) %}{% endfor %}",
    "listing ranges": "{% for i in range(99999) %}{{ range(99999)|list|length }}{% endfor %}",
    "summing": "{% for i in range(99999) %}{{ range(99999)|sum }}{% endfor %}",
    "sorting": "{% for i in range(99999) %}{{ range(99999)|sort|length }}{% endfor %}",
    "mapping": "{% for i in range(99999) %}{{ range(99999)|map('string')|join }}{% endfor %}",
    "rejecting": "{% for i in range(99999) %}{{ range(1, 99999)|reject|first }}{% endfor %}",
    "searching a range": "{% for i in range(99999) %}{{ 0.5 in range(99999) }}{% endfor %}",
    "searching a text": "{% set t = 'a' * 5000000 %}{% for i in range(99999) %}{{ 'b' in t }}{% endfor %}",
    "comparing": "{% set t = 'a' * 3000000 %}{% set s = t ~ '' %}{% for i in range(99999) %}{{ s == t }}{% endfor %}",
    "testing a text": "{% set t = 'a' * 5000000 %}{% for i in range(99999) %}{{ t is lower }}{% endfor %}",
    "searching": "{% set r = range(99999)|list %}{% for i in range(99999) %}{{ -1 in r }}{% endfor %}",
    "counting": "{% set r = range(99999)|list %}{% for i in range(99999) %}{{ r.count(5) }}{% endfor %}",
    "uniting": "{% for i in range(99999) %}{{ range(99999)|unique|list|length }}{% endfor %}",
    "chained generators": "{% set n = namespace(g=[1]) %}"
    "{% for i in range(90000) %}{% set n.g = n.g|map('int') %}{% endfor %}{{ n.g|list|first // 0 }}",
    "summing lists": "{{ range(99999)|map('string')|map('list')|sum(start=[])|length }}",
    "long attribute path": "{{ ['x' * 50000]|map(attribute='0' ~ '.0' * 50000)|list }}",
    "search from the right": "{{ ('a' * 5000000).rfind('b' + 'a' * 100000) }}",
    "split from the right": "{{ ('a' * 5000000).rsplit('b' + 'a' * 100000) }}",
    "wide strip": "{{ ('a' * 5000000).strip('b' * 100000 + 'a') }}",
    "power": "{{ 9 ** 999999999 }}",
    "power of power": "{{ (9 ** 60) ** 60 }}",
    "squaring": doubling("3", "n.x * n.x", "{{ n.x }}"),
    "long number": "{{ ('9' * 1000000)|int }}",
    "long fraction": "{{ ('9' * 1000000)|float }}",
    "rounding": "{{ 1.5|round(99999999, 'ceil') }}",
    "equality of shared lists": doubling("[1]", "[n.x, n.x]", "") + doubling("[1]", "[n.x, n.x]", "{{ n.x == [n.x] }}"),
    "equality of shared tuples": doubling("(1,)", "(n.x, n.x)", "{{ n.x == (n.x, n.x) }}"),
    "hash of shared tuples": doubling("(1,)", "(n.x, n.x)", "{{ {n.x: 1} }}"),
    "key of shared tuples": doubling("(1,)", "(n.x, n.x)", "{{ {}[n.x].y }}"),
    "get by shared tuples": doubling("(1,)", "(n.x, n.x)", "{{ {}.get(n.x) }}"),
    "dict of shared tuples": doubling("(1,)", "(n.x, n.x)", "{{ dict([(n.x, 1)]) }}"),
    "difference of shared tuples": doubling("(1,)", "(n.x, n.x)", "{{ {}.keys() - [n.x] }}"),
    "changed shared tuples": doubling(
        "(1,)", "(n.x, n.x)", "{% for i in [1, 2] %}{{ loop.changed((n.x, n.x)) }}{% endfor %}"
    ),
    "shared list written": doubling("[1]", "[n.x, n.x]", "{{ n.x }}"),
    "shared mapping written": doubling("{}", "{'a': n.x, 'b': n.x}", "{{ n.x }}"),
    "shared list as text": doubling("[1]", "[n.x, n.x]", "{{ n.x|string|length }}"),
    "shared list joined": doubling("[1]", "[n.x, n.x]", "{{ n.x ~ '' }}"),
    "shared list as JSON": doubling("[1]", "[n.x, n.x]", "{{ n.x|tojson|length }}"),
    "shared list formatted": doubling("[1]", "[n.x, n.x]", "{{ '{}'.format(n.x)|length }}"),
    "shared list shown": doubling("[1]", "[n.x, n.x]", "{{ '{!r}'.format(n.x)|length }}"),
    "shared list in percent": doubling("[1]", "[n.x, n.x]", "{{ '%s' % n.x }}"),
    "shared list raised": doubling("[1]", "[n.x, n.x]", "{{ raise_exception(n.x) }}"),
    "shared list called": doubling("[1]", "[n.x, n.x]", "{{ n.x() }}"),
    "shared list lowered": doubling("[1]", "[n.x, n.x]", "{{ n.x|lower|length }}"),
    "shared list tested": doubling("[1]", "[n.x, n.x]", "{{ n.x is lower }}"),
    "shared list looked for": doubling("[1]", "[n.x, n.x]", "{{ n.x in [[n.x]] }}"),
    "shared list's index": doubling("[1]", "[n.x, n.x]", "{{ [[n.x, n.x]].index([n.x, n.x]) }}"),
    "long texts shared by a list": "{% set a = 'x' * 3000000 %}{% set b = 'x' * 3000000 %}{{ ([a, b] * 40000)|sort }}",
    "deep list": "{% set n = namespace(x=[]) %}{% for i in range(20000) %}{% set n.x = [n.x] %}{% endfor %}{{ n.x }}",
}

GIANTS = {
    "output": "{% for i in range(99999) %}{{ 'x' * 1000 }}{% endfor %}",
    "own text": "{% for i in range(99999) %}" + "x" * 1000 + "{% endfor %}",
    "own text in a macro": "{% macro m() %}{% for i in range(99999) %}"
    + "x" * 9000
    + "{% endfor %}{% endmacro %}{{ m() }}",
    "own text in a set": "{% set m %}{% for i in range(99999) %}" + "x" * 9000 + "{% endfor %}{% endset %}",
    "own text in a filter": "{% filter upper %}{% for i in range(99999) %}"
    + "x" * 9000
    + "{% endfor %}{% endfilter %}",
    "own text in a call": "{% macro m() %}{{ caller() }}{% endmacro %}{% call m() %}{% for i in range(99999) %}"
    + "x" * 9000
    + "{% endfor %}{% endcall %}",
    "repeated text": "{{ 'a' * 999999999 }}",
    "repeated from the left": "{{ 999999999 * 'a' }}",
    "repeated list": "{{ [0] * 999999999 }}",
    "repeated tuple": "{{ (0, 1) * 999999999 }}",
    "doubled text": doubling("'x'", "n.x + n.x", "{{ n.x|length }}"),
    "joined text": doubling("'x'", "n.x ~ n.x", "{{ n.x|length }}"),
    "set block": "{% set x = 'x' * 1000 %}" + "{% set x %}{{ x }}{{ x }}{% endset %}" * 60,
    "doubled list": doubling("[1]", "n.x + n.x", "{{ n.x|length }}"),
    "many texts kept": "{% set n = namespace(x=[]) %}"
    "{% for i in range(9999) %}{% set n.x = n.x + ['x' * (9000 + i)] %}{% endfor %}",
    "slices kept": "{% set t = 'x' * 900000 %}{% set n = namespace(x=[]) %}"
    "{% for i in range(9999) %}{% set n.x = n.x + [t[i:]] %}{% endfor %}",
    "centred": "{{ 'a'|center(999999999) }}",
    "centre method": "{{ 'a'.center(999999999) }}",
    "ljust": "{{ 'a'.ljust(999999999) }}",
    "zfill": "{{ 'a'.zfill(width=999999999) }}",
    "indent": "{{ 'a\nb'|indent(999999999) }}",
    "indent by text": "{{ ('a\n' * 90000)|indent('x' * 90000) }}",
    "replace": "{{ ('a' * 90000).replace('a', 'b' * 90000) }}",
    "replace filter": "{{ ('a' * 90000)|replace('a', 'b' * 90000) }}",
    "replace filter of numbers": "{{ ('1' * 90000)|replace(1, 'b' * 90000) }}",
    "replace empty": "{{ ('a' * 90000).replace('', 'b' * 90000) }}",
    "join": "{{ ('a' * 90000).join('b' * 90000) }}",
    "join filter": "{{ range(90000)|join('b' * 90000) }}",
    "percent width": "{{ '%999999999d' % 1 }}",
    "percent precision": "{{ '%.999999999f' % 1.5 }}",
    "percent star": "{{ '%*d' % (999999999, 1) }}",
    "percent after key": "{{ '%(a(b))999999999d' % {'a(b)': 1} }}",
    "percent after percent": "{{ '%%(%999999999d)' % 1 }}",
    "percent after width": "{{ '%5%(%999999999d)' % 1 }}",
    "percent repeated width": "{{ ('%(a)9999d' * 9000) % {'a': 1} }}",
    "format repeated width": "{{ ('{0:9999}' * 9000).format(1) }}",
    "refund": "{% for i in range(9999) %}{{ ['x' * 90000]|map('!turn', -90000)|join }}{% endfor %}",
    "percent repeated": "{{ ('%(a)s' * 9000) % {'a': 'x' * 90000} }}",
    "format filter": "{{ '%999999999d'|format(1) }}",
    "format width": "{{ '{:999999999}'.format(1) }}",
    "format nested width": "{{ '{:{}}'.format(1, 999999999) }}",
    "format precision": "{{ '{:.999999999f}'.format(1.5) }}",
    "format repeated": "{{ ('{0}' * 9000).format('x' * 90000) }}",
    "split": "{{ ('a ' * 4000000).split(' ') }}",
    "split blanks": "{{ ('a ' * 4000000).split() }}",
    "split lines": "{{ ('a\n' * 4000000).splitlines() }}",
    "list of letters": "{{ ('a' * 9000000)|list|length }}",
    "batch": "{{ [1]|batch(999999999, 0)|list }}",
    "slice": "{{ [1]|slice(999999999, 0)|list }}",
    "json indent": "{{ messages|tojson(indent=999999999) }}",
    "json indent text": "{{ messages|tojson(indent='x' * 900000) }}",
    "json separators": "{{ (range(90000)|list)|tojson(separators=('x' * 900000, ':')) }}",
    "title": "{{ ('a ' * 4000000)|title }}",
    "date": "{{ strftime_now('%c' * 4000000) }}",
    "raised text": "{{ raise_exception('x' * 999999999) }}",
    "lipsum": "{{ lipsum(n=99999) }}",
    "wide number": "{{ 99999999999999999999999999 }}",
}

UNCOMPILABLE = {
    "too long": "x" * 1_000_000,
    "comments": "{#a#}" * 100_000,
    "too many lexemes": "{{ a }}" * 30_000,
    "many names": "{{ " + "a, " * 30_000 + "}}",
    "brackets": "{{ " + "(" * 50_000,
    "lists": "{{ " + "[" * 5_000 + "]" * 5_000 + " }}",
    "negations": "{{ " + "not " * 5_000 + "a }}",
    "sums": "{{ " + "a + " * 5_000 + "a }}",
    "attributes": "{{ a" + ".a" * 5_000 + " }}",
    "nested ifs": "{% if a %}" * 3_000 + "{% endif %}" * 3_000,
    "nested loops": "{% for a in b %}" * 100 + "{% endfor %}" * 100,
    "unclosed": "{% for a in b %}",
    "unclosed string": "{{ '" + "a" * 100_000,
    "quotes": "{{" + "'" * 99_999,
    "unknown tag": "{% run %}",
    "unknown filter": "{{ a | shell }}",
    "unknown test": "{{ a is evil }}",
    "null": "{{ \0 }}",
}


def reset_peak() -> None:
    """Let the kernel count this process's peak of memory anew."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak() -> int:
    """The most resident memory since `reset_peak`, in bytes; 0 where the kernel does not tell."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def refused(source: str) -> str:
    """The message with which a template was refused, after a check of time and of memory."""
    reset_peak()
    before, began = peak(), time.thread_time()
    with pytest.raises(TemplateError) as caught:
        ChatTemplate(source).render(HELLO)
    spent, taken = time.thread_time() - began, peak() - before
    assert spent < 1.0, f"took {spent:.2f} s"
    assert taken < 100_000_000, f"took {taken:,} bytes"
    return str(caught.value)


@pytest.mark.parametrize("source", ESCAPES.values(), ids=ESCAPES)
def test_nothing_but_plain_values_can_be_reached(source):
    message = refused(source)
    assert "chat template 'custom'" in message
    assert "object at 0x" not in message
    assert "Error:" not in message.removeprefix("the chat template") or "ZeroDivision" not in message


@pytest.mark.parametrize("source", ENDLESS.values(), ids=ENDLESS)
def test_work_is_bounded(source):
    refused(source)


@pytest.mark.parametrize("source", GIANTS.values(), ids=GIANTS)
def test_memory_is_bounded(source):
    refused(source)


@pytest.mark.parametrize("source", UNCOMPILABLE.values(), ids=UNCOMPILABLE)
def test_compiling_is_bounded(source):
    refused(source)


VALUES = """
    0 1 -1 2 999 99999 9999999 999999999999 1.5 1e300 true none '' 'a' '%s' '{}' '%5d' '<&>' 'é'*9000 'a\\n'*300000
    'x'*3000000 [] [1,2] ['b','a'] {'a':1} {'a':[1,{'b':2}]} (1,2) range(99999) range(99999)|list messages nothing n.x
"""
SIGNS = "+ - * / // % ** ~ == < in and or"
FILTERS = """
    abs batch capitalize center count default dictsort escape first float format groupby indent int items join last
    length list lower map max min reject replace reverse round safe select selectattr slice sort string sum title
    tojson trim truncate unique upper
"""
METHODS = "center count find format get index items join keys replace rfind rsplit split strip zfill"


def expression(random: Random, depth: int) -> str:
    """A random expression of what templates may use, on values large and small."""
    inner = [expression(random, depth - 1) for _ in range(3)] if depth else []
    forms = ["({0})|{f}", "({0})|{f}({1})", "({0}).{m}({1})", "({0} {s} {1})", "({0})[{1}:{2}]", "[{0}, {1}]"]
    if not depth or random.random() < 0.2:
        return random.choice(VALUES.split())
    names = {
        letter: random.choice(words.split()) for letter, words in zip("fms", (FILTERS, METHODS, SIGNS), strict=True)
    }
    return random.choice(forms).format(*inner, **names)


@pytest.mark.parametrize("seed", range(8))
def test_random_templates_end_soon_and_small(seed):
    random = Random(seed)
    for _ in range(40):
        turns, step, use = random.choice([1, 30, 9999]), expression(random, 2), expression(random, 3)
        source = (
            f"{{% set n = namespace(x=[1]) %}}{{% for i in range({turns}) %}}{{% set n.x = {step} %}}{{% endfor %}}"
        )
        reset_peak()
        before, began = peak(), time.thread_time()
        with suppress(TemplateError):
            ChatTemplate(source + "{{ " + use + " }}").render(HELLO)
        assert time.thread_time() - began < 1.0, (source, use)
        assert peak() - before < 100_000_000, (source, use)
