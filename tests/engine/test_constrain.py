"""Answers have the form that was asked for, whatever the model would rather say: here it says anything at random."""

from __future__ import annotations

import json
import re
import threading
from importlib.resources import files
from time import process_time
from typing import Any

import jsonschema
import numpy as np
import pytest
from jsonschema_specifications import REGISTRY as SPECIFICATIONS

from llamero.engine.constrain import Constraints
from llamero.engine.form import Form
from llamero.engine.request import Request, Run
from llamero.engine.sampling import Sampling
from llamero.errors import ConstraintError, SettingError
from llamero.tokenizer.definition import Definition, Ids, Rules, Strings, TokenType
from llamero.tokenizer.definition import Form as Spelling
from llamero.tokenizer.load import load_tokenizer
from llamero.tokenizer.tokenizer import Tokenizer


def byte_level() -> Tokenizer:
    """The embedded model's vocabulary."""
    return load_tokenizer(str(files("llamero") / "embedded" / "llama-stories.gguf"))


def sentencepiece() -> Tokenizer:
    """Bytes and a few pieces, in the manner of Llama 2."""
    words = ["▁", "▁{", '{"', '":', "▁the", "the", "}", '"}', "],", "▁1", "12", "é", "日本"]
    letters = [chr(code) for code in range(33, 127) if chr(code) not in words]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *words, *letters]
    types = [TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL, *[TokenType.BYTE] * 256]
    types += [TokenType.NORMAL] * (len(tokens) - len(types))
    return Tokenizer(
        Definition(
            rules=Rules(kind="spm", ids=Ids(bos=1, eos=2, unk=0)),
            form=Spelling.SENTENCEPIECE,
            tokens=Strings.of(token.encode() for token in tokens),
            types=np.array(types, np.uint8),
            scores=-np.arange(len(tokens), dtype=np.float32),
        )
    )


TOKENIZERS = {"byte-level": byte_level(), "sentencepiece": sentencepiece()}
CONSTRAINTS = {name: Constraints(tokenizer) for name, tokenizer in TOKENIZERS.items()}


@pytest.fixture(params=TOKENIZERS)
def name(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


def written(name: str, form: Form, seed: int, max_tokens: int = 2000, **sampling: Any) -> tuple[str, str | None]:
    """What a model of random logits answers in a form, and why it ended."""
    tokenizer, rng = TOKENIZERS[name], np.random.default_rng(seed)
    request = Request(
        prompt=(1,),
        max_tokens=max_tokens,
        sampling=Sampling(seed=seed, **({"temperature": 1.0, "top_p": 1.0} | sampling)),
        stop_ids=tokenizer.stop_ids,
        constraint=CONSTRAINTS[name].of(form),
    )
    run = Run(request, vocab=tokenizer.vocab_size, context=1 << 20)
    while run.finish_reason is None:
        run.accept(rng.standard_normal(tokenizer.vocab_size).astype(np.float32))
    return tokenizer.decode(run.answer, start=False), run.finish_reason


def follows(name: str, form: Form, text: str) -> bool:
    """Whether a text may be written, and may end there."""
    tokenizer = TOKENIZERS[name]
    matcher = CONSTRAINTS[name].of(form).begin()
    for token in tokenizer.encode(text, bos=False, start=False):
        try:
            matcher.accept(token)
        except ConstraintError:
            return False
    logits = np.zeros(tokenizer.vocab_size, np.float32)
    matcher.mask(logits)
    ends = np.isfinite(logits[sorted(tokenizer.stop_ids)])
    assert ends.all() == ends.any()
    return bool(ends.all())


SCHEMAS: dict[str, dict[str, Any]] = {
    "nested": {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 12},
            "tags": {"type": "array", "items": {"enum": ["a", "b c", "é", "日本", 1, None]}, "maxItems": 3},
            "inner": {"$ref": "#/$defs/point"},
        },
        "required": ["name", "tags", "inner"],
        "additionalProperties": False,
        "$defs": {
            "point": {
                "type": "object",
                "properties": {"x": {"type": "integer", "minimum": -5, "maximum": 500}},
                "required": ["x"],
                "additionalProperties": {"type": "boolean"},
                "maxProperties": 5,
            }
        },
    },
    "formats": {
        "type": "object",
        "properties": {
            "day": {"type": "string", "format": "date"},
            "at": {"type": "string", "format": "date-time"},
            "time": {"type": "string", "format": "time"},
            "ip": {"type": "string", "format": "ipv4"},
            "code": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{1,4}$"},
        },
        "required": ["day", "at", "ip", "code"],
        "additionalProperties": False,
    },
    "choices": {
        "type": "array",
        "minItems": 1,
        "maxItems": 4,
        "items": {
            "anyOf": [
                {"type": "boolean"},
                {"const": "x\ny"},
                {"type": "number", "exclusiveMinimum": 0.5, "maximum": 9.25},
            ]
        },
    },
    "tuple": {"prefixItems": [{"type": "integer"}, {"type": "null"}], "items": False, "minItems": 2, "type": "array"},
}


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_schemas_are_kept_to(name: str, schema: dict[str, Any]) -> None:
    checker = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
    for seed in range(6):
        text, _ = written(name, Form(kind="json_schema", source=schema), seed, 400)
        checker.validate(json.loads(text))


