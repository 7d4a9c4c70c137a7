"""Where each stretch of a rendered chat comes from: the template, or what was put into it.

Everything that is put in is marked at both ends with characters that occur nowhere else, and rendered once more: the
marks tell who wrote what. Where a template looks at what it is given, and writes a marked text otherwise, each text is
marked alone; one that still cannot be is looked for; and what then cannot be told apart is said to be unknown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, Literal, TypeAlias

from llamero.errors import TemplateError
from llamero.tokenizer.chat import ChatTemplate
from llamero.tokenizer.messages import checked_messages, checked_tools
from llamero.tokenizer.shield import Segment, texts_of

Origin: TypeAlias = Literal["template", "system", "user", "assistant", "tool", "tools", "variable", "unknown"]

_ROLES: Mapping[str, Origin] = {
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "ipython": "tool",
}
_SCALAR = r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null"
_VALUE = re.compile(rf'"\s*:\s*(?:{_SCALAR})')
_PRIVATE = range(0xF0000, 0x10FFFE)  # planes 15 and 16: no character of any language
_MOST_ALONE = 64  # renderings, when texts are marked one by one
_SURE = 8  # characters; a shorter text that is found may be the template's own


@dataclass(frozen=True)
class Span:
    """Characters from `start` to before `end`. message: the one they come from, where they come from one."""

    start: int
    end: int
    origin: Origin
    message: int | None = None


def origins(
    template: ChatTemplate,
    special_tokens: Iterable[str],
    messages: Sequence[Mapping[str, Any]],
    /,
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
    **variables: Any,
) -> tuple[str, list[Span]]:
    """The conversation as text, as `ChatTemplate.segments` has it, and the spans that cover it, in order.

    Punctuation and names of fields between the parts of one JSON value count as the value's. Raises what
    `ChatTemplate.render` raises.
    """
    given = _Given(checked_messages(messages, parts=template.takes_parts), checked_tools(tools), variables)
    special = tuple(special_tokens)
    segments = template.segments(given.messages, special, tools=given.tools, **variables)
    text = "".join(segment.text for segment in segments)

    def found(marked: Sequence[_Parcel]) -> list[Span] | None:
        """The spans of some parcels; None where marking them changes what the template writes."""
        try:
            copy = given.marked(marked)
            rendered = template.segments(copy.messages, special, tools=copy.tools, **copy.variables)
        except TemplateError:
            return None
        clean, spans = _read([segment.text for segment in rendered], marked)
        return spans if clean == text else None

    for tight in (False, True):
        parcels = _parcels(given, tight=tight)
        if (spans := found(parcels)) is not None:
            return text, _covering(segments, text, spans, ())
    alone = {parcel: found([parcel]) if index < _MOST_ALONE else None for index, parcel in enumerate(parcels)}
    known = list(chain.from_iterable(each for each in alone.values() if each))
    return text, _covering(segments, text, known, [parcel for parcel, each in alone.items() if each is None])


@dataclass(frozen=True, eq=False)
class _Parcel:
    """What one message, the tools, or a variable puts in, and its two marks.

    name: of the variable. tight: the marks are to stand inside of the blanks at a text's ends, for templates that trim.
    """

    origin: Origin
    message: int | None
    begin: str
    end: str
    texts: tuple[str, ...]
    name: str
    tight: bool

    def wrap(self, value: Any, *, keys: bool = False) -> Any:
        """The value with every text in it between marks."""
        if isinstance(value, str):
            bare = value.strip() if self.tight else value
            start = value.find(bare)
            return f"{value[:start]}{self.begin}{bare}{self.end}{value[start + len(bare) :]}" if bare else value
        if isinstance(value, dict):
            return {self.wrap(key) if keys else key: self.wrap(item, keys=keys) for key, item in value.items()}
        return [self.wrap(item, keys=keys) for item in value] if isinstance(value, list) else value


@dataclass(frozen=True)
class _Given:
    """All that a template is given from outside."""

    messages: list[dict[str, Any]]
    tools: list[Any] | None
    variables: Mapping[str, Any] = field(default_factory=dict)

    def marked(self, parcels: Sequence[_Parcel]) -> _Given:
        """A copy in which the parcels are marked."""
        by_message = {parcel.message: parcel for parcel in parcels if parcel.message is not None}
        described = next((parcel for parcel in parcels if parcel.origin == "tools"), None)
        variables = {parcel.name: parcel.wrap(self.variables[parcel.name]) for parcel in parcels if parcel.name}
        return _Given(
            [_marked_message(each, by_message.get(index)) for index, each in enumerate(self.messages)],
            _marked_schema(self.tools, described) if described else self.tools,
            {**self.variables, **variables},
        )


def _parcels(given: _Given, *, tight: bool) -> list[_Parcel]:
    used = frozenset(chain.from_iterable(texts_of([given.messages, given.tools, dict(given.variables)])))
    marks = (chr(code) for code in _PRIVATE if chr(code) not in used)

    def parcel(origin: Origin, value: Any, message: int | None = None, name: str = "") -> _Parcel:
        return _Parcel(origin, message, next(marks), next(marks), tuple(texts_of(value)), name, tight)

    return [
        *(parcel(_ROLES[each["role"]], _said(each), index) for index, each in enumerate(given.messages)),
        *([parcel("tools", given.tools)] if given.tools else []),
        *(parcel("variable", each, name=name) for name, each in given.variables.items() if isinstance(each, str)),
    ]


def _said(message: dict[str, Any]) -> list[Any]:
    """What a message puts in, without the words of its form."""
    content = message.get("content")
    calls = [call["function"] for call in message.get("tool_calls", ())]
    text = [part["text"] for part in content or ()] if _is_typed(content) else content
    return [text, [[call["name"], call["arguments"]] for call in calls]]


def _is_typed(content: Any) -> bool:
    """Whether content is a list of text parts."""
    return isinstance(content, list) and all(isinstance(each, dict) and "text" in each for each in content)


def _marked_message(message: dict[str, Any], parcel: _Parcel | None) -> dict[str, Any]:
    if parcel is None:
        return message
    copy = dict(message)
    if "content" in message:
        content = message["content"]
        if _is_typed(content):
            copy["content"] = [{**part, "text": parcel.wrap(part["text"])} for part in content]
        else:
            copy["content"] = parcel.wrap(content, keys=True)
    if "tool_calls" in message:
        copy["tool_calls"] = [_marked_call(call, parcel) for call in message["tool_calls"]]
    return copy


def _marked_call(call: dict[str, Any], parcel: _Parcel) -> dict[str, Any]:
    function = call["function"]
    chosen = {"name": parcel.wrap(function["name"]), "arguments": parcel.wrap(function["arguments"], keys=True)}
    return {**call, "function": {**function, **chosen}}


def _marked_schema(value: Any, parcel: _Parcel) -> Any:
    """A schema with what its author chose marked: not the words of JSON Schema, which templates look for."""
    if isinstance(value, list):
        return [_marked_schema(each, parcel) for each in value]
    if not isinstance(value, dict):
        return value
    copy = {}
    for key, each in value.items():
        if key in ("name", "description", "required", "enum"):
            copy[key] = parcel.wrap(each)
        elif key == "properties" and isinstance(each, dict):
            copy[key] = {parcel.wrap(name): _marked_schema(schema, parcel) for name, schema in each.items()}
        else:
            copy[key] = _marked_schema(each, parcel)
    return copy


def _read(marked: Iterable[str], parcels: Sequence[_Parcel]) -> tuple[str, list[Span]]:
    """The segments' text without marks, and what the marks said."""
    whose = {mark: parcel for parcel in parcels for mark in (parcel.begin, parcel.end)}
    marks = re.compile(f"[{''.join(whose)}]")
    places: dict[_Parcel, list[tuple[int, int]]] = {parcel: [] for parcel in parcels}
    clean = ""
    for segment in marked:
        text, found = _read_segment(segment, whose, marks)
        for parcel, start, end in found:
            places[parcel].append((len(clean) + start, len(clean) + end))
        clean += text
    return clean, [span for parcel in parcels for span in _joined(clean, parcel, places[parcel])]


