"""Calls written as Python: f(a=1, b="x"). Their arguments become JSON piece by piece, as they come."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable

from llamero.interfaces.calls.characters import Characters, Rule, Wrong
from llamero.interfaces.calls.making import Making

Out = Callable[[str], None]

_WORDS = {"True": "true", "False": "false", "None": "null", "true": "true", "false": "false", "null": "null"}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "a": "\a", "v": "\v", "0": "\0", "\n": ""}
_WIDTHS = {"x": 2, "u": 4, "U": 8}
_AFTER = ",)]}:"  # what may follow a text
_NESTING = 64
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?", re.ASCII)  # JSON's


def python_call(making: Making) -> Rule[None]:
    """A call of a function we know; Wrong for any other. `f.call(…)` calls f, as Llama's built-in tools are called."""
    characters = making.characters
    name = yield from _name(characters, "_.-")
    yield from characters.blanks()
    if (yield from characters.peek()) != "(":
        raise Wrong
    if name not in making.functions:
        name = name.removesuffix(".call")
    making.known(name)
    yield from characters.take()
    making.begin(name)
    yield from _arguments(making, making.functions[name])


def code(making: Making, end: str, cut: Callable[[], bool]) -> Rule[None]:
    """All that follows, up to `end`, as the one argument of the function that has begun: its code."""
    characters = making.characters
    parameter = next(iter(making.functions[making.current or ""]), "code")
    making.argue(f'{{{json.dumps(parameter)}: "')
    while character := (yield from characters.peek()):
        if character == end[0] and (yield from characters.literal(end)):
            break
        making.argue(_spelt((yield from characters.take())))
    if not cut():
        making.argue('"}')


def _arguments(making: Making, parameters: tuple[str, ...]) -> Rule[None]:
    characters, out = making.characters, making.argue
    out("{")
    count = 0
    while True:
        yield from characters.blanks()
        character = yield from characters.peek()
        if not character:
            return
        if character == ")":
            yield from characters.take()
            break
        word = (yield from _name(characters, "_")) if character.isidentifier() else ""
        yield from characters.blanks()
        named = bool(word) and (yield from characters.peek()) == "="
        if named:
            yield from characters.take()
            yield from characters.blanks()
        if not (yield from characters.peek()):
            return  # cut before its value
        out(", " * (count > 0))
        key = word if named else parameters[count] if count < len(parameters) else f"argument_{count + 1}"
        out(json.dumps(key, ensure_ascii=False) + ": ")
        yield from _value(characters, out, 0, "" if named else word)
        count += 1
        yield from characters.blanks()
        if (yield from characters.peek()) == ",":
            yield from characters.take()
        elif (yield from characters.peek()) not in (")", ""):
            break  # it is no Python: the call ends here
    out("}")


def _value(characters: Characters, out: Out, level: int, word: str = "") -> Rule[None]:
    """One value. word: its beginning, where that has been read."""
    character = yield from characters.peek()
    if word or character.isidentifier():
        word = word or (yield from _name(characters, "_."))
        yield from _word(characters, out, word)
    elif character and character in "'\"":
        yield from _text(characters, out)
    elif character and character in "[({" and level < _NESTING:
        yield from _container(characters, out, level + 1)
    else:
        yield from _number(characters, out)


def _word(characters: Characters, out: Out, word: str) -> Rule[None]:
    """True, False, None; the letter before a text; any other name as a text."""
    quote = yield from characters.peek()
    if not quote:
        return  # cut in the middle
    if word in _WORDS:
        out(_WORDS[word])
    elif quote in "'\"" and word.lower() in ("r", "b", "u", "f"):
        yield from _text(characters, out, raw=word.lower() == "r")
    else:
        out(json.dumps(word, ensure_ascii=False))


def _container(characters: Characters, out: Out, level: int) -> Rule[None]:
    opening = yield from characters.take()
    mapping = opening == "{"
    closing = {"[": "]", "(": ")", "{": "}"}[opening]
    out("{" if mapping else "[")
    count = 0
    while True:
        yield from characters.blanks()
        character = yield from characters.peek()
        if not character:
            return
        if character == closing:
            yield from characters.take()
            break
        out(", " * (count > 0))
        if not mapping or (yield from _key(characters, out, level)):
            yield from _value(characters, out, level)
        count += 1
        yield from characters.blanks()
        if (yield from characters.peek()) == ",":
            yield from characters.take()
        elif (yield from characters.peek()) not in (closing, ""):
            break
    out("}" if mapping else "]")


def _key(characters: Characters, out: Out, level: int) -> Rule[bool]:
    """A key of a mapping, which is text in JSON whatever it was; whether a value follows; a set's are null."""
    held: list[str] = []
    yield from _value(characters, held.append, level)
    key = "".join(held)
    yield from characters.blanks()
    valued = yield from characters.literal(":")
    yield from characters.blanks()
    if not (yield from characters.peek()):
        return False  # cut
    out((key if key.startswith('"') else json.dumps(key)) + (": " if valued else ": null"))
    return valued


def _number(characters: Characters, out: Out) -> Rule[None]:
    """A number as JSON writes it; what is none is a text."""
    raw = ""
    while (character := (yield from characters.peek())) and (character.isalnum() or character in "+-._"):
        raw += yield from characters.take()
    if not raw:
        raw = yield from characters.take()
    if not (yield from characters.peek()):
        return  # cut in the middle
    try:
        out(raw if _NUMBER.fullmatch(raw) else json.dumps(ast.literal_eval(raw), allow_nan=False))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        out(json.dumps(raw, ensure_ascii=False))


def _text(characters: Characters, out: Out, raw: bool = False) -> Rule[None]:
    """A text in one or three quotes of either kind. A quote that nothing fit to follow a text follows is part of it."""
    quote = yield from characters.take()
    out('"')
    if (yield from characters.literal(quote * 2)):
        quote *= 3
    while character := (yield from characters.peek()):
        if character == quote[0] and (yield from characters.literal(quote)):
            follows = ")" if len(quote) == 3 else (yield from _after_blanks(characters))
            if not follows:
                return  # cut before it is known whether the text ended
            if follows in _AFTER:
                out('"')
                return
            out(_spelt(quote))
        elif character == "\\" and not raw:
            yield from characters.take()
            yield from _escape(characters, out)
        else:
            out(_spelt((yield from characters.take())))


def _after_blanks(characters: Characters) -> Rule[str]:
    ahead = 0
    while (character := (yield from characters.peek(ahead))).isspace():
        ahead += 1
    return character


def _escape(characters: Characters, out: Out) -> Rule[None]:
    letter = yield from characters.take()
    if letter in _WIDTHS:
        digits = ""
        while len(digits) < _WIDTHS[letter] and (yield from characters.peek()) in tuple("0123456789abcdefABCDEF"):
            digits += yield from characters.take()
        if not (yield from characters.peek()):
            return  # cut in the middle
        point = int(digits, 16) if digits else 0xFFFD
        out(_spelt(chr(point)) if point < 0x110000 else "\ufffd")
    elif letter in _ESCAPES:
        out(_spelt(_ESCAPES[letter]))
    elif letter and letter in "'\"\\":
        out(_spelt(letter))
    elif letter:
        out(_spelt("\\" + letter))


def _spelt(text: str) -> str:
    """Text as it stands inside a JSON string."""
    halves = any("\ud800" <= character <= "\udfff" for character in text)
    return json.dumps(text, ensure_ascii=halves)[1:-1]


def _name(characters: Characters, also: str) -> Rule[str]:
    word = ""
    while (character := (yield from characters.peek())) and (character.isalnum() or character in also):
        word += yield from characters.take()
    return word