def test_any_object(name: str) -> None:
    for seed in range(5):
        assert isinstance(json.loads(written(name, Form(kind="json_object"), seed, 300)[0]), dict)


@pytest.mark.parametrize("room", [60, 100])
def test_answers_are_whole_in_whatever_room_holds_one(name: str, room: int) -> None:
    schema = SCHEMAS["nested"] | {"additionalProperties": True}
    form, reasons = Form(kind="json_schema", source=schema), []
    for seed in range(3):
        text, why = written(name, form, seed, room)
        jsonschema.validate(json.loads(text), schema)
        reasons.append(why)
    assert "length" in reasons  # the honest word for an answer that was closed early


def test_in_too_little_room_an_answer_is_cut(name: str) -> None:
    text, why = written(name, Form(kind="json_schema", source=SCHEMAS["nested"]), 0, 10)
    assert why == "length"
    with pytest.raises(json.JSONDecodeError):
        json.loads(text)


LOOPS = [r"[a-z]+@[a-z]{2,}\.x", r"(a|ab|abc)*z{3}", r"x*yx*yx*", '["}\\]x~]*end']


@pytest.mark.parametrize("expression", LOOPS)
def test_ways_out_of_loops(name: str, expression: str) -> None:
    for seed in range(3):
        assert re.fullmatch(expression, written(name, Form(kind="regex", source=expression), seed, 400)[0], re.S)


@pytest.mark.parametrize("divisor", [3, 9, 0.25])
def test_ways_out_of_multiples(name: str, divisor: float) -> None:
    form = Form(kind="json_schema", source={"type": "number", "multipleOf": divisor})
    for seed in range(5):
        assert json.loads(written(name, form, seed, 12)[0]) % divisor == 0


def test_a_grammar_without_a_way_out_takes_little_time() -> None:
    form = Form(kind="grammar", source='start: x\nx: y x\ny: "a" y "b" | "a" "b" | y y')
    matcher = CONSTRAINTS["byte-level"].of(form).begin(300)
    started = process_time()
    matcher.mask(np.zeros(TOKENIZERS["byte-level"].vocab_size, np.float32))
    assert process_time() - started < 3  # looking to the end would take 35


@pytest.mark.parametrize("sampling", [{"temperature": 0.0}, {"top_k": 1}, {"repeat_penalty": 1.5}, {"min_p": 0.5}])
def test_however_it_is_sampled(sampling: dict[str, Any]) -> None:
    for seed in range(4):
        text, _ = written("byte-level", Form(kind="json_schema", source=SCHEMAS["nested"]), seed, 300, **sampling)
        jsonschema.validate(json.loads(text), SCHEMAS["nested"])


def test_the_whole_answer_matches_an_expression(name: str) -> None:
    expression = r"(yes|no|ünknown|日本), [0-9]{1,5}( times)?"
    for seed in range(10):
        text, why = written(name, Form(kind="regex", source=expression), seed)
        assert why == "stop"
        assert re.fullmatch(expression, text)


LARK = 'start: "say " WORD (" and " WORD)* "."\nWORD: /[a-z]{1,4}/\n'
GBNF = 'root ::= "say " word (" and " word)* "."\nword ::= [a-z]{1,4}\n'


@pytest.mark.parametrize("grammar", [LARK, GBNF], ids=["lark", "gbnf"])
def test_grammars_of_both_kinds(name: str, grammar: str) -> None:
    form = Form(kind="grammar", source=grammar)
    text, why = written(name, form, 1)
    assert why == "stop"
    assert re.fullmatch(r"say [a-z]{1,4}( and [a-z]{1,4})*\.", text)
    assert follows(name, form, "say aa and b.")
    assert not follows(name, form, "say aa and b")