def _read_segment(
    marked: str, whose: Mapping[str, _Parcel], marks: re.Pattern[str]
) -> tuple[str, list[tuple[_Parcel, int, int]]]:
    clean = marks.sub("", marked)
    began: dict[_Parcel, int] = {}
    found: list[tuple[_Parcel, int, int]] = []
    for before, mark in enumerate(marks.finditer(marked)):
        parcel, at = whose[mark.group()], mark.start() - before
        if mark.group() == parcel.begin:
            began[parcel] = at
        else:  # where the template took the end alone, as much of it as is there
            start = began.pop(parcel, None)
            found.append((parcel, at - _tail(clean[:at], parcel.texts) if start is None else start, at))
    for parcel, start in began.items():  # the beginning alone
        found.append((parcel, start, start + _head(clean[start:], parcel.texts)))
    return clean, found


def _head(text: str, texts: Iterable[str]) -> int:
    """How many characters at the beginning of `text` are the beginning of one of `texts`; without blanks at the end,
    which may be the template's."""
    return max((len(text[: _common(text, each.lstrip())].rstrip()) for each in texts), default=0)


def _common(a: str, b: str) -> int:
    size = min(len(a), len(b))
    return next((place for place in range(size) if a[place] != b[place]), size)


def _tail(text: str, texts: Iterable[str]) -> int:
    return _head(text[::-1], [each[::-1] for each in texts])


