"""Calls written as JSON: {"name": …, "parameters": {…}}, and its variants. Arguments are handed on as they come."""

from __future__ import annotations

import json
from collections.abc import Callable

from llamero.interfaces.calls.characters import Characters, Rule, Wrong
from llamero.interfaces.calls.making import Making

_ARGUMENTS = ("parameters", "arguments")
_LONGEST_NAME = 200  # characters


def json_call(making: Making) -> Rule[None]:
    """An object that names a function we know; Wrong as long as nothing has been handed on, and it is none."""
    name, early = yield from _members(making, nested=False)
    if making.current is None:
        if name is None:
            raise Wrong
        making.begin(name)
        making.argue(early or "{}")


def json_arguments(characters: Characters, out: Callable[[str], None]) -> Rule[None]:
    """A value as it comes; text that holds an object is that object, and null an empty one."""
    first = yield from characters.peek()
    if first == '"' and (yield from characters.peek(1)) in ("{", ""):
        out((yield from _string(characters, longest=None)))
    elif first and first in '{["':
        yield from _copied(characters, out)
    else:
        word = yield from _scalar(characters)
        if (yield from characters.peek()):  # else it is cut
            out("{}" if word == "null" else word)


def _members(making: Making, nested: bool) -> Rule[tuple[str | None, str | None]]:
    """The name of a call and those of its arguments that came before the name."""
    characters, name, early = making.characters, None, None
    yield from characters.expect("{")
    while True:
        yield from characters.blanks()
        key = yield from _string(characters)
        yield from characters.blanks()
        yield from characters.expect(":")
        yield from characters.blanks()
        if key in _ARGUMENTS and making.current is None and early is None:
            if name is None:
                held: list[str] = []
                yield from json_arguments(characters, held.append)
                early = "".join(held)
            else:
                making.begin(name)
                yield from json_arguments(characters, making.argue)
        elif key == "function" and not nested and (yield from characters.peek()) == "{":
            name, early = yield from _members(making, nested=True)
        elif key in ("name", "function") and name is None:
            name = making.known((yield from _string(characters)))
        elif key == "type":
            if (yield from _string(characters)) != "function":
                raise Wrong
        elif key == "id":
            yield from _string(characters)
        else:
            raise Wrong
        yield from characters.blanks()
        if (yield from characters.expect(",}")) == "}":
            return name, early


def _copied(characters: Characters, out: Callable[[str], None]) -> Rule[None]:
    """An object, a list or a text, character by character, up to its end. Line breaks inside texts are escaped."""
    depth, inside = 0, False
    while character := (yield from characters.take()):
        if inside and character < " ":
            character = json.dumps(character)[1:-1]
        out(character)
        if inside and character == "\\":
            out((yield from characters.take()))
        elif character == '"':
            inside = not inside
        elif not inside and character in "{[":
            depth += 1
        elif not inside and character in "}]":
            depth -= 1
        if not inside and depth <= 0:
            return


def _scalar(characters: Characters) -> Rule[str]:
    word = ""
    while (character := (yield from characters.peek())) and character not in ",}] \n\r\t":
        word += yield from characters.take()
    return word


def _string(characters: Characters, longest: int | None = _LONGEST_NAME) -> Rule[str]:
    """A JSON string, whole: a key, a name, or arguments in quotes."""
    raw = yield from characters.expect('"')
    while not raw.endswith('"') or len(raw) == 1:
        character = yield from characters.take()
        if not character or (longest and len(raw) > longest):
            raise Wrong
        raw += character
        if character == "\\":
            raw += (yield from characters.take()) or ""
            if raw.endswith('"'):
                raw += yield from characters.take()
    try:
        return str(json.loads(raw, strict=False))
    except ValueError:
        raise Wrong from None