def test_an_answer_ends_only_where_it_is_whole(name: str) -> None:
    form = Form(kind="json_schema", source={"type": "object", "properties": {"a": {"type": "integer"}}})
    assert follows(name, form, '{"a": 1}')
    for text in ("", "{", '{"a"', '{"a": ', '{"a": 1'):
        assert not follows(name, form, text)
    assert not follows(name, form, ' {"a": 1}')
    assert not follows(name, form, '{"a": 1} ')


def test_a_grammar_cannot_end_an_answer_half_way() -> None:
    form = Form(kind="grammar", source='start: "a" <|eot_id|> "b"')
    with pytest.raises(ConstraintError, match=r"cannot go on .*grammar"):
        written("byte-level", form, 0)


def test_white_space_is_bounded(name: str) -> None:
    form = Form(kind="json_object")
    assert follows(name, form, '{\n  "a": 1,\n  "b": [1, 2]\n}')
    assert not follows(name, form, '{"a":   1}')
    assert not follows(name, form, '{"a":\n\n1}')
    assert not follows(name, form, "{" + "\n" + " " * 60 + "}")


def test_no_second_spelling_gets_past_a_schema(name: str) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    form = Form(kind="json_schema", source=schema)
    assert follows(name, form, '{"a":1,"b":"x"}')
    assert not follows(name, form, '{"a":1,"a":"x"}')
    assert not follows(name, form, '{"a":1,"\\u0061":"x"}')
    assert not follows(name, form, '{"a":1,"b":"\\ud800"}')


NULL = {"type": "null"}
BROKEN: dict[str, tuple[dict[str, Any], Any]] = {
    "$ref": ({"$ref": "#/$defs/a", "$defs": {"a": NULL}}, 1),
    "$defs": ({"$defs": {"a": {"$defs": {"b": NULL}}}, "$ref": "#/$defs/a/$defs/b"}, 1),
    "$id": (
        {"$id": "x:a", "$defs": {"a": NULL}, "items": {"$id": "x:b", "$ref": "#/$defs/a", "$defs": {"a": False}}},
        [None],
    ),
    "$anchor": ({"$ref": "#a", "$defs": {"a": {"$anchor": "a"} | NULL}}, 1),
    "$dynamicAnchor": ({"$ref": "#a", "$defs": {"a": {"$dynamicAnchor": "a"} | NULL}}, 1),
    "$dynamicRef": ({"$dynamicRef": "#/$defs/a", "$defs": {"a": NULL}}, 1),
    "properties": ({"properties": {"a": NULL}}, {"a": 1}),
    "patternProperties": ({"patternProperties": {"a": NULL}}, {"bab": 1}),
    "additionalProperties": ({"additionalProperties": NULL}, {"a": 1}),
    "unevaluatedProperties": ({"unevaluatedProperties": False}, {"a": 1}),
    "propertyNames": ({"propertyNames": {"maxLength": 1}}, {"ab": 1}),
    "required": ({"required": ["a"]}, {"b": 1}),
    "dependentRequired": ({"dependentRequired": {"a": ["b"]}}, {"a": 1}),
    "dependentSchemas": ({"dependentSchemas": {"a": {"required": ["b"]}}}, {"a": 1}),
    "minProperties": ({"minProperties": 1}, {}),
    "maxProperties": ({"maxProperties": 1}, {"a": 1, "b": 2}),
    "prefixItems": ({"prefixItems": [NULL]}, [1]),
    "items": ({"items": NULL}, [1]),
    "unevaluatedItems": ({"unevaluatedItems": False}, [1]),
    "contains": ({"contains": NULL}, [1]),
    "minContains": ({"contains": NULL, "minContains": 2}, [None]),
    "maxContains": ({"contains": NULL, "maxContains": 1}, [None, None]),
    "minItems": ({"minItems": 1}, []),
    "maxItems": ({"maxItems": 1}, [1, 2]),
    "uniqueItems": ({"uniqueItems": True}, [1, 1]),
    "allOf": ({"allOf": [NULL, {}]}, 1),
    "anyOf": ({"anyOf": [NULL, {"type": "string"}]}, 1),
    "oneOf": ({"oneOf": [NULL, {"type": "string"}]}, 1),
    "not": ({"not": NULL}, None),
    "if": ({"if": NULL, "then": False}, None),
    "then": ({"if": True, "then": NULL}, 1),
    "else": ({"if": NULL, "else": False}, 1),
    "type": ({"type": ["null", "integer"]}, 1.5),
    "const": ({"const": {"a": 1}}, {"a": 2}),
    "enum": ({"enum": [1, "a"]}, "b"),
    "minimum": ({"minimum": 2}, 1.5),
    "maximum": ({"maximum": 2}, 2.5),
    "exclusiveMinimum": ({"exclusiveMinimum": 2}, 2),
    "exclusiveMaximum": ({"exclusiveMaximum": 2}, 2),
    "multipleOf": ({"multipleOf": 2}, 3),
    "minLength": ({"minLength": 2}, "é"),
    "maxLength": ({"maxLength": 1}, "ab"),
    "pattern": ({"pattern": "^a"}, "ba"),
    "format": ({"format": "ipv4"}, "1.2.3.400"),
}
"""A schema with each word of JSON Schema 2020-12 that says what is valid, and what is not of it."""
ANNOTATED = {
    "$schema",
    "$comment",
    "title",
    "description",
    "default",
    "deprecated",
    "readOnly",
    "writeOnly",
    "examples",
}
REFUSED_ANYWAY = {"$vocabulary", "contentEncoding", "contentMediaType", "contentSchema"}