def _joined(text: str, parcel: _Parcel, places: Sequence[tuple[int, int]]) -> list[Span]:
    """The places as spans; what stands between the parts of one JSON value is the value's."""
    words = "".join(f"|{re.escape(each)}" for each in sorted({*parcel.texts}, key=len, reverse=True) if each)
    between = rf'(?>[\s{{}}\[\],:"]|{_SCALAR}{words})*+'  # slow to compile where a text is long, which stands alone
    joined: list[tuple[int, int]] = []
    for start, end in places:
        if joined and re.compile(between).fullmatch(text, joined[-1][1], start):
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    ends = [_VALUE.match(text, end) for _, end in joined]  # a last number has no marks of its own
    return [
        Span(start, value.end() if value else end, parcel.origin, parcel.message)
        for (start, end), value in zip(joined, ends, strict=True)
    ]


def _covering(segments: Sequence[Segment], text: str, spans: list[Span], lost: Sequence[_Parcel]) -> list[Span]:
    """Spans over the whole text: those given, those of lost parcels that can be found, and the template's."""
    looked_for = [(parcel, _only_place(text, each)) for parcel in lost for each in parcel.texts]
    found = [Span(*place, parcel.origin, parcel.message) for parcel, place in looked_for if place]
    rest: Origin = "unknown" if any(place is None for _, place in looked_for) else "template"
    waiting = sorted([*spans, *found], key=lambda span: (span.start, span.end))
    covering: list[Span] = []
    at = 0
    for segment in segments:
        last = at + len(segment.text)
        while segment.literal and waiting and waiting[0].start < last:
            span = waiting.pop(0)
            covering += [Span(at, span.start, rest)] if span.start > at else []
            start, at = max(at, span.start), max(at, min(span.end, last))
            covering += [replace(span, start=start, end=at)] if start < at else []
            if span.end > last:  # a special token of the template stands in it
                waiting.insert(0, replace(span, start=last))
                break
        if at < last:
            covering.append(Span(at, last, rest if segment.literal else "template"))
        at = last
    return covering


def _only_place(text: str, part: str) -> tuple[int, int] | None:
    """Where a text stands, if it is long enough to be sure and stands there once."""
    bare = part.strip()
    start = text.find(bare)
    once = len(bare) >= _SURE and start >= 0 and text.find(bare, start + 1) < 0
    return (start, start + len(bare)) if once else None
