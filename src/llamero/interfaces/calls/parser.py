"""Finds calls of functions in an answer as it is written, in every syntax that Llamas use, whichever was asked for.

    {"name": "f", "parameters": {…}}        Llama 3.1 and later; several one after the other, or in a list
    [f(a=1, b="x"), g()]                    Llama 3.2 and 4
    <function=f>{…}</function>              Llama 3.1, as Meta's documents show it
    <|python_tag|>f.call(query="x")         Llama 3.1's built-in tools; also JSON after the tag
    <|python_tag|>print(1)                  code, where there is a function code_interpreter
    <|python_start|>[f()]<|python_end|>     Llama 4

A call stands at the beginning of a line, after one of the marks, or after another call. What names no function that
there is, or breaks off before it has named one, is text and is given back as such.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llamero.interfaces.calls.characters import Rule, Wrong
from llamero.interfaces.calls.events import CallEvent
from llamero.interfaces.calls.json_calls import json_arguments, json_call
from llamero.interfaces.calls.making import Making
from llamero.interfaces.calls.python_calls import code, python_call

MARKS = ("<|python_tag|>", "<|python_start|>", "<|python_end|>")
"""Control tokens that a decoder must show, for the parser to see them; none of them reaches the text."""

_FUNCTION = "<function="
CODE = ("code_interpreter", "python", "ipython")
"""Functions that take code written after a mark."""


class CallParser:
    """Turns an answer's text into words and calls; however the text is cut into pieces, they come out the same.

    functions: what may be called: names, each with the names of its parameters in their order. index: the answer's
    number, which its events carry.
    """

    def __init__(self, functions: Mapping[str, Sequence[str]], index: int = 0) -> None:
        self._making = Making({name: tuple(parameters) for name, parameters in functions.items()}, index)
        self._blank = ""  # held back: it goes if a call follows
        self._open = False  # inside the brackets of a list of calls
        self._cut = False
        self._broken = False  # the answer was cut inside of what may have been a call
        self._rule: Rule[None] | None = self._answer()

    def push(self, text: str) -> list[CallEvent]:
        """What is certain now."""
        self._making.characters.push(text)
        self._go_on()
        return self._making.taken()

    def flush(self, cut: bool = False) -> list[CallEvent]:
        """What is left. cut: the answer ended because its tokens ran out, so an unfinished call stays unfinished."""
        self._cut = cut
        self._making.characters.close()
        self._go_on()
        return self._making.taken()

    def _go_on(self) -> None:
        if self._rule is not None:
            try:
                next(self._rule)
            except StopIteration:
                self._rule = None

    def _answer(self) -> Rule[None]:
        characters = self._making.characters
        fresh, after, marked = True, False, False
        while character := (yield from characters.peek()):
            if character == "<" and (mark := (yield from self._mark())):
                if marked and mark == "<|python_end|>":
                    marked = False
                else:
                    fresh = marked = mark != "<|python_end|>"
            elif (yield from self._called(character, fresh, after, marked)):
                fresh, after, marked = True, True, False
            else:
                yield from characters.take()
                separator = after and character in (",;]" if self._open else ",;")
                self._open = self._open and not (separator and character == "]")
                after = separator or (after and character.isspace())
                fresh = after or character == "\n" or (fresh and character.isspace())
                marked = marked and character.isspace()
                self._write(character, blank=separator or character.isspace())
        if not self._making.calls:
            self._making.say(self._blank)

    def _write(self, text: str, blank: bool) -> None:
        if blank:
            self._blank += text
        else:
            self._making.say(self._blank + text)
            self._blank = ""

    def _mark(self) -> Rule[str]:
        for mark in MARKS:
            if (yield from self._making.characters.literal(mark)):
                return mark
        return ""

    def _called(self, character: str, fresh: bool, after: bool, marked: bool) -> Rule[bool]:
        """Whether a call stood here; it has been read if so, and nothing has if not."""
        if character == "<":
            return (yield from self._tried(self._tagged()))
        if not fresh or character.isspace():
            return False
        found = False
        if character in "{[":
            found = yield from self._tried(self._listed() if character == "[" else json_call(self._making))
        elif character.isidentifier() and (marked or (after and self._open)):
            found = yield from self._tried(python_call(self._making))
        if not found and marked and not self._broken:
            found = yield from self._tried(self._code())
        return found

    def _tried(self, rule: Rule[None]) -> Rule[bool]:
        making = self._making
        making.characters.keep()
        try:
            yield from rule
        except Wrong:
            if making.current is None:
                self._broken = self._cut and making.characters.exhausted
                making.characters.back()
                return False
        self._blank = ""
        if not (self._cut and making.characters.exhausted):
            making.end()
        return True

    def _listed(self) -> Rule[None]:
        """The first call of a list."""
        characters = self._making.characters
        yield from characters.expect("[")
        yield from characters.blanks()
        if (yield from characters.peek()) == "{":
            yield from json_call(self._making)
        else:
            yield from python_call(self._making)
        self._open = True

    def _tagged(self) -> Rule[None]:
        """<function=f>{…}</function>"""
        making, name = self._making, ""
        if not (yield from making.characters.literal(_FUNCTION)):
            raise Wrong
        while (character := (yield from making.characters.take())) != ">":
            if not character or character.isspace():
                raise Wrong
            name += character
        making.begin(making.known(name))
        yield from making.characters.blanks()
        if (yield from making.characters.peek()) == "<":
            making.argue("{}")
        else:
            yield from json_arguments(making.characters, making.argue)
        yield from making.characters.blanks()
        yield from making.characters.literal("</function>")

    def _code(self) -> Rule[None]:
        name = next((name for name in CODE if name in self._making.functions), None)
        if name is None:
            raise Wrong
        self._making.begin(name)
        yield from code(self._making, MARKS[-1], lambda: self._cut)