def test_all_words_of_the_standard_are_tested() -> None:
    resources = [resource.contents for uri, resource in SPECIFICATIONS.items() if "/draft/2020-12/meta/" in uri]
    words = {word for contents in resources for word in contents["properties"]}
    assert words == BROKEN.keys() | ANNOTATED | REFUSED_ANYWAY


@pytest.mark.parametrize("word", BROKEN)
def test_each_word_is_enforced_or_refused_by_name(word: str) -> None:
    schema, wrong = BROKEN[word]
    judge = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
    assert not judge.is_valid(wrong)
    if why := refusal(schema):
        assert re.search(rf"'{re.escape(word)}'|'contains'|'if'|Anchor", why)
    else:
        form = Form(kind="json_schema", source=schema)
        assert not follows("byte-level", form, json.dumps(wrong, ensure_ascii=False))


def refusal(schema: dict[str, Any]) -> str:
    """Why a schema is refused; nothing where it is not."""
    try:
        CONSTRAINTS["byte-level"].of(Form(kind="json_schema", source=schema))
    except SettingError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("word", sorted(REFUSED_ANYWAY))
def test_words_that_nothing_is_made_of_are_refused(word: str) -> None:
    with pytest.raises(SettingError, match=re.escape(word)):
        CONSTRAINTS["byte-level"].of(Form(kind="json_schema", source={word: "x"}))


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"properties": {"a": {"minLenght": 3}}}, r"#/properties/a: unknown keyword 'minLenght'; did you mean 'minLength'"),
    ({"items": {"uniqueItems": True}}, "#/items: 'uniqueItems' cannot be enforced"),
    ({"allOf": [{}, {"if": {}}]}, "#/allOf/1: 'if' cannot be enforced"),
    ({"$defs": {"a/b": {"not": {}}}}, "#/\\$defs/a~1b: 'not' cannot be enforced"),
    ({"x-guidance": {"lenient": True}}, "'x-guidance' cannot be enforced"),
    ({"nullable": True}, '"null"'),
    ({"format": "iri"}, "format 'iri' cannot be enforced: did you mean 'uri'"),
    ({"minProperties": True, "required": ["a"]}, "'minProperties' can be enforced up to .* 1"),
    ({"format": []}, "format \\[\\] cannot be enforced"),
    ({"patternProperties": 3}, "this is a mapping"),
    ({"$id": "a", "items": {"$id": "b"}}, "#/items: '\\$id' below the whole schema"),
    ({"items": {"pattern": "a++"}}, "#/items: a pattern has a possessive quantifier"),
    ({"pattern": "[a--b]"}, "'--' in a class"),
    ({"pattern": "[]a]"}, "a class of no characters"),
    ({"patternProperties": {".": {}, r"[^\n\r\u2028\u2029]": {}}}, "two patterns .* say the same"),
    ({"maximum": 2**53 + 2}, "numbers beyond 2\\*\\*53 .* 'maximum'"),
    ({"items": {"enum": [{"a": [-(10**400)]}]}}, "#/items: numbers beyond .* 'enum'"),
    ({"const": "\ud800"}, "json_schema: "),
    ({"minProperties": 2, "required": ["a"]}, "'minProperties' can be enforced up to .* 1"),
    ({"properties": {"a": {"pattern": "[a"}}}, "#/properties/a: unclosed character class"),
    ({"properties": {"a": {"pattern": "(?=a)"}}}, "#/properties/a: look-around"),
    ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "use 'anyOf'"),
    ({"properties": {"a": {"type": "string", "const": 1}}, "oneOf": [{}, {"minimum": 1}]}, "at #: .* use 'anyOf'"),
    ({"minimum": True}, "'minimum' takes a number"),
    ({"multipleOf": -1}, "'multipleOf' takes a number above 0"),
    ({"properties": []}, "#/properties: this is a mapping"),
    ({"anyOf": {}}, "#/anyOf: this is a list"),
    ({"anyOf": [3]}, "#/anyOf/0: a schema is a mapping"),
    ({"$ref": "http://example.org/schema"}, "example.org"),
    ({"$ref": "#/$defs/none"}, "none"),
    ({"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}, "no answer can match"),
    ({"type": "integer", "minimum": 5, "maximum": 3}, "minimum \\(5\\) is greater"),
    ({"const": float("nan")}, "not JSON"),
    ({"enum": ["x" * 300_000]}, "at most"),
]


@pytest.mark.parametrize(("schema", "message"), REFUSED, ids=[str(schema)[:40] for schema, _ in REFUSED])
def test_what_cannot_be_enforced_is_refused_by_name_and_place(schema: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        CONSTRAINTS["byte-level"].of(Form(kind="json_schema", source=schema))


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        ("^.$", "a\u00e9", "\r\u2028"),
        (r"^\s$", " \n\u00a0", "a\ufeff\u0085"),
        (r"^\S$", "a\u00e9", " \u00a0\ufeff"),
        (r"^[\s1]$", "1 \n", "a\ufeff\u0085"),
        (r"^[^\s1]$", "a", "1 \u00a0\ufeff"),
        (r"^[^\S1]$", " \n", "a1\ufeff"),
        ("^[a-c&&[x]$", "abc&[x", "d]"),  # in Rust: the intersection of two sets, one of them not closed
        ("^[^a&&b]$", "c", "a&b"),
        ("^[a~~b]$", "a~b", "c"),
        ("^[[:d:]$", "[:d", "5e"),
        (r"^[\]\[-]$", "][-", "\\"),
        ("^[$.]$", "$.", "a"),
        (r"^\.$", ".", "a"),
    ],
)
def test_patterns_are_read_as_json_schema_has_them(pattern: str, good: str, bad: str) -> None:
    form = Form(kind="json_schema", source={"type": "string", "pattern": pattern})
    for character in good + bad:
        assert follows("byte-level", form, json.dumps(character, ensure_ascii=False)) == (character in good)
    names = Form(kind="json_schema", source={"patternProperties": {pattern: False}})
    assert not follows("byte-level", names, json.dumps({good[0]: 1}, ensure_ascii=False))


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("email", "ann.b@x.example", "a" * 65 + "@x.example"),
        ("email", "a@" + "x" * 63 + ".y", "a@" + "x" * 64 + ".y"),
        ("hostname", "a.b-c.d", "x." * 130 + "y"),
        ("date", "2024-02-29", "2023-02-29"),
    ],
)
def test_formats(kind: str, good: str, bad: str) -> None:
    form = Form(kind="json_schema", source={"type": "string", "format": kind})
    assert follows("byte-level", form, f'"{good}"')
    assert not follows("byte-level", form, f'"{bad}"')


def patterned(count: int) -> list[dict[str, Any]]:
    return [{"pattern": f"p{number}[a-z]+"} for number in range(count)]


def chained(count: int, **beside: Any) -> dict[str, Any]:
    """Schemas that refer to one another, one after the other."""
    chain = {
        f"a{n}": {"$ref": f"#/$defs/a{n + 1}"} | {word: f"{each}{n}" for word, each in beside.items()}
        for n in range(count)
    }
    return {"$ref": "#/$defs/a0", "$defs": chain | {f"a{count}": {"type": "string"}}}


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"allOf": patterned(30)}, "30 patterns meet in one value"),
        (chained(30, pattern="p"), "patterns meet in one value"),
        (
            {"allOf": [{"properties": {"enum": each}} for each in patterned(30)]},
            "30 patterns meet in one value of 'enum'",
        ),
        ({"allOf": [{"additionalProperties": each} for each in patterned(30)]}, "30 patterns meet"),
        ({"allOf": [{"anyOf": [{"type": "integer"}, {"minimum": n}]} for n in range(30)]}, "30 choices meet"),
        ({"patternProperties": {f"^p{n}": {} for n in range(100)}}, "more than 64 patterns"),
        (
            {
                "$defs": {"a": {"properties": {f"p{n}": {} for n in range(1000)}}},
                "properties": {f"b{n}": {"$ref": "#/$defs/a", "type": "object"} for n in range(200)},
            },
            "too much is joined",
        ),
    ],
    ids=range(7),
)
def test_what_would_take_too_long_to_join_is_refused(schema: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        CONSTRAINTS["byte-level"].of(Form(kind="json_schema", source=schema))


def test_usual_schemas_are_not_too_much() -> None:
    optional = {"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]}
    base = {"type": "object", "properties": {f"f{number}": optional for number in range(30)}}
    derived = {"allOf": [{"$ref": "#/$defs/base"}, {"properties": {"own": optional}}], "$defs": {"base": base}}
    tree = {"type": "object", "properties": {f"p{n}": {"$ref": "#"} for n in range(40)}, "allOf": [{"required": []}]}
    data = {"enum": [{"allOf": 3, "properties": 1, "$ref": 2}]}
    for schema in (derived, tree, data):
        CONSTRAINTS["byte-level"].of(Form(kind="json_schema", source=schema))


def test_what_is_deep_does_not_end_the_process() -> None:
    CONSTRAINTS["byte-level"].of(Form(kind="json_schema", source=chained(5000)))
    rules = "\n".join(f"r{number}: r{number + 1}" for number in range(5000))
    CONSTRAINTS["byte-level"].of(Form(kind="grammar", source=f'start: r0\n{rules}\nr5000: "y"\n'))


def test_schemas_nested_without_end() -> None:
    schema: dict[str, Any] = {}
    for _ in range(100):
        schema = {"items": schema}
    with pytest.raises(SettingError, match="more than 64 levels"):
        CONSTRAINTS["byte-level"].of(Form(kind="json_schema", source=schema))
    schema["items"] = schema
    with pytest.raises(SettingError, match="not JSON"):
        CONSTRAINTS["byte-level"].of(Form(kind="json_schema", source=schema))


@pytest.mark.parametrize(
    ("kind", "source", "message"),
    [
        ("regex", "ab[c", "regex, at character 2: unclosed"),
        ("regex", "(?=a)b", "look-around"),
        ("regex", "[a&&b]", "no answer can match"),
        ("regex", "a" * 200_000, "at most"),
        ("grammar", 'start: "a" | foo\n', "line 1, column 8: unknown name"),
        ("grammar", 'start: "a"\nb: (("c"\n', "line 2"),
        ("grammar", 'root ::= "a" | foo', "'foo' not found"),
        ("grammar", "hello", "not Lark, and not GBNF"),
        ("grammar", "", "not Lark"),
        ("grammar", 'start: start "a"\n', "no answer can match"),
        ("json_schema", "{}", "takes a JSON schema as a mapping, got str"),
        ("regex", None, "takes a regular expression as text, got NoneType"),
        ("json_scheme", {}, "did you mean 'json_schema'"),
    ],
)
def test_broken_forms_are_refused(kind: Any, source: Any, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        CONSTRAINTS["byte-level"].of(Form(kind=kind, source=source))


def test_a_vocabulary_that_cannot_end_is_refused() -> None:
    class Endless:
        stop_ids: frozenset[int] = frozenset()

    with pytest.raises(SettingError, match="no token that ends an answer"):
        Constraints(Endless()).of(Form(kind="json_object"))  # type: ignore[arg-type]


def test_a_copy_goes_its_own_way(name: str) -> None:
    tokenizer = TOKENIZERS[name]
    matcher = CONSTRAINTS[name].of(Form(kind="regex", source="ab|cd")).begin()
    other = matcher.copy()
    for token in tokenizer.encode("ab", bos=False, start=False):
        matcher.accept(token)
    for token in tokenizer.encode("cd", bos=False, start=False):
        other.accept(token)
    with pytest.raises(ConstraintError):
        other.accept(tokenizer.encode("cd", bos=False, start=False)[0])


def test_answers_of_one_constraint_in_many_threads() -> None:
    form, texts = Form(kind="json_schema", source=SCHEMAS["nested"]), []

    def write(seed: int) -> None:
        texts.append(written("byte-level", form, seed, 300)[0])

    threads = [threading.Thread(target=write, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(texts) == sorted(written("byte-level", form, seed, 300)[0] for seed in range(6))
